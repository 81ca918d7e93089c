//! What a gated session leaves: its beginning and end, its statements, what passed.

use pcigate_policy::mask::{Kind, Masked};

/// A gated connection began or ended.
#[derive(Clone, Debug)]
pub struct Session {
    /// Random; in all records of the session.
    pub id: [u8; 16],
    /// Which of both.
    pub phase: Phase,
    /// `namespace/name` of the Target.
    pub target: Masked,
    /// `postgres`.
    pub protocol: &'static str,
    /// The database it is in.
    pub database: Masked,
    /// The user the client asked for.
    pub user: Masked,
    /// The role upstream.
    pub role: Masked,
    /// What the client calls itself.
    pub application: Masked,
    /// The client's address.
    pub client: Masked,
    /// Whether the client speaks TLS to the gateway.
    pub client_tls: bool,
    /// Whom the client's token was given to, and by whom; nothing where it brought none.
    pub identity: Option<Box<(Masked, Masked)>>,
    /// What the gateway had masked in these texts before it told them.
    pub masked: Vec<(Kind, u32)>,
}

/// Beginning or end.
#[derive(Clone, Debug)]
pub enum Phase {
    /// The client was let in.
    Started,
    /// It is over.
    Ended {
        /// Why, in a sentence.
        reason: Masked,
        /// Statements decided.
        statements: u64,
        /// Statements refused.
        refused: u64,
        /// Rows that went to the client.
        rows: u64,
        /// Bytes that went to the client.
        bytes: u64,
        /// How long it was open, ns.
        duration_ns: u64,
        /// What masking took out.
        masked: Vec<(Kind, u32)>,
    },
}

/// A statement was decided.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The session.
    pub session: [u8; 16],
    /// From 1.
    pub number: u64,
    /// `namespace/name` of the Target.
    pub target: Masked,
    /// `query`, `prepare`, `execute`, `function-call`.
    pub step: &'static str,
    /// Its command.
    pub command: Masked,
    /// Its text.
    pub text: Masked,
    /// Bytes its text had.
    pub text_bytes: u64,
    /// In order; `None` = NULL.
    pub parameters: Vec<Option<Masked>>,
    /// Everything it does.
    pub effects: Vec<&'static str>,
    /// Each table it concerns.
    pub tables: Vec<Masked>,
    /// What the client was told of a refusal.
    pub reason: Masked,
    /// What an approval would name.
    pub request_key: Option<[u8; 32]>,
    /// What the gateway had masked in these texts before it told them.
    pub masked: Vec<(Kind, u32)>,
}

/// A statement that went to its target is done.
#[derive(Clone, Debug)]
pub struct StatementEnd {
    /// The session.
    pub session: [u8; 16],
    /// As in [`Statement::number`].
    pub number: u64,
    /// Rows answered or changed.
    pub rows: u64,
    /// Bytes of its answer.
    pub bytes: u64,
    /// From its verdict to its end, ns.
    pub duration_ns: u64,
    /// Of its error; `None` = it succeeded.
    pub sqlstate: Option<Masked>,
    /// What masking took out of its answer.
    pub masked: Vec<(Kind, u32)>,
}

/// What passed through a gated connection.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The session.
    pub session: [u8; 16],
    /// Which way.
    pub from_client: bool,
    /// One line a message.
    pub text: Masked,
    /// Nothing further is kept.
    pub truncated: bool,
    /// What the gateway had masked in the text before it told it.
    pub masked: Vec<(Kind, u32)>,
}
