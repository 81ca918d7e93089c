//! What is known after which events.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn object(value: serde_json::Value) -> Object {
    serde_json::from_value(value).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "it is made in place")]
fn pod(uid: &str, labels: serde_json::Value) -> Object {
    object(json!({"metadata": {"name": "web", "namespace": "x", "uid": uid, "labels": labels}}))
}

#[expect(clippy::needless_pass_by_value, reason = "it is made in place")]
fn namespace(labels: serde_json::Value) -> Object {
    object(json!({"metadata": {"name": "x", "labels": labels}}))
}

fn with_namespace() -> Store {
    let mut store = Store::default();
    store.take(Collection::Namespaces, Event::Listed, namespace(json!({"team": "a"})));
    store
}

fn set(uids: &[&str]) -> HashSet<String> {
    uids.iter().map(|&uid| uid.to_owned()).collect()
}

#[test]
fn a_pod_is_named_only_when_the_labels_of_its_namespace_are_known() {
    let mut store = Store::default();
    store.take(Collection::Pods, Event::Listed, pod(UID, json!({})));
    assert!(store.pods().is_empty());
    store.take(Collection::Namespaces, Event::Changed, namespace(json!({"team": "a"})));
    assert_eq!(store.pods()[UID].identity.namespace_labels["team"], "a");
    store.take(Collection::Namespaces, Event::Changed, namespace(json!({"team": "b"})));
    assert_eq!(store.pods()[UID].identity.namespace_labels["team"], "b");
    store.take(Collection::Namespaces, Event::Deleted, namespace(json!({})));
    store.listed(Collection::Namespaces, &[]);
    assert_eq!(store.pods()[UID].identity.namespace_labels["team"], "b", "a pod of it is there");
}

#[test]
fn a_pod_whose_object_is_gone_stays_known_as_long_as_it_has_a_cgroup() {
    for by_list in [false, true] {
        let mut store = with_namespace();
        store.take(Collection::Pods, Event::Listed, pod(UID, json!({"app": "web"})));
        if by_list {
            store.listed(Collection::Pods, &[]);
        } else {
            store.take(Collection::Pods, Event::Deleted, pod(UID, json!({"app": "web"})));
        }
        store.forget_gone(&set(&[UID]));
        assert_eq!(store.pods()[UID].identity.labels["app"], "web");
        store.forget_gone(&set(&[]));
        assert!(store.pods().is_empty());
    }
    let mut store = with_namespace();
    store.take(Collection::Pods, Event::Listed, pod(UID, json!({})));
    store.forget_gone(&set(&[]));
    assert_eq!(store.pods().len(), 1, "its cgroup may still come");
}

#[test]
fn of_two_claims_to_a_cgroup_its_own_uid_counts_and_then_the_older() {
    let mirror = |uid: &str, name: &str, created: &str, hash: &str| {
        let annotations =
            json!({"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash});
        object(json!({"metadata": {"name": name, "namespace": "x", "uid": uid,
                                   "creationTimestamp": created, "annotations": annotations}}))
    };
    let mut store = with_namespace();
    store.take(
        Collection::Pods,
        Event::Listed,
        mirror("a", "forged", "2026-02-01T00:00:00Z", HASH),
    );
    store.take(Collection::Pods, Event::Listed, mirror("b", "etcd", "2026-01-01T00:00:00Z", HASH));
    store.take(Collection::Pods, Event::Listed, mirror("c", "thief", "2020-01-01T00:00:00Z", UID));
    store.take(Collection::Pods, Event::Listed, pod(UID, json!({})));
    let pods = store.pods();
    assert_eq!(pods[HASH].identity.pod, "etcd");
    assert_eq!(pods[UID].identity.pod, "web");
    let unused = store.status().unused.join("; ");
    assert!(unused.contains("x/forged: ") && unused.contains("x/thief: "), "{unused}");
}

#[test]
fn labels_that_are_too_long_refuse_everything_instead_of_selecting_nothing() {
    let labels: BTreeMap<String, String> =
        (0..2000).map(|i| (format!("key-{i:04}"), "v".repeat(63))).collect();
    let mut store = with_namespace();
    store.take(Collection::Pods, Event::Listed, pod(UID, json!(labels)));
    assert!(store.pods()[UID].refused);
    assert!(store.status().unused.join("").contains("everything is refused"));
    store.take(Collection::Pods, Event::Changed, pod(UID, json!({"app": "web"})));
    assert!(!store.pods()[UID].refused);
    assert!(store.status().unused.is_empty(), "told no longer");
    store.take(Collection::Namespaces, Event::Changed, namespace(json!(labels)));
    assert!(store.pods()[UID].refused);
}

#[test]
fn more_pods_than_a_node_has_are_not_kept_and_that_is_told() {
    let mut store = with_namespace();
    for number in 0..PODS_MAX + 100 {
        store.take(Collection::Pods, Event::Listed, pod(&format!("uid-{number}"), json!({})));
    }
    assert_eq!(store.pods().len(), PODS_MAX);
    assert!(store.status().unused.join("").contains("more than 4096 pods"));
}

#[test]
fn trouble_is_told_with_its_beginning_until_the_server_answers_again() {
    let mut store = Store::default();
    assert_eq!(store.status().answering, Answering::NotYet);
    store.listed(Collection::Pods, &[]);
    store.listed(Collection::Namespaces, &[]);
    assert_eq!(store.status().answering, Answering::Yes);
    store.heard(Collection::Pods, Some("first".to_owned()));
    assert_eq!(store.status().answering, Answering::Yes, "one broken watch is no outage");
    store.heard(Collection::Pods, Some("second".to_owned()));
    let Answering::Away { since, .. } = store.status().answering else { panic!("away") };
    store.heard(Collection::Pods, Some("third".to_owned()));
    let again = Answering::Away { since, why: "third".to_owned() };
    assert_eq!(store.status().answering, again, "since the first");
    store.heard(Collection::Pods, None);
    assert_eq!(store.status().answering, Answering::Yes);
}

#[test]
fn what_is_remembered_is_governed_before_the_first_list_and_checked_by_it() {
    let mut store = with_namespace();
    store.take(Collection::Pods, Event::Listed, pod(UID, json!({"app": "web"})));
    let memory = store.take_unkept().unwrap();
    assert!(store.take_unkept().is_none(), "nothing new");
    let mut next = Store::default();
    next.remember(memory);
    assert_eq!(next.pods()[UID].identity.namespace_labels["team"], "a");
    next.listed(Collection::Pods, &[]);
    next.forget_gone(&set(&[]));
    assert!(next.pods().is_empty());
}

/// What may happen, to one of four pods of one of two namespaces.
#[derive(Clone, Copy, Debug)]
enum Step {
    Told {
        pod: u8,
        label: u8,
        deleted: bool,
    },
    Namespace {
        name: u8,
        label: u8,
    },
    /// A list that holds the pods of these bits.
    Listed(u8),
    Made(u8),
    Removed(u8),
    Looked,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(pod, label, deleted)| Step::Told {
            pod,
            label,
            deleted
        }),
        (0..2_u8, 0..3_u8).prop_map(|(name, label)| Step::Namespace { name, label }),
        (0..16_u8).prop_map(Step::Listed),
        (0..4_u8).prop_map(Step::Made),
        (0..4_u8).prop_map(Step::Removed),
        Just(Step::Looked),
    ]
}

