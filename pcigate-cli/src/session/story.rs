//! Puts a session's records together: each statement with its end, and what is missing where it is.

use std::collections::VecDeque;

use pcigate_proto::Record;
use pcigate_proto::record::Event;

use super::gaps::{self, Missing};

/// Statements that wait for their end at a time; beyond, the oldest is told without it.
const WAITING_MAX: usize = 4_096;

/// A record and its place in the ledger.
pub type Leaf = (u64, Record);

/// One piece of the story, in order.
#[derive(Debug)]
pub enum Piece {
    /// A statement and what became of it.
    Statement(Box<Leaf>, After),
    /// Records that should be here and are not.
    Missing(String),
    /// From here on traffic is not kept.
    Truncated(String),
}

/// What became of a statement.
#[derive(Debug)]
pub enum After {
    /// It was refused, or only prepared: nothing follows.
    Nothing,
    /// The record of its end.
    End(Box<Leaf>),
    /// There is none.
    Missing,
}

/// The records so far of which something is still to come.
pub struct Story {
    missing: Vec<Missing>,
    waiting: VecDeque<(Leaf, After)>,
    next: u64,
}

impl Story {
    /// With what is known to be missing.
    pub fn new(missing: Vec<Missing>) -> Self {
        Self { missing, waiting: VecDeque::new(), next: 1 }
    }

    /// Takes the next record; gives what is complete now.
    pub fn push(&mut self, index: u64, record: Record) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for missing in gaps::before(&mut self.missing, &record) {
            self.tell_all(&mut pieces);
            pieces.push(Piece::Missing(missing.text));
        }
        match &record.event {
            Some(Event::Statement(statement)) => {
                if statement.number > self.next {
                    self.tell_all(&mut pieces);
                    pieces.push(Piece::Missing(holes(self.next, statement.number - 1)));
                }
                self.next = self.next.max(statement.number.saturating_add(1));
                let refused = record
                    .outcome
                    .as_ref()
                    .is_some_and(|outcome| outcome.result() == pcigate_proto::Result::Refused);
                let silent = refused || statement.step == "prepare";
                let after = if silent { After::Nothing } else { After::Missing };
                self.waiting.push_back(((index, record), after));
            }
            Some(Event::StatementEnd(end)) => {
                let number = end.number;
                let known = self.waiting.iter_mut().find(|((_, begun), _)| is(begun, number));
                if let Some((_, after)) = known {
                    *after = After::End(Box::new((index, record)));
                } else {
                    let text = format!("statement {number} ended, but nothing says how it began");
                    pieces.push(Piece::Missing(text));
                }
                // The server answers in order: what stands before it will get no end any more.
                self.tell(&mut pieces, number);
            }
            Some(Event::Traffic(traffic)) if traffic.truncated => {
                pieces.push(Piece::Truncated(traffic.text.clone()));
            }
            _ => {}
        }
        if self.waiting.len() > WAITING_MAX
            && let Some((begun, after)) = self.waiting.pop_front()
        {
            pieces.push(Piece::Statement(Box::new(begun), after));
        }
        pieces
    }

    /// What is left when no record comes any more; `ended` where the last one was the end.
    pub fn finish(mut self, ended: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.tell_all(&mut pieces);
        if !ended {
            pieces.extend(self.missing.drain(..).map(|one| Piece::Missing(one.text)));
        }
        pieces
    }

    /// Statements up to this number, and those behind that nothing more can come of.
    fn tell(&mut self, pieces: &mut Vec<Piece>, number: u64) {
        while let Some((begun, after)) = self.waiting.pop_front() {
            let done = number_of(&begun.1) <= number || matches!(after, After::Nothing);
            if !done {
                self.waiting.push_front((begun, after));
                return;
            }
            pieces.push(Piece::Statement(Box::new(begun), after));
        }
    }

    fn tell_all(&mut self, pieces: &mut Vec<Piece>) {
        self.tell(pieces, u64::MAX);
    }
}

fn number_of(record: &Record) -> u64 {
    match &record.event {
        Some(Event::Statement(statement)) => statement.number,
        _ => 0,
    }
}

fn is(record: &Record, number: u64) -> bool {
    number_of(record) == number
}

fn holes(first: u64, last: u64) -> String {
    if first == last {
        format!("statement {first} has no record here")
    } else {
        format!("statements {first}–{last} have no records here")
    }
}
