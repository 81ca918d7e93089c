//! Why a session cannot be followed any further. Its connection is to be closed.

use crate::error::Side;

/// What went wrong between the two sides.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// A message where this one has no meaning.
    #[error(
        "the {side} sent {message} where the protocol has no place for it; close the connection"
    )]
    OutOfPlace {
        /// Who sent it.
        side: Side,
        /// Its name in the manual.
        message: &'static str,
    },
    /// A message was reported as sent although [`about`](super::Session::about) says it must wait
    /// or be dropped.
    #[error("{message} was sent on although it had to wait or be dropped; ask about it first")]
    NotToBeSent {
        /// Its name in the manual.
        message: &'static str,
    },
    /// This message cannot be refused by an error of the server's own.
    #[error("{message} cannot be refused: it decides nothing; forward or drop it")]
    NotToBeRefused {
        /// Its name in the manual.
        message: &'static str,
    },
    /// The client went on behind a statement that turned out to be COPY FROM STDIN.
    #[error(
        "the client sent further requests behind COPY FROM STDIN before it could send the \
         data; wait for CopyInResponse"
    )]
    BehindCopyIn,
    /// A row has another number of values than its description.
    #[error(
        "the server sent a row of {values} values where {columns} are described; close the \
         connection"
    )]
    RowWidth {
        /// Values in the row.
        values: usize,
        /// Columns in the description.
        columns: usize,
    },
    /// Names are cut by the server, after which two could be one.
    #[error(
        "the name of a {what} has {length} bytes, and PostgreSQL tells names apart by 63; use \
         a shorter one"
    )]
    LongName {
        /// Statement or portal.
        what: &'static str,
        /// Bytes.
        length: usize,
    },
    /// One of the [`Limits`](super::Limits) is reached.
    #[error(
        "the client has {limit} {what} at a time already, which is the limit; answer, close or \
         deallocate some, or raise the limit"
    )]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The server has said that the session is over, or the client has.
    #[error("{message} was sent after the end of the session; open a new one")]
    Ended {
        /// Its name in the manual.
        message: &'static str,
    },
}
