//! The records of one gated session: what the gateway's process tells, in the name of who
//! connected. Who and which session it is comes from the agent; what is said, from there, and so
//! every text is masked here, whatever was masked there.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use pcigate_gateway::Step;
use pcigate_policy::{
    document::StatementAction,
    mask::{Cut, Masked},
};
use pcigate_proto::Verdict;
use rand_core::{OsRng, RngCore};

use super::{
    Actor, Timings, records,
    wire::told::{self, Told},
};
use crate::{
    draft::{self, Decided, Draft, Ending, Event, Outcome, Phase, Rule, Subject},
    governor::Gate,
    pipeline::now_unix_nano,
    recorder::RecorderHandle,
};

/// Who, where to, and where the records go.
pub(super) struct Recording {
    id: [u8; 16],
    actor: Actor,
    gate: Arc<Gate>,
    original: SocketAddr,
    target: Masked,
    recorder: RecorderHandle,
    timings: Timings,
    /// As the session began: its end says it again.
    began: Option<draft::Session>,
    ended: bool,
}

impl Recording {
    pub(super) fn new(
        actor: Actor,
        gate: Arc<Gate>,
        original: SocketAddr,
        (recorder, timings): (RecorderHandle, Timings),
    ) -> Self {
        let mut id = [0; 16];
        OsRng.fill_bytes(&mut id);
        let target = masked(&gate.target.name.to_string());
        Self { id, actor, gate, original, target, recorder, timings, began: None, ended: false }
    }

    /// Records what was told; whether all of it is on disk, where it has to be.
    pub(super) async fn record(&mut self, told: Vec<Told>, durable: bool) -> bool {
        for told in &told {
            if let Told::Statement(statement) = told {
                self.timings.decided(statement.deciding);
            }
        }
        let drafts = told.into_iter().map(|told| self.draft(told)).collect();
        if durable {
            let began = Instant::now();
            let kept = self.durable(drafts).await;
            self.timings.waited(began.elapsed());
            return kept;
        }
        // What finds no room is counted, and becomes a Lost record.
        let _ = self.recorder.record(drafts);
        true
    }

    /// The client has brought a token that is not its own: in the agent's own words, whatever the
    /// process tells.
    pub(super) async fn refused(&self, why: &str) {
        self.durable(vec![records::closed(&self.actor, &self.gate, self.original, why)]).await;
    }

    /// The session is over, and the process that served it does not say so.
    pub(super) async fn broke_off(&mut self, why: &str) {
        if self.ended {
            return;
        }
        let draft = if self.began.is_some() {
            self.draft(Told::Ended(Box::new(told::Ended {
                why: why.to_owned(),
                ..told::Ended::default()
            })))
        } else {
            records::closed(&self.actor, &self.gate, self.original, why)
        };
        self.ended = true;
        self.durable(vec![draft]).await;
    }

    /// The session is over in good order. One that never began asked the server to cancel a
    /// statement of another, or nothing.
    pub(super) async fn left(&mut self, dialled: bool) {
        if self.ended || self.began.is_some() {
            return self.broke_off("the gateway ended it without a record").await;
        }
        self.ended = true;
        if dialled {
            let draft = records::cancelled(&self.actor, &self.gate, self.original);
            self.durable(vec![draft]).await;
        }
    }

