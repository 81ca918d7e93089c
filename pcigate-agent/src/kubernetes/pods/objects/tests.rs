//! What is kept of pods, whatever they say.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn status(name: &str, runtime: &str, digit: &str) -> Value {
    json!([{"name": name, "containerID": format!("{runtime}://{}", digit.repeat(64))}])
}

fn pod(change: impl FnOnce(&mut Value)) -> Result<Pod, String> {
    let mut pod = json!({
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "x", "uid": "u-1", "labels": {"app": "web"},
                     "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"a": 1}]},
        "spec": {"serviceAccountName": "bot", "hostNetwork": true, "containers": []},
        "status": {
            "containerStatuses": status("main", "containerd", "a"),
            "initContainerStatuses": status("init", "cri-o", "b"),
            "ephemeralContainerStatuses": status("debug", "docker", "c"),
        },
    });
    change(&mut pod);
    serde_json::from_value::<Object>(pod).unwrap().into_pod()
}

#[test]
fn a_pod_gives_identity_all_kinds_of_containers_and_what_it_shares_with_the_node() {
    let found = pod(|_| {}).unwrap();
    assert_eq!(found.identity.service_account, "bot");
    assert_eq!(found.identity.labels["app"], "web");
    let mut names: Vec<_> = found.containers.values().map(|told| told.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["debug", "init", "main"]);
    assert!(found.host_network && !found.host_pid && !found.overlong);
    let least = pod(|pod| {
        pod["spec"] = Value::Null;
        pod["status"] = Value::Null;
        pod["metadata"]["labels"] = Value::Null;
    });
    assert_eq!(least.unwrap().identity.service_account, "default");
}

#[test]
fn only_a_mirror_of_a_static_pod_is_known_by_its_hash() {
    let hash = "0123456789abcdef0123456789abcdef";
    let with =
        |annotations: Value| pod(|pod| pod["metadata"]["annotations"] = annotations).unwrap().hash;
    let (mirror, own) = ("kubernetes.io/config.mirror", "kubernetes.io/config.hash");
    assert_eq!(with(json!({mirror: hash, own: hash})).as_deref(), Some(hash));
    assert_eq!(with(json!({own: hash})), None, "an ordinary pod that claims another's cgroup");
    assert_eq!(with(json!({mirror: "other", own: hash})), None);
    assert_eq!(with(json!({mirror: "../x", own: "../x"})), None);
}

#[test]
fn a_lying_container_id_or_name_names_nothing() {
    for id in
        ["", "abc", "containerd://", "containerd://../../x", &format!("x://{}", "A?".repeat(32))]
    {
        let found = pod(|pod| pod["status"]["containerStatuses"][0]["containerID"] = json!(id));
        assert_eq!(found.unwrap().containers.len(), 2, "{id}");
    }
    let many: Vec<Value> = (0..1000)
        .map(|i| json!({"name": "c", "containerID": format!("containerd://{i:064x}")}))
        .collect();
    let found = pod(|pod| pod["status"]["containerStatuses"] = json!(many)).unwrap();
    assert_eq!(found.containers.len(), CONTAINERS_MAX);
}

#[test]
fn hostile_names_are_refused_and_too_many_labels_are_told() {
    let long = "n".repeat(254);
    for name in ["", "a/b", "a\nb", "4111111111111111 x", &long] {
        let error = pod(|pod| pod["metadata"]["name"] = json!(name)).unwrap_err();
        assert!(error.contains("metadata.name") && error.len() < 120, "{error}");
        assert!(!error.contains("4111111111111111") && !error.contains('\n'), "{error}");
    }
    let labels: BTreeMap<String, String> =
        (0..1024).map(|i| (format!("key-{i:04}"), "v".repeat(63))).collect();
    let found = pod(|pod| pod["metadata"]["labels"] = json!(labels)).unwrap();
    assert!(found.overlong && found.identity.labels.is_empty());
}

#[test]
fn a_megabyte_of_annotations_is_not_kept() {
    let note = "x".repeat(1 << 20);
    let found = pod(|pod| pod["metadata"]["annotations"] = json!({"note": note})).unwrap();
    assert_eq!(found, pod(|_| {}).unwrap());
}

proptest! {
    #[test]
    fn whatever_an_object_says_what_is_kept_is_bounded(
        name in "\\PC{0,300}",
        uid in "\\PC{0,300}",
        account in proptest::option::of("\\PC{0,300}"),
        labels in proptest::collection::btree_map("\\PC{0,20}", "\\PC{0,40}", 0..8),
        annotation in "[0-9a-f-]{0,80}",
        id in "\\PC{0,100}",
    ) {
        let found = pod(|pod| {
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["uid"] = json!(uid);
            pod["metadata"]["labels"] = json!(labels);
            pod["metadata"]["annotations"] =
                json!({"kubernetes.io/config.mirror": annotation,
                       "kubernetes.io/config.hash": annotation});
            pod["spec"]["serviceAccountName"] = json!(account);
            pod["status"]["containerStatuses"][0]["containerID"] = json!(id);
        });
        if let Ok(found) = found {
            prop_assert!(found.identity.pod.len() <= NAME_MAX);
            prop_assert!(found.identity.pod_uid.len() <= NAME_MAX);
            prop_assert!(found.hash.is_none_or(|hash| hash.len() <= 64));
            prop_assert!(found.identity.labels == labels || found.overlong);
            prop_assert!(found.containers.keys().all(|id| id.len() == CONTAINER_ID));
        }
    }
}
