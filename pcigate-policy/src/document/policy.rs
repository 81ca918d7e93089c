//! AgentPolicy and ClusterAgentPolicy: whom they select, and the parts their rules share.

use std::collections::{BTreeMap, HashSet};

use super::canonical;
use super::egress::EgressRule;
use super::exec::ExecRule;
use super::ingress::IngressRule;
use super::masking::Masking;
use super::names::{self, ObjectName, Place, dns_subdomain, rule_id};
use crate::yaml::{Fields, Item, Mistakes, Node, shown};

/// An AgentPolicy or a ClusterAgentPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name; without a namespace it is a ClusterAgentPolicy.
    pub name: ObjectName,
    /// Where it was read from.
    pub place: Place,
    /// Labels a namespace must carry (ClusterAgentPolicy only; `None` = its own namespace).
    pub namespace_selector: Option<BTreeMap<String, String>>,
    /// Which pods of those namespaces it selects.
    pub selector: Selector,
    /// Whether its answers are enforced or only reported.
    pub mode: Mode,
    /// What may be executed; absent = says nothing about it.
    pub exec: Option<Section<ExecRule>>,
    /// What may be reached; absent = says nothing about it.
    pub egress: Option<Section<EgressRule>>,
    /// From where it may be reached; absent = says nothing about it.
    pub ingress: Option<Section<IngressRule>>,
    /// What is masked in records of what its workloads run, beyond card data.
    pub mask: Option<Masking>,
    /// Its content in one spelling, whatever the file's layout; basis of the policy hash.
    pub canonical: String,
}

/// Which pods a policy selects. All given parts must match; with none, every pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels the pod must carry.
    pub match_labels: BTreeMap<String, String>,
    /// ServiceAccounts the pod may run as; empty = any.
    pub service_account_names: Vec<String>,
}

/// Whether an answer is enforced or only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The answer is enforced.
    Enforce,
    /// The answer is only reported.
    Audit,
}

/// What a rule or a default says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes ahead.
    Allow,
    /// Is refused.
    Deny,
}

/// Rules about one kind of operation and the answer where none matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<R> {
    /// The answer where no rule matches.
    pub default_action: Action,
    /// The rules; their order has no meaning.
    pub rules: Vec<R>,
}

/// Who answers for a rule (PCI DSS 4.0.1, 1.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Who owns it.
    pub owner: Option<String>,
    /// The change it came with.
    pub ticket: Option<String>,
    /// Why it is needed.
    pub justification: Option<String>,
}

const MODES: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("audit", Mode::Audit)];
const ACTIONS: &[(&str, Action)] = &[("allow", Action::Allow), ("deny", Action::Deny)];

impl Policy {
    /// Decodes the document's `spec`; kind and metadata have been read.
    pub(super) fn decode(root: &Node, name: ObjectName, top: &mut Fields<'_, '_>) -> Option<Self> {
        let canonical = canonical::of_document(root, &name);
        let mut spec = top.required_fields("spec")?;
        let namespace_selector = Self::namespace_selector(&mut spec, name.namespace.is_empty());
        let selector = spec.required_fields("selector").map(Selector::decode).unwrap_or_default();
        let mode = spec.one_of("mode", MODES).unwrap_or(Mode::Enforce);
        let mut scope = RuleScope { namespace: name.namespace.clone(), mode, ids: HashSet::new() };
        let exec = Section::decode(&mut spec, "exec", &mut scope, ExecRule::decode);
        let egress = Section::decode(&mut spec, "egress", &mut scope, EgressRule::decode);
        let ingress = Section::decode(&mut spec, "ingress", &mut scope, IngressRule::decode);
        let mask = spec.fields("mask").map(Masking::decode);
        if !["exec", "egress", "ingress", "mask"].iter().any(|name| spec.has(name)) {
            let message =
                "has none of `exec`, `egress`, `ingress` and `mask`, so it does nothing; add one";
            spec.mistake("", message);
        }
        spec.finish();
        let place = Place::of(root);
        Some(Self {
            name,
            place,
            namespace_selector,
            selector,
            mode,
            exec,
            egress,
            ingress,
            mask,
            canonical,
        })
    }

