//! What all nodes together make of a document. Pure: NodeCoverages in, statuses out.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pcigate_policy::mask::one_line;
use serde_json::{Value, json};

use super::{DocumentState, State};

/// Nodes summed.
const NODES_MAX: usize = 10_000;
/// Nodes named in a status.
const NAMED_MAX: usize = 20;
/// Bytes of a reason and a name, which other nodes wrote.
const REASON_MAX: usize = 600;
const NAME_MAX: usize = 253;
/// A node that says nothing for so long is not counted; its object is deleted much later.
const SILENT: SignedDuration = SignedDuration::from_mins(15);
const GONE: SignedDuration = SignedDuration::from_hours(24);

/// All nodes that say something.
#[derive(Default)]
pub(super) struct Sums {
    nodes: BTreeMap<String, Node>,
}

struct Node {
    observed: Timestamp,
    /// By kind, namespace and name, as [`key`] has it.
    rows: BTreeMap<String, Row>,
}

struct Row {
    generation: i64,
    state: State,
    hash: String,
    reason: Box<str>,
    workloads: u64,
}

impl Sums {
    /// Takes in what a node says.
    pub(super) fn take(&mut self, node: &str, status: Option<&Value>) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(node) {
            return;
        }
        let text = |value: &Value, field: &str| {
            let text = value.get(field).and_then(Value::as_str).unwrap_or_default();
            one_line(text, REASON_MAX)
        };
        let observed = status.map(|status| text(status, "observedTime"));
        let observed = observed.and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        let documents = status.and_then(|status| status.get("documents")?.as_array());
        let rows = documents.into_iter().flatten().take(super::DOCUMENTS_MAX).filter_map(|of| {
            let name = |field| text(of, field).chars().take(NAME_MAX).collect::<String>();
            let key = key(&name("kind"), &name("namespace"), &name("name"));
            let state = State::of(of.get("state")?.as_str()?)?;
            let row = Row {
                generation: of.get("generation")?.as_i64()?,
                state,
                hash: text(of, "hash"),
                // What is in order needs no words.
                reason: if state == State::Enforced {
                    "".into()
                } else {
                    text(of, "reason").into()
                },
                workloads: of.get("workloads").and_then(Value::as_u64).unwrap_or_default(),
            };
            Some((key, row))
        });
        self.nodes.insert(node.to_owned(), Node { observed, rows: rows.collect() });
    }

    /// A node's object is gone.
    pub(super) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Only these have an object.
    pub(super) fn retain(&mut self, nodes: &[String]) {
        let there: std::collections::HashSet<&str> = nodes.iter().map(String::as_str).collect();
        self.nodes.retain(|node, _| there.contains(node.as_str()));
    }

    /// Nodes whose objects are to be deleted: they have said nothing for a day.
    pub(super) fn gone(&self, now: Timestamp) -> Vec<String> {
        let gone = self.nodes.iter().filter(|(_, node)| {
            node.observed != Timestamp::UNIX_EPOCH && now.duration_since(node.observed) > GONE
        });
        gone.map(|(name, _)| name.clone()).collect()
    }

    /// The status of a document, without the times of its conditions.
    pub(super) fn status(&self, of: &DocumentState, now: Timestamp) -> Value {
        let key = key(of.kind, &of.namespace, &of.name);
        let mut counts = [0_u64; 4];
        let mut workloads = 0_u64;
        let mut hash = "";
        let mut details: Vec<(State, &str, &str)> = Vec::new();
        for (name, node) in &self.nodes {
            let Some(row) = node.rows.get(&key) else { continue };
            let is_silent = now.duration_since(node.observed) > SILENT;
            if row.generation != of.generation || is_silent {
                continue;
            }
            if let Some(count) = counts.get_mut(row.state as usize) {
                *count += 1;
            }
            workloads = workloads.saturating_add(row.workloads);
            if row.state == State::Enforced || hash.is_empty() {
                hash = &row.hash;
            }
            if row.state != State::Enforced {
                details.push((row.state, name, &row.reason));
            }
        }
        // What matters most comes first.
        details.sort_by_key(|(state, name, _)| (std::cmp::Reverse(*state as usize), *name));
        let first = details.first().map_or("", |(.., reason)| *reason);
        let conditions = conditions(counts, first, of.generation);
        let details = details.iter().take(NAMED_MAX).map(
            |(state, node, reason)| json!({"node": node, "state": state.name(), "reason": reason}),
        );
        let [enforced, audited, not_enforceable, rejected] = counts;
        json!({"observedGeneration": of.generation, "hash": hash, "workloads": workloads,
               "nodes": {"enforced": enforced, "audited": audited,
                         "notEnforceable": not_enforceable, "rejected": rejected},
               "conditions": conditions, "details": details.collect::<Vec<_>>()})
    }
}

fn key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

fn conditions(counts: [u64; 4], first: &str, generation: i64) -> Vec<Value> {
    let [enforced, audited, not_enforceable, rejected] = counts;
    let all: u64 = counts.iter().sum();
    let condition = |kind: &str, (status, reason, message): (&str, &str, String)| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "observedGeneration": generation})
    };
    let silent = || ("Unknown", "NoNode", "no node has told of this generation".to_owned());
    let accepted = match (all, rejected) {
        (0, _) => silent(),
        (_, 0) => ("True", "Accepted", format!("{all} nodes can use it")),
        _ => ("False", "Rejected", format!("{rejected} of {all} nodes cannot use it: {first}")),
    };
    let rest = all - enforced;
    let word = match (rejected, not_enforceable, audited) {
        (0, 0, _) => "Audited",
        (0, _, _) => "NotEnforceable",
        _ => "Rejected",
    };
    let done = match (all, rest) {
        (0, _) => silent(),
        (_, 0) => ("True", "Enforced", format!("{all} nodes enforce all of it")),
        _ => ("False", word, format!("{rest} of {all} nodes do not enforce all of it: {first}")),
    };
    vec![condition("Accepted", accepted), condition("Enforced", done)]
}

/// Gives the conditions their times: those of before where nothing changed. `None` where the whole
/// status is as it was.
pub(super) fn dated(mut status: Value, before: Option<&Value>, now: &str) -> Option<Value> {
    let conditions_before = before.and_then(|before| before.get("conditions")?.as_array());
    let before_of = |kind: &Value| {
        conditions_before.into_iter().flatten().find(|old| old.get("type") == Some(kind))
    };
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        for condition in conditions {
            let old = condition.get("type").and_then(before_of);
            let old = old.filter(|old| old.get("status") == condition.get("status"));
            let since = old.and_then(|old| old.get("lastTransitionTime")?.as_str());
            condition["lastTransitionTime"] = json!(since.unwrap_or(now));
        }
    }
    (before != Some(&status)).then_some(status)
}

#[cfg(test)]
mod tests;
