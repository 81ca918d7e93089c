//! Keeps what is known of the database true while a session runs: it is read anew, on a connection
//! of its own, behind DDL of the session, before a statement over a relation that is not known, and
//! before rows of one.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pcigate_policy::document::Effect;
use pcigate_policy::statement::TableName;
use pcigate_postgres::backend::Message;
use pcigate_postgres::frame::Frame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Engine;
use super::ask::Decision;
use crate::error::SessionEnd;
use crate::known::{self, AsOf};
use crate::upstream::{self, As};

/// Readings at once, and how long the next one waits then.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_millis(500);
/// Names and numbers remembered; beyond, they are looked up again.
const REMEMBERED: usize = 4_096;

type Reading<'p> = Pin<Box<dyn Future<Output = Result<AsOf, SessionEnd>> + Send + 'p>>;

/// What must be looked up, and what has been.
pub(crate) struct Fresh<'p> {
    /// Grows with what is known.
    pub version: u64,
    /// When what is known was true.
    at: Instant,
    reading: Option<Reading<'p>>,
    /// It is for the rows that are held.
    for_rows: bool,
    /// A description of rows of a table that is not known.
    held: Option<Held>,
    /// It has been read anew since the client's message came.
    looked: bool,
    /// Another session's knowledge was taken over: what waits need not wait.
    taken: bool,
    /// DDL of the session is committed, or will be.
    outdated: bool,
    changed: bool,
    /// What the open transaction makes: nobody else can see it, nor make it meanwhile.
    own: HashSet<TableName>,
    /// Relations that nobody else can see: temporary ones, and those of the open transaction.
    settled: HashSet<u32>,
    /// Readings that need not wait, and since when they are counted.
    spent: u32,
    since: Option<Instant>,
}

/// A message of the server that has to wait.
pub(super) struct Held {
    pub frame: Frame,
    pub message: Message,
    /// The database has been read since it came.
    pub read: bool,
}

impl Fresh<'_> {
    /// Of a session that begins with what was read at that time.
    pub(super) fn new(at: Instant) -> Self {
        Self {
            version: 0,
            at,
            reading: None,
            for_rows: false,
            held: None,
            looked: false,
            taken: false,
            outdated: false,
            changed: false,
            own: HashSet::new(),
            settled: HashSet::new(),
            spent: 0,
            since: None,
        }
    }

    /// Whether messages that are decided have to wait.
    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Whether the server's messages have to wait.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some() && self.reading.is_some()
    }

    /// A message of the client that has not been looked at before.
    pub(super) fn another(&mut self) {
        self.looked = false;
    }

    pub(super) fn held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// A statement that goes upstream.
    pub(super) fn sent(&mut self, decision: &Decision) {
        let tables = decision.statements.iter().flat_map(|one| &one.facts.tables);
        for made in tables.filter(|table| table.effect == Effect::Ddl) {
            remember(&mut self.own, made.names.iter().cloned());
        }
    }

    /// A statement is done.
    pub(super) fn done(&mut self, effects: &[Effect]) {
        self.changed |= [Effect::Ddl, Effect::Unknown].iter().any(|one| effects.contains(one));
    }

    /// No transaction is open.
    pub(super) fn idle(&mut self) {
        self.outdated |= std::mem::take(&mut self.changed);
        self.own.clear();
    }

    /// How long the next reading waits, so that nobody has the server read its catalog all day.
    fn pause(&mut self) -> Duration {
        let now = Instant::now();
        let passed = self.since.map_or(Duration::ZERO, |since| now - since);
        let given = u32::try_from(passed.as_millis() / PAUSE.as_millis()).unwrap_or(u32::MAX);
        if given > 0 || self.since.is_none() {
            self.since = Some(now);
        }
        self.spent = self.spent.saturating_sub(given) + 1;
        if self.spent > BURST { PAUSE } else { Duration::ZERO }
    }
}

