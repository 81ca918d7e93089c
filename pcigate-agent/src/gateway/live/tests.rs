//! Tests of the sessions there are.

use pcigate_policy::{
    document::{Documents, EgressEffect},
    mask::{Cut, Masked},
    workload::Identity,
};

use super::*;
use crate::draft::Rule;

/// A policy with a gate, whose rule is `GATE`.
pub(in crate::gateway) const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - {id: cards, GATE}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: cards, namespace: payments}
spec:
  protocol: postgres
  upstream: {address: '10.0.0.5:5432', tls: {mode: disable}}
  endpoints: [{cidr: 10.0.0.5/32, port: 5432}]
";
const GATE: &str =
    "action: gate, target: cards, statements: [{id: read, action: allow, effects: [read]}]";

/// The rules of the only policy of a text.
fn table(text: &str) -> Arc<RuleTable> {
    let documents = Documents::read(&[("policy.yaml", text.replace("GATE", GATE))]).unwrap();
    let identity = Identity { namespace: "payments".to_owned(), ..Identity::default() };
    let set = documents.select(&identity);
    let masked = |text: &str| Masked::new(text.as_bytes(), Cut::Whole);
    let gates = set.gate_rules().map(|(number, policy, rule, target)| {
        let EgressEffect::Gate { statements, session, .. } = &rule.effect else { panic!("a gate") };
        let named = Rule { policy: masked(&policy.to_string()), id: masked(&rule.id) };
        let (target, statements) = (Arc::clone(target), statements.clone());
        let session = session.clone();
        (number, Arc::new(Gate { rule: Arc::new(named), target, statements, session }))
    });
    let gates = gates.collect();
    let policies = Vec::new();
    Arc::new(RuleTable { hash: [0; 8], rules: Vec::new(), gates, masks: None, policies })
}

/// The gate of such a policy.
pub(in crate::gateway) fn gate(text: &str) -> Arc<Gate> {
    Arc::clone(table(text).gates.values().next().unwrap())
}

#[test]
fn a_session_ends_when_its_gate_changes_or_goes_and_not_otherwise() {
    let changed = [
        POLICY.replace("GATE", &GATE.replace("effects: [read]", "effects: [write]")),
        POLICY.replace("GATE", &format!("{GATE}, session: {{maxRows: 5}}")),
        POLICY.replace("10.0.0.5:5432", "10.0.0.6:5432"),
        POLICY.replace("id: cards,", "id: other,"),
        POLICY.replace("GATE", "action: deny, to: [{cidr: 10.0.0.9/32}]"),
    ];
    for now in changed {
        let live = Live::new();
        let (entered, mut end) = live.enter(7, gate(POLICY));
        let (same, other) = (table(POLICY), table(&now));
        live.recheck(|_| Some(Arc::clone(&same)));
        assert!(end.try_recv().is_err(), "the same rules, read again");
        live.recheck(|cgroup| (cgroup == 7).then(|| Arc::clone(&other)));
        assert!(end.try_recv().unwrap().contains("policy"), "{now}");
        drop(entered);
    }
    let live = Live::new();
    let (_entered, mut end) = live.enter(7, gate(POLICY));
    live.recheck(|_| None);
    assert!(end.try_recv().unwrap().contains("workload is gone"));
}

#[tokio::test]
async fn ending_all_waits_until_each_has_left() {
    let live = Live::new();
    let (entered, end) = live.enter(7, gate(POLICY));
    let session = tokio::spawn(async move {
        let why = end.await.unwrap();
        drop(entered);
        why
    });
    live.end_all("the agent stops", Duration::from_secs(30)).await;
    assert!(lock(&live.sessions).is_empty());
    assert_eq!(session.await.unwrap(), "the agent stops");
}
