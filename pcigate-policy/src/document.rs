//! The policy documents: read from files with every mistake at once, checked against each other.
//! What they answer is in `decide`; whom they select in `workload`.

mod access;
mod canonical;
mod cidr;
mod egress;
mod exec;
mod ingress;
mod masking;
mod names;
mod policy;
mod session;
mod statement;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use access::{CertificateRef, ClientTls, SessionRole, Token};
pub use cidr::Cidr;
pub use egress::{EgressEffect, EgressRule, Peer, PortMatch};
pub use exec::ExecRule;
pub use ingress::IngressRule;
pub use masking::{FingerprintRef, Masking};
pub use names::{Fqdn, ObjectName, Place};
pub use policy::{About, Action, Mode, Policy, Section, Selector};
pub use session::SessionBudget;
pub use statement::{Effect, Shape, Statement, StatementAction};
pub use target::{
    Column, ColumnClass, Credential, Endpoint, EndpointAt, KeyPair, MaskStyle, PasswordRef, Target,
    TargetProtocol, TlsMode, Upstream,
};

use crate::yaml::{self, Fields, Mistakes, Node, choice};

/// The `apiVersion` of every document.
pub const API_VERSION: &str = "pcigate.dev/v1alpha1";

/// All documents that hold at one moment, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// Policies, ClusterAgentPolicies first, then by namespace and name.
    policies: Vec<Arc<Policy>>,
    targets: BTreeMap<ObjectName, Arc<Target>>,
}

impl Documents {
    /// Reads files given as (name, text); the name is used in messages only.
    ///
    /// # Errors
    /// Every mistake of every file, with file, line and field.
    pub fn read<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut read = Decoded::default();
        for (name, text) in files {
            match yaml::read(name.as_ref(), text.as_ref()) {
                Ok(roots) => roots.iter().for_each(|root| read.document(root, &mut mistakes)),
                Err(error) => {
                    mistakes.append(error);
                    read.incomplete = true;
                }
            }
        }
        let documents = read.joined(&mut mistakes);
        mistakes.into_result(documents)
    }

    /// All policies.
    #[must_use]
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// All targets by name.
    #[must_use]
    pub fn targets(&self) -> &BTreeMap<ObjectName, Arc<Target>> {
        &self.targets
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    AgentPolicy,
    ClusterAgentPolicy,
    Target,
}

const KINDS: &[(&str, Kind)] = &[
    ("AgentPolicy", Kind::AgentPolicy),
    ("ClusterAgentPolicy", Kind::ClusterAgentPolicy),
    ("Target", Kind::Target),
];

/// Stands for a namespace that could not be read; no namespace is called so.
const NAMELESS: &str = "?";

/// What has been decoded so far, before the documents are checked against each other.
#[derive(Default)]
struct Decoded {
    policies: Vec<Policy>,
    targets: Vec<Target>,
    /// A document could not be read at all, so a name that is missing may be in there.
    incomplete: bool,
}

impl Decoded {
    fn document(&mut self, root: &Node, mistakes: &mut Mistakes) {
        let mut top = Fields::of(root, "", mistakes);
        top.required_parsed("apiVersion", |text| choice(text, &[(API_VERSION, ())]));
        let Some(kind) = top.required_one_of("kind", KINDS) else {
            // Without its kind nothing more can be said of the document.
            self.incomplete = true;
            return;
        };
        let name = metadata(&mut top, kind);
        self.incomplete |= name.name.is_empty() || name.namespace == NAMELESS;
        match kind {
            Kind::AgentPolicy | Kind::ClusterAgentPolicy => {
                self.policies.extend(Policy::decode(root, name, &mut top));
            }
            Kind::Target => match Target::decode(root, name, &mut top) {
                Some(target) => self.targets.push(target),
                None => self.incomplete = true,
            },
        }
        top.finish();
    }

