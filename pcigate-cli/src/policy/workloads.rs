//! Who pods are: labels and ServiceAccounts from a file as kubectl writes it, because records name
//! a pod and its ServiceAccount, and policies also select by labels.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pcigate_policy::workload::Identity;
use pcigate_policy::yaml;
use serde_json::Value;

use crate::failure::Failure;

/// Bytes of such a file: 10,000 pods in full.
const FILE_MAX: u64 = 256 << 20;

type Labels = BTreeMap<String, String>;

/// A pod as records name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Namespace.
    pub namespace: String,
    /// ServiceAccount.
    pub service_account: String,
    /// Pod.
    pub pod: String,
}

/// Pods and namespaces with their labels.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    /// By namespace and name: ServiceAccount, labels.
    pods: BTreeMap<(String, String), (String, Labels)>,
    namespaces: BTreeMap<String, Labels>,
    /// For pods that are not in the file.
    otherwise: Labels,
}

impl Workloads {
    /// Reads a file, if one is given; `otherwise` are the labels of pods that are not in it.
    pub fn read(path: Option<&Path>, otherwise: Labels) -> Result<Self, Failure> {
        let mut known = Self { otherwise, ..Self::default() };
        let Some(path) = path else { return Ok(known) };
        let unreadable = || format!("cannot read {}: give a readable file of pods", path.display());
        let size = fs::metadata(path).map_err(|error| Failure::because(unreadable(), error))?.len();
        if size > FILE_MAX {
            return Err(Failure::input(format!(
                "{} has {size} bytes, more than {FILE_MAX}: leave out some namespaces",
                path.display()
            )));
        }
        let text =
            fs::read_to_string(path).map_err(|error| Failure::because(unreadable(), error))?;
        known.take(&path.display().to_string(), &text)?;
        Ok(known)
    }

    /// Takes in a list or a single object; `name` is for messages.
    pub fn take(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let wrong = || {
            format!(
                "{name} holds no pods: give what `kubectl get pods,namespaces -A -o json` writes"
            )
        };
        let all: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| Failure::because(wrong(), error))?
        } else {
            let node = yaml::read_one(name, text);
            node.map_err(|mistakes| Failure::because(wrong(), mistakes))?.to_json()
        };
        let kind = all.get("kind").and_then(Value::as_str).unwrap_or_default();
        let of_list = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        match all.get("items").and_then(Value::as_array) {
            // Items of a PodList do not say what they are.
            Some(items) => items.iter().for_each(|item| self.object(item, of_list)),
            None => self.object(&all, None),
        }
        if self.pods.is_empty() && self.namespaces.is_empty() {
            return Err(Failure::input(wrong()));
        }
        Ok(())
    }

    /// Takes in objects of the API server.
    pub fn take_all(&mut self, objects: &[Value]) {
        objects.iter().for_each(|object| self.object(object, None));
    }

    fn object(&mut self, object: &Value, of_list: Option<&str>) {
        let text = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.into())));
        let labels: Labels = labels.collect();
        let name = text("/metadata/name");
        match object.get("kind").and_then(Value::as_str).or(of_list) {
            Some("Pod") => {
                let account = match text("/spec/serviceAccountName") {
                    none if none.is_empty() => "default".to_owned(),
                    account => account,
                };
                self.pods.insert((text("/metadata/namespace"), name), (account, labels));
            }
            Some("Namespace") => {
                self.namespaces.insert(name, labels);
            }
            _ => {}
        }
    }

    /// A pod of the file.
    pub fn pod(&self, namespace: &str, pod: &str) -> Option<Identity> {
        let (account, labels) = self.pods.get(&(namespace.to_owned(), pod.to_owned()))?;
        Some(self.named(namespace, pod, account, labels))
    }

    /// What policies select a recorded pod by, and whether its labels are known. A pod that is not
    /// in the file has the labels of one of the same ServiceAccount, or else those that were given.
    pub fn identity(&self, who: &Who) -> (Identity, bool) {
        if let Some(identity) = self.pod(&who.namespace, &who.pod) {
            return (identity, true);
        }
        let same = self.pods.iter().find(|((namespace, _), (account, _))| {
            *namespace == who.namespace && *account == who.service_account
        });
        let labels = same.map_or(&self.otherwise, |(_, (_, labels))| labels);
        let known = same.is_some() || !self.otherwise.is_empty();
        (self.named(&who.namespace, &who.pod, &who.service_account, labels), known)
    }

    fn named(&self, namespace: &str, pod: &str, account: &str, labels: &Labels) -> Identity {
        Identity {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            pod_uid: String::new(),
            service_account: account.to_owned(),
            labels: labels.clone(),
            namespace_labels: self.namespaces.get(namespace).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(pod: &str, account: &str) -> Who {
        Who { namespace: "ci".into(), service_account: account.into(), pod: pod.into() }
    }

    #[test]
    fn a_pod_has_its_own_labels_or_those_of_its_service_account_or_those_given() {
        let list = r#"{"kind": "List", "items": [
            {"kind": "Namespace", "metadata": {"name": "ci", "labels": {"team": "build"}}},
            {"kind": "Secret", "metadata": {"name": "s"}},
            {"kind": "Pod",
             "metadata": {"name": "bot-1", "namespace": "ci", "labels": {"app": "bot"}},
             "spec": {"serviceAccountName": "bot"}}]}"#;
        let otherwise = Labels::from([("app".to_owned(), "given".to_owned())]);
        let mut known = Workloads { otherwise, ..Workloads::default() };
        known.take("list.json", list).expect("a list");
        let app = |pod: &str, account: &str| {
            let (identity, known) = known.identity(&who(pod, account));
            assert_eq!(identity.namespace_labels.get("team").map(String::as_str), Some("build"));
            (identity.labels.get("app").cloned().unwrap_or_default(), known)
        };
        assert_eq!(app("bot-1", "bot"), ("bot".to_owned(), true));
        assert_eq!(app("bot-2-gone", "bot"), ("bot".to_owned(), true));
        assert_eq!(app("x", "other"), ("given".to_owned(), true));
        known.otherwise.clear();
        assert!(!known.identity(&who("x", "other")).1);
    }

    #[test]
    fn a_pod_list_in_yaml_counts_and_anything_else_is_refused_by_name() {
        let mut known = Workloads::default();
        let list = "kind: PodList\nitems:\n- {metadata: {name: a, namespace: n}, spec: {}}\n";
        known.take("pods.yaml", list).expect("a list");
        assert_eq!(known.pod("n", "a").map(|pod| pod.service_account), Some("default".to_owned()));
        for wrong in ["", "kind: Secret\n", "{", "[]", "items: 7\n"] {
            let error = Workloads::default().take("x.yaml", wrong).expect_err("no pods");
            assert!(format!("{error:?}").contains("x.yaml"), "{wrong}");
        }
    }
}
