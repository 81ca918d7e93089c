//! Policies, Targets, pods and namespaces as the API server has them.

use pcigate_policy::document::Documents;
use pcigate_policy::workload::Identity;
use pcigate_policy::yaml::Mistakes;
use serde_json::{Value, json};

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

/// The documents there are. One with mistakes is left out, as nodes do that have never seen it
/// right, and named in a remark.
pub fn documents(options: &Options) -> Result<Documents, Failure> {
    let objects = objects(options, None)?;
    let mut texts: Vec<(String, String)> = objects.iter().map(document).collect();
    if texts.is_empty() {
        remark("the API server holds no AgentPolicy, ClusterAgentPolicy or Target");
    }
    // One that is left out may be a Target that others name.
    loop {
        let mistakes = match Documents::read(&texts) {
            Ok(documents) => return Ok(documents),
            Err(mistakes) => mistakes,
        };
        let before = texts.len();
        texts.retain(|(name, _)| is_right(name, &mistakes));
        if texts.len() == before {
            return Err(Failure::because(
                "the documents of the API server cannot be read",
                mistakes,
            ));
        }
    }
}

fn is_right(name: &str, mistakes: &Mistakes) -> bool {
    let mut wrong = mistakes.iter().filter(|mistake| mistake.file == name);
    let Some(first) = wrong.next() else { return true };
    let more = match wrong.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let (field, message) = (&first.field, &first.message);
    remark(&plain(&format!(
        "{name} is left out: {field}: {message}{more}; nodes that have seen an earlier version \
         without mistakes still enforce that"
    )));
    false
}

/// What counts of an object: without its status and what the API server adds.
fn document(object: &Value) -> (String, String) {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let kind = text(object, "/kind");
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let document = json!({"apiVersion": text(object, "/apiVersion"), "kind": kind,
                          "metadata": metadata, "spec": object.get("spec")});
    let place = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    (format!("{kind} {place}"), document.to_string())
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
    use super::*;

    #[test]
    fn an_object_of_the_api_server_is_a_document_without_what_is_added_there() {
        let object = json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                         "managedFields": []},
            "spec": {"selector": {"serviceAccountNames": ["a"]}, "mode": "enforce",
                     "egress": {"defaultAction": "deny"}},
            "status": {"conditions": []}});
        let (name, text) = document(&object);
        assert_eq!(name, "AgentPolicy n/a");
        assert_eq!(Documents::read(&[(name, text)]).map(|all| all.policies().len()), Ok(1));
    }

    #[test]
    fn a_document_with_mistakes_is_told_from_the_others() {
        let right = json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": "a", "namespace": "n"},
            "spec": {"selector": {}, "mode": "enforce", "exec": {"defaultAction": "deny"}}});
        let mut wrong = right.clone();
        wrong["metadata"]["name"] = json!("b");
        wrong["spec"]["mode"] = json!("dance");
        let texts = [document(&right), document(&wrong)];
        let mistakes = Documents::read(&texts).expect_err("one is wrong");
        assert!(is_right("AgentPolicy n/a", &mistakes));
        assert!(!is_right("AgentPolicy n/b", &mistakes));
    }
}
