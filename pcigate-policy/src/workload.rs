//! Who asks, and which policies select it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::document::{
    Cidr, Documents, EgressEffect, EgressRule, EndpointAt, ExecRule, IngressRule, Mode,
};
use crate::document::{Masking, ObjectName, Policy, PortMatch, Target};
use crate::rule::RuleRef;

/// The label Kubernetes puts on every namespace with its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A workload as the kernel and the API server prove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Pod UID.
    pub pod_uid: String,
    /// ServiceAccount name, without namespace.
    pub service_account: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Labels of the namespace; `kubernetes.io/metadata.name` is implied.
    pub namespace_labels: BTreeMap<String, String>,
}

/// The policies that select one workload, and all targets: those they gate, and those kept from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySet {
    policies: Vec<Arc<Policy>>,
    targets: BTreeMap<ObjectName, Arc<Target>>,
    hash: [u8; 32],
}

/// Why a policy does not select a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSelected {
    /// The policy is of another namespace.
    Namespace,
    /// The namespace does not carry a label the policy wants.
    NamespaceLabel {
        /// Label key.
        key: String,
        /// Value the policy wants.
        value: String,
    },
    /// The pod does not carry a label the policy wants.
    Label {
        /// Label key.
        key: String,
        /// Value the policy wants.
        value: String,
    },
    /// The pod runs as another ServiceAccount.
    ServiceAccount,
}

impl Documents {
    /// The policies that select a workload.
    #[must_use]
    pub fn select(&self, identity: &Identity) -> PolicySet {
        let selects = |policy: &&Arc<Policy>| policy.selects(identity).is_ok();
        self.set(self.policies().iter().filter(selects).cloned().collect())
    }

    /// What holds for a workload that no policy selects: nothing but that Targets protect
    /// themselves.
    #[must_use]
    pub fn select_none(&self) -> PolicySet {
        self.set(Vec::new())
    }

    /// SHA-256 over the content of all policies and targets, as [`PolicySet::hash`].
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(self.policies(), self.targets())
    }

    fn set(&self, policies: Vec<Arc<Policy>>) -> PolicySet {
        let targets = self.targets().clone();
        let hash = hash(&policies, &targets);
        PolicySet { policies, targets, hash }
    }
}

impl Policy {
    /// Whether the policy selects a workload.
    ///
    /// # Errors
    /// The first reason why it does not.
    pub fn selects(&self, identity: &Identity) -> Result<(), NotSelected> {
        match &self.namespace_selector {
            None if self.name.namespace != identity.namespace => {
                return Err(NotSelected::Namespace);
            }
            None => {}
            Some(labels) => {
                let carries = |key: &str, value: &str| match key {
                    NAMESPACE_NAME_LABEL => value == identity.namespace,
                    _ => identity.namespace_labels.get(key).is_some_and(|own| own == value),
                };
                if let Some((key, value)) = labels.iter().find(|(k, v)| !carries(k, v)) {
                    let (key, value) = (key.clone(), value.clone());
                    return Err(NotSelected::NamespaceLabel { key, value });
                }
            }
        }
        let carries = |(key, value): &(&String, &String)| identity.labels.get(*key) == Some(*value);
        if let Some((key, value)) = self.selector.match_labels.iter().find(|l| !carries(l)) {
            return Err(NotSelected::Label { key: key.clone(), value: value.clone() });
        }
        let accounts = &self.selector.service_account_names;
        if !accounts.is_empty() && !accounts.contains(&identity.service_account) {
            return Err(NotSelected::ServiceAccount);
        }
        Ok(())
    }
}

impl Policy {
    /// A workload the policy selects, for checking documents without a cluster.
    #[must_use]
    pub fn sample_workload(&self) -> Identity {
        let namespace_labels = self.namespace_selector.clone().unwrap_or_default();
        let named = namespace_labels.get(NAMESPACE_NAME_LABEL).cloned();
        let namespace = if self.name.namespace.is_empty() {
            named.unwrap_or_else(|| "default".to_owned())
        } else {
            self.name.namespace.clone()
        };
        let accounts = &self.selector.service_account_names;
        Identity {
            namespace,
            pod: "any".to_owned(),
            pod_uid: String::new(),
            service_account: accounts.first().cloned().unwrap_or_default(),
            labels: self.selector.match_labels.clone(),
            namespace_labels,
        }
    }
}

impl PolicySet {
    /// The selecting policies, ClusterAgentPolicies first, then by namespace and name.
    #[must_use]
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// What the policies mask together, if any says so.
    #[must_use]
    pub fn masking(&self) -> Option<Masking> {
        self.policies.iter().filter_map(|policy| policy.mask.clone()).reduce(|mut all, one| {
            all.join(&one);
            all
        })
    }