/// The obvious way: every pod ever told with its last labels, and which of them must be known.
#[derive(Default)]
struct Model {
    labels: BTreeMap<u8, u8>,
    there: BTreeSet<u8>,
    namespaces: BTreeMap<u8, u8>,
    cgroups: BTreeSet<u8>,
}

fn uid(pod: u8) -> String {
    format!("pod-{pod}")
}

fn object_of(pod: u8, label: u8) -> Object {
    object(json!({"metadata": {"name": uid(pod), "namespace": format!("ns-{}", pod % 2),
                               "uid": uid(pod), "labels": {"l": label.to_string()}}}))
}

fn take(store: &mut Store, model: &mut Model, step: Step) {
    match step {
        Step::Told { pod, label, deleted } => {
            let event = if deleted { Event::Deleted } else { Event::Changed };
            store.take(Collection::Pods, event, object_of(pod, label));
            if !deleted {
                model.there.insert(pod);
            } else if !model.there.remove(&pod) && !model.labels.contains_key(&pod) {
                return;
            }
            model.labels.insert(pod, label);
        }
        Step::Namespace { name, label } => {
            let labels = json!({"l": label.to_string()});
            let told = json!({"metadata": {"name": format!("ns-{name}"), "labels": labels}});
            store.take(Collection::Namespaces, Event::Changed, object(told));
            model.namespaces.insert(name, label);
        }
        Step::Listed(bits) => {
            let held = |pod: &u8| bits & (1 << pod) != 0;
            let mut keys = Vec::new();
            for pod in (0..4).filter(held) {
                let label = model.labels.get(&pod).copied().unwrap_or_default();
                keys.extend(store.take(Collection::Pods, Event::Listed, object_of(pod, label)));
                model.labels.insert(pod, label);
            }
            store.listed(Collection::Pods, &keys);
            model.there = (0..4).filter(held).collect();
        }
        Step::Made(pod) => drop(model.cgroups.insert(pod)),
        Step::Removed(pod) => drop(model.cgroups.remove(&pod)),
        Step::Looked => {
            let cgroups = model.cgroups.iter().map(|pod| uid(*pod)).collect();
            store.forget_gone(&cgroups);
            let Model { labels, there, cgroups, .. } = model;
            labels.retain(|pod, _| there.contains(pod) || cgroups.contains(pod));
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_no_pod_with_a_cgroup_is_forgotten_or_mistaken(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let (mut store, mut model) = (Store::default(), Model::default());
        for step in steps {
            take(&mut store, &mut model, step);
            let pods = store.pods();
            for pod in 0..4 {
                let expected = model.labels.get(&pod).zip(model.namespaces.get(&(pod % 2)));
                let found = pods.get(&uid(pod)).map(|pod| &pod.identity);
                let found = found.map(|own| (&own.labels["l"], &own.namespace_labels["l"]));
                let expected = expected.map(|(own, of)| (own.to_string(), of.to_string()));
                prop_assert_eq!(found, expected.as_ref().map(|(own, of)| (own, of)));
            }
        }
    }
}
