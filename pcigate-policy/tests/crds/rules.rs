//! The rules across fields (CEL), run as the API server runs them, against the decoder: each is
//! broken by a document that the decoder refuses too, and none by one that it takes.

use std::collections::BTreeSet;

use cel::{Context, Program, Value as Cel};
use pcigate_policy::document::{Document, ObjectName};
use serde_json::{Value, json};

use super::structural::refusals;
use super::{policy, target};

fn spec_of(kind: &str) -> Value {
    let definition = match kind {
        "AgentPolicy" => policy::namespaced(),
        "ClusterAgentPolicy" => policy::cluster(),
        _ => target::definition(),
    };
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer(at).unwrap().clone()
}

/// The messages of the rules that a value breaks.
fn broken(schema: &Value, value: &Value, all: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap();
        let program = Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut context = Context::default();
        context.add_variable("self", value.clone()).unwrap();
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => all.push(rule["message"].as_str().unwrap().to_owned()),
            other => panic!("{text} of {value}: {other:?}"),
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        if schema["properties"][name].is_object() {
            broken(&schema["properties"][name], inner, all);
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        broken(&schema["items"], inner, all);
    }
}

/// What the rules say of a document, and what the decoder says.
fn both(kind: &str, spec: &Value) -> (Vec<String>, Option<String>) {
    let schema = spec_of(kind);
    let mut rules = Vec::new();
    broken(&schema, spec, &mut rules);
    let namespace = if kind == "ClusterAgentPolicy" { "" } else { "n" };
    let name = ObjectName { namespace: namespace.to_owned(), name: "x".to_owned() };
    let decoded = Document::of_resource(kind, &name, spec);
    (rules, decoded.err().map(|mistakes| mistakes.to_string()))
}

/// A policy with one rule in a section, changed.
fn policy_with(section: &str, change: Value) -> Value {
    let mut rule = json!({"id": "a", "action": "deny"});
    merge(&mut rule, change);
    let rules = json!({"defaultAction": "allow", "rules": [rule]});
    json!({"selector": {}, section: rules})
}

fn gate(change: Value) -> Value {
    let statement = json!({"id": "s", "action": "allow", "effects": ["read"]});
    let mut rule = json!({"action": "gate", "target": "db", "statements": [statement]});
    merge(&mut rule, change);
    policy_with("egress", rule)
}

fn statement(change: Value) -> Value {
    let mut statement = json!({"id": "s", "action": "allow", "effects": ["read"]});
    merge(&mut statement, change);
    gate(json!({"statements": [statement]}))
}

fn target_with(change: Value) -> Value {
    let mut spec = json!({"protocol": "postgres", "upstream": {"address": "db:5432"},
                          "endpoints": [{"cidr": "10.0.0.5/32", "port": 5432}]});
    merge(&mut spec, change);
    spec
}

fn merge(target: &mut Value, change: Value) {
    match change {
        Value::Object(fields) if target.is_object() => {
            for (key, value) in fields {
                merge(&mut target[key], value);
            }
        }
        other => *target = other,
    }
}

fn right() -> Vec<(&'static str, Value)> {
    let secret = json!({"name": "s", "key": "k"});
    let pair = json!({"name": "s"});
    vec![
        ("AgentPolicy", policy_with("exec", json!({"paths": ["/bin/sh"], "args": ["-c"]}))),
        ("AgentPolicy", policy_with("exec", json!({"action": "allow", "paths": ["/bin/sh"]}))),
        ("AgentPolicy", policy_with("egress", json!({}))),
        (
            "AgentPolicy",
            policy_with(
                "egress",
                json!({"action": "allow", "to": [{"fqdn": "*.a.b"}],
            "ports": [{"protocol": "UDP"}, {"port": 1}]}),
            ),
        ),
        ("AgentPolicy", policy_with("ingress", json!({}))),
        ("AgentPolicy", gate(json!({"session": {"idle": "90s"}}))),
        ("AgentPolicy", statement(json!({"action": "deny", "functions": ["f"]}))),
        ("AgentPolicy", statement(json!({"effects": ["function"], "functions": ["f"]}))),
        (
            "AgentPolicy",
            json!({"selector": {}, "mode": "audit", "egress":
            {"defaultAction": "deny", "rules": [{"id": "a", "action": "deny", "mode": "audit"}]}}),
        ),
        ("ClusterAgentPolicy", json!({"namespaceSelector": {}, "selector": {}, "mask": {}})),
        ("Target", target_with(json!({"endpoints": [{"service": "db", "port": 1}]}))),
        (
            "Target",
            target_with(json!({
                "upstream": {"tls": {"mode": "verify-full", "caSecretRef": secret,
                                     "serverName": "a"}},
                "credential": {"username": "u", "secretRef": secret,
                               "certificateSecretRef": pair},
                "clientTls": {"secretRef": pair},
                "token": {"required": true, "audience": "a", "issuer": "i",
                          "jwksSecretRef": secret},
                "sessionRole": {"grants": ["g"], "prefix": "p_"},
            })),
        ),
        (
            "Target",
            target_with(json!({
                "clientTls": {"secretRef": pair},
                "token": {"required": true, "audience": "a", "tokenReview": true},
            })),
        ),
    ]
}

