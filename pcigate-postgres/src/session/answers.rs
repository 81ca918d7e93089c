//! The server's side: each message is matched with the oldest request it can answer.

use std::sync::Arc;

use bytes::Bytes;

use super::request::Progress;
use super::shape::{Columns, RowShape, Source};
use super::{Copying, Effect, Kind, Portal, Request, Session, SessionError, Statement, note};
use crate::backend::{Message, Report, RowDescription, TransactionStatus};
use crate::error::Side;
use crate::values::Values;

/// What a message of the server belongs to.
pub struct Answer<'a, T> {
    /// The request it answers; nothing for what the server says unasked (NoticeResponse,
    /// ParameterStatus, NotificationResponse, an error with no request outstanding).
    pub request: Option<&'a Request<T>>,
    /// Of a DataRow or RowDescription: the columns. Nothing when they were never described.
    pub shape: Option<&'a RowShape>,
    /// Whether it is the last message of the request's answer.
    pub ends: bool,
    /// Of an ErrorResponse: the requests behind it that the server will never look at.
    pub skipped: &'a [Request<T>],
}

/// What a message does to the request it answers.
enum Step {
    Unasked,
    Stays,
    Ends,
}

impl<T: Clone> Session<T> {
    /// The server has sent a message.
    ///
    /// # Errors
    /// No request outstanding can be answered so, or descriptions are over their limit.
    pub fn received(&mut self, message: &Message) -> Result<Answer<'_, T>, SessionError> {
        self.skipped.clear();
        let step = match message {
            Message::DataRow(values) => self.data_row(values)?,
            Message::NoticeResponse(_)
            | Message::ParameterStatus { .. }
            | Message::NotificationResponse { .. } => Step::Unasked,
            _ => {
                if !matches!(message, Message::ReadyForQuery(_)) {
                    self.settle_syncs();
                }
                self.answer(message)?
            }
        };
        let ends = matches!(step, Step::Ends);
        let request = match step {
            Step::Unasked => None,
            Step::Stays => self.queue.front(),
            Step::Ends => {
                self.ended = self.queue.pop_front();
                self.with_effects -= usize::from(has_effects(self.ended.as_ref()));
                self.ended.as_ref()
            }
        };
        let has_shape = matches!(message, Message::DataRow(_) | Message::RowDescription(_));
        let shape = request.filter(|_| has_shape).and_then(|request| request.shape.as_ref());
        Ok(Answer { request, shape, ends, skipped: &self.skipped })
    }

    fn answer(&mut self, message: &Message) -> Result<Step, SessionError> {
        match message {
            Message::ErrorResponse(report) => return Ok(self.error(report)),
            Message::ReadyForQuery(status) => return self.ready(*status),
            Message::CopyInResponse(_) => return self.copy_in(message),
            _ => {}
        }
        let Some(front) = self.queue.front_mut() else { return Err(out_of_place(message)) };
        if front.progress == Progress::Failed {
            return Err(out_of_place(message));
        }
        match (message, front.kind) {
            (Message::ParseComplete, Kind::Parse) => {
                self.statements.confirm(&front.name, front.id, front.statement.clone());
                Ok(Step::Ends)
            }
            (Message::BindComplete, Kind::Bind) => {
                self.portals.confirm(&front.name, front.id, front.portal.clone());
                Ok(Step::Ends)
            }
            (Message::CloseComplete, Kind::CloseStatement) => {
                self.statements.confirm(&front.name, front.id, None);
                Ok(Step::Ends)
            }
            (Message::CloseComplete, Kind::ClosePortal) => {
                self.portals.confirm(&front.name, front.id, None);
                Ok(Step::Ends)
            }
            (Message::ParameterDescription(types), Kind::DescribeStatement)
                if front.progress == Progress::Nothing =>
            {
                if let Some(statement) = &front.statement {
                    statement.described().parameter_types = Some(types.as_slice().into());
                }
                front.progress = Progress::Parameters;
                Ok(Step::Stays)
            }
            (Message::RowDescription(description), _) => self.row_description(description),
            (Message::NoData, Kind::DescribeStatement)
                if front.progress == Progress::Parameters =>
            {
                if let Some(statement) = &front.statement {
                    statement.described().columns = None;
                }
                Ok(Step::Ends)
            }
            (Message::NoData, Kind::DescribePortal) => Ok(Step::Ends),
            (Message::FunctionCallResponse(_), Kind::FunctionCall)
                if front.progress == Progress::Nothing =>
            {
                front.progress = Progress::Some;
                Ok(Step::Stays)
            }
            (Message::PortalSuspended, Kind::Execute) if self.copy == Copying::Nothing => {
                Ok(Step::Ends)
            }
            (_, kind) if kind.runs_statements() => self.copy_or_complete(message),
            _ => Err(out_of_place(message)),
        }
    }

    /// Columns: of a portal or statement, or of the rows of a simple query.
    fn row_description(&mut self, description: &RowDescription) -> Result<Step, SessionError> {
        let out_of_place =
            SessionError::OutOfPlace { side: Side::Backend, message: "RowDescription" };
        let Some(front) = self.queue.front_mut() else { return Err(out_of_place) };
        let source = match front.kind {
            Kind::Query if self.copy == Copying::Nothing => Source::Query,
            Kind::DescribePortal => Source::Portal,
            Kind::DescribeStatement if front.progress == Progress::Parameters => Source::Statement,
            _ => return Err(out_of_place),
        };
        let statement = front.statement.as_ref().filter(|_| source == Source::Statement);
        let portal = front.portal.as_ref().filter(|_| source == Source::Portal);
        let columns = if statement.is_none() && portal.is_none() {
            Columns::passing(description)
        } else {
            let limit = self.limits.descriptions;
            let what = "bytes of column descriptions";
            Columns::kept(description, &self.account, limit)
                .ok_or(SessionError::TooMany { what, limit })?
        };
        if let Some(statement) = statement {
            statement.described().columns = Some(Arc::clone(&columns));
        }
        if let Some(portal) = portal {
            *portal.columns() = Some(Arc::clone(&columns));
        }
        front.shape = Some(RowShape::new(columns, None, source));
        front.progress = Progress::Rows;
        Ok(if source == Source::Query { Step::Stays } else { Step::Ends })
    }

    fn data_row(&mut self, values: &Values) -> Result<Step, SessionError> {
        self.settle_syncs();
        let out_of_place = SessionError::OutOfPlace { side: Side::Backend, message: "DataRow" };
        let Some(front) = self.queue.front_mut() else { return Err(out_of_place) };
        match (front.kind, front.progress) {
            _ if self.copy != Copying::Nothing => return Err(out_of_place),
            (Kind::Query | Kind::Execute, Progress::Rows) => {}
            (Kind::Execute, Progress::Nothing) => {
                front.shape = front.portal.as_ref().and_then(|portal| portal.shape());
                front.progress = Progress::Rows;
            }
            _ => return Err(out_of_place),
        }
        let columns = front.shape.as_ref().map_or(values.len(), |shape| shape.columns().len());
        if columns != values.len() {
            return Err(SessionError::RowWidth { values: values.len(), columns });
        }
        Ok(Step::Stays)
    }

    fn copy_in(&mut self, message: &Message) -> Result<Step, SessionError> {
        let unanswered = [Progress::Nothing, Progress::Some];
        let may = self.queue.front().is_some_and(|front| {
            front.kind.runs_statements() && unanswered.contains(&front.progress)
        });
        if !may || self.copy != Copying::Nothing {
            return Err(out_of_place(message));
        }
        // What was sent already comes among the data: a Sync is dropped there, unless the statement
        // fails before it looks for data.
        if self.queue.iter().skip(1).any(|request| request.kind != Kind::Sync) {
            return Err(SessionError::BehindCopyIn);
        }
        let extended = self.queue.front().is_some_and(|front| front.kind == Kind::Execute);
        self.unsure_skip = extended && self.queue.len() > 1;
        for sync in self.queue.iter_mut().skip(1).filter(|sync| !sync.maybe_dropped) {
            sync.maybe_dropped = true;
            self.unsure_syncs += 1;
        }
        self.copy = Copying::In;
        Ok(Step::Stays)
    }

    /// The messages of COPY and the ends of statements.
    fn copy_or_complete(&mut self, message: &Message) -> Result<Step, SessionError> {
        let Some(front) = self.queue.front_mut() else { return Err(out_of_place(message)) };
        let is_query = front.kind == Kind::Query;
        let fresh = matches!(front.progress, Progress::Nothing | Progress::Some);
        match (message, self.copy) {
            (Message::CopyOutResponse(_), Copying::Nothing) if fresh => self.copy = Copying::Out,
            (Message::CopyBothResponse(_), Copying::Nothing) if fresh && is_query => {
                self.copy = Copying::Both { client: true, server: true };
            }
            (Message::CopyData(_), Copying::Out | Copying::Both { server: true, .. }) => {}
            (Message::CopyDone, Copying::Out) => self.copy = Copying::OutEnded,
            (Message::CopyDone, Copying::Both { client, server: true }) => {
                self.copy = Copying::Both { client, server: false };
            }
            (
                Message::CommandComplete(_),
                Copying::Nothing
                | Copying::InEnded
                | Copying::OutEnded
                | Copying::Both { client: false, server: false },
            ) => {
                if self.copy == Copying::InEnded {
                    self.drop_unsure_syncs();
                }
                return Ok(self.complete());
            }
            (Message::EmptyQueryResponse, Copying::Nothing) if fresh => {
                return Ok(self.complete());
            }
            _ => return Err(out_of_place(message)),
        }
        Ok(Step::Stays)
    }

    /// A statement is done.
    fn complete(&mut self) -> Step {
        self.copy = Copying::Nothing;
        let Some(front) = self.queue.front_mut() else { return Step::Unasked };
        for (_, effect) in front.effects.iter().filter(|(index, _)| *index == front.index) {
            apply(effect, front, &mut self.statements, &mut self.portals);
        }
        front.index = front.index.saturating_add(1);
        front.shape = None;
        front.progress = Progress::Some;
        if front.kind == Kind::Query { Step::Stays } else { Step::Ends }
    }

    fn error(&mut self, report: &Report) -> Step {
        self.over |= report.ends_session();
        self.copy = Copying::Nothing;
        let Some(front) = self.queue.front_mut() else { return Step::Unasked };
        front.shape = None;
        if !front.kind.skips_when_failed() {
            front.progress = Progress::Failed;
            return Step::Stays;
        }
        // Parse forgets the statement without a name before it looks at the new one.
        if matches!(front.kind, Kind::Parse | Kind::Refused) && front.name.is_empty() {
            self.statements.set(&Bytes::new(), None);
        }
        let behind = self.queue.iter().skip(1).position(|request| request.kind == Kind::Sync);
        self.skipping = behind.is_none();
        let end = behind.map_or(self.queue.len(), |behind| behind + 1);
        self.skipped.extend(self.queue.drain(1.min(end)..end));
        self.with_effects -= self.skipped.iter().filter(|one| has_effects(Some(*one))).count();
        self.statements.forget_pending();
        self.portals.forget_pending();
        for request in self.queue.iter().skip(1) {
            note(&mut self.statements, &mut self.portals, request);
        }
        Step::Ends
    }

    fn ready(&mut self, status: TransactionStatus) -> Result<Step, SessionError> {
        let Some(front) = self.queue.front() else {
            return Err(out_of_place(&Message::ReadyForQuery(status)));
        };
        let answered = front.progress != Progress::Nothing && self.copy == Copying::Nothing;
        match front.kind {
            Kind::Query if answered => {
                let none = Bytes::new();
                self.statements.confirm(&none, front.id, None);
                self.portals.confirm(&none, front.id, None);
            }
            Kind::FunctionCall if answered => {}
            Kind::Sync if front.maybe_dropped => {
                self.unsure_syncs -= 1;
                self.unsure_skip = false;
                // One of the Syncs was answered: if not this one, then one fewer is to come.
                let mut behind = self.queue.iter_mut().skip(1);
                let next = behind.find(|one| one.kind == Kind::Sync && !one.maybe_dropped);
                if let Some(next) = next {
                    next.maybe_dropped = true;
                    self.unsure_syncs += 1;
                }
            }
            Kind::Sync => {}
            _ => return Err(out_of_place(&Message::ReadyForQuery(status))),
        }
        self.transaction = status;
        if status == TransactionStatus::Idle {
            self.portals.retain(|portal| portal.hold);
        }
        Ok(Step::Ends)
    }

    /// Something other than ReadyForQuery has come: the Syncs in front that the server may have
    /// dropped were dropped.
    fn settle_syncs(&mut self) {
        while self.unsure_syncs > 0 && self.queue.front().is_some_and(|front| front.maybe_dropped) {
            self.queue.pop_front();
            self.unsure_syncs -= 1;
            self.unsure_skip = false;
        }
    }

    fn drop_unsure_syncs(&mut self) {
        if self.unsure_syncs > 0 {
            self.queue.retain(|request| !request.maybe_dropped);
            self.unsure_syncs = 0;
            self.unsure_skip = false;
        }
    }
}

fn has_effects<T>(request: Option<&Request<T>>) -> bool {
    request.is_some_and(|request| !request.effects.is_empty())
}

/// What a statement of SQL has done to names.
fn apply<T: Clone>(
    effect: &Effect,
    by: &Request<T>,
    statements: &mut super::Names<Statement<T>>,
    portals: &mut super::Names<Portal<T>>,
) {
    match effect {
        Effect::Prepare(name) => {
            let statement = Statement::new(by.id, name.clone(), by.tag.clone());
            statements.set(name, Some(Arc::new(statement)));
        }
        Effect::Deallocate(name) => statements.set(name, None),
        Effect::DeallocateAll => statements.retain(|_| false),
        Effect::Declare { name, hold } => {
            portals.set(name, Some(Arc::new(Portal::cursor(by.id, name, &by.tag, *hold))));
        }
        Effect::ClosePortal(name) => portals.set(name, None),
        Effect::ClosePortals => portals.retain(|_| false),
        Effect::DiscardAll => {
            statements.retain(|_| false);
            portals.retain(|_| false);
        }
    }
}

fn out_of_place(message: &Message) -> SessionError {
    SessionError::OutOfPlace { side: Side::Backend, message: message.name() }
}
