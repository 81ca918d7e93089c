//! Why a text is not described at all. None of these texts may be sent to the server.

use thiserror::Error;

/// A text that cannot be described. The sentence goes to the client; it quotes nothing of the text
/// but what PostgreSQL's own parser says of it, which may hold a word of the text: mask it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than [`crate::MAX_TEXT`].
    #[error("the text has {len} bytes; send at most {most} in one message")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        most: usize,
    },
    /// Not UTF-8.
    #[error("the text is not UTF-8; set client_encoding to UTF8 and send UTF-8")]
    NotUtf8,
    /// A zero byte, at which the server would stop reading.
    #[error("the text holds a zero byte; remove it")]
    ZeroByte,
    /// More statements than [`crate::MAX_STATEMENTS`].
    #[error("the text holds more than {most} statements; send them in several messages")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// More tokens than [`crate::MAX_TOKENS`].
    #[error("the text holds more than {most} words and signs; send it in several statements")]
    TooManyTokens {
        /// The limit.
        most: usize,
    },
    /// Nested deeper than is described.
    #[error("the text is nested too deeply (about 45 levels are described); write it flatter")]
    TooDeep,
    /// PostgreSQL's parser does not take it.
    #[error("the text is not understood ({message}); correct it, or ask for it to be supported")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// The session's encoding makes other bytes of the text than we read.
    #[error(
        "client_encoding is not UTF8, so the text cannot be read as the server reads it; \
             set it back with SET client_encoding = 'UTF8'"
    )]
    Encoding,
    /// A backslash while `standard_conforming_strings` is off.
    #[error(
        "standard_conforming_strings is off and the text holds a backslash, so it cannot be \
             read as the server reads it; set it on, or write no backslash"
    )]
    Backslash,
    /// The session holds more than is followed.
    #[error("the session already holds {most} {what}; release some before making more")]
    SessionFull {
        /// Prepared statements, cursors, …
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A fault of ours or of the parser.
    #[error("the text could not be examined; this is a fault of the gateway, report it")]
    Internal,
}
