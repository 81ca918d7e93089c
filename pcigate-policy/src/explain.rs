//! Why a request gets its answer, in plain sentences: for `pcigate policy explain`.

use std::fmt;

use pcigate_common::maps::verdict;

use crate::decide::{Answer, EgressRequest, ExecRequest, IngressRequest, Matched, effective};
use crate::document::{Action, Documents, Mode, ObjectName, PortMatch};
use crate::entries::Unenforceable;
use crate::rule::{RuleRef, verdict_name};
use crate::workload::{Identity, NotSelected};
use crate::yaml::shown;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To execute a program.
    Exec(ExecRequest<'a>),
    /// To reach a destination.
    Egress(EgressRequest<'a>),
    /// To be reached from elsewhere.
    Ingress(IngressRequest),
}

/// The answer to a request with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who asks.
    pub workload: String,
    /// What is asked, as a phrase: `to execute …`.
    pub question: String,
    /// Every policy, and whether it selects the workload.
    pub policies: Vec<PolicyVerdict>,
    /// The answer on a node.
    pub answer: Answer,
    /// Whether a name was asked for whose addresses are not known here.
    pub by_name_alone: bool,
    /// Rules of the selecting policies that are not, or not exactly, enforced here.
    pub unenforceable: Vec<Unenforceable>,
}

/// Whether a policy selects the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// `AgentPolicy` or `ClusterAgentPolicy`.
    pub kind: &'static str,
    /// The policy.
    pub name: ObjectName,
    /// Its mode.
    pub mode: Mode,
    /// Why it does not select the workload; `None` = it does.
    pub not_selected: Option<NotSelected>,
}

/// Explains the answer to a request.
#[must_use]
pub fn explain(documents: &Documents, identity: &Identity, request: &Request<'_>) -> Explanation {
    let set = documents.select(identity);
    let policies = documents.policies().iter().map(|policy| PolicyVerdict {
        kind: policy.kind(),
        name: policy.name.clone(),
        mode: policy.mode,
        not_selected: policy.selects(identity).err(),
    });
    let (question, answer) = match request {
        Request::Exec(exec) => (exec_question(exec), set.decide_exec(exec)),
        Request::Egress(egress) => (egress_question(egress), set.decide_egress(egress)),
        Request::Ingress(ingress) => (ingress_question(ingress), set.decide_ingress(ingress)),
    };
    Explanation {
        workload: identity.to_string(),
        question,
        policies: policies.collect(),
        answer,
        by_name_alone: matches!(request, Request::Egress(egress) if egress.address.is_none()),
        unenforceable: set.unenforceable(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = &self.answer;
        writeln!(f, "{} asks {}", self.workload, self.question)?;
        writeln!(f, "verdict: {}", verdict_name(answer.verdict))?;
        writeln!(f, "  {}", self.why())?;
        if self.by_name_alone {
            writeln!(f, "  A rule by `cidr` that covers one of its addresses may be stricter.")?;
        }
        if let Some((verdict, rule)) = &answer.audit {
            writeln!(
                f,
                "audit: {} if nothing were in audit mode, by {rule}",
                verdict_name(*verdict)
            )?;
        }
        self.write_policies(f)?;
        self.write_rules(f)?;
        if !self.unenforceable.is_empty() {
            writeln!(f, "not enforceable here:")?;
        }
        for one in &self.unenforceable {
            writeln!(f, "  rule {} of {}: {}", one.rule, one.policy, one.why)?;
        }
        Ok(())
    }
}

impl Explanation {
    fn write_policies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policies:")?;
        if self.policies.is_empty() {
            writeln!(f, "  none are loaded")?;
        }
        for policy in &self.policies {
            let (kind, name, mode) = (policy.kind, &policy.name, mode(policy.mode));
            match &policy.not_selected {
                None => writeln!(f, "  {kind} {name} ({mode}) selects the workload")?,
                Some(why) => writeln!(f, "  {kind} {name} ({mode}) does not: {why}")?,
            }
        }
        Ok(())
    }

    fn write_rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "matching rules:")?;
        if self.answer.considered.is_empty() {
            writeln!(f, "  none")?;
        }
        for one in &self.answer.considered {
            let what = match one.matched {
                Matched::Path => "the resolved path",
                Matched::InvokedName => "the name it is called by",
                Matched::Destination => "the destination",
                Matched::Source => "the source",
            };
            let (says, rule, by) = (verdict_name(one.verdict), &one.rule, shown(&one.by));
            writeln!(f, "  {rule} ({}) says {says}: {by} matches {what}", mode(one.mode))?;
        }
        for one in &self.answer.defaults {
            let action = match one.action {
                Action::Allow => "allow",
                Action::Deny => "deny",
            };
            writeln!(f, "  default of {} ({}): {action}", one.policy, mode(one.mode))?;
        }
        Ok(())
    }

    /// One sentence saying where the enforced verdict comes from.
    #[must_use]
    pub fn why(&self) -> String {
        let answer = &self.answer;
        match &answer.rule {
            RuleRef::NoPolicy => "No policy selects the workload.".to_owned(),
            RuleRef::UnresolvedPath => "The path could not be resolved, so it may be one that a \
                                        rule refuses; unresolved paths are denied."
                .to_owned(),
            RuleRef::Default if answer.verdict == verdict::DENY => {
                let deny = answer.defaults.iter().filter(|default| {
                    default.mode == Mode::Enforce && default.action == Action::Deny
                });
                let names: Vec<String> = deny.map(|one| one.policy.to_string()).collect();
                format!(
                    "No enforced rule matches, and the default of {} is deny.",
                    names.join(", ")
                )
            }
            RuleRef::Default => {
                "No enforced rule matches, and no enforced policy defaults to deny.".to_owned()
            }
            rule => {
                let more = if answer.verdict == verdict::GATE {
                    " The gateway decides about each statement."
                } else {
                    ""
                };
                format!("The strictest matching rule decides: {rule}.{more}")
            }
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit",
    }
}

fn exec_question(request: &ExecRequest<'_>) -> String {
    let lossy = |bytes: &[u8]| shown(&String::from_utf8_lossy(bytes));
    let mut text = match request.path {
        Some(path) => format!("to execute {}", lossy(path)),
        None => "to execute a file whose path could not be resolved".to_owned(),
    };
    if !request.invoked.is_empty() && Some(request.invoked) != request.path {
        text.push_str(&format!(", called as {}", lossy(request.invoked)));
    }
    match request.args {
        None => text.push_str(", with arguments that are not known"),
        Some([] | [_]) => {}
        Some(args) => {
            let args: Vec<String> = args.iter().skip(1).map(|arg| lossy(arg)).collect();
            text.push_str(&format!(", with {}", args.join(" ")));
        }
    }
    if let Some(digest) = request.sha256 {
        text.push_str(&format!(", SHA-256 {}", hex::encode(digest)));
    }
    text
}

fn egress_question(request: &EgressRequest<'_>) -> String {
    let ports = PortMatch { protocol: request.protocol, port: request.port };
    let Some(address) = request.address else {
        let name = shown(&request.names.join(", "));
        return format!("to reach {name} by the addresses it has resolved, {ports}");
    };
    let used = effective(address);
    let text = format!("to reach {used}, {ports}");
    if used == address { text } else { format!("{text} (written {address})") }
}

fn ingress_question(request: &IngressRequest) -> String {
    let ports = PortMatch { protocol: request.protocol, port: request.port };
    format!("to be reached from {} at its own {ports}", request.source.to_canonical())
}

#[cfg(test)]
mod tests;
