//! connect and sendmsg: what is refused, with which errno, and what the record says.

use std::net::{IpAddr, TcpListener};

use pcigate_agent::draft::{Ending, Event};
use pcigate_common::{event::Operation, maps::verdict};
use pcigate_proto::{Enforcement, Verdict};
use pcigate_tests::kernel::{Kernel, Setup};

fn policy(egress: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}}}
  mode: enforce
  egress:
{egress}"
    )
}

/// One port of one address is open.
fn only(port: u16) -> String {
    policy(&format!(
        "    defaultAction: deny
    rules:
      - {{id: listener, action: allow, to: [{{cidr: 127.0.0.1/32}}], \
           ports: [{{port: {port}, protocol: TCP}}]}}
"
    ))
}

#[test]
fn everything_but_the_allowed_listener_is_refused_with_eperm_in_every_address_form() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut kernel = Kernel::with_policy(&only(port));
    let allowed = [format!("tcp:127.0.0.1:{port}"), format!("tcp:[::ffff:127.0.0.1]:{port}")];
    let refused = [
        format!("tcp:127.0.0.2:{port}"),
        format!("tcp:127.0.0.1:{}", port ^ 1),
        format!("tcp:[::1]:{port}"),
        format!("tcp:[::ffff:127.0.0.2]:{port}"),
        format!("udp:127.0.0.1:{port}"),
        format!("udp:[::1]:{port}"),
        format!("udp:[::ffff:127.0.0.1]:{port}"),
        format!("udp-connected:127.0.0.1:{port}"),
        format!("udp-connected:[::1]:{port}"),
    ];
    let actions: Vec<&str> = allowed.iter().chain(&refused).map(String::as_str).collect();
    let results = kernel.probe(&actions);
    assert_eq!(results[..2], ["ok", "ok"]);
    assert!(results[2..].iter().all(|result| result == "EPERM"), "{actions:?} {results:?}");

    let egress: Vec<_> = kernel
        .drafts()
        .into_iter()
        .filter_map(|draft| match draft.event {
            Event::Egress { operation, address, v4_mapped, .. } => {
                Some((draft.outcome, operation, address, v4_mapped))
            }
            _ => None,
        })
        .collect();
    assert_eq!(egress.len(), actions.len(), "one record per attempt");
    for (outcome, ..) in &egress[..2] {
        assert_eq!(outcome.result, Ending::Success);
        let decision = outcome.decision.as_ref().unwrap();
        assert_eq!(decision.rule.policy.as_str(), "payments/billing-bot");
        assert_eq!(decision.rule.id.as_str(), "listener");
        assert_eq!(outcome.enforcement, None);
    }
    for (outcome, ..) in &egress[2..] {
        assert_eq!(outcome.result, Ending::Refused);
        assert_eq!(outcome.enforcement, Some(Enforcement::Cgroup));
        let decision = outcome.decision.as_ref().unwrap();
        assert_eq!((decision.verdict, decision.rule.id.as_str()), (Verdict::Deny, "default"));
    }
    let mapped = &egress[5];
    assert_eq!((mapped.2, mapped.3), (IpAddr::from([127, 0, 0, 2]), true));
    assert_eq!(egress[6].1, Operation::Send);
    assert_eq!(egress[9].1, Operation::Connect);
}

#[test]
fn the_unspecified_address_is_the_loopback_it_connects_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = "    defaultAction: allow
    rules:
      - {id: no-loopback, action: deny, to: [{cidr: 127.0.0.0/8}, {cidr: \"::1/128\"}]}
";
    let kernel = Kernel::with_policy(&policy(rules));
    let actions = [
        format!("tcp:0.0.0.0:{port}"),
        format!("tcp:[::]:{port}"),
        format!("tcp:[::ffff:0.0.0.0]:{port}"),
        format!("udp:0.0.0.0:{port}"),
    ];
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    assert_eq!(kernel.probe(&actions), ["EPERM"; 4]);
}

#[test]
fn the_unspecified_address_of_a_bound_socket_is_the_address_it_is_bound_to() {
    let rules = "    defaultAction: deny
    rules:
      - {id: first, action: allow, to: [{cidr: 127.0.0.1/32}]}
";
    let kernel = Kernel::with_policy(&policy(rules));
    let actions = ["udp:0.0.0.0:9", "udp-from:127.0.0.1:0.0.0.0:9", "udp-from:127.0.0.2:0.0.0.0:9"];
    assert_eq!(kernel.probe(&actions), ["ok", "ok", "EPERM"]);
}

#[test]
fn a_rule_in_audit_mode_lets_through_and_says_what_it_would_have_done() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = "    defaultAction: allow
    rules:
      - {id: tried-out, mode: audit, action: deny, to: [{cidr: 127.0.0.0/8}]}
";
    let mut kernel = Kernel::with_policy(&policy(rules));
    assert_eq!(kernel.probe(&[&format!("tcp:127.0.0.1:{port}")]), ["ok"]);
    let drafts = kernel.drafts();
    let outcome =
        drafts.iter().find(|d| matches!(d.event, Event::Egress { .. })).map(|d| &d.outcome);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.result, Ending::Success);
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!((audit.verdict, audit.rule.id.as_str()), (Verdict::Deny, "tried-out"));
}

#[test]
fn a_changed_policy_takes_effect_on_the_next_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let both = only(port)
        + "---
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: other, namespace: payments}
spec:
  selector: {matchLabels: {app: other}}
  mode: enforce
  egress: {defaultAction: deny}
";
    let mut kernel = Kernel::with_policy(&both);
    let action = format!("tcp:127.0.0.1:{port}");
    assert_eq!(kernel.probe(&[&action]), ["ok"]);
    let root = kernel.root().to_owned();
    kernel.govern(&root, "other");
    assert_eq!(kernel.probe(&[&action]), ["EPERM"]);
    kernel.govern(&root, "billing-bot");
    assert_eq!(kernel.probe(&[&action]), ["ok"]);
}

#[test]
fn a_nested_cgroup_is_governed_by_its_pod_and_a_container_by_its_own_entry() {
    let setup = Setup { policy: policy("    defaultAction: deny\n"), ..Setup::default() };
    let mut kernel = Kernel::ungoverned(&setup);
    let pod = kernel.root().join("pod");
    let nested = pod.join("container/nested");
    std::fs::create_dir_all(&nested).unwrap();
    kernel.govern(&pod, "billing-bot");
    assert_eq!(kernel.probe_in(&nested, &["tcp:127.0.0.1:9"]), ["EPERM"]);
    let drafts = kernel.drafts();
    let by = |draft: &pcigate_agent::draft::Draft| match &draft.subject {
        pcigate_agent::draft::Subject::Workload(workload) => workload.pod.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(drafts.iter().all(|draft| by(draft) == "billing-bot"));
}

#[test]
fn a_cgroup_nobody_knows_gets_the_posture_and_is_recorded_as_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    for (unknown, result) in [(verdict::DENY, "EPERM"), (verdict::ALLOW, "ok")] {
        let mut kernel = Kernel::ungoverned(&Setup { unknown, ..Setup::default() });
        assert_eq!(kernel.probe(&[&action]), [result]);
        let drafts = kernel.drafts();
        let egress = drafts.iter().find(|d| matches!(d.event, Event::Egress { .. })).unwrap();
        assert!(matches!(egress.subject, pcigate_agent::draft::Subject::Unknown { .. }));
        let rule = &egress.outcome.decision.as_ref().unwrap().rule;
        assert_eq!(rule.id.as_str(), "pcigate/unknown-workload");
    }
}
