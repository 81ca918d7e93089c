//! The gateway's own process: reads everything that clients and servers send, and has nothing to
//! lose but its sessions.
//!
//! It gets each session from the agent (the client's connection and its [`Terms`]), asks the agent
//! for connections to the Target, and tells it what to record. The way of one statement here:
//! `pcigate_gateway::serve` decides it and puts its record into the session's door; `session.rs`
//! takes it out and sends it to the agent (`Told`), and once the agent has answered (`Kept`) lets
//! the engine go on.

pub mod confined;
mod session;

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use pcigate_gateway::{Identity, Keys, Knowledge, Unreviewed};
use tokio::sync::{Notify, oneshot};
use zeroize::{Zeroize, Zeroizing};

use super::{
    IN_ALL_MAX,
    link::Link,
    wire::{ClientToken, FRAME_MAX, FromGateway, Malformed, Terms, ToGateway, terms::TERMS_MAX},
};
use crate::{causes::chain, memory, recorder::lock};
use confined::ConfinedError;

/// The verb of `pcigate-agent` that is this process.
pub const VERB: &str = "gateway-process";

/// Why it ends.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It has privileges it does not need.
    #[error("the gateway's process does not run with privileges")]
    Confined(#[source] ConfinedError),
    /// No runtime.
    #[error("the gateway's process cannot start its runtime")]
    Runtime(#[source] io::Error),
    /// The socket to the agent.
    #[error("the gateway's process has lost the agent")]
    Link(#[source] io::Error),
    /// The agent says what it does not understand.
    #[error("the gateway's process does not understand the agent")]
    Malformed(#[source] Malformed),
}

/// Runs until the agent is gone; its socket is standard input.
///
/// # Errors
/// See [`ProcessError`].
pub fn run() -> Result<(), ProcessError> {
    memory::give_back_early();
    confined::give_up_all().map_err(ProcessError::Confined)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(ProcessError::Link)?;
    let runtime = tokio::runtime::Runtime::new().map_err(ProcessError::Runtime)?;
    confined::compute_only().map_err(ProcessError::Confined)?;
    // In a worker, which then wakes sessions by itself; the main thread would need another for it.
    let attending = async { tokio::spawn(attend(socket)).await };
    let result = runtime.block_on(attending);
    let result = result.unwrap_or_else(|error| Err(ProcessError::Runtime(io::Error::other(error))));
    // Nobody is left to record what sessions do.
    runtime.shutdown_background();
    result
}

async fn attend(socket: OwnedFd) -> Result<(), ProcessError> {
    let link = Link::new(socket).map_err(ProcessError::Link)?;
    let shared = Arc::new(Shared {
        link,
        keys: Keys::new(IN_ALL_MAX),
        knowledge: Mutex::default(),
        sessions: Mutex::default(),
        dials: AtomicU32::new(0),
        lull: Lull::default(),
    });
    tokio::spawn(lulls(Arc::clone(&shared)));
    shared.tell(FromGateway::Ready).await.map_err(ProcessError::Link)?;
    let mut buffer = Zeroizing::new(vec![0; FRAME_MAX]);
    loop {
        let received = shared.link.receive(&mut buffer, true).await;
        let (length, passed) = received.map_err(ProcessError::Link)?;
        if length == 0 {
            return Ok(());
        }
        let frame = buffer.get_mut(..length).unwrap_or_default();
        let decoded = ToGateway::decode(frame).map_err(ProcessError::Malformed)?;
        frame.zeroize();
        shared.heed(decoded, passed).await?;
    }
}

/// What all sessions share.
struct Shared {
    link: Link,
    keys: Arc<Keys>,
    /// By Target; what no session uses any more is made anew.
    knowledge: Mutex<HashMap<String, Arc<Knowledge>>>,
    /// By the agent's number.
    sessions: Mutex<HashMap<u64, Open>>,
    /// Numbers the questions for connections.
    dials: AtomicU32,
    lull: Lull,
}

/// The end of waiting for more to tell: one timer for all sessions, where each would set one for
/// each statement.
#[derive(Default)]
struct Lull {
    began: Notify,
    ended: Notify,
}

/// How long what nobody waits for waits for more, at most: the next statement mostly follows soon,
/// and one frame and one sync of the disk then do for both.
const LULL: Duration = Duration::from_millis(5);

/// Ends every lull [`LULL`] behind the first that began.
async fn lulls(shared: Arc<Shared>) {
    loop {
        shared.lull.began.notified().await;
        tokio::time::sleep(LULL).await;
        shared.lull.ended.notify_waiters();
    }
}

/// A session, as frames of the agent find it.
enum Open {
    /// Its terms are on their way.
    Coming(Zeroizing<Vec<u8>>),
    Running(Waiting),
}

/// What a session waits for from the agent.
#[derive(Default)]
struct Waiting {
    kept: Option<oneshot::Sender<bool>>,
    dials: HashMap<u32, oneshot::Sender<io::Result<Dialled>>>,
    review: Option<oneshot::Sender<Result<Identity, Unreviewed>>>,
    end: Option<oneshot::Sender<String>>,
}

/// A connection to the Target, and the credential's password.
type Dialled = (OwnedFd, Option<Zeroizing<Vec<u8>>>);

impl Shared {
    async fn tell(&self, mut frame: FromGateway) -> io::Result<()> {
        let frame = frame.encode().map_err(io::Error::other)?;
        self.link.send(&frame, None).await
    }

    /// Does what the agent says; waits for nobody but the agent.
    async fn heed(
        self: &Arc<Self>,
        frame: ToGateway,
        passed: Option<OwnedFd>,
    ) -> Result<(), ProcessError> {
        match frame {
            ToGateway::Terms { session, last, piece } => {
                if let Some(terms) = self.gather(session, last, &piece) {
                    let terms = Terms::decode(&terms).map_err(ProcessError::Malformed)?;
                    self.open(session, terms, passed);
                }
            }
            ToGateway::Dialled { session, dial, failure, password } => {
                let answer = match (failure, passed) {
                    (None, Some(connection)) => Ok((connection, password)),
                    (None, None) => Err(io::Error::other("no descriptor is left for it")),
                    (Some(why), _) => Err(io::Error::other(why)),
                };
                let asker = self.waiting(session, |waiting| waiting.dials.remove(&dial));
                // Nobody listens where the session has ended meanwhile.
                asker.map(|asker| asker.send(answer));
            }
            ToGateway::Kept { session, kept } => {
                let asker = self.waiting(session, |waiting| waiting.kept.take());
                asker.map(|asker| asker.send(kept));
            }
            ToGateway::Reviewed { session, identity, why, later } => {
                let answer = match identity {
                    Some((subject, issuer)) => Ok(Identity { subject, issuer }),
                    None if later => Err(Unreviewed::Later(why)),
                    None => Err(Unreviewed::Refused(why)),
                };
                let asker = self.waiting(session, |waiting| waiting.review.take());
                asker.map(|asker| asker.send(answer));
            }
            ToGateway::End { session, why } => {
                let end = self.waiting(session, |waiting| waiting.end.take());
                end.map(|end| end.send(why));
            }
            ToGateway::Ask(number) => {
                self.tell(FromGateway::Here(number)).await.map_err(ProcessError::Link)?;
            }
        }
        Ok(())
    }

    /// The terms, once they are complete.
    fn gather(&self, session: u64, last: bool, piece: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut sessions = lock(&self.sessions);
        // At once as large as it can get: a buffer that grows leaves copies of secrets behind.
        let size = if last { piece.len() } else { TERMS_MAX };
        let open = sessions
            .entry(session)
            .or_insert_with(|| Open::Coming(Zeroizing::new(Vec::with_capacity(size))));
        let Open::Coming(terms) = open else { return None };
        terms.extend_from_slice(piece);
        if !last {
            return None;
        }
        match sessions.remove(&session) {
            Some(Open::Coming(terms)) => Some(terms),
            _ => None,
        }
    }

    fn open(self: &Arc<Self>, session: u64, terms: Terms, client: Option<OwnedFd>) {
        let (end, ended) = oneshot::channel();
        let waiting = Waiting { end: Some(end), ..Waiting::default() };
        lock(&self.sessions).insert(session, Open::Running(waiting));
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let one =
                tokio::spawn(session::run(Arc::clone(&shared), session, terms, client, ended));
            let why = match one.await {
                Ok(Ok(())) => String::new(),
                Ok(Err(why)) => why,
                Err(error) => format!("a fault of the gateway: {error}"),
            };
            lock(&shared.sessions).remove(&session);
            let over = FromGateway::Over { session, why: super::wire::sentence(why) };
            // The agent is gone otherwise, and this process with it.
            let _ = shared.tell(over).await;
        });
    }

    fn waiting<T>(&self, session: u64, take: impl FnOnce(&mut Waiting) -> Option<T>) -> Option<T> {
        match lock(&self.sessions).get_mut(&session) {
            Some(Open::Running(waiting)) => take(waiting),
            _ => None,
        }
    }

    fn knowledge(&self, target: &str) -> Arc<Knowledge> {
        let mut known = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, knowledge| Arc::strong_count(knowledge) > 1);
        Arc::clone(known.entry(target.to_owned()).or_default())
    }

    /// Whether what a session has told is on disk, where it has to be.
    async fn recorded(&self, session: u64, frame: FromGateway) -> bool {
        let (kept, answer) = oneshot::channel();
        self.waiting(session, |waiting| waiting.kept.replace(kept));
        if let Err(error) = self.tell(frame).await {
            tracing::warn!("the agent cannot be told what to record: {}", chain(&error));
            return false;
        }
        answer.await.unwrap_or(false)
    }

    /// Whose the token of a session's client is, by the agent's word.
    async fn review(
        &self,
        session: u64,
        token: Zeroizing<Vec<u8>>,
    ) -> Result<Identity, Unreviewed> {
        let (asker, answer) = oneshot::channel();
        self.waiting(session, |waiting| waiting.review.replace(asker));
        let later = || Unreviewed::Later("the agent cannot be asked".to_owned());
        let asked = FromGateway::Review { session, token: ClientToken::new(token) };
        self.tell(asked).await.map_err(|_| later())?;
        answer.await.unwrap_or_else(|_| Err(later()))
    }

    /// A connection to a session's Target, made by the agent.
    async fn dial(&self, session: u64) -> io::Result<Dialled> {
        let dial = self.dials.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        self.waiting(session, |waiting| waiting.dials.insert(dial, asker));
        self.tell(FromGateway::Dial { session, dial }).await?;
        answer.await.map_err(|_| io::Error::other("the session is over"))?
    }
}