impl<'p, C, U, D> Engine<'p, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Whether a decision has to wait until the database is read anew; that then begins.
    pub(super) fn looks_up(&mut self, decision: &Decision) -> bool {
        let uses = decision.statements.iter().flat_map(|one| &one.facts.tables);
        let data = [Effect::Read, Effect::Write, Effect::BulkRead];
        let mut uses = uses.filter(|table| data.contains(&table.effect)).peekable();
        if self.fresh.looked || uses.peek().is_none() {
            return false;
        }
        let age = self.plan.limits.catalog;
        if self.fresh.at.elapsed() > age {
            let Some(newest) = self.plan.knowledge.not_older(&self.wish.database, age) else {
                self.read_anew();
                return true;
            };
            // Decided about anew where that is something else.
            self.take_over(newest);
            if decision.version != self.fresh.version {
                self.fresh.taken = true;
                return true;
            }
        }
        let unknown = |name: &TableName| {
            let system = name.schema.is_empty()
                || name.schema.starts_with("pg_")
                || name.schema == "information_schema";
            let known = self.known.catalog.get(&name.schema, &name.name).is_some();
            !system && !known && !self.fresh.own.contains(name)
        };
        if !self.fresh.outdated && !uses.any(|table| table.names.iter().all(unknown)) {
            return false;
        }
        self.read_anew();
        true
    }

    /// Keeps a description of rows back until its tables are known: whether it does.
    pub(super) fn holds_back(&mut self, frame: &Frame, message: &Message, read: bool) -> bool {
        let Message::RowDescription(description) = message else { return false };
        if self.plan.target.columns.is_empty() {
            return false;
        }
        let mut unknown = Vec::new();
        for column in &description.columns {
            let (table, settled) = (column.table, &self.fresh.settled);
            if !self.known.has(table, column.attribute) && !settled.contains(&table) {
                unknown.push(table);
            }
        }
        if unknown.is_empty() {
            return false;
        }
        if read {
            // Still not there: only this session can see it.
            remember(&mut self.fresh.settled, unknown);
            return false;
        }
        if self.fresh.reading.is_none() {
            self.read_anew();
            self.fresh.for_rows = true;
        }
        let (frame, message) = (frame.clone(), message.clone());
        self.fresh.held = Some(Held { frame, message, read: false });
        true
    }

    fn read_anew(&mut self) {
        let (plan, dial, wish) = (self.plan, self.dial, self.wish);
        let (pause, limit) = (self.fresh.pause(), self.plan.limits.opening);
        // DDL from here on needs another.
        self.fresh.outdated = false;
        self.fresh.reading = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let at = Instant::now();
            let reading = async {
                let who = As::credential(plan, wish);
                let (mut server, _) = upstream::log_in(plan, dial, who).await?;
                known::read(&mut server, &plan.limits.backend, &plan.target).await
            };
            let what = "examining the database anew";
            let slow = SessionEnd::Slow { what, seconds: limit.as_secs() };
            let read = tokio::time::timeout(limit, reading).await;
            let (known, _) = read.unwrap_or(Err(slow))?;
            Ok(plan.knowledge.share(&wish.database, known, at))
        }));
    }

    fn take_over(&mut self, newest: AsOf) {
        if newest.at < self.fresh.at {
            return;
        }
        self.fresh.at = newest.at;
        if *newest.known != *self.known {
            self.known = newest.known;
            self.fresh.version += 1;
        }
    }

    /// Ready once there is something new to go by.
    pub(super) fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionEnd>> {
        if std::mem::take(&mut self.fresh.taken) {
            return Poll::Ready(Ok(()));
        }
        let Some(reading) = &mut self.fresh.reading else { return Poll::Pending };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Poll::Pending };
        self.fresh.reading = None;
        self.take_over(read?);
        // One for rows may have begun before the client's message came, and the other way round.
        match (std::mem::take(&mut self.fresh.for_rows), &mut self.fresh.held) {
            (true, Some(held)) => held.read = true,
            (true, None) => {}
            (false, _) => self.fresh.looked = true,
        }
        Poll::Ready(Ok(()))
    }
}

fn remember<T: std::hash::Hash + Eq>(into: &mut HashSet<T>, more: impl IntoIterator<Item = T>) {
    if into.len() >= REMEMBERED {
        into.clear();
    }
    into.extend(more.into_iter().take(REMEMBERED));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_beyond_a_burst_wait_for_each_other() {
        let mut fresh = Fresh::new(Instant::now());
        let waits = (0..BURST + 3).filter(|_| fresh.pause() > Duration::ZERO).count();
        assert_eq!(waits, 3);
        fresh.since = fresh.since.map(|since| since - PAUSE * (BURST + 3));
        assert_eq!(fresh.pause(), Duration::ZERO);
    }
}
