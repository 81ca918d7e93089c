//! The server's messages: each is matched with what it answers, masked, counted, and sent on or
//! replaced.

mod budgets;
mod forward;

use std::sync::Arc;

use bytes::Bytes;
use pcigate_postgres::backend::{self, Message, Report, TransactionStatus};
use pcigate_postgres::denial::OVER;
use pcigate_postgres::frame::Frame;
use pcigate_postgres::session::{Kind, Origin, RequestId};
use pcigate_postgres::values::Values;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ask::Ask;
use super::{Answering, Engine, Tally, decide, look};
use crate::error::SessionEnd;
use crate::record::{self, Direction, Event, StatementEnd};
use crate::rows::copy::CopyOut;
use crate::rows::{self, Columns};
use forward::Fields;

/// What a message answers.
struct About {
    id: RequestId,
    kind: Kind,
    index: u32,
    origin: Origin,
    refused: bool,
    ends: bool,
    ask: Arc<Ask>,
    /// Of a statement that is closed: its name.
    closes: Option<Bytes>,
}

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Takes all whole messages of the server for which there is room.
    pub(super) fn take_server(&mut self) -> Result<(), SessionEnd> {
        let limit = self.plan.limits.buffer;
        while self.pipe.client.outgoing.len() < limit {
            let limits = &self.plan.limits.backend;
            if self.fresh.holds() {
                break;
            }
            let (frame, message, read) = match self.fresh.held() {
                Some(held) => (held.frame, held.message, held.read),
                None => {
                    let incoming = &mut self.pipe.server.incoming;
                    let Some(frame) = backend::next(incoming, limits)? else { break };
                    let message = Message::decode(&frame)?;
                    (frame, message, false)
                }
            };
            if self.holds_back(&frame, &message, read) {
                break;
            }
            self.server_message(&frame, &message)?;
        }
        self.pipe.server.trim();
        Ok(())
    }

    fn server_message(&mut self, frame: &Frame, message: &Message) -> Result<(), SessionEnd> {
        let known = Arc::clone(&self.known);
        let answer = self.protocol.received(message)?;
        let skipped: Vec<(Arc<Ask>, Kind)> =
            answer.skipped.iter().map(|request| (Arc::clone(&request.tag), request.kind)).collect();
        let about = answer.request.map(|request| About {
            id: request.id,
            kind: request.kind,
            index: request.index,
            origin: request.origin,
            refused: request.refused,
            ends: answer.ends,
            ask: Arc::clone(&request.tag),
            closes: (request.kind == Kind::CloseStatement)
                .then(|| request.statement.as_ref().map(|statement| statement.name.clone()))
                .flatten(),
        });
        if let (Message::DataRow(values), Some(about)) = (message, &about) {
            if self.answering.of != Some((about.id, about.index)) {
                begin(&mut self.answering, &mut self.tally, about);
            }
            if self.answering.columns.is_none() {
                let columns = Columns::of(answer.shape, &known, look(self.plan, &known));
                self.answering.columns = Some(columns);
            }
            return self.row(frame, values, about);
        }
        let Some(about) = about else { return self.unasked(frame, message) };
        self.answered(frame, message, &about, &skipped)
    }

    /// A message that answers a request, and is no row.
    fn answered(
        &mut self,
        frame: &Frame,
        message: &Message,
        about: &About,
        skipped: &[(Arc<Ask>, Kind)],
    ) -> Result<(), SessionEnd> {
        if about.ends {
            self.budget.is_active();
            self.settled(about, message);
            skipped.iter().for_each(|(ask, kind)| self.unsent(ask, *kind));
        }
        match message {
            Message::ReadyForQuery(status) => self.ready(frame, *status, about),
            Message::ErrorResponse(error) => self.failed(frame, error, about, skipped),
            Message::CommandComplete(_)
            | Message::EmptyQueryResponse
            | Message::PortalSuspended => self.completed(frame, message, about),
            Message::CopyOutResponse(format) => {
                begin(&mut self.answering, &mut self.tally, about);
                let (masker, most) = (&self.plan.masker.mixed, self.plan.limits.backend.copy);
                self.answering.copy = Some(CopyOut::new(format.overall, masker, most));
                self.forward(frame, message, about)
            }
            Message::CopyData(data) => {
                let data = data.clone();
                self.copy(Some(&data), about)
            }
            Message::CopyDone => {
                self.copy(None, about)?;
                self.forward(frame, message, about)
            }
            Message::CopyInResponse(_) if self.muted => {
                Err(SessionEnd::Ended { why: "COPY behind a refused answer".to_owned() })
            }
            Message::CopyBothResponse(_) => {
                Err(SessionEnd::Ended { why: "the server began to replicate".to_owned() })
            }
            Message::FunctionCallResponse(value) => {
                if !self.function_within(value.as_deref())? {
                    return Ok(());
                }
                let known = Arc::clone(&self.known);
                let look = look(self.plan, &known);
                let value = value.clone();
                let fate = value.as_deref().map_or(rows::value::Fate::Same, |value| {
                    look.other(value, &mut self.answering.masked)
                });
                let masked = match fate {
                    rows::value::Fate::Same => return self.forward(frame, message, about),
                    rows::value::Fate::New(new) => Some(new.into()),
                    rows::value::Fate::Null => None,
                };
                self.tell(&Message::FunctionCallResponse(masked))
            }
            _ => self.forward(frame, message, about),
        }
    }

    fn row(&mut self, frame: &Frame, values: &Values, about: &About) -> Result<(), SessionEnd> {
        if self.muted || !self.within(about, frame.bytes().len(), 1) {
            return Ok(());
        }
        let known = Arc::clone(&self.known);
        let look = look(self.plan, &known);
        let Some(columns) = &self.answering.columns else { return Ok(()) };
        let out = &mut self.pipe.client.outgoing;
        let before = out.len();
        let masked = &mut self.answering.masked;
        rows::forward(columns, values, frame.bytes(), look, masked, out)?;
        let sent = out.len() - before;
        if self.traffic.is_on() {
            let row = Fields::of(out.get(before..).unwrap_or_default());
            self.traffic.message(Direction::ToClient, "DataRow", row);
        }
        self.sent(sent, 1);
        Ok(())
    }

    /// A statement is done, or a portal has given as many rows as it was asked for.
    fn completed(
        &mut self,
        frame: &Frame,
        message: &Message,
        about: &About,
    ) -> Result<(), SessionEnd> {
        // The session has counted it already.
        let index = about.index.saturating_sub(1);
        let index = if about.kind == Kind::Query { index } else { 0 };
        let whole = !matches!(message, Message::PortalSuspended);
        if whole {
            let statement = usize::try_from(index).ok();
            let statement = statement.and_then(|index| about.ask.statements().get(index));
            if let Some(statement) = statement.cloned() {
                self.ended_inside |= ["COMMIT", "ROLLBACK"].contains(&statement.kind);
                self.fresh.done(&statement.facts.effects);
                self.sql.after(&statement, true);
            }
        }
        let over = self.answering.over.take();
        let sqlstate = over.as_ref().map(|_| OVER.as_bytes());
        let rows = match message {
            Message::CommandComplete(tag) => rows_of(tag),
            _ => None,
        };
        self.statement_ended(&about.ask, index, rows, sqlstate);
        match over {
            None => self.forward(frame, message, about),
            Some(over) if self.muted || about.origin == Origin::Gateway => {
                drop(over);
                Ok(())
            }
            Some(over) => {
                self.muted = true;
                self.tell(&Message::ErrorResponse(Report::error(OVER, over)))
            }
        }
    }

    fn failed(
        &mut self,
        frame: &Frame,
        error: &Report,
        about: &About,
        skipped: &[(Arc<Ask>, Kind)],
    ) -> Result<(), SessionEnd> {
        let index = if about.kind == Kind::Query { about.index } else { 0 };
        let over = self.answering.over.take();
        if !about.refused {
            let code = error.code().to_vec();
            let code = if over.is_some() { OVER.as_bytes() } else { &code };
            if let Some(statement) = about.ask.statements().first().cloned() {
                self.sql.after(&statement, false);
            }
            if self.protocol.transaction() == TransactionStatus::Idle {
                let settings = self.at_ready.clone();
                self.sql.restore(settings);
                if self.ended_inside {
                    // What was committed before it stays: nobody here knows what that is.
                    self.sql.parameter_status("search_path", "\"");
                }
            }
            let left = about.ask.statements().len().max(1);
            for index in (index..).take(left.saturating_sub(usize::try_from(index).unwrap_or(0))) {
                self.statement_ended(&about.ask, index, None, Some(code));
            }
            for (ask, _) in skipped.iter().filter(|(_, kind)| *kind == Kind::Execute) {
                self.statement_ended(ask, 0, None, Some(code));
            }
        }
        if self.muted {
            return Ok(());
        }
        let denial = about.ask.denial.as_ref().filter(|_| about.refused);
        match (denial, over) {
            (Some(denial), _) => {
                let error = denial.error();
                self.tell_report(error)
            }
            (None, Some(over)) => self.tell_report(Report::error(OVER, over)),
            // Ours has failed: so would the client's, behind it.
            (None, None) => self.pass_on(frame, &Message::ErrorResponse(error.clone())),
        }
    }

    fn tell_report(&mut self, report: Report) -> Result<(), SessionEnd> {
        let report = Message::ErrorResponse(report);
        self.note_text(&report);
        self.tell(&report)
    }

    fn ready(
        &mut self,
        frame: &Frame,
        status: TransactionStatus,
        about: &About,
    ) -> Result<(), SessionEnd> {
        let code = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Open => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.sql.ready(code);
        if code == b'I' {
            self.fresh.idle();
        }
        self.at_ready = self.sql.settings();
        self.ended_inside = false;
        self.muted = false;
        if about.kind == Kind::FunctionCall && !about.refused {
            let code = self.answering.over.take().map(|_| OVER.as_bytes());
            self.statement_ended(&about.ask, 0, None, code);
        }
        begin(&mut self.answering, &mut self.tally, about);
        self.forward(frame, &Message::ReadyForQuery(status), about)
    }

    /// A request is answered to its end.
    fn settled(&mut self, about: &About, message: &Message) {
        if !about.refused && about.origin == Origin::Client {
            self.unsent(&about.ask, about.kind);
        }
        // Names of the protocol are names for SQL's EXECUTE.
        match (message, &about.ask.name, &about.closes) {
            (Message::ParseComplete, Some(name), _) => {
                let text = about.ask.decision.as_ref().map(|decision| decision.text.clone());
                let text = text.as_deref().and_then(|text| std::str::from_utf8(text).ok());
                if let (Ok(name), Some(text)) = (std::str::from_utf8(name), text) {
                    // One too many is unknown to EXECUTE, and so refused there.
                    let _ = self.sql.prepare(name, text);
                }
            }
            (Message::CloseComplete, _, Some(name)) => {
                self.sql.forget_prepared(&String::from_utf8_lossy(name));
            }
            _ => {}
        }
    }

    /// A request is over, or was never looked at.
    fn unsent(&mut self, ask: &Ask, kind: Kind) {
        let runs = matches!(kind, Kind::Query | Kind::Execute | Kind::FunctionCall);
        if runs && ask.changes {
            self.epoch += 1;
            self.unsettled = self.unsettled.saturating_sub(1);
        }
        if matches!(kind, Kind::Parse | Kind::CloseStatement) && ask.name.is_some() {
            self.naming = self.naming.saturating_sub(1);
            self.epoch += 1;
        }
    }

    fn statement_ended(
        &mut self,
        ask: &Ask,
        index: u32,
        rows: Option<u64>,
        sqlstate: Option<&[u8]>,
    ) {
        let answering = std::mem::take(&mut self.answering);
        record::add(&mut self.tally.masked, &answering.masked);
        if ask.number == 0 {
            return;
        }
        let end = StatementEnd {
            number: ask.number + u64::from(index),
            rows: if answering.rows > 0 { answering.rows } else { rows.unwrap_or(0) },
            bytes: answering.bytes,
            masked: answering.masked,
            duration: self.since(ask.began),
            sqlstate: sqlstate.map(|code| decide::masked(&String::from_utf8_lossy(code))),
        };
        self.record(Event::StatementEnded(end));
    }
}

/// The answer to a statement begins.
fn begin(answering: &mut Answering<'_>, tally: &mut Tally, about: &About) {
    let of = Some((about.id, about.index));
    if answering.of.is_none() {
        // Its description came before it.
        answering.of = of;
        return;
    }
    let left = std::mem::replace(answering, Answering { of, ..Answering::default() });
    record::add(&mut tally.masked, &left.masked);
}

/// The rows a command tag counts: its last word.
fn rows_of(tag: &[u8]) -> Option<u64> {
    std::str::from_utf8(tag).ok()?.rsplit(' ').next()?.parse().ok()
}
