//! From a text to the description of its statements.

use std::borrow::Cow;
use std::ops::Range;

use pg_query::protobuf::RawStmt;

use crate::catalog::Catalog;
use crate::session::Session;
use crate::statement::Statement;
use crate::walk::Walk;
use crate::{Refusal, parse, utility};

/// The text of a message, which may end in the protocol's zero byte.
///
/// # Errors
/// [`Refusal::NotUtf8`].
pub fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8)
}

/// Describes each statement of a text; an empty text, or one of comments only, has none. Later
/// statements are described as if those before them had succeeded: the server runs them only then.
///
/// # Errors
/// The text must not be sent; the [`Refusal`] says why.
pub fn classify(
    text: &str,
    session: &Session,
    catalog: &Catalog,
) -> Result<Vec<Statement>, Refusal> {
    // All encodings of clients are ASCII in their ASCII bytes when there are no others.
    if !session.now().utf8() && !text.is_ascii() {
        return Err(Refusal::Encoding);
    }
    let parsed = parse::parse(text, session.now().strings_standard())?;
    let mut statements = Vec::with_capacity(parsed.len());
    let mut session = Cow::Borrowed(session);
    for (at, raw) in parsed.iter().enumerate() {
        let statement = describe(text, raw, &session, catalog);
        for change in &statement.changes {
            session.room(change)?;
        }
        if at + 1 < parsed.len() {
            let changes = &statement.changes;
            if !changes.is_empty() {
                let session = session.to_mut();
                changes.iter().for_each(|change| session.apply(change));
            }
            // The server has taken the whole text apart before any of it runs, but reads what it
            // finds in it only then.
        }
        statements.push(statement);
    }
    Ok(statements)
}

fn describe(text: &str, raw: &RawStmt, session: &Session, catalog: &Catalog) -> Statement {
    let place = place(text, raw);
    let own = text.get(place.clone()).unwrap_or(text);
    let mut walk = Walk::new(session, catalog);
    let described = utility::describe(&mut walk, raw.stmt.as_deref(), own, 0);
    Statement {
        kind: described.kind,
        place,
        facts: walk.facts,
        no_limit: described.no_limit,
        outputs: described.outputs,
        copy: described.copy,
        of_session: described.of_session,
        changes: walk.changes,
    }
}

fn place(text: &str, raw: &RawStmt) -> Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0);
    let len = usize::try_from(raw.stmt_len).unwrap_or(0);
    if len == 0 { start..text.len() } else { start..start + len }
}

#[cfg(test)]
mod tests;