    /// Of a ClusterAgentPolicy only, which has to have one.
    pub(super) fn namespace_selector(
        spec: &mut Fields<'_, '_>,
        is_cluster: bool,
    ) -> Option<BTreeMap<String, String>> {
        let selector = is_cluster.then(|| spec.required_fields("namespaceSelector"))?;
        let labels = selector.map(|mut fields| {
            let labels = labels(&mut fields);
            fields.finish();
            labels
        });
        Some(labels.unwrap_or_default())
    }

    /// `AgentPolicy` or `ClusterAgentPolicy`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.name.namespace.is_empty() { "ClusterAgentPolicy" } else { "AgentPolicy" }
    }
}

impl Selector {
    pub(super) fn decode(mut fields: Fields<'_, '_>) -> Self {
        let match_labels = labels(&mut fields);
        let service_account_names = fields.parsed_list("serviceAccountNames", dns_subdomain);
        refuse_empty_lists(&mut fields, &["serviceAccountNames"]);
        fields.finish();
        Self { match_labels, service_account_names }
    }
}

fn labels(fields: &mut Fields<'_, '_>) -> BTreeMap<String, String> {
    let labels = fields.string_map("matchLabels");
    for (key, value) in &labels {
        if let Err(message) = names::label(key, value) {
            fields.mistake("matchLabels", message);
        }
    }
    labels
}

impl<R> Section<R> {
    fn decode(
        spec: &mut Fields<'_, '_>,
        name: &'static str,
        scope: &mut RuleScope,
        rule: impl Fn(&Item<'_>, &mut RuleScope, &mut Mistakes) -> R,
    ) -> Option<Self> {
        let mut fields = spec.fields(name)?;
        let default_action = fields.required_one_of("defaultAction", ACTIONS);
        let items = fields.list("rules");
        let rules = items.iter().map(|item| rule(item, scope, fields.mistakes())).collect();
        fields.finish();
        Some(Self { default_action: default_action.unwrap_or(Action::Deny), rules })
    }
}

impl About {
    pub(super) fn decode(fields: &mut Fields<'_, '_>) -> Self {
        Self {
            owner: fields.string("owner"),
            ticket: fields.string("ticket"),
            justification: fields.string("justification"),
        }
    }
}

/// What the rules of one policy need to know of it while they are read.
pub(super) struct RuleScope {
    /// The policy's namespace; empty for a ClusterAgentPolicy.
    pub namespace: String,
    mode: Mode,
    ids: HashSet<String>,
}

impl RuleScope {
    pub(super) fn id(&mut self, fields: &mut Fields<'_, '_>) -> String {
        let Some(id) = fields.required_parsed("id", rule_id) else { return String::new() };
        if !self.ids.insert(id.clone()) {
            fields
                .mistake("id", format!("{} is used twice in this policy; rename one", shown(&id)));
        }
        id
    }

    /// The mode a rule acts in: a rule may lower itself to audit, never raise itself.
    pub(super) fn rule_mode(&self, fields: &mut Fields<'_, '_>) -> Mode {
        let own = fields.one_of("mode", MODES);
        if own == Some(Mode::Enforce) && self.mode == Mode::Audit {
            let message = "cannot be enforce while the policy's mode is audit; \
                           lower single rules of an enforce-mode policy instead";
            fields.mistake("mode", message);
        }
        own.unwrap_or(self.mode)
    }
}

/// An empty list could be read as "nothing" or as "everything", so it is refused.
pub(super) fn refuse_empty_lists(fields: &mut Fields<'_, '_>, names: &[&'static str]) {
    for name in names {
        if fields.is_empty_list(name) {
            fields.mistake(name, "is an empty list; add an element or remove the field");
        }
    }
}
