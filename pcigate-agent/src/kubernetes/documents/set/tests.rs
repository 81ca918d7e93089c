//! What is in force after which events.

use pcigate_policy::{decide::EgressRequest, workload::Identity};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn name(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn came(generation: i64, spec: Value) -> Came {
    let uid = "u".to_owned();
    Came { uid, generation, created: "2026-01-01".to_owned(), accepted: false, spec }
}

fn policy(default: &str) -> Value {
    json!({"selector": {}, "egress": {"defaultAction": default}})
}

fn target(cidr: &str) -> Value {
    json!({"protocol": "postgres", "endpoints": [{"cidr": cidr, "port": 5432}],
           "upstream": {"address": "db:5432"}})
}

fn put(store: &mut Store, kind: Kind, called: &ObjectName, came: Came) {
    store.take(Event::Changed, kind, called.clone(), came);
}

fn resolve(store: &mut Store) -> Resolved {
    store.resolve(&Documents::default())
}

fn row<'r>(resolved: &'r Resolved, called: &ObjectName) -> &'r Row {
    resolved.rows.iter().find(|row| row.name == *called).unwrap()
}

fn why<'r>(resolved: &'r Resolved, called: &ObjectName) -> &'r str {
    match &row(resolved, called).standing {
        Standing::InForce => "in force",
        Standing::Rejected(why) => why,
    }
}

fn opens(resolved: &Resolved) -> bool {
    let identity = Identity { namespace: "n".to_owned(), ..Identity::default() };
    let to = EgressRequest {
        address: Some("192.0.2.1".parse().unwrap()),
        names: &[],
        protocol: 6,
        port: 1,
    };
    resolved.documents.select(&identity).decide_egress(&to).decision.verdict
        == pcigate_common::maps::verdict::ALLOW
}

#[test]
fn a_wrong_version_changes_nothing_but_what_is_said_of_it() {
    let mut store = Store::default();
    let (bot, other) = (name("n", "bot"), name("m", "other"));
    put(&mut store, Kind::AgentPolicy, &bot, came(1, policy("deny")));
    let first = resolve(&mut store);
    assert!(!opens(&first) && why(&first, &bot) == "in force");
    put(&mut store, Kind::AgentPolicy, &bot, came(2, policy("alow")));
    put(&mut store, Kind::AgentPolicy, &other, came(1, policy("deny")));
    let second = resolve(&mut store);
    assert!(!opens(&second));
    assert_eq!(second.documents.policies().len(), 2, "the other one goes on");
    let told = "generation 1 stays in force: AgentPolicy n/bot: spec.";
    assert!(why(&second, &bot).starts_with(told));
    assert_eq!(row(&second, &bot).hash, row(&first, &bot).hash);
    put(&mut store, Kind::AgentPolicy, &bot, came(3, policy("allow")));
    let third = resolve(&mut store);
    assert!(opens(&third) && why(&third, &bot) == "in force");
    put(&mut store, Kind::AgentPolicy, &bot, came(4, json!(7)));
    assert!(why(&resolve(&mut store), &bot).starts_with("generation 3 stays"));
}

#[test]
fn one_that_never_was_right_refuses_what_it_speaks_of() {
    let mut store = Store::default();
    let bot = name("n", "bot");
    put(&mut store, Kind::AgentPolicy, &bot, came(1, policy("alow")));
    let wrong = resolve(&mut store);
    assert!(!opens(&wrong));
    assert!(why(&wrong, &bot).starts_with("until it is corrected"), "{wrong:?}");
    // Another object of the same name has no version from before.
    put(&mut store, Kind::AgentPolicy, &bot, came(2, policy("allow")));
    assert!(opens(&resolve(&mut store)));
    let made_anew = Came { uid: "v".to_owned(), ..came(1, policy("alow")) };
    put(&mut store, Kind::AgentPolicy, &bot, made_anew);
    assert!(!opens(&resolve(&mut store)));
}

