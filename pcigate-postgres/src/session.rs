//! Follows one session: which request does each message of the server answer, and which statement,
//! portal and columns does it belong to. Pure: told of every message in order, it does nothing.
//!
//! The server's rules it follows are those of the manual's chapter "Message Flow" and of
//! PostgreSQL's `tcop/postgres.c`: requests are answered in order; a failed message of the extended
//! protocol makes the server ignore everything up to Sync; a failed Query or FunctionCall does not.

mod about;
mod answers;
mod error;
mod names;
mod refusal;
mod request;
mod shape;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;

pub use about::About;
pub use answers::Answer;
pub use error::SessionError;
pub use refusal::Refusal;
pub use request::{Effect, Kind, Origin, Portal, Request, RequestId, Statement};
pub use shape::{RowShape, Source};

use crate::backend::TransactionStatus;
use crate::frontend::{Message, Target};
use crate::values::Formats;
use names::Names;
use request::Progress;

/// How much one session may have at a time. More is [`SessionError::TooMany`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests sent and not answered.
    pub outstanding: usize,
    /// Prepared statements.
    pub statements: usize,
    /// Portals.
    pub portals: usize,
    /// Bytes of all column descriptions kept with statements and portals.
    pub descriptions: usize,
}

impl Default for Limits {
    /// 16,384 requests, 4,096 statements, 1,024 portals, 16 MiB of descriptions.
    fn default() -> Self {
        Self { outstanding: 16_384, statements: 4_096, portals: 1_024, descriptions: 16 << 20 }
    }
}

/// One session, from the first ReadyForQuery on. `T` is what the caller keeps about each request;
/// statements and portals carry a clone of that of the request which made them.
pub struct Session<T> {
    limits: Limits,
    queue: VecDeque<Request<T>>,
    /// What the last message of the server ended, or made the server skip.
    ended: Option<Request<T>>,
    skipped: Vec<Request<T>>,
    next_id: u64,
    /// Requests that fail together have one number.
    batch: u64,
    /// The server ignores everything up to a Sync that has not been sent yet.
    skipping: bool,
    copy: Copying,
    /// Requests in the queue that change names by SQL.
    with_effects: usize,
    /// Syncs in the queue that the server may have dropped.
    unsure_syncs: usize,
    /// None of the Syncs sent is sure to end what the server may be ignoring.
    unsure_skip: bool,
    statements: Names<Statement<T>>,
    portals: Names<Portal<T>>,
    /// Bytes of descriptions kept.
    account: Arc<AtomicUsize>,
    transaction: TransactionStatus,
    over: bool,
}

/// What the first request in the queue copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    Nothing,
    In,
    /// The client has said all.
    InEnded,
    /// We have ended it in the client's place.
    InRefused,
    Out,
    OutEnded,
    Both {
        client: bool,
        server: bool,
    },
}

