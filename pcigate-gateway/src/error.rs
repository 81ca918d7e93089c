//! Why a session ends other than by its client's leave, and what the client is told of it.

use std::io;

use bytes::BytesMut;
use pcigate_postgres::WireError;
use pcigate_postgres::backend::{Message, Report};
use pcigate_postgres::login::LoginError;
use pcigate_postgres::session::SessionError;

use crate::record::NotRecorded;

/// Why a session ended. No text holds anything of what was sent.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The client's connection broke or closed in the middle of something.
    #[error("the client's connection ended")]
    Client {
        /// What the system says; nothing = closed.
        #[source]
        source: Option<io::Error>,
    },
    /// No TLS with the client.
    #[error(
        "TLS with the client failed; check that it trusts the authority of the Target's \
         clientTls certificate, by the name it connects to"
    )]
    ClientTls {
        /// What rustls says.
        #[source]
        source: io::Error,
    },
    /// The client is not let in.
    #[error("{what}; {remedy}")]
    Unproven {
        /// Why.
        what: String,
        /// What to do.
        remedy: &'static str,
        /// SQLSTATE.
        code: &'static str,
    },
    /// The server's.
    #[error("the server's connection ended; see the server's log")]
    Server {
        /// What the system says; nothing = closed.
        #[source]
        source: Option<io::Error>,
    },
    /// The server cannot be reached.
    #[error("the Target's server cannot be reached; check its upstream address, and that it runs")]
    Dial {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No TLS with the server.
    #[error(
        "TLS with the Target's server failed; check its certificate, caFile and serverName, or \
         its tls.mode"
    )]
    UpstreamTls {
        /// Why, where the system or rustls says so.
        #[source]
        source: Option<io::Error>,
    },
    /// The server does not let us in.
    #[error("{source}")]
    Login {
        /// Why.
        source: LoginError,
    },
    /// The session's own role.
    #[error(
        "no role could be made for the session ({why}); the Target's credential needs CREATEROLE \
         and the right to grant what sessionRole.grants names"
    )]
    Role {
        /// SQLSTATE.
        why: String,
    },
    /// Bytes that are no message of the protocol.
    #[error("{source}")]
    Wire {
        /// Which.
        source: WireError,
    },
    /// Messages in an order that the protocol does not have, or too many at a time.
    #[error("{source}")]
    Session {
        /// Which.
        source: SessionError,
    },
    /// What the client asks for while it opens the connection.
    #[error("{what} is refused; {remedy}")]
    Opening {
        /// What.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The record of a statement is not on disk.
    #[error("nothing may be done that is not recorded, and {source}")]
    NotRecorded {
        /// The recorder's answer.
        source: NotRecorded,
    },
    /// What must be known of the database is not.
    #[error("the database could not be examined ({why}); check the rights of the Target's role")]
    Unknown {
        /// SQLSTATE, or what was odd.
        why: String,
    },
    /// Too slow.
    #[error("{what} took longer than {seconds} s; the session is ended")]
    Slow {
        /// What.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// Too many sessions.
    #[error("there are too many sessions; close some")]
    Full,
    /// Recording ended, and the policy ends the session with it.
    #[error("the session has reached the limit of what is recorded; open a new one")]
    Truncated,
    /// What one session may use is used.
    #[error("the session is over, for {what}; open a new one")]
    Spent {
        /// What, and who says so.
        what: String,
        /// SQLSTATE.
        code: &'static str,
    },
    /// The session was ended from outside.
    #[error("the session was ended by pcigate: {why}")]
    Ended {
        /// Why.
        why: String,
    },
}

impl From<WireError> for SessionEnd {
    fn from(source: WireError) -> Self {
        Self::Wire { source }
    }
}

impl From<SessionError> for SessionEnd {
    fn from(source: SessionError) -> Self {
        Self::Session { source }
    }
}

impl SessionEnd {
    /// SQLSTATE for the client (manual, "PostgreSQL Error Codes").
    fn code(&self) -> &'static str {
        match self {
            Self::Client { .. } | Self::ClientTls { .. } | Self::Server { .. } => "08006",
            Self::Dial { .. } | Self::UpstreamTls { .. } | Self::Unknown { .. } => "08001",
            Self::Login { .. } | Self::Role { .. } => "08004",
            Self::Wire { .. } => "08P01",
            Self::Session { source } => match source {
                SessionError::TooMany { .. } => "54000",
                SessionError::LongName { .. } => "42622",
                _ => "08P01",
            },
            Self::Opening { .. } => "42501",
            Self::NotRecorded { .. } => "58030",
            Self::Slow { .. } | Self::Truncated | Self::Ended { .. } => "57P01",
            Self::Unproven { code, .. } | Self::Spent { code, .. } => code,
            Self::Full => "53300",
        }
    }

    /// The last message to the client; nothing where there is nobody to tell.
    pub(crate) fn farewell(&self, out: &mut BytesMut) {
        if matches!(self, Self::Client { .. } | Self::ClientTls { .. }) {
            return;
        }
        let report = Report::fatal(self.code(), format!("pcigate: {self}"));
        // It always fits; if not, the client sees the connection end.
        let _ = Message::ErrorResponse(report).encode(out);
    }
}
