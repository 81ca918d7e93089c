//! Why a login failed, in words that hold nothing of what the server or the Target keep secret.

use super::ScramError;
use crate::backend::Report;
use crate::error::WireError;

/// Why nobody was let in. The connection is to be closed.
#[derive(thiserror::Error)]
pub enum LoginError {
    /// A value of ours that a message cannot carry.
    #[error(
        "the startup message for this Target cannot be built; check user, database and settings"
    )]
    Options {
        /// Why.
        #[source]
        source: WireError,
    },
    /// The server refuses. Its report may hold anything and is for the session's record only.
    #[error(
        "the server refused the login with SQLSTATE {code}; check user, password and database \
         of the Target, and the server's log"
    )]
    Refused {
        /// SQLSTATE, as far as it is letters and digits.
        code: String,
        /// All of it.
        report: Report,
    },
    /// A method that would hand the password to whoever answers.
    #[error(
        "the server asks for {method}, which is sent only over TLS with a verified \
         certificate; set verify-full for this Target, or use SCRAM"
    )]
    NeedsVerifiedTls {
        /// Of the manual.
        method: &'static str,
    },
    /// A method that is not spoken.
    #[error(
        "the server asks for {method}, which is not supported; use SCRAM, certificate, or over \
         verified TLS password or md5"
    )]
    Unsupported {
        /// Of the manual.
        method: &'static str,
    },
    /// It asks for a password where there is none.
    #[error(
        "the server asks for a password ({method}), and this Target has none; give it a credential"
    )]
    NoPassword {
        /// Of the manual.
        method: &'static str,
    },
    /// The server would let anybody in, which proves nothing of it.
    #[error(
        "the server asked for no proof, and this Target expects one; correct pg_hba.conf, or \
         allow it for this Target"
    )]
    Unasked,
    /// It does not offer what is required.
    #[error(
        "the server does not offer channel binding, which this Target requires; use TLS on \
         both sides and SCRAM"
    )]
    NoBinding,
    /// SCRAM failed.
    #[error("SCRAM with the server failed")]
    Scram {
        /// How.
        #[source]
        source: ScramError,
    },
    /// A message that has no place in a login, or in this state of it.
    #[error("the server sent {message} where a login has no place for it; close the connection")]
    OutOfPlace {
        /// Of the manual.
        message: &'static str,
    },
    /// It speaks another major version or a newer one than asked for.
    #[error(
        "the server wants protocol version {major}.{minor}, which was not offered; close the \
         connection"
    )]
    Version {
        /// The upper half.
        major: u32,
        /// The lower half.
        minor: u32,
    },
    /// Too much before it is ready.
    #[error("the server reports more than {limit} settings; close the connection")]
    TooManyParameters {
        /// The limit.
        limit: usize,
    },
}

impl std::fmt::Debug for LoginError {
    /// As the text: a report holds what the server says.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoginError({self})")
    }
}
