//! Drafts of what becomes of connections that no handler takes.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use pcigate_common::{limits::GATEWAY_PORT, maps::rule};
use pcigate_policy::{
    document::TargetProtocol,
    mask::{Cut, Masked},
    rule::RuleRef,
};
use pcigate_proto::Verdict;

use super::actor::{Actor, Refused};
use crate::{
    draft::{Decided, Draft, Ending, Event, Outcome, Rule, Subject},
    governor::{Gate, SharedDirectory},
    pipeline::now_unix_nano,
};

/// A connection to the listener that the kernel did not redirect, in the name of the cgroup its
/// socket was made in; no process is known.
pub(super) fn not_redirected(
    directory: &SharedDirectory,
    refused: &Refused,
    peer: SocketAddr,
) -> Draft {
    let (cgroup, why) = match refused {
        Refused::Unreadable { source } => (None, format!("whose it is cannot be read: {source}")),
        Refused::Left => (None, "closed before it was looked at".to_owned()),
        Refused::NotRedirected { cgroup } => (*cgroup, "not redirected".to_owned()),
        Refused::Outdated { cgroup } => {
            (Some(*cgroup), "redirected by what does not hold any more".to_owned())
        }
    };
    let directory = directory.read().unwrap_or_else(PoisonError::into_inner);
    let subject = match cgroup.filter(|id| *id != 0) {
        None => Subject::Agent,
        Some(cgroup_id) => directory.workload(cgroup_id).map_or_else(
            || Subject::Unknown { cgroup_id, cgroup_path: masked("") },
            |workload| Subject::Workload(Arc::clone(workload)),
        ),
    };
    let named = RuleRef::of_number(rule::GATEWAY_LISTENER, &[]);
    let rule = Arc::new(Rule { policy: masked(""), id: masked(named.rule_id()) });
    Draft {
        time_unix_nano: now_unix_nano(),
        kernel: None,
        subject,
        process: None,
        outcome: Outcome {
            decision: Some(Decided { verdict: Verdict::Deny, rule }),
            ..Outcome::plain(Ending::Refused)
        },
        event: Event::Attempt {
            operation: "accept",
            object: masked(&format!("tcp port {GATEWAY_PORT} from {peer}: {why}")),
        },
    }
}

/// One connection too many.
pub(super) fn no_room(actor: &Actor, gate: &Gate, original: SocketAddr) -> Draft {
    let why = "as many connections as the gateway keeps are under way";
    closed(actor, gate, original, why)
}

/// What the target speaks is not spoken here.
pub(super) fn no_protocol(actor: &Actor, gate: &Gate, original: SocketAddr) -> Draft {
    let protocol = match gate.target.protocol {
        TargetProtocol::Postgres => "postgres",
        TargetProtocol::Kubernetes => "kubernetes",
        TargetProtocol::Http => "http",
        TargetProtocol::Mysql => "mysql",
        TargetProtocol::Redis => "redis",
        TargetProtocol::Mongodb => "mongodb",
    };
    closed(actor, gate, original, &format!("this gateway speaks no {protocol}"))
}

/// A redirected connection that was closed.
pub(super) fn closed(actor: &Actor, gate: &Gate, original: SocketAddr, why: &str) -> Draft {
    let target = &gate.target.name;
    Draft {
        time_unix_nano: now_unix_nano(),
        kernel: None,
        subject: Subject::Workload(Arc::clone(&actor.workload)),
        process: Some(actor.process.clone()),
        outcome: Outcome {
            decision: Some(Decided { verdict: Verdict::Gate, rule: Arc::clone(&gate.rule) }),
            policy_hash: Some(actor.policy_hash),
            ..Outcome::plain(Ending::Refused)
        },
        event: Event::Attempt {
            operation: "gateway",
            object: masked(&format!("tcp {original} of Target {target}: {why}")),
        },
    }
}

/// A connection that was no session, and reached its target for a moment.
pub(super) fn cancelled(actor: &Actor, gate: &Gate, original: SocketAddr) -> Draft {
    let mut draft = closed(actor, gate, original, "a request to cancel a statement");
    draft.outcome.result = Ending::Success;
    draft
}

pub(super) fn masked(text: &str) -> Masked {
    Masked::new(text.as_bytes(), Cut::Whole)
}
