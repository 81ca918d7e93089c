//! Egress rules: which destinations may be reached, and which only through the gateway.

use std::fmt;

use pcigate_common::maps::verdict;

use super::cidr::Cidr;
use super::names::{Fqdn, ObjectName, Place, dns_label};
use super::policy::{About, Action, Mode, RuleScope, refuse_empty_lists};
use super::session::SessionBudget;
use super::statement::Statement;
use crate::yaml::{Fields, Item, Mistakes, shown};

/// One rule about reaching destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    /// Id, unique within the policy.
    pub id: String,
    /// The mode it acts in: its own, lowered to the policy's.
    pub mode: Mode,
    /// What happens on a match, and what it matches.
    pub effect: EgressEffect,
    /// Who answers for it.
    pub about: About,
}

/// What an egress rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressEffect {
    /// Destinations that are allowed or refused.
    Direct {
        /// Allow or deny.
        action: Action,
        /// Destinations, any of them.
        to: Vec<Peer>,
        /// Protocols and ports, any of them; empty = every one.
        ports: Vec<PortMatch>,
    },
    /// A target that is reached only through the gateway.
    Gate {
        /// The Target document.
        target: ObjectName,
        /// What may be done there; the strictest matching statement wins, none = deny.
        statements: Vec<Statement>,
        /// What one whole session may use.
        session: SessionBudget,
        /// Where the rule names its target.
        place: Place,
    },
}

/// One destination of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address prefix.
    Cidr(Cidr),
    /// A name or all names below it.
    Fqdn(Fqdn),
}

/// One protocol, with a port or all its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMatch {
    /// IP protocol number; 0 (with port 0) = every protocol.
    pub protocol: u8,
    /// Port; 0 = every port.
    pub port: u16,
}

/// The protocols documents can name, with their IP protocol numbers (IANA).
const PROTOCOLS: &[(&str, u8)] = &[("TCP", 6), ("UDP", 17), ("SCTP", 132)];

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol);
        match name {
            Some((name, _)) => f.write_str(name)?,
            None => write!(f, "protocol {}", self.protocol)?,
        }
        if self.port == 0 { f.write_str(", any port") } else { write!(f, " port {}", self.port) }
    }
}

impl PortMatch {
    /// Every protocol and port.
    pub const ANY: Self = Self { protocol: 0, port: 0 };

    /// One TCP port.
    #[must_use]
    pub const fn tcp(port: u16) -> Self {
        Self { protocol: 6, port }
    }

    /// One UDP port.
    #[must_use]
    pub const fn udp(port: u16) -> Self {
        Self { protocol: 17, port }
    }

    /// Whether it covers a request.
    #[must_use]
    pub fn covers(&self, protocol: u8, port: u16) -> bool {
        *self == Self::ANY || self.protocol == protocol && (self.port == 0 || self.port == port)
    }
}

impl EgressRule {
    /// The verdict on a match.
    #[must_use]
    pub fn verdict(&self) -> u32 {
        match &self.effect {
            EgressEffect::Direct { action: Action::Allow, .. } => verdict::ALLOW,
            EgressEffect::Direct { action: Action::Deny, .. } => verdict::DENY,
            EgressEffect::Gate { .. } => verdict::GATE,
        }
    }

