//! One gated session as its first and last records tell it.

use std::collections::BTreeMap;

use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{Finding, Record, Session, Workload, session::Phase};
use serde_json::{Value, json};

use super::words::{duration, findings};
use crate::record_view;
use crate::time;

/// What is known of a session.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Place of the first record about it in the ledger.
    pub index: u64,
    /// That record: who, and by which rule.
    pub record: Record,
    /// What it connected to; of the end record where there is one.
    pub session: Session,
    /// ns since 1970.
    pub began: u64,
    /// How it ended, or why nothing is known of that.
    pub end: End,
    /// Statements, rows and so on.
    pub counts: Option<Counts>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There is a record of it: time (ns since 1970) and reason.
    Recorded(u64, String),
    /// There is none, and nothing says that there should be.
    Open,
    /// There is none, and never will be: why.
    Missing(String),
}

/// What a session did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Statements decided, refused ones among them.
    pub statements: u64,
    /// Statements refused.
    pub refused: u64,
    /// Rows that went to the client.
    pub rows: u64,
    /// Bytes that went to the client.
    pub bytes: u64,
    /// What was masked in them, by kind.
    pub masked: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds what a record says it has masked.
    pub fn add_masked(&mut self, masked: &[Finding]) {
        for one in masked {
            *self.masked.entry(one.kind.clone()).or_default() += u64::from(one.count);
        }
    }

    /// Adds a statement's record, or the record of its end.
    pub fn add(&mut self, record: &Record) {
        match &record.event {
            Some(Event::Statement(_)) => {
                let result = record.outcome.as_ref().map(|outcome| outcome.result());
                self.statements += 1;
                self.refused += u64::from(result == Some(pcigate_proto::Result::Refused));
            }
            Some(Event::StatementEnd(end)) => {
                self.rows += end.rows;
                self.bytes += end.bytes;
                self.add_masked(&record.masked);
            }
            _ => {}
        }
    }
}

impl Summary {
    /// From the first record about it that is at hand, of whatever kind.
    pub fn of(index: u64, record: &Record) -> Option<Self> {
        let event = record.event.as_ref()?;
        let id = pcigate_proto::record::session(event)?;
        let target = match event {
            Event::Statement(statement) => statement.target.clone(),
            _ => String::new(),
        };
        let mut summary = Self {
            index,
            record: record.clone(),
            session: Session { id: id.to_vec(), target, ..Session::default() },
            began: record.time_unix_nano,
            end: End::Open,
            counts: None,
        };
        summary.take(record);
        Some(summary)
    }

    /// Adds what a further record says.
    pub fn take(&mut self, record: &Record) {
        let Some(Event::Session(session)) = &record.event else { return };
        self.session.clone_from(session);
        if session.phase() != Phase::Ended {
            return;
        }
        self.began = self.began.min(record.time_unix_nano.saturating_sub(session.duration_ns));
        self.end = End::Recorded(record.time_unix_nano, session.reason.clone());
        let mut counts = Counts {
            statements: session.statements,
            refused: session.refused,
            rows: session.rows,
            bytes: session.bytes,
            masked: BTreeMap::new(),
        };
        counts.add_masked(&record.masked);
        self.counts = Some(counts);
    }

    /// The id in hex, as records show it.
    pub fn id(&self) -> String {
        hex::encode(&self.session.id)
    }

    /// How long it was open, login included; nothing where no record tells.
    pub fn duration_ns(&self) -> Option<u64> {
        match self.end {
            End::Recorded(at, _) => Some(at.saturating_sub(self.began)),
            _ => None,
        }
    }

    /// The pod and so on, where it is one.
    pub fn workload(&self) -> Option<&Workload> {
        match &self.record.subject {
            Some(Subject::Workload(workload)) => Some(workload),
            _ => None,
        }
    }

    /// How it ended, in words.
    pub fn end_words(&self) -> String {
        match &self.end {
            End::Recorded(_, reason) => reason.clone(),
            End::Open => "open".to_owned(),
            End::Missing(why) => format!("no end record: {why}"),
        }
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let Session { target, protocol, database, user, role, application, client, .. } =
            &self.session;
        let whole = record_view::json(self.index, &self.record);
        let mut value = json!({
            "session": self.id(),
            "index": self.index,
            "began": time::rfc3339(self.began, 9),
            "target": target,
            "protocol": protocol,
            "database": database,
            "user": user,
            "role": role,
            "application": application,
            "client": client,
            "client_tls": self.session.client_tls,
            "token_subject": self.session.token_subject,
            "token_issuer": self.session.token_issuer,
            "state": match &self.end {
                End::Recorded(..) => "ended",
                End::Open => "open",
                End::Missing(_) => "no-end-record",
            },
            "end": self.end_words(),
        });
        let Some(object) = value.as_object_mut() else { return value };
        for name in ["origin", "subject", "process", "outcome"] {
            object.extend(whole.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        if let End::Recorded(at, _) = self.end {
            object.insert("ended".to_owned(), json!(time::rfc3339(at, 9)));
            object
                .insert("duration_ns".to_owned(), json!(at.saturating_sub(self.began).to_string()));
        }
        if let Some(counts) = &self.counts {
            object.insert("statements".to_owned(), json!(counts.statements));
            object.insert("refused".to_owned(), json!(counts.refused));
            object.insert("rows".to_owned(), json!(counts.rows));
            object.insert("bytes".to_owned(), json!(counts.bytes));
            object.insert("masked".to_owned(), json!(counts.masked));
        }
        value
    }

    /// What it did and how it ended, in a sentence.
    pub fn totals(&self) -> String {
        let mut text = match &self.end {
            End::Recorded(at, reason) => {
                let after = duration(at.saturating_sub(self.began));
                format!("ended {} after {after}: {reason}", time::rfc3339(*at, 3))
            }
            End::Open => "open: there is no record of its end".to_owned(),
            End::Missing(why) => format!("NO END RECORD: {why}"),
        };
        if let Some(counts) = &self.counts {
            let Counts { statements, refused, rows, bytes, masked } = counts;
            text.push_str(&format!(
                "\n{statements} statements, {refused} refused; {rows} rows, {bytes} bytes{}",
                findings(masked)
            ));
        }
        text
    }
}
