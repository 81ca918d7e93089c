//! One document of the API server: a custom resource, checked by itself. What it may not say is
//! what only somebody on the node may: names of files there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::names::{ObjectName, Place};
use super::policy::{Action, Mode, Policy, Section, Selector};
use super::target::Target;
use super::{API_VERSION, Decoded, Documents, KINDS, Kind};
use crate::yaml::{Fields, Mistakes, Node};

/// Fields that name files of the node, and what stands for them in a custom resource: whoever may
/// write one could otherwise have the agent read any file there and send it somewhere.
pub const FILE_FIELDS: [(&str, &str); 7] = [
    ("spec.credential.passwordFile", "secretRef"),
    ("spec.credential.certFile", "certificateSecretRef"),
    ("spec.credential.keyFile", "certificateSecretRef"),
    ("spec.upstream.tls.caFile", "caSecretRef"),
    ("spec.clientTls.certFile", "secretRef"),
    ("spec.clientTls.keyFile", "secretRef"),
    ("spec.token.jwksFile", "jwksSecretRef"),
];

/// A document that is right by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An AgentPolicy or a ClusterAgentPolicy.
    Policy(Arc<Policy>),
    /// A Target.
    Target(Arc<Target>),
}

impl Document {
    /// Decodes a custom resource: its kind, its name (without namespace where it is
    /// cluster-scoped) and its `spec`. Messages name it in the place of a file.
    ///
    /// # Errors
    /// All its mistakes; also that a policy by itself is more than the kernel's tables can hold.
    pub fn of_resource(kind: &str, name: &ObjectName, spec: &Json) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let root = root(kind, name, spec)?;
        let mut decoded = Decoded::default();
        decoded.document(&root, &mut mistakes);
        refuse_files(&root, &mut mistakes);
        let document = decoded.policies.pop().map(|policy| Self::Policy(Arc::new(policy)));
        let document =
            document.or_else(|| decoded.targets.pop().map(|target| Self::Target(Arc::new(target))));
        let Some(document) = document else {
            if mistakes.is_empty() {
                mistakes.add(&root.file, 0, "kind", "is no kind of document; remove the object");
            }
            return Err(mistakes);
        };
        if mistakes.is_empty() {
            document.alone(&mut mistakes);
        }
        mistakes.into_result(document)
    }

    /// What governs those whom a policy selects that cannot be used and never could be: the parts
    /// it speaks of (`exec`, `egress`, `ingress`) refuse everything, in its mode. Nothing where
    /// whom it selects cannot be read either, or where it speaks of none of them.
    #[must_use]
    pub fn stand_in(kind: &str, name: &ObjectName, spec: &Json) -> Option<Self> {
        let root = root(kind, name, spec).ok()?;
        let spec = root.get("spec")?;
        let mut mistakes = Mistakes::default();
        let mut fields = Fields::of(spec, "spec", &mut mistakes);
        let is_cluster = kind == Kind::ClusterAgentPolicy.name();
        if !is_cluster && kind != Kind::AgentPolicy.name() {
            return None;
        }
        let namespace_selector = Policy::namespace_selector(&mut fields, is_cluster);
        let selector = fields.required_fields("selector").map(Selector::decode);
        if !mistakes.is_empty() {
            return None;
        }
        let audit = spec.get("mode").and_then(Node::as_text) == Some("audit");
        let canonical = format!("refused {}", super::canonical::of_document(&root, name));
        let policy = Policy {
            name: name.clone(),
            place: Place::of(&root),
            namespace_selector,
            selector: selector?,
            mode: if audit { Mode::Audit } else { Mode::Enforce },
            exec: refused(spec, "exec"),
            egress: refused(spec, "egress"),
            ingress: refused(spec, "ingress"),
            mask: None,
            canonical,
        };
        let speaks = policy.exec.is_some() || policy.egress.is_some() || policy.ingress.is_some();
        speaks.then(|| Self::Policy(Arc::new(policy)))
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        match self {
            Self::Policy(policy) => &policy.name,
            Self::Target(target) => &target.name,
        }
    }

    /// Its content in one spelling.
    #[must_use]
    pub fn canonical(&self) -> &str {
        match self {
            Self::Policy(policy) => &policy.canonical,
            Self::Target(target) => &target.canonical,
        }
    }

    /// A policy that does not fit into the tables by itself would keep its workloads as they are.
    fn alone(&self, mistakes: &mut Mistakes) {
        let Self::Policy(policy) = self else { return };
        let only = Documents { policies: vec![Arc::clone(policy)], targets: BTreeMap::new() };
        if let Err(error) = only.select(&policy.sample_workload()).compile() {
            let Place { file, line } = &policy.place;
            mistakes.add(file, *line, "spec", format!("{error}: give it fewer or simpler rules"));
        }
    }
}

/// As the decoder of files has it: of the metadata only what a document says of itself.
fn root(kind: &str, name: &ObjectName, spec: &Json) -> Result<Node, Mistakes> {
    let mut metadata = json!({"name": name.name});
    if !name.namespace.is_empty() {
        metadata["namespace"] = json!(name.namespace);
    }
    let document =
        json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec});
    Node::of_json(&format!("{kind} {name}"), &document)
}

fn refuse_files(root: &Node, mistakes: &mut Mistakes) {
    for (path, instead) in FILE_FIELDS {
        let node = path.split('.').try_fold(root, |node, field| node.get(field));
        if node.is_some() {
            let message = format!(
                "names a file of the node, which only documents on the node may; use `{instead}`, \
                 a Secret of the Target's own namespace"
            );
            mistakes.add(&root.file, root.line, path, message);
        }
    }
}

fn refused<R>(spec: &Node, section: &str) -> Option<Section<R>> {
    spec.get(section)?;
    Some(Section { default_action: Action::Deny, rules: Vec::new() })
}

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests;