    /// SHA-256 over the content of the policies and of all targets. The same for the same content,
    /// whatever the files' names, order or layout.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The rule table: what the rule numbers of decisions stand for.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleRef> {
        let written = |policy: &Policy, id: &str| RuleRef::Written {
            policy: policy.name.clone(),
            id: id.to_owned(),
        };
        let exec = self.exec_rules().map(|(_, policy, rule)| written(policy, &rule.id));
        let egress = self.egress_rules().map(|(_, policy, rule)| written(policy, &rule.id));
        let ingress = self.ingress_rules().map(|(_, policy, rule)| written(policy, &rule.id));
        exec.chain(egress).chain(ingress).collect()
    }

    /// Every exec rule with its number and policy.
    pub(crate) fn exec_rules(&self) -> impl Iterator<Item = (u32, &Policy, &ExecRule)> {
        (0_u32..)
            .zip(self.plain_exec_rules())
            .map(|(number, (policy, rule))| (number, policy, rule))
    }

    /// Every egress rule with its number, which follows those of the exec rules, and policy.
    pub(crate) fn egress_rules(&self) -> impl Iterator<Item = (u32, &Policy, &EgressRule)> {
        let first = u32::try_from(self.plain_exec_rules().count()).unwrap_or(u32::MAX);
        let rules = self.policies.iter().flat_map(|policy| {
            let rules = policy.egress.iter().flat_map(|section| &section.rules);
            rules.map(|rule| (policy.as_ref(), rule))
        });
        (first..).zip(rules).map(|(number, (policy, rule))| (number, policy, rule))
    }

    /// Every enforced gate rule with the number that decisions carry, and its target.
    pub fn gate_rules(
        &self,
    ) -> impl Iterator<Item = (u32, &ObjectName, &EgressRule, &Arc<Target>)> {
        self.egress_rules().filter_map(|(number, policy, rule)| {
            let EgressEffect::Gate { target, .. } = &rule.effect else { return None };
            let target = self.targets.get(target).filter(|_| rule.mode == Mode::Enforce)?;
            Some((number, &policy.name, rule, target))
        })
    }

    /// Every ingress rule with its number, which follows those of the egress rules, and policy.
    pub(crate) fn ingress_rules(&self) -> impl Iterator<Item = (u32, &Policy, &IngressRule)> {
        let before = self.plain_exec_rules().count() + self.egress_rules().count();
        let rules = self.policies.iter().flat_map(|policy| {
            let rules = policy.ingress.iter().flat_map(|section| &section.rules);
            rules.map(|rule| (policy.as_ref(), rule))
        });
        let first = u32::try_from(before).unwrap_or(u32::MAX);
        (first..).zip(rules).map(|(number, (policy, rule))| (number, policy, rule))
    }

    fn plain_exec_rules(&self) -> impl Iterator<Item = (&Policy, &ExecRule)> {
        self.policies.iter().flat_map(|policy| {
            let rules = policy.exec.iter().flat_map(|section| &section.rules);
            rules.map(|rule| (policy.as_ref(), rule))
        })
    }

    /// Every prefix and port that is refused because it belongs to a target: its endpoints, unless
    /// an enforced gate rule names it, and the same ports over UDP (QUIC), which nothing gates.
    pub(crate) fn protected(&self) -> impl Iterator<Item = (&Target, Cidr, PortMatch)> {
        self.targets
            .values()
            .flat_map(|target| {
                let gated = self.gates(&target.name);
                target.endpoints.iter().flat_map(move |endpoint| {
                    let EndpointAt::Cidr(cidr) = endpoint.at else { return [None, None] };
                    let tcp = PortMatch::tcp(endpoint.port);
                    let udp = PortMatch::udp(endpoint.port);
                    [
                        (!gated).then_some((target.as_ref(), cidr, tcp)),
                        Some((target.as_ref(), cidr, udp)),
                    ]
                })
            })
            .flatten()
    }

    /// Whether an enforced gate rule names the target. One in audit mode lifts nothing.
    pub(crate) fn gates(&self, name: &ObjectName) -> bool {
        self.egress_rules().any(|(_, _, rule)| {
            let names = matches!(&rule.effect, EgressEffect::Gate { target, .. } if target == name);
            names && rule.mode == Mode::Enforce
        })
    }

    /// All targets by name.
    pub(crate) fn targets(&self) -> &BTreeMap<ObjectName, Arc<Target>> {
        &self.targets
    }

    /// The target a gate rule names.
    pub(crate) fn target(&self, name: &ObjectName) -> Option<&Target> {
        self.targets.get(name).map(Arc::as_ref)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)?;
        if !self.service_account.is_empty() {
            write!(f, " (ServiceAccount {})", self.service_account)?;
        }
        Ok(())
    }
}

impl fmt::Display for NotSelected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("it is of another namespace"),
            Self::NamespaceLabel { key, value } => {
                write!(f, "the namespace does not carry the label {key}={value}")
            }
            Self::Label { key, value } => {
                write!(f, "the pod does not carry the label {key}={value}")
            }
            Self::ServiceAccount => f.write_str("the pod runs as another ServiceAccount"),
        }
    }
}

fn hash(policies: &[Arc<Policy>], targets: &BTreeMap<ObjectName, Arc<Target>>) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix("pcigate policy set v1\n");
    let policies = policies.iter().map(|policy| &policy.canonical);
    for content in policies.chain(targets.values().map(|target| &target.canonical)) {
        // The length keeps two contents from reading as one.
        hasher.update((content.len() as u64).to_be_bytes());
        hasher.update(content);
    }
    hasher.finalize().into()
}