#[test]
fn only_a_deletion_or_a_list_without_it_ends_a_policy() {
    let mut store = Store::default();
    let (bot, other) = (name("n", "bot"), name("n", "other"));
    put(&mut store, Kind::AgentPolicy, &bot, came(1, policy("deny")));
    put(&mut store, Kind::AgentPolicy, &other, came(1, policy("allow")));
    store.heard(Kind::AgentPolicy, Some("gone".to_owned()));
    store.heard(Kind::AgentPolicy, Some("gone".to_owned()));
    assert!(matches!(store.answering(), Answering::Away { .. }));
    assert_eq!(resolve(&mut store).documents.policies().len(), 2);
    store.listed(Kind::Target, &[]);
    assert_eq!(resolve(&mut store).documents.policies().len(), 2);
    store.listed(Kind::AgentPolicy, &["n/other".to_owned()]);
    assert!(opens(&resolve(&mut store)));
    store.take(Event::Deleted, Kind::AgentPolicy, other, Came::default());
    assert_eq!(resolve(&mut store).rows, []);
    assert_eq!(store.bytes, 0);
}

#[test]
fn nothing_is_known_before_all_was_told_once_or_kept() {
    let mut store = Store::default();
    for kind in Kind::ALL {
        assert!(!resolve(&mut store).is_known);
        store.listed(kind, &[]);
    }
    assert!(resolve(&mut store).is_known && store.is_listed());
    let kept = store.take_unkept().unwrap();
    assert_eq!(store.take_unkept(), None);
    let mut next = Store::default();
    next.remember(kept);
    assert!(resolve(&mut next).is_known && !next.is_listed());
}

#[test]
fn nobody_takes_the_destination_of_another_namespace_s_target() {
    let mut store = Store::default();
    let (a, b) = (name("a", "db"), name("b", "db"));
    let older = Came { created: "2025-01-01".to_owned(), ..came(1, target("10.0.0.9/32")) };
    put(&mut store, Kind::Target, &b, older.clone());
    put(&mut store, Kind::Target, &a, came(1, target("10.0.0.5/32")));
    assert_eq!(resolve(&mut store).documents.targets().len(), 2);
    // The older one is changed to cover the younger one's destination.
    let covers = Came { generation: 2, spec: target("10.0.0.0/24"), ..older };
    put(&mut store, Kind::Target, &b, covers.clone());
    let both = resolve(&mut store);
    let told = why(&both, &b);
    assert!(told.starts_with("generation 1 stays in force: 10.0.0.0/24 port 5432 overlaps"));
    assert_eq!((both.documents.targets().len(), why(&both, &a)), (2, "in force"));
    // A node that knows neither goes by what the nodes together could use.
    let mut fresh = Store::default();
    put(&mut fresh, Kind::Target, &b, covers);
    let used = Came { accepted: true, ..came(1, target("10.0.0.5/32")) };
    put(&mut fresh, Kind::Target, &a, used);
    let fresh = resolve(&mut fresh);
    assert_eq!(why(&fresh, &a), "in force");
    assert!(why(&fresh, &b).starts_with("nothing of it is in force: 10.0.0.0/24"), "{fresh:?}");
}

#[test]
fn destinations_are_free_again_when_the_target_that_has_them_goes() {
    let mut store = Store::default();
    let (a, b) = (name("a", "db"), name("b", "db"));
    put(&mut store, Kind::Target, &a, came(1, target("10.0.0.5/32")));
    resolve(&mut store);
    put(&mut store, Kind::Target, &b, came(1, target("10.0.0.0/24")));
    assert_ne!(why(&resolve(&mut store), &b), "in force");
    store.take(Event::Deleted, Kind::Target, a, Came::default());
    assert_eq!(why(&resolve(&mut store), &b), "in force");
}

#[test]
fn what_is_too_large_or_too_much_is_told_and_takes_no_other_s_place() {
    let mut store = Store::default();
    let bot = name("n", "bot");
    put(&mut store, Kind::AgentPolicy, &bot, came(1, policy("deny")));
    resolve(&mut store);
    let mut large = policy("allow");
    large["egress"]["rules"] = json!([{"justification": "x".repeat(BYTES_MAX)}]);
    put(&mut store, Kind::AgentPolicy, &bot, came(2, large));
    let told = resolve(&mut store);
    assert!(why(&told, &bot).contains("more than 262144; divide it") && !opens(&told));
    for number in 0..IN_NAMESPACE_MAX {
        let one = name("n", &format!("p-{number}"));
        put(&mut store, Kind::AgentPolicy, &one, came(1, policy("deny")));
    }
    let other = name("m", "p");
    put(&mut store, Kind::AgentPolicy, &other, came(1, policy("deny")));
    let told = resolve(&mut store);
    assert_eq!(why(&told, &other), "in force");
    let last = name("n", &format!("p-{}", IN_NAMESPACE_MAX - 1));
    assert!(why(&told, &last).contains("more than 512 documents"), "{}", why(&told, &last));
}

