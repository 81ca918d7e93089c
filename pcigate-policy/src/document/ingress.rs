//! Ingress rules: from where a workload's listeners may be reached.

use pcigate_common::maps::verdict;

use super::cidr::Cidr;
use super::egress::{PortMatch, decode_list};
use super::policy::{About, Action, Mode, RuleScope, refuse_empty_lists};
use crate::yaml::{Fields, Item, Mistakes};

/// One rule about being reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// Id, unique within the policy.
    pub id: String,
    /// The mode it acts in: its own, lowered to the policy's.
    pub mode: Mode,
    /// Allow or deny.
    pub action: Action,
    /// Sources, any of them.
    pub from: Vec<Cidr>,
    /// Protocols and ports of the workload, any of them; empty = every one.
    pub ports: Vec<PortMatch>,
    /// Who answers for it.
    pub about: About,
}

impl IngressRule {
    /// The verdict on a match.
    #[must_use]
    pub fn verdict(&self) -> u32 {
        match self.action {
            Action::Allow => verdict::ALLOW,
            Action::Deny => verdict::DENY,
        }
    }

    pub(super) fn decode(item: &Item<'_>, scope: &mut RuleScope, mistakes: &mut Mistakes) -> Self {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let id = scope.id(&mut fields);
        let choices = [("allow", Action::Allow), ("deny", Action::Deny)];
        let action = fields.required_one_of("action", &choices).unwrap_or(Action::Deny);
        let mode = scope.rule_mode(&mut fields);
        let about = About::decode(&mut fields);
        let mut from = decode_list(&mut fields, "from", source);
        let ports = decode_list(&mut fields, "ports", PortMatch::decode);
        if action == Action::Allow && !fields.has("from") {
            let message =
                "is required for allow; for everywhere say {cidr: 0.0.0.0/0} and {cidr: \"::/0\"}";
            fields.mistake("from", message);
        }
        refuse_empty_lists(&mut fields, &["from", "ports"]);
        fields.finish();
        if action == Action::Deny && from.is_empty() {
            // A deny without `from` means every source.
            from = vec![Cidr::ALL_V4, Cidr::ALL_V6];
        }
        Self { id, mode, action, from, ports, about }
    }
}

fn source(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Cidr> {
    let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
    let cidr = fields.required_parsed("cidr", Cidr::parse);
    fields.finish();
    cidr
}
