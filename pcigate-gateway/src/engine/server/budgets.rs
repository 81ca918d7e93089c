//! How much of an answer goes on: by the rules of its statement, and by the session's budget.

use std::sync::atomic::Ordering;

use pcigate_postgres::backend::{Message, Report};
use pcigate_postgres::denial::OVER;
use pcigate_postgres::session::Kind;
use tokio::io::{AsyncRead, AsyncWrite};

use super::About;
use crate::engine::Engine;
use crate::error::SessionEnd;

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Counts what is about to go on; `false` where a budget is used up: then it stays here, and
    /// the server is told to stop.
    pub(super) fn within(&mut self, about: &About, bytes: usize, rows: u64) -> bool {
        if self.answering.over.is_some() {
            return false;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let over = of_statement(about, bytes, rows);
        let over = over.or_else(|| self.budget.answer(rows, bytes).map(str::to_owned));
        let Some(over) = over else { return true };
        self.answering.over = Some(format!("pcigate: {over}"));
        self.cancel();
        false
    }

    /// The same for the value of a called function, which comes alone: an error goes in its place.
    pub(super) fn function_within(&mut self, value: Option<&[u8]>) -> Result<bool, SessionEnd> {
        let bytes = value.map_or(0, |value| u64::try_from(value.len()).unwrap_or(u64::MAX));
        let Some(over) = self.budget.answer(1, bytes) else { return Ok(true) };
        let over = format!("pcigate: {over}");
        let error = Report::error(OVER, over.clone());
        self.answering.over = Some(over);
        self.muted = true;
        self.tell(&Message::ErrorResponse(error)).map(|()| false)
    }
}

/// What is used of the budgets of the statement's rules; where that is too much, what to say.
fn of_statement(about: &About, bytes: u64, rows: u64) -> Option<String> {
    let spent = &about.ask.spent;
    let rows = spent.rows.fetch_add(rows, Ordering::Relaxed) + rows;
    let bytes = spent.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
    let index = if about.kind == Kind::Query { about.index } else { 0 };
    let answer = about.ask.answer(index)?;
    let rule = answer.rule.as_deref().unwrap_or("(none)");
    let over = match (answer.max_rows, answer.max_bytes) {
        (Some(most), _) if rows > most => format!("{most} rows (maxRows of rule {rule})"),
        (_, Some(most)) if bytes > most => format!("{most} bytes (maxBytes of rule {rule})"),
        _ => return None,
    };
    Some(format!("the answer has more than {over}; ask for less, or for more leave"))
}
