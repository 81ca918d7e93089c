//! Tests of documents of the API server.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::{Action, Documents, ObjectName, PasswordRef, Section};
use super::{Document, FILE_FIELDS};
use crate::workload::Identity;

fn name(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn target(namespace: &str, cidr: &str) -> Json {
    json!({"protocol": "postgres", "endpoints": [{"cidr": cidr, "port": 5432}],
           "upstream": {"address": format!("{namespace}.example:5432")}})
}

#[expect(clippy::needless_pass_by_value, reason = "it is made in place")]
fn policy(spec: Json) -> Result<Document, String> {
    let read = Document::of_resource("AgentPolicy", &name("payments", "bot"), &spec);
    read.map_err(|mistakes| mistakes.to_string())
}

fn read(namespace: &str, spec: &Json) -> Document {
    Document::of_resource("Target", &name(namespace, "db"), spec).unwrap()
}

#[test]
fn mistakes_of_a_resource_name_it_and_the_field() {
    let spec = json!({"selector": {}, "egress": {"defaultAction": "alow", "rules": [{"id": "a"}]}});
    let said = policy(spec).unwrap_err();
    let at = "AgentPolicy payments/bot: spec.egress.";
    assert!(said.contains(&format!("{at}defaultAction: `alow` is not known")), "{said}");
    assert!(said.contains(&format!("{at}rules[0].action: is required")), "{said}");
    let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
    assert!(policy(deep).unwrap_err().contains("nested deeper than"));
}

#[test]
fn files_of_the_node_are_named_by_files_of_the_node_only() {
    let spec = json!({
        "protocol": "postgres", "endpoints": [{"cidr": "10.0.0.5/32", "port": 5432}],
        "upstream": {"address": "db:5432", "tls": {"caFile": "/etc/shadow"}},
        "credential": {"username": "a", "passwordFile": "/etc/shadow", "certFile": "/c",
                       "keyFile": "/k"},
        "clientTls": {"certFile": "/c", "keyFile": "/k"},
        "token": {"required": true, "audience": "a", "issuer": "i", "jwksFile": "/j"},
    });
    let said = Document::of_resource("Target", &name("payments", "db"), &spec).unwrap_err();
    assert_eq!(said.len(), FILE_FIELDS.len(), "{said}");
    for (field, instead) in FILE_FIELDS {
        let line = format!("Target payments/db: {field}: names a file of the node");
        let said = said.to_string();
        assert!(said.contains(&line) && said.contains(instead), "{field}: {said}");
    }
    let spec = json!({
        "protocol": "postgres", "endpoints": [{"cidr": "10.0.0.5/32", "port": 5432}],
        "upstream": {"address": "db:5432", "tls": {"caSecretRef": {"name": "s", "key": "ca.pem"}}},
        "credential": {"username": "a", "secretRef": {"name": "s", "key": "password"},
                       "certificateSecretRef": {"name": "c"}},
        "clientTls": {"secretRef": {"name": "s"}},
        "token": {"required": true, "audience": "a", "issuer": "i",
                  "jwksSecretRef": {"name": "s", "key": "jwks"}},
    });
    let Document::Target(target) = read("payments", &spec) else { panic!("no Target") };
    let password = target.credential.as_ref().unwrap().password.as_ref();
    assert!(matches!(password, Some(PasswordRef::Secret(at)) if at.key == "password"));
}

#[test]
fn the_same_name_from_a_file_and_the_destination_of_another_namespace_are_left_out() {
    let file = "{apiVersion: pcigate.dev/v1alpha1, kind: AgentPolicy, metadata: {name: bot, \
                namespace: payments}, spec: {selector: {}, exec: {defaultAction: deny}}}";
    let base = Documents::read_part(&[("a.yaml", file)]).unwrap();
    let gate = json!({"id": "db", "action": "gate", "target": "db",
                      "statements": [{"id": "all", "action": "allow", "effects": ["read"]}]});
    let spec = json!({"selector": {}, "egress": {"defaultAction": "deny", "rules": [gate]}});
    let gated = Document::of_resource("AgentPolicy", &name("x", "bot"), &spec).unwrap();
    let more = [
        policy(json!({"selector": {}, "exec": {"defaultAction": "allow"}})).unwrap(),
        read("a", &target("a", "10.0.0.0/24")),
        read("b", &target("b", "10.0.0.5/32")),
        read("c", &target("c", "10.0.1.5/32")),
        gated,
    ];
    let (all, refused) = base.with(&more);
    let refused: Vec<_> = refused.iter().map(|why| why.as_deref().unwrap_or_default()).collect();
    assert!(refused[0].contains("given by a file of the node"), "{refused:?}");
    assert!(refused[2].contains("overlaps Target a/db of another namespace (Target a/db)"));
    assert_eq!([refused[1], refused[3], refused[4]], [""; 3]);
    assert_eq!(all.targets().len(), 2);
    assert_eq!(all.policies().len(), 2);
    let open: Vec<_> = all.without_target().map(|(_, rule, target)| (rule, target)).collect();
    assert_eq!(open, [("db", &name("x", "db"))]);
}

#[test]
fn what_cannot_be_used_and_never_could_refuses_what_it_speaks_of_to_those_it_selects() {
    let spec = json!({"selector": {"matchLabels": {"app": "a"}},
                      "egress": {"defaultAction": "deny", "rules": [{"id": "typo"}]}});
    assert!(policy(spec.clone()).is_err());
    let stand_in = |spec: &Json| Document::stand_in("AgentPolicy", &name("payments", "bot"), spec);
    let (all, _) = Documents::default().with(&[stand_in(&spec).unwrap()]);
    let identity = |app: &str| Identity {
        namespace: "payments".to_owned(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        ..Identity::default()
    };
    let egress = |app: &str| {
        let to = crate::decide::EgressRequest {
            address: Some("10.0.0.1".parse().unwrap()),
            names: &[],
            protocol: 6,
            port: 1,
        };
        all.select(&identity(app)).decide_egress(&to).decision.verdict
    };
    use pcigate_common::maps::verdict;
    assert_eq!((egress("a"), egress("b")), (verdict::DENY, verdict::ALLOW));
    let exec = crate::decide::ExecRequest {
        path: Some(b"/bin/sh"),
        invoked: b"sh",
        sha256: None,
        args: None,
    };
    let exec = all.select(&identity("a")).decide_exec(&exec).decision.verdict;
    assert_eq!(exec, verdict::ALLOW, "it does not speak of programs");
    for (whom, what) in [(json!({"matchExpressions": []}), "egress"), (json!({}), "egres")] {
        let spec = json!({"selector": whom, what: {}});
        assert_eq!(stand_in(&spec), None, "{spec}");
    }
}

/// JSON like a policy's or Target's, with something wrong in it or not.
fn hostile() -> impl Strategy<Value = Json> {
    let word = prop_oneof![
        Just("allow"),
        Just("deny"),
        Just("gate"),
        Just("db"),
        Just("a/b"),
        Just("10.0.0.0/8"),
        Just("*.x.y"),
        Just(""),
        Just("4111111111111111"),
        Just("/bin/*"),
        Just("postgres"),
    ];
    let leaf = prop_oneof![
        word.prop_map(|word| json!(word)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        Just(json!(5432)),
        Just(Json::Null),
        Just(json!(true)),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let key = prop::sample::select(vec![
            "selector",
            "matchLabels",
            "namespaceSelector",
            "mode",
            "exec",
            "egress",
            "ingress",
            "mask",
            "defaultAction",
            "rules",
            "id",
            "action",
            "to",
            "cidr",
            "fqdn",
            "ports",
            "port",
            "target",
            "statements",
            "effects",
            "protocol",
            "endpoints",
            "upstream",
            "address",
            "tls",
            "credential",
            "username",
            "secretRef",
            "name",
            "key",
            "pattern",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

fn refuses<R>(section: &Section<R>) -> bool {
    section.default_action == Action::Deny && section.rules.is_empty()
}

proptest! {
    #[test]
    fn no_resource_panics_and_what_is_wrong_lets_nobody_out_whom_it_selects(spec in hostile()) {
        let kinds = [("AgentPolicy", "n"), ("ClusterAgentPolicy", ""), ("Target", "n")];
        for (kind, namespace) in kinds {
            let called = name(namespace, "x");
            match Document::of_resource(kind, &called, &spec) {
                Ok(document) => prop_assert_eq!(document.name(), &called),
                Err(mistakes) => {
                    prop_assert!(!mistakes.to_string().contains("4111111111111111"));
                    let Some(stand_in) = Document::stand_in(kind, &called, &spec) else { continue };
                    let Document::Policy(policy) = &stand_in else { panic!("a policy") };
                    prop_assert!(policy.exec.as_ref().is_none_or(refuses));
                    prop_assert!(policy.egress.as_ref().is_none_or(refuses));
                    prop_assert!(policy.ingress.as_ref().is_none_or(refuses));
                }
            }
        }
    }
}
