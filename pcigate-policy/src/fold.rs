//! Precedence: how all matching rules of all selecting policies become one answer.
//!
//! The verdict is the strictest over all matching rules, whatever their order; where no rule
//! matches, deny if any policy defaults to it. Enforced is what enforce-mode rules (and, where none
//! of them matches, defaults) say; the audit remark is what everything together would say, where
//! that is stricter.

use std::cmp::Reverse;

use pcigate_common::maps::{Decision, rule, verdict};

use crate::document::{Action, Mode, Policy, Section};
use crate::workload::PolicySet;

/// A verdict number and the number of the rule behind it.
type Said = (u32, u32);

/// What the rules seen so far say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    enforced: Option<Said>,
    everything: Option<Said>,
}

impl Fold {
    /// Adds one matching rule. Among equally strict rules the one with the lowest number is named.
    pub(crate) fn add(&mut self, mode: Mode, verdict: u32, rule: u32) {
        let said = Some((verdict, rule));
        self.everything = stricter(self.everything, said);
        if mode == Mode::Enforce {
            self.enforced = stricter(self.enforced, said);
        }
    }

    /// Whether no rule has been added.
    pub(crate) fn is_empty(&self) -> bool {
        self.everything.is_none()
    }

    /// The answer, with `defaults` where no rule speaks.
    pub(crate) fn decision(&self, defaults: &Defaults) -> Decision {
        let (verdict, rule) = self.enforced.unwrap_or(defaults.enforced);
        let everything = self.everything.unwrap_or(defaults.everything);
        with_audit(verdict, rule, everything)
    }

    /// As [`Self::decision`], for an address whose names may have more to say: what audit-mode
    /// rules say is kept beside a default, which an enforced rule by name may yet replace.
    pub(crate) fn before_names(&self, defaults: &Defaults) -> Decision {
        let mut decision = self.decision(defaults);
        if let (None, Some(everything)) = (self.enforced, self.everything) {
            (decision.audit_verdict, decision.audit_rule) = everything;
        }
        decision
    }

    /// What the rules say by themselves, for [`Decision::with_name`].
    pub(crate) fn without_defaults(&self) -> Decision {
        let (verdict, rule) = self.enforced.unwrap_or((verdict::NONE, 0));
        let (audit_verdict, audit_rule) = self.everything.unwrap_or((verdict::NONE, 0));
        Decision { verdict, rule, audit_verdict, audit_rule }
    }
}

/// The answers where no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    enforced: Said,
    everything: Said,
}

impl Defaults {
    /// Of one section of all policies.
    fn of<R>(set: &PolicySet, section: impl Fn(&Policy) -> Option<&Section<R>>) -> Self {
        let said = |counts: fn(&Policy) -> bool| {
            let sections = set.policies().iter().filter(|p| counts(p)).filter_map(|p| section(p));
            let deny = { sections }.any(|section| section.default_action == Action::Deny);
            match (deny, set.policies().is_empty()) {
                (true, _) => (verdict::DENY, rule::DEFAULT),
                (false, false) => (verdict::ALLOW, rule::DEFAULT),
                (false, true) => (verdict::ALLOW, rule::NO_POLICY),
            }
        };
        Self { enforced: said(|policy| policy.mode == Mode::Enforce), everything: said(|_| true) }
    }

    /// The answer where no rule matches.
    pub(crate) fn decision(&self) -> Decision {
        Fold::default().decision(self)
    }
}

impl PolicySet {
    pub(crate) fn exec_defaults(&self) -> Defaults {
        Defaults::of(self, |policy| policy.exec.as_ref())
    }

    pub(crate) fn egress_defaults(&self) -> Defaults {
        Defaults::of(self, |policy| policy.egress.as_ref())
    }

    pub(crate) fn ingress_defaults(&self) -> Defaults {
        Defaults::of(self, |policy| policy.ingress.as_ref())
    }

    /// The answer for a file whose path could not be resolved: it may be what a rule refuses.
    pub(crate) fn exec_unresolved(&self) -> Decision {
        let unsure = |mode: Option<Mode>| {
            let counts = move |own: Mode| mode.is_none_or(|mode| mode == own);
            self.policies().iter().filter(|policy| counts(policy.mode)).any(|policy| {
                policy.exec.as_ref().is_some_and(|section| {
                    section.default_action == Action::Deny
                        || section.rules.iter().any(|rule| counts(rule.mode))
                })
            })
        };
        let deny = (verdict::DENY, rule::UNRESOLVED_PATH);
        if unsure(Some(Mode::Enforce)) {
            return Decision::enforced(deny.0, deny.1);
        }
        let base = self.exec_defaults().decision();
        let everything = if unsure(None) { deny } else { (verdict::NONE, 0) };
        with_audit(base.verdict, base.rule, everything)
    }
}

/// Joins the answer for the resolved file with that for the name it was called by, which counts
/// only where a rule matches it and only to make the answer stricter.
pub(crate) fn with_invoked(resolved: Decision, invoked: Option<Decision>) -> Decision {
    let Some(invoked) = invoked else { return resolved };
    let mut joined = resolved;
    // Where only audit-mode rules match the name, its verdict is a default, which is no rule.
    if invoked.rule < rule::RESERVED && invoked.verdict > joined.verdict {
        (joined.verdict, joined.rule) = (invoked.verdict, invoked.rule);
    }
    let mut audit = (resolved.audit_verdict, resolved.audit_rule);
    if invoked.audit_verdict > audit.0 {
        audit = (invoked.audit_verdict, invoked.audit_rule);
    }
    with_audit(joined.verdict, joined.rule, audit)
}

fn with_audit(verdict: u32, rule: u32, everything: Said) -> Decision {
    let mut decision = Decision::enforced(verdict, rule);
    if everything.0 > verdict {
        (decision.audit_verdict, decision.audit_rule) = everything;
    }
    decision
}

fn stricter(a: Option<Said>, b: Option<Said>) -> Option<Said> {
    a.into_iter().chain(b).max_by_key(|(verdict, rule)| (*verdict, Reverse(*rule)))
}
