//! The parser: PostgreSQL's own, behind limits that keep it within a small stack.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pg_query::protobuf::RawStmt;

use crate::{Refusal, bounds};

/// The statements of a text, as the server would take it apart.
pub fn parse(text: &str, strings_standard: bool) -> Result<Vec<RawStmt>, Refusal> {
    bounds::check(text, strings_standard)?;
    // The crate panics on trees it does not expect; nothing of ours is left half done by that.
    let parsed = catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, 0)));
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed.protobuf.stmts),
        Ok(Err(pg_query::Error::Parse(message))) => Err(Refusal::Syntax { message }),
        // Decoding ends at 100 levels of messages, about two for each level of the tree.
        Ok(Err(pg_query::Error::Decode(_))) => Err(Refusal::TooDeep),
        Ok(Err(_)) | Err(_) => Err(Refusal::Internal),
    }
}
