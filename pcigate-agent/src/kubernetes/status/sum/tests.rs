//! What all nodes together make of a document.

use proptest::prelude::*;

use super::*;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
}

fn says(state: &str, generation: i64, minute: i64) -> Value {
    json!({"observedTime": at(minute).to_string(), "documents": [
        {"kind": "AgentPolicy", "namespace": "n", "name": "bot", "generation": generation,
         "state": state, "hash": "abc", "reason": format!("it is {state}"), "workloads": 2}]})
}

fn bot(generation: i64) -> DocumentState {
    DocumentState {
        kind: "AgentPolicy",
        namespace: "n".to_owned(),
        name: "bot".to_owned(),
        generation,
        hash: String::new(),
        state: State::Enforced,
        reason: String::new(),
        workloads: 0,
    }
}

fn condition<'v>(status: &'v Value, kind: &str) -> (&'v str, &'v str) {
    let all = status["conditions"].as_array().unwrap();
    let one = all.iter().find(|one| one["type"] == kind).unwrap();
    (one["status"].as_str().unwrap(), one["reason"].as_str().unwrap())
}

#[test]
fn nodes_are_counted_by_what_they_make_of_the_newest_version() {
    let mut sums = Sums::default();
    let none = sums.status(&bot(2), at(0));
    assert_eq!(condition(&none, "Accepted"), ("Unknown", "NoNode"));
    for (node, state, generation) in
        [("a", "enforced", 2), ("b", "audited", 2), ("c", "enforced", 1)]
    {
        sums.take(node, Some(&says(state, generation, 0)));
    }
    let status = sums.status(&bot(2), at(1));
    assert_eq!(status["nodes"]["enforced"], 1, "the old version of c does not count");
    assert_eq!((&status["workloads"], &status["hash"]), (&json!(4), &json!("abc")));
    assert_eq!(condition(&status, "Accepted"), ("True", "Accepted"));
    assert_eq!(condition(&status, "Enforced"), ("False", "Audited"));
    sums.take("c", Some(&says("rejected", 2, 0)));
    let status = sums.status(&bot(2), at(1));
    assert_eq!(condition(&status, "Accepted"), ("False", "Rejected"));
    assert_eq!(
        status["details"][0],
        json!({"node": "c", "state": "rejected",
                                            "reason": "it is rejected"})
    );
    // Silent for more than a quarter of an hour.
    assert_eq!(sums.status(&bot(2), at(16))["nodes"]["rejected"], 0);
    assert_eq!(sums.gone(at(60 * 24)), [""; 0]);
    assert_eq!(sums.gone(at(60 * 24 + 1)), ["a", "b", "c"]);
    sums.retain(&["a".to_owned()]);
    assert_eq!(condition(&sums.status(&bot(2), at(1)), "Enforced"), ("True", "Enforced"));
    sums.forget("a");
    assert_eq!(sums.status(&bot(2), at(1)), none);
}

#[test]
fn no_more_than_twenty_nodes_are_named() {
    let mut sums = Sums::default();
    for node in 0..100 {
        sums.take(&format!("node-{node:03}"), Some(&says("notEnforceable", 1, 0)));
    }
    let status = sums.status(&bot(1), at(0));
    assert_eq!(status["details"].as_array().unwrap().len(), 20);
    assert_eq!(status["nodes"]["notEnforceable"], 100);
}

#[test]
fn a_condition_keeps_its_time_until_it_is_another() {
    let mut sums = Sums::default();
    sums.take("a", Some(&says("enforced", 1, 0)));
    let first = dated(sums.status(&bot(1), at(0)), None, "first").unwrap();
    assert_eq!(dated(sums.status(&bot(1), at(0)), Some(&first), "second"), None);
    sums.take("b", Some(&says("audited", 1, 0)));
    let second = dated(sums.status(&bot(1), at(0)), Some(&first), "second").unwrap();
    let times: Vec<_> = second["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["lastTransitionTime"].as_str().unwrap())
        .collect();
    assert_eq!(times, ["first", "second"]);
}

proptest! {
    #[test]
    fn whatever_nodes_say_nothing_panics_and_the_status_is_bounded(
        generation in any::<i64>(),
        state in "[a-zA-Z]{0,16}",
        reason in ".{0,80}",
        time in ".{0,30}",
    ) {
        let mut sums = Sums::default();
        let mut said = says(&state, generation, 0);
        said["documents"][0]["reason"] = json!(reason.repeat(100));
        sums.take("a", Some(&said));
        said["observedTime"] = json!(time);
        sums.take("b", Some(&said));
        sums.take("c", Some(&json!([1])));
        sums.take("d", None);
        let status = sums.status(&bot(generation), Timestamp::MAX);
        prop_assert!(status.to_string().len() < 4096);
        sums.gone(Timestamp::MIN);
        sums.gone(Timestamp::MAX);
    }
}
