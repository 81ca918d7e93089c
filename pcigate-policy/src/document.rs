//! The policy documents: read from files with every mistake at once, checked against each other.
//! What they answer is in `decide`; whom they select in `workload`.

mod access;
mod canonical;
mod cidr;
mod claims;
mod egress;
mod exec;
mod ingress;
mod masking;
mod names;
mod object;
mod policy;
mod secret;
mod session;
mod statement;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use access::{CertificateRef, ClientTls, SessionRole, Token};
pub use cidr::Cidr;
pub use egress::{EgressEffect, EgressRule, Peer, PortMatch};
pub use exec::ExecRule;
pub use ingress::IngressRule;
pub use masking::{FingerprintRef, Masking};
pub use names::{Fqdn, ObjectName, Place};
pub use object::{Document, FILE_FIELDS};
pub use policy::{About, Action, Mode, Policy, Section, Selector};
pub use secret::SecretKey;
pub use session::SessionBudget;
pub use statement::{Effect, Shape, Statement, StatementAction};
pub use target::{
    Column, ColumnClass, Credential, Endpoint, EndpointAt, KeyPair, MaskStyle, PasswordRef, Target,
    TargetProtocol, TlsMode, Upstream,
};

use claims::Claims;

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
        Self::read_files(files, false)
    }

    /// As [`Self::read`], of files that are a part of the set only: the Targets of gate rules may
    /// come from elsewhere ([`Self::with`], [`Self::without_target`]).
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_part<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Self, Mistakes> {
        Self::read_files(files, true)
    }

    fn read_files<N: AsRef<str>, T: AsRef<str>>(
        files: &[(N, T)],
        is_part: bool,
    ) -> Result<Self, Mistakes> {
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
        read.incomplete |= is_part;
        let documents = read.joined(&mut mistakes);
        mistakes.into_result(documents)
    }

    /// These and those of them that agree with all before: no name twice, no destination of
    /// another namespace's Target. Why not, for each that is left out.
    #[must_use]
    pub fn with(&self, more: &[Document]) -> (Self, Vec<Option<String>>) {
        let mut all = self.clone();
        let mut claims = Claims::default();
        // They agree among themselves.
        let _ = self.targets.values().try_for_each(|target| claims.add(target));
        let mut names: BTreeSet<&ObjectName> = self.policies.iter().map(|p| &p.name).collect();
        let mut refused = Vec::new();
        for document in more {
            refused.push(match document {
                Document::Policy(policy) if !names.insert(&policy.name) => {
                    Some("a policy of this name is given by a file of the node".to_owned())
                }
                Document::Policy(policy) => {
                    all.policies.push(Arc::clone(policy));
                    None
                }
                Document::Target(target) if all.targets.contains_key(&target.name) => {
                    Some("a Target of this name is given by a file of the node".to_owned())
                }
                Document::Target(target) => claims.add(target).err().or_else(|| {
                    all.targets.insert(target.name.clone(), Arc::clone(target));
                    None
                }),
            });
        }
        all.policies.sort_by(|a, b| a.name.cmp(&b.name));
        (all, refused)
    }

    /// Gate rules (policy, rule, Target) that lead nowhere, because their Target is not there.
    pub fn without_target(&self) -> impl Iterator<Item = (&Policy, &str, &ObjectName)> {
        let rules = self.policies.iter().flat_map(|policy| {
            let rules = policy.egress.iter().flat_map(|section| &section.rules);
            rules.map(|rule| (policy.as_ref(), rule))
        });
        rules.filter_map(|(policy, rule)| match &rule.effect {
            EgressEffect::Gate { target, .. } if !self.targets.contains_key(target) => {
                Some((policy, rule.id.as_str(), target))
            }
            _ => None,
        })
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
        let mut claims = Claims::default();
        for target in targets.values() {
            if let Err(message) = claims.add(target) {
                let Place { file, line } = &target.place;
                mistakes.add(file, *line, "spec.endpoints", message);
            }
        }
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
    let message = format!("{kind} {name} is given twice, first at {first}; remove or rename one");
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

#[cfg(test)]
mod tests;
