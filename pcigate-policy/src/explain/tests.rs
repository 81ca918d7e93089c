//! Tests of explanations, on the example policies.

use crate::decide::{EgressRequest, ExecRequest, IngressRequest};
use crate::document::Documents;
use crate::explain::{Request, explain};
use crate::workload::Identity;

const BILLING: &str = include_str!("../../../deploy/examples/billing-bot.yaml");
const BASELINE: &str = include_str!("../../../deploy/examples/baseline.yaml");

fn examples() -> Documents {
    Documents::read(&[("billing-bot.yaml", BILLING), ("baseline.yaml", BASELINE)])
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn billing_bot() -> Identity {
    Identity {
        namespace: "payments".to_owned(),
        pod: "billing-bot-0".to_owned(),
        service_account: "billing-bot".to_owned(),
        labels: [("app".to_owned(), "billing-bot".to_owned())].into(),
        ..Identity::default()
    }
}

#[test]
fn an_explanation_says_who_decided_and_why() {
    let path = Some(b"/usr/bin/dash".as_slice());
    let args: &[&[u8]] = &[b"sh", b"-c"];
    let exec = ExecRequest { path, invoked: b"/bin/sh", sha256: None, args: Some(args) };
    let text = explain(&examples(), &billing_bot(), &Request::Exec(exec)).to_string();
    for line in [
        "payments/billing-bot-0 (ServiceAccount billing-bot) asks to execute `/usr/bin/dash`, \
         called as `/bin/sh`, with `-c`",
        "verdict: deny",
        "  The strictest matching rule decides: rule no-shells of AgentPolicy \
         payments/billing-bot.",
        "  AgentPolicy payments/billing-bot (enforce) selects the workload",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn an_explanation_says_what_is_not_enforceable_here() {
    let address = "10.0.0.5".parse().unwrap();
    let egress = EgressRequest { address: Some(address), names: &[], protocol: 6, port: 5432 };
    let text = explain(&examples(), &billing_bot(), &Request::Egress(egress)).to_string();
    for line in [
        "asks to reach 10.0.0.5, TCP port 5432",
        "verdict: gate\n  The strictest matching rule decides: rule cards-db of AgentPolicy \
         payments/billing-bot. The gateway decides about each statement.",
        "not enforceable here:",
        "  rule cards-db of payments/billing-bot: statements of rule change are refused",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn a_name_is_answered_by_the_rules_by_name() {
    let documents = BILLING.replace("cidr: 10.96.0.10/32", "fqdn: \"*.stripe.com\"");
    let documents = Documents::read(&[("p.yaml", documents.as_str()), ("baseline.yaml", BASELINE)])
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let says = |name: &str| {
        let egress = EgressRequest { address: None, names: &[name], protocol: 17, port: 53 };
        explain(&documents, &billing_bot(), &Request::Egress(egress)).to_string()
    };
    let text = says("API.stripe.com");
    for line in [
        "asks to reach `API.stripe.com` by the addresses it has resolved, UDP port 53",
        "verdict: allow",
        "A rule by `cidr` that covers one of its addresses may be stricter.",
        "says allow: `*.stripe.com UDP port 53` matches the destination",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
    assert!(says("stripe.com").contains("verdict: deny"), "{}", says("stripe.com"));
}

#[test]
fn an_explanation_says_why_a_policy_does_not_select() {
    let mut other = billing_bot();
    other.labels.clear();
    let address = "192.0.2.1".parse().unwrap();
    let egress = EgressRequest { address: Some(address), names: &[], protocol: 17, port: 9 };
    let text = explain(&examples(), &other, &Request::Egress(egress)).to_string();
    let line = "AgentPolicy payments/billing-bot (enforce) does not: \
                the pod does not carry the label app=billing-bot";
    assert!(text.contains(line), "{text}");
    other.namespace = "elsewhere".to_owned();
    let text = explain(&Documents::default(), &other, &Request::Egress(egress)).to_string();
    assert!(text.contains("verdict: allow\n  No policy selects the workload."), "{text}");
}

#[test]
fn who_may_reach_a_listener_is_answered_by_the_rules_about_ingress() {
    let ingress = "  ingress:\n    defaultAction: deny\n    rules:\n      - {id: metrics, action: \
                   allow, from: [{cidr: 10.244.0.0/16}], ports: [{port: 8080}]}\n---\n";
    let documents = BILLING.replacen("---\n", ingress, 1);
    let documents = Documents::read(&[("p.yaml", documents.as_str())])
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let says = |source: &str, port: u16| {
        let source = source.parse().unwrap();
        let ingress = IngressRequest { source, protocol: 6, port };
        explain(&documents, &billing_bot(), &Request::Ingress(ingress)).to_string()
    };
    let text = says("::ffff:10.244.3.4", 8080);
    for line in [
        "asks to be reached from 10.244.3.4 at its own TCP port 8080",
        "verdict: allow",
        "says allow: `10.244.0.0/16` matches the source",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
    for (source, port) in [("10.244.3.4", 22), ("10.245.0.1", 8080), ("fd00::1", 8080)] {
        let text = says(source, port);
        assert!(text.contains("verdict: deny\n"), "{source} {port}: {text}");
        assert!(text.contains("default of payments/billing-bot (enforce): deny"), "{text}");
    }
}
