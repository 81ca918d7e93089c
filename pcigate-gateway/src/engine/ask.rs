//! What the session keeps about each request on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use bytes::Bytes;
use pcigate_policy::mask::Masked;
use pcigate_policy::statement::Answer;
use pcigate_postgres::denial::Denial;
use pcigate_sql::{Settings, Statement};

/// What is kept about a request; statements and portals have that of the request that made them.
pub(crate) struct Ask {
    /// The number of its first statement's record; 0 = it has none.
    pub number: u64,
    pub decision: Option<Arc<Decision>>,
    pub spent: Arc<Spent>,
    pub denial: Option<Denial>,
    pub parameters: Vec<Option<Masked>>,
    /// A portal's columns were asked for.
    pub described: AtomicBool,
    /// A prepared statement's text is in a record.
    pub recorded: AtomicBool,
    /// Later texts may mean something else once it is done.
    pub changes: bool,
    /// Of a prepared statement: its name, unless it has none.
    pub name: Option<Bytes>,
    /// Of a portal: [`super::Engine::epoch`] when it was made.
    pub epoch: u64,
    pub began: Instant,
}

/// What of the budgets is used: by a simple statement, or by all fetches from one portal.
#[derive(Default)]
pub(crate) struct Spent {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
}

/// A text, what it does, and what the rules say to it.
#[derive(Clone)]
pub(crate) struct Decision {
    pub text: Bytes,
    pub parameter_types: Vec<u32>,
    pub statements: Arc<[Statement]>,
    /// One for each statement.
    pub answers: Vec<Answer>,
    /// What the session's settings were: the decision holds while they are the same.
    pub settings: Settings,
    /// What was known of the database then, likewise.
    pub version: u64,
    /// The same text may do something else the next time.
    pub volatile: bool,
    /// It changes what later texts mean.
    pub changes: bool,
    /// SQLSTATE of a refusal.
    pub code: &'static str,
    /// Names the request where it needs approval.
    pub request_key: Option<[u8; 32]>,
    /// Its text and parameters may hold sensitive authentication data that nothing marks as such.
    pub touches_sad: bool,
}

impl Ask {
    /// Of a request without a statement.
    pub(crate) fn nothing() -> Self {
        Self {
            number: 0,
            decision: None,
            spent: Arc::default(),
            denial: None,
            parameters: Vec::new(),
            described: AtomicBool::new(false),
            recorded: AtomicBool::new(false),
            changes: false,
            name: None,
            epoch: 0,
            began: Instant::now(),
        }
    }

    /// Statements its records are about.
    pub(crate) fn statements(&self) -> &[Statement] {
        self.decision.as_ref().map_or(&[], |decision| &decision.statements)
    }

    /// What the rules say to its statement `index`.
    pub(crate) fn answer(&self, index: u32) -> Option<&Answer> {
        let index = usize::try_from(index).ok()?;
        self.decision.as_ref().and_then(|decision| decision.answers.get(index))
    }
}
