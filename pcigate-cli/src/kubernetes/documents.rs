//! Policies, Targets, pods and namespaces as the API server has them.

use pcigate_policy::document::{Document, Documents, ObjectName};
use pcigate_policy::workload::Identity;
use pcigate_policy::yaml::Mistakes;
use serde_json::Value;

use super::{GROUP, Options, text};
use crate::failure::{Failure, remark};
use crate::policy::workloads::Workloads;
use crate::table::plain;

/// The kinds of documents, as kubectl names them.
const KINDS: [&str; 3] = ["agentpolicies", "clusteragentpolicies", "targets"];

/// Every document as an object.
pub fn objects(options: &Options, namespace: Option<&str>) -> Result<Vec<Value>, Failure> {
    let kinds = KINDS.map(|kind| format!("{kind}.{GROUP}")).join(",");
    match namespace {
        Some(namespace) => options.get(&[&kinds, "--namespace", namespace]),
        None => options.get(&[&kinds, "--all-namespaces"]),
    }
}

/// The documents there are, as a node takes them that sees them for the first time: one with
/// mistakes refuses what it speaks of to those it selects, and is named in a remark.
pub fn documents(options: &Options) -> Result<Documents, Failure> {
    let objects = objects(options, None)?;
    if objects.is_empty() {
        remark("the API server holds no AgentPolicy, ClusterAgentPolicy or Target");
    }
    let mut read = Vec::new();
    for object in &objects {
        match document(object) {
            Ok(document) => read.push(document),
            Err((mistakes, instead)) => {
                remark(&mistaken(object, &mistakes));
                read.extend(instead);
            }
        }
    }
    let (documents, refused) = Documents::default().with(&read);
    for (document, why) in read.iter().zip(refused) {
        if let Some(why) = why {
            remark(&plain(&format!("{} is left out: {why}", document.name())));
        }
    }
    Ok(documents)
}

/// A document, or its mistakes and what counts in its place.
fn document(object: &Value) -> Result<Document, (Mistakes, Option<Document>)> {
    let name = ObjectName {
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
    };
    let (kind, spec) = (text(object, "/kind"), object.get("spec").unwrap_or(&Value::Null));
    Document::of_resource(kind, &name, spec)
        .map_err(|mistakes| (mistakes, Document::stand_in(kind, &name, spec)))
}

fn mistaken(object: &Value, mistakes: &Mistakes) -> String {
    let mut wrong = mistakes.iter();
    let first = wrong.next().map(|first| format!("{}: {}", first.field, first.message));
    let more = match wrong.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let place = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    plain(&format!(
        "{} {place} has a mistake: {}{more}; nodes that have seen an earlier version without \
         mistakes still enforce that, all others refuse what it speaks of",
        text(object, "/kind"),
        first.unwrap_or_default()
    ))
}

/// A pod with its labels and those of its namespace.
pub fn pod(options: &Options, namespace: &str, name: &str) -> Result<Identity, Failure> {
    let mut known = Workloads::default();
    for object in [
        options.get(&["pod", name, "--namespace", namespace])?,
        options.get(&["namespace", namespace])?,
    ]
    .concat()
    {
        known.take("the API server's answer", &object.to_string())?;
    }
    known.pod(namespace, name).ok_or_else(|| {
        Failure::input(format!("the API server answers with another pod than {namespace}/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use pcigate_policy::document::Action;
    use serde_json::json;

    use super::*;

    fn policy(mode: &str) -> Value {
        json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                         "managedFields": []},
            "spec": {"selector": {"serviceAccountNames": ["a"]}, "mode": mode,
                     "egress": {"defaultAction": "allow"}},
            "status": {"conditions": []}})
    }

    #[test]
    fn an_object_of_the_api_server_is_a_document_without_what_is_added_there() {
        let Ok(document) = document(&policy("enforce")) else { panic!("it has no mistakes") };
        assert_eq!(document.name().to_string(), "n/a");
    }

    #[test]
    fn a_document_with_mistakes_is_named_and_refuses_in_its_place() {
        let wrong = policy("dance");
        let Err((mistakes, instead)) = document(&wrong) else { panic!("it has a mistake") };
        let said = mistaken(&wrong, &mistakes);
        assert!(said.starts_with("AgentPolicy n/a has a mistake: spec.mode: "), "{said}");
        let Some(Document::Policy(policy)) = instead else { panic!("nothing refuses") };
        assert!(policy.egress.as_ref().is_some_and(|egress| egress.default_action == Action::Deny));
    }

    #[test]
    fn a_target_whose_credential_is_in_a_secret_is_a_document() {
        let target = json!({"kind": "Target", "metadata": {"name": "db", "namespace": "n"},
            "spec": {"protocol": "postgres", "endpoints": [{"cidr": "10.0.0.1/32", "port": 5432}],
                     "upstream": {"address": "10.0.0.1:5432", "tls": {"mode": "require"}},
                     "credential": {"username": "u",
                                    "secretRef": {"name": "db", "key": "password"}}}});
        assert!(matches!(document(&target), Ok(Document::Target(_))));
    }
}
