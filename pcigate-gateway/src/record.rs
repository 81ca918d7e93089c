//! What a session tells the recorder, and how it learns that a record is on disk. Every text of
//! an event is [`Masked`].

use std::collections::BTreeMap;
use std::time::Duration;

use pcigate_policy::document::{Effect, StatementAction};
use pcigate_policy::mask::{Finding, Kind, Masked};
use tokio::sync::{mpsc, oneshot};

/// Where a session's records go. Bounded: while it is full, the session stands still.
pub type Door = mpsc::Sender<Entry>;

/// One record to make.
#[derive(Debug)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// To be answered once this record and all before it from this door are on disk, or when that
    /// has failed. Dropped without an answer = failed.
    pub durable: Option<oneshot::Sender<Result<(), NotRecorded>>>,
}

/// A record that is not on disk and will not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be kept; see the agent's log, and try again")]
pub struct NotRecorded;

/// How often masking took something out, by kind.
pub type MaskedCounts = BTreeMap<Kind, u64>;

/// What happened in a session.
#[derive(Debug)]
pub enum Event {
    /// The client was let in.
    SessionStarted {
        /// The database it is in.
        database: Masked,
        /// The user it asked for; upstream the Target's credential counts.
        user: Masked,
        /// The role upstream.
        role: Masked,
        /// `application_name`, as the client says it; empty = none.
        application: Masked,
        /// The client's address, as [`crate::Client::address`] had it.
        client: Masked,
        /// Whether the client speaks TLS to us.
        client_tls: bool,
        /// Whom the client's token was given to, and by whom, once it is verified.
        identity: Option<Box<(Masked, Masked)>>,
    },
    /// A statement was decided. On disk before any of it goes upstream, where it was allowed.
    Statement(Box<StatementEvent>),
    /// A statement that went upstream is done.
    StatementEnded(StatementEnd),
    /// What passed, for replay.
    Traffic {
        /// Which way.
        direction: Direction,
        /// One line for each message.
        text: Masked,
    },
    /// Traffic is no longer kept: the session goes on unseen from here, except for statements.
    Truncated {
        /// Bytes of traffic that were kept: the limit.
        limit: u64,
    },
    /// The session is over.
    SessionEnded {
        /// Why, in a sentence.
        why: Masked,
        /// Statements decided.
        statements: u64,
        /// Statements refused.
        refused: u64,
        /// Rows that went to the client.
        rows: u64,
        /// Bytes of messages that went to the client.
        bytes: u64,
        /// What was taken out of them.
        masked: MaskedCounts,
        /// How long it was open.
        duration: Duration,
    },
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    FromClient,
    /// To the client.
    ToClient,
}

/// One statement as it was decided.
#[derive(Debug)]
pub struct StatementEvent {
    /// Numbers the statements of a session from 1.
    pub number: u64,
    /// How it came.
    pub step: Step,
    /// Its command: `SELECT`, `COPY`, ….
    pub command: &'static str,
    /// Its text.
    pub text: Masked,
    /// Bytes its text had; more than the text holds where it was cut.
    pub text_bytes: u64,
    /// Parameters in order, in words; NULL is `None`.
    pub parameters: Vec<Option<Masked>>,
    /// Everything it does.
    pub effects: Vec<Effect>,
    /// Each table it concerns, as `schema.table`.
    pub tables: Vec<Masked>,
    /// What is done to it.
    pub verdict: StatementAction,
    /// Id of the rule behind the verdict.
    pub rule: Option<Masked>,
    /// Why it is refused, as the client was told; empty where it is allowed.
    pub reason: Masked,
    /// What an approval would name, where it needs one: [`crate::request_key`].
    pub request_key: Option<[u8; 32]>,
    /// From taking up its message to its verdict.
    pub deciding: Duration,
}

/// How a statement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// By Query: it is run.
    Query,
    /// By Parse: it is prepared, and was not run in the same breath.
    Prepare,
    /// By Execute (with the Bind before it): it is run.
    Execute,
    /// By FunctionCall.
    FunctionCall,
}

/// How a statement ended.
#[derive(Debug)]
pub struct StatementEnd {
    /// As in [`StatementEvent::number`].
    pub number: u64,
    /// Rows of its answer that went to the client, or the rows it says it changed.
    pub rows: u64,
    /// Bytes of the messages with its answer.
    pub bytes: u64,
    /// What was taken out of them.
    pub masked: MaskedCounts,
    /// From its verdict to its end.
    pub duration: Duration,
    /// SQLSTATE of its error; `None` = it succeeded.
    pub sqlstate: Option<Masked>,
}

/// Adds findings to counts.
pub(crate) fn count(counts: &mut MaskedCounts, findings: &[Finding]) {
    for finding in findings {
        *counts.entry(finding.kind).or_default() += 1;
    }
}

/// Adds counts to counts.
pub(crate) fn add(counts: &mut MaskedCounts, more: &MaskedCounts) {
    for (kind, number) in more {
        *counts.entry(*kind).or_default() += number;
    }
}
