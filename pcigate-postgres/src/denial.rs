//! What a client is told when the policy refuses: an ErrorResponse it takes for the server's own.

use bytes::BytesMut;

use crate::backend::{Message, Report, TransactionStatus};
use crate::error::WireError;

/// `insufficient_privilege` (manual, "PostgreSQL Error Codes").
pub const REFUSED: &str = "42501";

/// `program_limit_exceeded`: a budget is used up.
pub const OVER: &str = "54000";

/// A refusal in words. Texts are cut at a zero byte, which would end the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// SQLSTATE: [`REFUSED`], or [`OVER`].
    pub code: &'static str,
    /// What is refused, and by which rule: one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do: how to ask for leave.
    pub hint: Option<String>,
}

impl Denial {
    /// The refusal of a statement: severity ERROR. It goes to the client in place
    /// of the server's error for a request that [`crate::session::Session::refused`] has marked;
    /// ReadyForQuery then comes from the server, at once (simple protocol) or after Sync
    /// (extended).
    #[must_use]
    pub fn error(&self) -> Report {
        self.words(Report::error(self.code, text(&self.message)))
    }

    /// The refusal of a session: severity FATAL. The connection is to be closed
    /// behind it.
    #[must_use]
    pub fn fatal(&self) -> Report {
        self.words(Report::fatal(self.code, text(&self.message)))
    }

    /// Writes the whole answer to a Query or FunctionCall that no server has seen, or the rest of
    /// one to a batch up to its Sync: the error and ReadyForQuery. `status` is that of the server,
    /// which must not be in a transaction block: it would go on where the client sees a failure.
    ///
    /// # Errors
    /// Never for texts of sane length: more than 2 GiB.
    pub fn answer(&self, status: TransactionStatus, out: &mut BytesMut) -> Result<(), WireError> {
        Message::ErrorResponse(self.error()).encode(out)?;
        Message::ReadyForQuery(status).encode(out)
    }

    fn words(&self, report: Report) -> Report {
        let report = match &self.detail {
            Some(detail) => report.with(b'D', text(detail)),
            None => report,
        };
        match &self.hint {
            Some(hint) => report.with(b'H', text(hint)),
            None => report,
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    text.bytes().take_while(|byte| *byte != 0).collect()
}