    pub(super) fn decode(item: &Item<'_>, scope: &mut RuleScope, mistakes: &mut Mistakes) -> Self {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let id = scope.id(&mut fields);
        let choices =
            [("allow", Some(Action::Allow)), ("deny", Some(Action::Deny)), ("gate", None)];
        let action = fields.required_one_of("action", &choices);
        let mode = scope.rule_mode(&mut fields);
        let about = About::decode(&mut fields);
        let to = decode_list(&mut fields, "to", Peer::decode);
        let ports = decode_list(&mut fields, "ports", PortMatch::decode);
        let namespace = scope.namespace.clone();
        let target = fields.parsed("target", |text| target_name(text, &namespace));
        let statements = Statement::decode_all(&mut fields);
        let session = SessionBudget::decode(&mut fields);
        match action {
            Some(Some(action)) => {
                for name in ["target", "statements", "session"] {
                    if fields.has(name) {
                        fields.mistake(name, "belongs to `action: gate`; remove it or gate");
                    }
                }
                direct_checks(&mut fields, action);
            }
            Some(None) => {
                for name in ["to", "ports"] {
                    if fields.has(name) {
                        let message = "a gate rule covers its target's endpoints; remove it";
                        fields.mistake(name, message);
                    }
                }
                for name in ["target", "statements"] {
                    if !fields.has(name) {
                        fields.mistake(name, "is required with `action: gate`; add it");
                    }
                }
            }
            None => {}
        }
        fields.finish();
        let effect = match action {
            Some(None) => EgressEffect::Gate {
                target: target
                    .unwrap_or(ObjectName { namespace: String::new(), name: String::new() }),
                statements,
                session,
                place: Place::of(item.node),
            },
            Some(Some(action)) => EgressEffect::Direct { action, to: or_all(to), ports },
            None => EgressEffect::Direct { action: Action::Deny, to, ports },
        };
        Self { id, mode, effect, about }
    }
}

fn direct_checks(fields: &mut Fields<'_, '_>, action: Action) {
    if action == Action::Allow && !fields.has("to") {
        let message =
            "is required for allow; for everywhere say {cidr: 0.0.0.0/0} and {cidr: \"::/0\"}";
        fields.mistake("to", message);
    }
    refuse_empty_lists(fields, &["to", "ports"]);
}

/// A deny without `to` means every destination.
fn or_all(to: Vec<Peer>) -> Vec<Peer> {
    if to.is_empty() { vec![Peer::Cidr(Cidr::ALL_V4), Peer::Cidr(Cidr::ALL_V6)] } else { to }
}

pub(super) fn decode_list<T>(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    decode: impl Fn(&Item<'_>, &mut Mistakes) -> Option<T>,
) -> Vec<T> {
    let items = fields.list(name);
    items.iter().filter_map(|item| decode(item, fields.mistakes())).collect()
}

impl Peer {
    fn decode(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let cidr = fields.parsed("cidr", Cidr::parse);
        let fqdn = fields.parsed("fqdn", Fqdn::parse);
        if fields.has("cidr") == fields.has("fqdn") {
            fields.mistake("", "needs exactly one of `cidr` and `fqdn`");
        }
        fields.finish();
        cidr.map(Self::Cidr).or(fqdn.map(Self::Fqdn))
    }
}

impl PortMatch {
    pub(super) fn decode(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let port = port(&mut fields);
        let protocol = fields.one_of("protocol", PROTOCOLS);
        if !fields.has("port") && !fields.has("protocol") {
            fields.mistake("", "needs a `port`, a `protocol`, or both");
        }
        fields.finish();
        // TCP where none is given, as in Kubernetes.
        Some(Self { protocol: protocol.unwrap_or(6), port: port.unwrap_or(0) })
    }
}

pub(super) fn port(fields: &mut Fields<'_, '_>) -> Option<u16> {
    fields.integer("port", 1..=65_535).and_then(|port| u16::try_from(port).ok())
}

/// A Target of the policy's own namespace by name; a ClusterAgentPolicy says `namespace/name`.
fn target_name(text: &str, namespace: &str) -> Result<ObjectName, String> {
    if !namespace.is_empty() {
        let name = dns_label(text)?;
        return Ok(ObjectName { namespace: namespace.to_owned(), name });
    }
    let Some((namespace, name)) = text.split_once('/') else {
        let text = shown(text);
        return Err(format!(
            "{text} has no namespace; in a ClusterAgentPolicy write `namespace/name`"
        ));
    };
    Ok(ObjectName { namespace: dns_label(namespace)?, name: dns_label(name)? })
}
