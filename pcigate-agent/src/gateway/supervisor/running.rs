//! A gateway's process that runs: its frames, its sessions, and whether it still answers.

use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pcigate_gateway::{Identity, Unreviewed};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, timeout},
};
use zeroize::Zeroizing;

use crate::{
    gateway::{
        keeper::KeeperError,
        link::Link,
        wire::{
            ClientToken, FRAME_MAX, FromGateway, Malformed, PIECE_MAX, Terms, ToGateway, Told,
            sentence,
        },
    },
    recorder::lock,
};

/// How long a new process may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked whether it is there; it has to have answered by the next time.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Frames of a session that wait for it: more than one that keeps to the protocol sends.
const SAID_MAX: usize = 16;

/// Why a process is not used any more.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum Fault {
    #[error("it cannot be started")]
    Start {
        #[source]
        source: KeeperError,
    },
    #[error("its socket failed ({source})")]
    Link {
        #[source]
        source: io::Error,
    },
    #[error("it ended")]
    Ended,
    #[error("it was not ready within {} s", READY_WITHIN.as_secs())]
    NotReady,
    #[error("{source}")]
    Malformed { source: Malformed },
    #[error("it said {what} out of turn")]
    OutOfTurn { what: &'static str },
    #[error("it does not answer")]
    Silent,
    #[error("it did not end a session in time")]
    Unruly,
}

/// What a session is told of its other half.
pub(in crate::gateway) enum Said {
    /// To be recorded, and answered with [`Session::kept`].
    Told { durable: bool, told: Vec<Told> },
    /// To be answered with [`ToGateway::Dialled`].
    Dial(u32),
    /// To be answered with [`ToGateway::Reviewed`].
    Review(ClientToken),
    /// That was all.
    Over(String),
}

pub(in crate::gateway) struct Running {
    link: Link,
    sessions: Mutex<HashMap<u64, Route>>,
    next: AtomicU64,
    unruly: watch::Sender<bool>,
}

/// The way to a session's task.
struct Route {
    said: mpsc::Sender<Said>,
    /// It has told something that is not recorded yet, and may not tell more.
    telling: Arc<AtomicBool>,
}

/// A session's way to its other half; closed when this is dropped.
pub(in crate::gateway) struct Session {
    running: Arc<Running>,
    number: u64,
    telling: Arc<AtomicBool>,
    said: mpsc::Receiver<Said>,
}

impl Running {
    pub(super) fn new(link: Link) -> Self {
        let (sessions, next) = (Mutex::default(), AtomicU64::new(1));
        Self { link, sessions, next, unruly: watch::Sender::new(false) }
    }