impl<T: Clone> Session<T> {
    /// A session that waits for its first request.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            ended: None,
            skipped: Vec::new(),
            next_id: 0,
            batch: 0,
            skipping: false,
            copy: Copying::Nothing,
            with_effects: 0,
            unsure_syncs: 0,
            unsure_skip: false,
            statements: Names::new(),
            portals: Names::new(),
            account: Arc::default(),
            transaction: TransactionStatus::Idle,
            over: false,
        }
    }

    /// Where the server said it stands when it was last ready.
    #[must_use]
    pub fn transaction(&self) -> TransactionStatus {
        self.transaction
    }

    /// The requests sent and not answered, the oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &Request<T>> {
        self.queue.iter().filter(|request| !request.maybe_dropped)
    }

    /// A message is sent on to the server unchanged. Says the number of the request it makes, or
    /// nothing where it makes none (Flush, Terminate, COPY's data).
    ///
    /// # Errors
    /// As [`about`](Self::about), and when that says to wait or to drop it.
    pub fn sent(
        &mut self,
        message: &Message,
        origin: Origin,
        tag: T,
    ) -> Result<Option<RequestId>, SessionError> {
        let (statement, portal) = match self.about(message)? {
            About::Wait | About::Drop => {
                return Err(SessionError::NotToBeSent { message: message.name() });
            }
            About::Decide { statement, portal } => (statement.cloned(), portal.cloned()),
            About::Copy(_) | About::Forward => (None, None),
        };
        let kind = match message {
            Message::Query(_) => Kind::Query,
            Message::Parse(_) => Kind::Parse,
            Message::Bind(_) => Kind::Bind,
            Message::Describe(Target::Statement(_)) => Kind::DescribeStatement,
            Message::Describe(Target::Portal(_)) => Kind::DescribePortal,
            Message::Execute(_) => Kind::Execute,
            Message::Close(Target::Statement(_)) => Kind::CloseStatement,
            Message::Close(Target::Portal(_)) => Kind::ClosePortal,
            Message::FunctionCall(_) => Kind::FunctionCall,
            Message::Sync => Kind::Sync,
            Message::CopyDone | Message::CopyFail(_) => {
                self.client_ends_copy();
                return Ok(None);
            }
            Message::Terminate => {
                self.over = true;
                return Ok(None);
            }
            Message::CopyData(_) | Message::Flush | Message::Password(_) => return Ok(None),
        };
        let mut request = self.request(kind, origin, tag);
        request.statement = statement;
        request.portal = portal;
        self.make(&mut request, message);
        Ok(Some(self.push(request)))
    }

    /// Tells what statement `index` (from 0) of the request will do to names once it is done: to be
    /// called directly behind [`sent`](Self::sent). Names it touches are unsettled until then.
    pub fn will(&mut self, request: RequestId, index: u32, effect: Effect) {
        let found = self.queue.iter_mut().rev().find(|known| known.id == request);
        if let Some(request) = found {
            self.with_effects += usize::from(request.effects.is_empty());
            request.effects.push((index, effect));
        }
    }

    fn client_ends_copy(&mut self) {
        self.copy = match self.copy {
            Copying::In => Copying::InEnded,
            Copying::Both { server, .. } => Copying::Both { client: false, server },
            other => other,
        };
    }

    fn request(&mut self, kind: Kind, origin: Origin, tag: T) -> Request<T> {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        // A failed Query does not make the server skip what follows, so it is a batch by itself.
        let alone = matches!(kind, Kind::Query | Kind::FunctionCall);
        self.batch += u64::from(alone);
        let batch = self.batch;
        self.batch += u64::from(alone || kind == Kind::Sync);
        Request {
            id,
            kind,
            origin,
            refused: false,
            tag,
            statement: None,
            portal: None,
            index: 0,
            name: Bytes::new(),
            batch,
            progress: Progress::Nothing,
            shape: None,
            effects: Vec::new(),
            maybe_dropped: false,
        }
    }

    /// Makes the statement or portal, and keeps the name a request changes.
    fn make(&self, request: &mut Request<T>, message: &Message) {
        let own = |name: &Bytes| Bytes::copy_from_slice(name);
        match message {
            Message::Parse(parse) => {
                request.name = own(&parse.statement);
                let name = request.name.clone();
                let statement = Statement::new(request.id, name, request.tag.clone());
                request.statement = Some(Arc::new(statement));
            }
            Message::Bind(bind) => {
                request.name = own(&bind.portal);
                request.portal = Some(Arc::new(Portal {
                    id: request.id,
                    name: request.name.clone(),
                    tag: request.tag.clone(),
                    statement: request.statement.clone(),
                    result_formats: Formats::detached(&bind.result_formats),
                    hold: false,
                    columns: Default::default(),
                }));
            }
            Message::Close(Target::Statement(name) | Target::Portal(name)) => {
                request.name = own(name);
            }
            _ => {}
        }
    }

    fn push(&mut self, request: Request<T>) -> RequestId {
        let id = request.id;
        if request.kind == Kind::Sync {
            self.skipping = false;
            self.unsure_skip = false;
        }
        note(&mut self.statements, &mut self.portals, &request);
        self.queue.push_back(request);
        id
    }
}

/// What a request on its way does to names.
fn note<T>(
    statements: &mut Names<Statement<T>>,
    portals: &mut Names<Portal<T>>,
    request: &Request<T>,
) {
    let Request { id, batch, name, .. } = request;
    match request.kind {
        Kind::Parse => statements.change(name, *id, *batch, request.statement.as_ref()),
        Kind::CloseStatement => statements.change(name, *id, *batch, None),
        Kind::Bind => portals.change(name, *id, *batch, request.portal.as_ref()),
        Kind::ClosePortal => portals.change(name, *id, *batch, None),
        // A simple query begins by forgetting what has no name.
        Kind::Query => {
            statements.change(&Bytes::new(), *id, *batch, None);
            portals.change(&Bytes::new(), *id, *batch, None);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