    fn joined(mut self, mistakes: &mut Mistakes) -> Documents {
        self.policies.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in self.policies.windows(2) {
            if let [first, second] = pair
                && first.name == second.name
            {
                twice(first.kind(), &first.name, &first.place, &second.place, mistakes);
            }
        }
        let mut targets: BTreeMap<ObjectName, Arc<Target>> = BTreeMap::new();
        for target in self.targets {
            if let Some(first) = targets.get(&target.name) {
                twice("Target", &target.name, &first.place, &target.place, mistakes);
            } else {
                targets.insert(target.name.clone(), Arc::new(target));
            }
        }
        if !self.incomplete {
            self.policies.iter().for_each(|policy| gates(policy, &targets, mistakes));
        }
        overlaps(&targets, mistakes);
        Documents { policies: self.policies.into_iter().map(Arc::new).collect(), targets }
    }
}

fn metadata(top: &mut Fields<'_, '_>, kind: Kind) -> ObjectName {
    let mut object = ObjectName { namespace: String::new(), name: String::new() };
    let Some(mut fields) = top.required_fields("metadata") else { return object };
    object.name = fields.required_parsed("name", names::dns_label).unwrap_or_default();
    if kind == Kind::ClusterAgentPolicy {
        if fields.has("namespace") {
            fields.mistake("namespace", "a ClusterAgentPolicy has no namespace; remove it");
        }
    } else {
        let namespace = fields.required_parsed("namespace", names::dns_label);
        // A wrong namespace is noted; the stand-in keeps the policy from counting as cluster-wide.
        object.namespace = namespace.unwrap_or_else(|| NAMELESS.to_owned());
    }
    fields.string_map("labels");
    fields.string_map("annotations");
    fields.finish();
    object
}

fn twice(kind: &str, name: &ObjectName, first: &Place, second: &Place, mistakes: &mut Mistakes) {
    if name.name.is_empty() || name.namespace == NAMELESS {
        return;
    }
    let message = format!(
        "{kind} {name} is given twice, first at {}:{}; remove or rename one",
        first.file, first.line
    );
    mistakes.add(&second.file, second.line, "metadata.name", message);
}

fn gates(policy: &Policy, targets: &BTreeMap<ObjectName, Arc<Target>>, mistakes: &mut Mistakes) {
    for rule in policy.egress.iter().flat_map(|section| &section.rules) {
        if let EgressEffect::Gate { target, place, .. } = &rule.effect
            && !target.name.is_empty()
            && !targets.contains_key(target)
        {
            let message = format!("there is no Target {target}; add it or correct the name");
            mistakes.add(&place.file, place.line, "target", message);
        }
    }
}

/// A Target that claims another namespace's destination could make its gateway a confused deputy.
fn overlaps(targets: &BTreeMap<ObjectName, Arc<Target>>, mistakes: &mut Mistakes) {
    let mut claims = Vec::new();
    for target in targets.values() {
        for endpoint in &target.endpoints {
            if let EndpointAt::Cidr(cidr) = endpoint.at {
                let (address, bits) = cidr.mapped();
                claims.push((endpoint.port, address, bits, cidr, target));
            }
        }
    }
    claims.sort_by_key(|(port, address, bits, cidr, _)| (*port, cidr.is_v4(), *address, *bits));
    // In this order a prefix follows those that cover it, so the covering ones form a stack.
    let mut covering: Vec<(u16, Cidr, &Arc<Target>)> = Vec::new();
    for (port, _, _, cidr, target) in claims {
        while covering.last().is_some_and(|(p, c, _)| *p != port || !c.overlaps(&cidr)) {
            covering.pop();
        }
        let other = covering.iter().find(|(.., t)| t.name.namespace != target.name.namespace);
        if let Some((_, _, other)) = other {
            let message = format!(
                "{cidr} port {port} overlaps Target {} of another namespace ({}:{}); \
                 only one namespace may protect a destination",
                other.name, other.place.file, other.place.line
            );
            mistakes.add(&target.place.file, target.place.line, "spec.endpoints", message);
        }
        covering.push((port, cidr, target));
    }
}

#[cfg(test)]
mod tests;
