//! The process that starts the gateway's: an agent that enforces starts no program any more, and
//! has given up what it takes to become another user.
//!
//! It is started with the agent, gives up everything it has, and waits at its socket: asked to, it
//! starts a gateway and hands the agent the other end of that one's socket, or ends the one there
//! is and says how it ended. It reads nothing else. It ends with the agent, and the gateway with
//! it.

pub mod inside;

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::TimeVal,
};

use super::link;

/// The verb of `pcigate-agent` that is the keeper.
pub const VERB: &str = "gateway-keeper";
/// How long the keeper may take for anything it is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to end when the agent is gone.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of what the two say to each other.
const MESSAGE_MAX: usize = 1024;

/// What the agent asks for, one byte.
const START: u8 = b's';
const END: u8 = b'e';
/// The first byte of an answer; a sentence follows.
const DONE: u8 = b'+';
const FAILED: u8 = b'-';

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The keeper does not start.
    #[error("cannot start the process that starts the gateway ({VERB})")]
    Start(#[source] io::Error),
    /// It is gone, or says nothing.
    #[error(
        "the process that starts the gateway ({VERB}) does not answer: gated connections are \
         closed; restart the agent"
    )]
    Gone(#[source] io::Error),
    /// It says why not.
    #[error("the gateway cannot be started: {why}")]
    Refused {
        /// In its words.
        why: String,
    },
}

/// The agent's side. Its calls wait: not for an async worker.
pub struct Keeper {
    socket: Option<OwnedFd>,
    process: Child,
}

impl Keeper {
    /// Starts it, and waits until it has given up its privileges. To be called by the main thread:
    /// the process ends with the thread that started it.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub fn start() -> Result<Self, KeeperError> {
        let (ours, theirs) = link::pair().map_err(KeeperError::Start)?;
        let within = TimeVal::new(ANSWER_WITHIN.as_secs().cast_signed(), 0);
        setsockopt(&ours, sockopt::ReceiveTimeout, &within)
            .map_err(|errno| KeeperError::Start(errno.into()))?;
        let mut command = Command::new("/proc/self/exe");
        // A group of its own: a terminal's Ctrl-C is for the agent.
        command.arg(VERB).stdin(theirs).stdout(Stdio::null()).process_group(0);
        let process = command.spawn().map_err(KeeperError::Start)?;
        drop(command);
        let keeper = Self { socket: Some(ours), process };
        keeper.answer()?;
        Ok(keeper)
    }

    /// Starts a gateway; this end of its socket.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub fn start_gateway(&self) -> Result<OwnedFd, KeeperError> {
        let nothing = || KeeperError::Gone(io::Error::other("it passed no socket"));
        self.ask(START)?.1.ok_or_else(nothing)
    }

    /// Ends the gateway there is; how it has ended, in words.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub fn end_gateway(&self) -> Result<String, KeeperError> {
        Ok(self.ask(END)?.0)
    }

    fn ask(&self, what: u8) -> Result<(String, Option<OwnedFd>), KeeperError> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        link::send(socket.as_fd(), &[what], None).map_err(KeeperError::Gone)?;
        self.answer()
    }

    fn answer(&self) -> Result<(String, Option<OwnedFd>), KeeperError> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        let mut message = [0; MESSAGE_MAX];
        let received = link::receive(socket.as_fd(), &mut message, true);
        let (length, passed) = received.map_err(KeeperError::Gone)?;
        let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        match message.get(..length).and_then(<[u8]>::split_first) {
            Some((&DONE, text)) => Ok((said(text), passed)),
            Some((_, text)) => Err(KeeperError::Refused { why: said(text) }),
            None => Err(gone()),
        }
    }
}

fn gone() -> KeeperError {
    KeeperError::Gone(io::ErrorKind::UnexpectedEof.into())
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It takes this for the end. The agent may have no right to end it otherwise.
        self.socket = None;
        let deadline = Instant::now() + END_WITHIN;
        while let Ok(None) = self.process.try_wait() {
            if Instant::now() > deadline {
                tracing::warn!("the process that starts the gateway has not ended yet");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
