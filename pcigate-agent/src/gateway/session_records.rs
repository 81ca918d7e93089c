//! The records of one gated session: what its engine tells, in the name of who connected.

use std::sync::Arc;

use pcigate_gateway::{
    Direction, Entry, Event as Told, MaskedCounts, NotRecorded, StatementEnd, StatementEvent, Step,
};
use pcigate_policy::{
    document::StatementAction,
    mask::{Cut, Kind, Masked},
};
use pcigate_proto::Verdict;
use rand_core::{OsRng, RngCore};
use tokio::sync::mpsc;

use super::Actor;
use crate::{
    draft::{self, Decided, Draft, Ending, Event, Outcome, Phase, Rule, Subject},
    governor::Gate,
    pipeline::now_unix_nano,
    recorder::RecorderHandle,
};

/// Entries taken from a session at a time.
const BATCH_ENTRIES: usize = 64;

/// Who, where to, and where the records go.
pub(super) struct Recording {
    id: [u8; 16],
    actor: Actor,
    gate: Arc<Gate>,
    target: Masked,
    recorder: RecorderHandle,
    /// As the session began: its end says it again.
    began: Option<draft::Session>,
}

impl Recording {
    pub(super) fn new(actor: Actor, gate: Arc<Gate>, recorder: RecorderHandle) -> Self {
        let mut id = [0; 16];
        OsRng.fill_bytes(&mut id);
        let target = masked(&gate.target.name.to_string());
        Self { id, actor, gate, target, recorder, began: None }
    }

    /// Records until the session has ended. What must be durable is so before it is answered;
    /// what has come by then becomes durable with it.
    pub(super) async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH_ENTRIES);
        while entries.recv_many(&mut batch, BATCH_ENTRIES).await > 0 {
            let mut waiting = Vec::new();
            let mut drafts = Vec::with_capacity(batch.len());
            for Entry { event, durable } in batch.drain(..) {
                drafts.push(self.draft(event));
                waiting.extend(durable);
            }
            let recorder = self.recorder.clone();
            if waiting.is_empty() {
                // What finds no room is counted, and becomes a Lost record.
                let _ = recorder.record(drafts);
                continue;
            }
            let kept = tokio::task::spawn_blocking(move || recorder.record_durable(drafts)).await;
            let kept = match kept {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a gated session ends: its records cannot be kept");
                    Err(NotRecorded)
                }
                Err(_) => Err(NotRecorded),
            };
            for answer in waiting {
                // Nobody waits where the session has ended meanwhile.
                let _ = answer.send(kept);
            }
        }
    }

    fn draft(&mut self, event: Told) -> Draft {
        let (outcome, event) = match event {
            Told::SessionStarted {
                database,
                user,
                role,
                application,
                client,
                client_tls,
                identity,
            } => {
                let began = draft::Session {
                    id: self.id,
                    phase: Phase::Started,
                    target: self.target.clone(),
                    protocol: "postgres",
                    database,
                    user,
                    role,
                    application,
                    client,
                    client_tls,
                    identity,
                };
                self.began = Some(began.clone());
                (self.by_gate(Ending::Success), Event::Session(Box::new(began)))
            }
            Told::SessionEnded { why, statements, refused, rows, bytes, masked, duration } => {
                let phase = Phase::Ended {
                    reason: why,
                    statements,
                    refused,
                    rows,
                    bytes,
                    duration_ns: nanos(duration),
                    masked: counts(&masked),
                };
                (self.by_gate(Ending::Success), Event::Session(Box::new(self.ended(phase))))
            }
            Told::Statement(statement) => self.statement(*statement),
            Told::StatementEnded(end) => {
                let ending = if end.sqlstate.is_none() { Ending::Success } else { Ending::Failed };
                (Outcome::plain(ending), Event::StatementEnd(self.statement_end(end)))
            }
            Told::Traffic { direction, text } => {
                let from_client = direction == Direction::FromClient;
                (Outcome::plain(Ending::Success), self.traffic(from_client, text, false))
            }
            Told::Truncated { limit } => {
                let text = masked(&format!("traffic is kept up to {limit} bytes, not beyond"));
                (Outcome::plain(Ending::Success), self.traffic(false, text, true))
            }
        };
        Draft {
            time_unix_nano: now_unix_nano(),
            kernel: None,
            subject: Subject::Workload(Arc::clone(&self.actor.workload)),
            process: Some(self.actor.process.clone()),
            outcome,
            event,
        }
    }

    fn by_gate(&self, ending: Ending) -> Outcome {
        let rule = Arc::clone(&self.gate.rule);
        Outcome {
            decision: Some(Decided { verdict: Verdict::Gate, rule }),
            policy_hash: Some(self.actor.policy_hash),
            ..Outcome::plain(ending)
        }
    }

    /// A session that was refused before it began says no more than that.
    fn ended(&self, phase: Phase) -> draft::Session {
        let nothing = || masked("");
        let unknown = || draft::Session {
            id: self.id,
            phase: Phase::Started,
            target: self.target.clone(),
            protocol: "postgres",
            database: nothing(),
            user: nothing(),
            role: nothing(),
            application: nothing(),
            client: nothing(),
            client_tls: false,
            identity: None,
        };
        draft::Session { phase, ..self.began.clone().unwrap_or_else(unknown) }
    }

    fn statement(&self, statement: StatementEvent) -> (Outcome, Event) {
        let (verdict, ending) = match statement.verdict {
            StatementAction::Allow => (Verdict::Allow, Ending::Success),
            StatementAction::Ask => (Verdict::Ask, Ending::Refused),
            StatementAction::Deny => (Verdict::Deny, Ending::Refused),
        };
        let id = statement.rule.unwrap_or_else(|| masked("default"));
        let rule = Arc::new(Rule { policy: self.gate.rule.policy.clone(), id });
        let outcome = Outcome {
            decision: Some(Decided { verdict, rule }),
            policy_hash: Some(self.actor.policy_hash),
            ..Outcome::plain(ending)
        };
        let event = draft::Statement {
            session: self.id,
            number: statement.number,
            target: self.target.clone(),
            step: step(statement.step),
            command: statement.command,
            text: statement.text,
            text_bytes: statement.text_bytes,
            parameters: statement.parameters,
            effects: statement.effects.into_iter().map(|effect| effect.name()).collect(),
            tables: statement.tables,
            reason: statement.reason,
            request_key: statement.request_key,
        };
        (outcome, Event::Statement(Box::new(event)))
    }

    fn statement_end(&self, end: StatementEnd) -> draft::StatementEnd {
        draft::StatementEnd {
            session: self.id,
            number: end.number,
            rows: end.rows,
            bytes: end.bytes,
            duration_ns: nanos(end.duration),
            sqlstate: end.sqlstate,
            masked: counts(&end.masked),
        }
    }

    fn traffic(&self, from_client: bool, text: Masked, truncated: bool) -> Event {
        Event::Traffic(draft::Traffic { session: self.id, from_client, text, truncated })
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Query => "query",
        Step::Prepare => "prepare",
        Step::Execute => "execute",
        Step::FunctionCall => "function-call",
    }
}

fn counts(counts: &MaskedCounts) -> Vec<(Kind, u32)> {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    counts.iter().map(|(kind, count)| (*kind, small(*count))).collect()
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn masked(text: &str) -> Masked {
    Masked::new(text.as_bytes(), Cut::Whole)
}