    /// Waits until it has said so.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        let mut buffer = vec![0; FRAME_MAX];
        match timeout(READY_WITHIN, self.receive(&mut buffer)).await {
            Ok(Ok(FromGateway::Ready)) => Ok(()),
            Ok(Ok(_)) => Err(Fault::OutOfTurn { what: "something before it was ready" }),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::NotReady),
        }
    }

    /// Takes frames to their sessions until it must not go on.
    pub(super) async fn attend(&self) -> Fault {
        let mut buffer = vec![0; FRAME_MAX];
        let mut unruly = self.unruly.subscribe();
        let mut ask = interval(ASK_EVERY);
        let (mut asked, mut answered) = (0, 0);
        loop {
            let result = tokio::select! {
                frame = self.receive(&mut buffer) => match frame {
                    Ok(FromGateway::Here(number)) if number == asked => {
                        answered = number;
                        Ok(())
                    }
                    Ok(frame) => self.take(frame),
                    Err(fault) => Err(fault),
                },
                _ = ask.tick() => {
                    if answered == asked {
                        asked += 1;
                        self.ask(asked).await
                    } else {
                        Err(Fault::Silent)
                    }
                }
                // It changes once, to that.
                _ = unruly.changed() => Err(Fault::Unruly),
            };
            if let Err(fault) = result {
                return fault;
            }
        }
    }

    /// Ends all sessions of it: how many there were.
    pub(super) fn end(&self) -> usize {
        let mut sessions = lock(&self.sessions);
        let number = sessions.len();
        sessions.clear();
        number
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<FromGateway, Fault> {
        let received = self.link.receive(buffer, false).await;
        let (length, _) = received.map_err(|source| Fault::Link { source })?;
        let frame = buffer.get(..length).unwrap_or_default();
        if frame.is_empty() {
            return Err(Fault::Ended);
        }
        FromGateway::decode(frame).map_err(|source| Fault::Malformed { source })
    }

    /// A process that reads nothing would make this wait for ever.
    async fn ask(&self, number: u64) -> Result<(), Fault> {
        match timeout(ASK_EVERY, self.send(ToGateway::Ask(number), None)).await {
            Ok(sent) => sent.map_err(|source| Fault::Link { source }),
            Err(_) => Err(Fault::Silent),
        }
    }

    fn take(&self, frame: FromGateway) -> Result<(), Fault> {
        let (session, said, what) = match frame {
            FromGateway::Told { session, durable, told } => {
                (session, Said::Told { durable, told }, "records of a session")
            }
            FromGateway::Dial { session, dial } => (session, Said::Dial(dial), "wishes"),
            FromGateway::Review { session, token } => (session, Said::Review(token), "tokens"),
            FromGateway::Over { session, why } => (session, Said::Over(why), "ends"),
            FromGateway::Ready => return Err(Fault::OutOfTurn { what: "that it is ready" }),
            FromGateway::Here(_) => return Err(Fault::OutOfTurn { what: "that it is there" }),
        };
        let sessions = lock(&self.sessions);
        // One that the agent has ended meanwhile may still have something to say.
        let Some(route) = sessions.get(&session) else { return Ok(()) };
        let tells = matches!(said, Said::Told { .. });
        if tells && route.telling.swap(true, Ordering::AcqRel) {
            return Err(Fault::OutOfTurn { what });
        }
        match route.said.try_send(said) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Fault::OutOfTurn { what }),
            _ => Ok(()),
        }
    }

    /// Hands a client's connection over.
    pub(in crate::gateway) async fn open(
        self: &Arc<Self>,
        terms: &mut Terms,
        client: BorrowedFd<'_>,
    ) -> io::Result<Session> {
        let terms = terms.encode().map_err(io::Error::other)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, said) = mpsc::channel(SAID_MAX);
        let telling = Arc::new(AtomicBool::new(false));
        let route = Route { said: sender, telling: Arc::clone(&telling) };
        lock(&self.sessions).insert(number, route);
        let session = Session { running: Arc::clone(self), number, telling, said };
        let mut pieces = terms.chunks(PIECE_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            let piece = Zeroizing::new(piece.to_vec());
            let frame = ToGateway::Terms { session: number, last, piece };
            self.send(frame, last.then_some(client)).await?;
        }
        Ok(session)
    }

    async fn send(&self, mut frame: ToGateway, passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let frame = frame.encode().map_err(io::Error::other)?;
        self.link.send(&frame, passed).await
    }
}

impl Session {
    /// What its other half says next; nothing when the process is gone.
    pub(in crate::gateway) async fn said(&mut self) -> Option<Said> {
        self.said.recv().await
    }

    /// Answers [`Said::Told`].
    pub(in crate::gateway) async fn kept(&self, kept: bool) -> io::Result<()> {
        self.telling.store(false, Ordering::Release);
        self.running.send(ToGateway::Kept { session: self.number, kept }, None).await
    }

    /// Asks it to end.
    pub(in crate::gateway) async fn end(&self, why: String) -> io::Result<()> {
        self.running.send(ToGateway::End { session: self.number, why }, None).await
    }

    /// It does not end: the whole process does.
    pub(in crate::gateway) fn give_up(&self) {
        self.running.unruly.send_replace(true);
    }

    /// For answers that come later.
    pub(in crate::gateway) fn answers(&self) -> (Arc<Running>, u64) {
        (Arc::clone(&self.running), self.number)
    }
}

impl Running {
    /// Answers [`Said::Dial`].
    pub(in crate::gateway) async fn dialled(
        &self,
        session: u64,
        dial: u32,
        connection: Result<BorrowedFd<'_>, String>,
        password: Option<Zeroizing<Vec<u8>>>,
    ) -> io::Result<()> {
        let (passed, failure) = match connection {
            Ok(connection) => (Some(connection), None),
            Err(why) => (None, Some(sentence(why))),
        };
        self.send(ToGateway::Dialled { session, dial, failure, password }, passed).await
    }
}

impl Running {
    /// Answers [`Said::Review`].
    pub(in crate::gateway) async fn reviewed(
        &self,
        session: u64,
        said: Result<Identity, Unreviewed>,
    ) -> io::Result<()> {
        let (identity, why, later) = match said {
            Ok(Identity { subject, issuer }) => (Some((subject, issuer)), String::new(), false),
            Err(Unreviewed::Refused(why)) => (None, sentence(why), false),
            Err(Unreviewed::Later(why)) => (None, sentence(why), true),
        };
        self.send(ToGateway::Reviewed { session, identity, why, later }, None).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.running.sessions).remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