#[test]
fn a_version_that_finds_no_place_leaves_the_one_before_it() {
    let mut store = Store::default();
    let bot = name("n", "bot");
    put(&mut store, Kind::AgentPolicy, &bot, came(1, policy("deny")));
    resolve(&mut store);
    let before = store.bytes;
    store.bytes = BYTES_IN_ALL_MAX;
    put(&mut store, Kind::AgentPolicy, &bot, came(2, policy("allow")));
    let told = resolve(&mut store);
    assert!(!opens(&told));
    assert!(why(&told, &bot).starts_with("generation 1 stays in force: all documents have more"));
    store.bytes -= BYTES_IN_ALL_MAX - before;
    put(&mut store, Kind::AgentPolicy, &bot, came(3, policy("allow")));
    assert!(opens(&resolve(&mut store)));
    let spec = policy("allow").to_string().len();
    assert_eq!(store.bytes, 2 * spec, "newest and good");
}

#[test]
fn one_that_is_too_large_and_never_was_right_refuses_also_after_a_restart() {
    let mut store = Store::default();
    let bot = name("n", "bot");
    let mut large = policy("allow");
    large["egress"]["rules"] = json!([{"justification": "x".repeat(BYTES_MAX)}]);
    put(&mut store, Kind::AgentPolicy, &bot, came(1, large));
    assert!(!opens(&resolve(&mut store)));
    assert!(store.bytes < 200);
    let mut next = Store::default();
    next.remember(store.take_unkept().unwrap());
    assert!(!opens(&resolve(&mut next)));
}

#[derive(Clone, Debug)]
enum Happens {
    Put(usize, Value, bool),
    Delete(usize),
    List(Vec<usize>),
    Restart,
}

fn happens() -> impl Strategy<Value = Happens> {
    let spec = prop_oneof![
        3 => Just(policy("deny")),
        1 => Just(policy("alow")),
        1 => Just(json!({"selector": {"matchLabels": {"a": "b"}}, "exec": 1})),
        1 => Just(json!({})),
        1 => Just(json!(["x"])),
    ];
    prop_oneof![
        4 => (0..3_usize, spec, any::<bool>()).prop_map(|(of, spec, anew)| {
            Happens::Put(of, spec, anew)
        }),
        1 => (0..3_usize).prop_map(Happens::Delete),
        1 => prop::collection::vec(0..3_usize, 0..3).prop_map(Happens::List),
        1 => Just(Happens::Restart),
    ]
}

proptest! {
    #[test]
    fn a_policy_that_denied_denies_until_it_is_deleted_whatever_comes(
        events in prop::collection::vec(happens(), 1..24),
    ) {
        let mut store = Store::default();
        let called = |of: usize| name("n", &format!("p{of}"));
        // Whether each was a right policy once since it was made.
        let mut denies = [false; 3];
        for (generation, event) in (1..).zip(events) {
            match event {
                Happens::Put(of, spec, anew) => {
                    let right = spec == policy("deny");
                    let uid = if anew { format!("u{generation}") } else {
                        store.held.get(&(Kind::AgentPolicy, called(of)))
                            .map_or_else(|| "u".to_owned(), |held| held.uid.clone())
                    };
                    let came = Came { uid, ..came(generation, spec) };
                    put(&mut store, Kind::AgentPolicy, &called(of), came);
                    denies[of] = right || denies[of] && !anew;
                }
                Happens::Delete(of) => {
                    store.take(Event::Deleted, Kind::AgentPolicy, called(of), Came::default());
                    denies[of] = false;
                }
                Happens::List(which) => {
                    let keys: Vec<String> =
                        which.iter().map(|of| called(*of).to_string()).collect();
                    store.listed(Kind::AgentPolicy, &keys);
                    for (of, denies) in denies.iter_mut().enumerate() {
                        *denies &= which.contains(&of);
                    }
                }
                Happens::Restart => {
                    // It is written once a second at most, so not always.
                    let Some(kept) = store.take_unkept() else { continue };
                    store = Store::default();
                    store.remember(kept);
                }
            }
            let resolved = resolve(&mut store);
            prop_assert!(!denies.contains(&true) || !opens(&resolved), "{:?}", resolved.rows);
            let bytes: usize = store.held.values().map(|held| {
                held.newest.spec.len() + held.good.as_ref().map_or(0, |(good, _)| good.spec.len())
            }).sum();
            prop_assert_eq!(store.bytes, bytes);
        }
    }
}