fn wrong() -> Vec<(&'static str, Value)> {
    let secret = json!({"name": "s", "key": "k"});
    let pair = json!({"name": "s"});
    let user = json!({"username": "u", "secretRef": secret});
    let agent = |spec| ("AgentPolicy", spec);
    let to_target = |change| ("Target", target_with(change));
    let one = |id: &str, mode: &str| {
        json!({"defaultAction": "deny", "rules": [
        {"id": id, "action": "deny", "mode": mode}]})
    };
    let ports = |port| json!({"action": "allow", "to": [{"cidr": "10.0.0.0/8"}], "ports": [port]});
    vec![
        agent(json!({"selector": {}})),
        agent(json!({"selector": {}, "mode": "audit", "egress": one("a", "enforce")})),
        agent(json!({"selector": {}, "mode": "audit", "ingress": one("a", "enforce")})),
        agent(json!({"selector": {}, "egress": one("a", "audit"), "ingress": one("a", "audit")})),
        agent(policy_with("exec", json!({}))),
        agent(policy_with("exec", json!({"action": "allow", "paths": ["/a"], "args": ["-c"]}))),
        agent(policy_with("egress", json!({"to": [{"cidr": "10.0.0.0/8", "fqdn": "a.b"}]}))),
        agent(policy_with("egress", json!({"to": [{}]}))),
        agent(policy_with("egress", ports(json!({})))),
        agent(policy_with("egress", json!({"action": "allow"}))),
        agent(policy_with("egress", json!({"session": {"idle": "1s"}}))),
        agent(policy_with("egress", json!({"target": "db"}))),
        agent(policy_with(
            "egress",
            json!({"statements": [
            {"id": "s", "action": "allow", "effects": ["read"]}]}),
        )),
        agent(policy_with("egress", json!({"action": "gate", "target": "db"}))),
        agent(policy_with("ingress", json!({"action": "allow"}))),
        agent(gate(json!({"to": [{"cidr": "10.0.0.0/8"}]}))),
        agent(statement(json!({"action": "deny", "maxRows": 1}))),
        agent(statement(json!({"effects": ["function"]}))),
        to_target(json!({"endpoints": [{"cidr": "10.0.0.0/8", "fqdn": "a.b", "port": 1}]})),
        to_target(json!({"endpoints": [{"port": 1}]})),
        to_target(json!({"upstream": {"tls": {"mode": "require", "serverName": "a"}}})),
        to_target(json!({"credential": {"username": "u"}})),
        to_target(json!({"credential": {"username": "u", "certificateSecretRef": pair},
                         "upstream": {"tls": {"mode": "disable"}}})),
        to_target(json!({"token": {"required": true, "audience": "a", "issuer": "i",
                                   "jwksSecretRef": secret}})),
        to_target(json!({"token": {"required": true, "audience": "a", "issuer": "i",
                                   "tokenReview": true}, "clientTls": {"secretRef": pair}})),
        to_target(json!({"token": {"required": true, "audience": "a"},
                         "clientTls": {"secretRef": pair}})),
        to_target(json!({"sessionRole": {"grants": ["g"]}})),
        to_target(json!({"sessionRole": {"grants": ["u"]}, "credential": user})),
        to_target(json!({"protocol": "http", "sessionRole": {"grants": ["g"]},
                         "credential": user})),
    ]
}

#[test]
fn the_rules_hold_for_what_the_decoder_takes() {
    for (kind, spec) in right() {
        assert_eq!(both(kind, &spec), (vec![], None), "{spec}");
        assert_eq!(refusals(&spec_of(kind), &spec, kind), [""; 0]);
    }
}

#[test]
fn each_rule_is_broken_by_something_that_the_decoder_refuses() {
    let mut seen = BTreeSet::new();
    for (kind, spec) in wrong() {
        let (rules, decoded) = both(kind, &spec);
        assert!(!rules.is_empty(), "no rule is broken by {spec}");
        assert!(decoded.is_some(), "the decoder takes {spec}, but {rules:?}");
        seen.extend(rules);
    }
    let mut all = BTreeSet::new();
    for kind in ["AgentPolicy", "ClusterAgentPolicy", "Target"] {
        messages(&spec_of(kind), &mut all);
    }
    assert_eq!(seen, all, "rules that no document here breaks");
}

fn messages(schema: &Value, all: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        all.insert(rule["message"].as_str().unwrap().to_owned());
    }
    for inner in schema["properties"].as_object().into_iter().flatten() {
        messages(inner.1, all);
    }
    if schema["items"].is_object() {
        messages(&schema["items"], all);
    }
}