    async fn durable(&self, drafts: Vec<Draft>) -> bool {
        match self.recorder.record_durably(drafts).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "a gated session ends: its records cannot be kept");
                false
            }
        }
    }

    fn draft(&mut self, told: Told) -> Draft {
        let (outcome, event) = match told {
            Told::Started(started) => {
                let began = self.started(*started);
                self.began = Some(began.clone());
                (self.by_gate(Ending::Success), Event::Session(Box::new(began)))
            }
            Told::Ended(ended) => {
                self.ended = true;
                let phase = Phase::Ended {
                    reason: masked(&ended.why),
                    statements: ended.statements,
                    refused: ended.refused,
                    rows: ended.rows,
                    bytes: ended.bytes,
                    duration_ns: nanos(ended.duration),
                    masked: ended.masked,
                };
                (self.by_gate(Ending::Success), Event::Session(Box::new(self.ended(phase))))
            }
            Told::Statement(statement) => self.statement(*statement),
            Told::StatementEnd(end) => {
                let ending = if end.sqlstate.is_none() { Ending::Success } else { Ending::Failed };
                (Outcome::plain(ending), Event::StatementEnd(self.statement_end(end)))
            }
            Told::Traffic(traffic) => {
                let text = masked(&traffic.text);
                let event = self.traffic(traffic.from_client, text, traffic.masked, false);
                (Outcome::plain(Ending::Success), event)
            }
            Told::Truncated { limit } => {
                let text = masked(&format!("traffic is kept up to {limit} bytes, not beyond"));
                (Outcome::plain(Ending::Success), self.traffic(false, text, Vec::new(), true))
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

    fn started(&self, started: told::Started) -> draft::Session {
        draft::Session {
            id: self.id,
            phase: Phase::Started,
            target: self.target.clone(),
            protocol: "postgres",
            database: masked(&started.database),
            user: masked(&started.user),
            role: masked(&started.role),
            application: masked(&started.application),
            client: masked(&started.client),
            client_tls: started.client_tls,
            identity: started.identity.map(|(of, by)| Box::new((masked(&of), masked(&by)))),
            masked: started.masked,
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
            masked: Vec::new(),
        };
        let began = self.began.clone().unwrap_or_else(unknown);
        draft::Session { phase, masked: Vec::new(), ..began }
    }

    fn statement(&self, statement: told::Statement) -> (Outcome, Event) {
        let (verdict, ending) = match statement.verdict {
            StatementAction::Allow => (Verdict::Allow, Ending::Success),
            StatementAction::Ask => (Verdict::Ask, Ending::Refused),
            StatementAction::Deny => (Verdict::Deny, Ending::Refused),
        };
        let rule = statement.rule.as_deref().filter(|rule| !rule.is_empty());
        let id = masked(rule.unwrap_or("default"));
        let rule = Arc::new(Rule { policy: self.gate.rule.policy.clone(), id });
        let outcome = Outcome {
            decision: Some(Decided { verdict, rule }),
            policy_hash: Some(self.actor.policy_hash),
            ..Outcome::plain(ending)
        };
        let parameters = statement.parameters.iter();
        let event = draft::Statement {
            session: self.id,
            number: statement.number,
            target: self.target.clone(),
            step: step(statement.step),
            command: masked(&statement.command),
            text: masked(&statement.text),
            text_bytes: statement.text_bytes,
            parameters: parameters.map(|text| text.as_deref().map(masked)).collect(),
            effects: statement.effects.into_iter().map(|effect| effect.name()).collect(),
            tables: statement.tables.iter().map(|table| masked(table)).collect(),
            reason: masked(&statement.reason),
            request_key: statement.request_key,
            masked: statement.masked,
        };
        (outcome, Event::Statement(Box::new(event)))
    }

    fn statement_end(&self, end: told::End) -> draft::StatementEnd {
        draft::StatementEnd {
            session: self.id,
            number: end.number,
            rows: end.rows,
            bytes: end.bytes,
            duration_ns: nanos(end.duration),
            sqlstate: end.sqlstate.as_deref().map(masked),
            masked: end.masked,
        }
    }

    fn traffic(
        &self,
        from_client: bool,
        text: Masked,
        masked: told::Found,
        truncated: bool,
    ) -> Event {
        let session = self.id;
        Event::Traffic(draft::Traffic { session, from_client, text, truncated, masked })
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

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn masked(text: &str) -> Masked {
    Masked::new(text.as_bytes(), Cut::Whole)
}

#[cfg(test)]
mod tests;
