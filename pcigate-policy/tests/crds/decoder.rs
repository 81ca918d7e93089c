//! The schemas against the decoder: each mapping is asked which fields it knows, each word which
//! others there are, each number its bounds. The decoder's own error texts answer.

use std::collections::BTreeSet;

use pcigate_policy::document::{Documents, FILE_FIELDS};
use pcigate_policy::yaml::Mistake;
use serde_json::{Value, json};

use super::structural::refusals;
use super::{policy, target};

/// Kind, whether it has a namespace, schema of its `spec`.
fn specs() -> Vec<(&'static str, bool, Value)> {
    let spec = |definition: Value| {
        let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        definition.pointer(at).unwrap().clone()
    };
    vec![
        ("AgentPolicy", true, spec(policy::namespaced())),
        ("ClusterAgentPolicy", false, spec(policy::cluster())),
        ("Target", true, spec(target::definition())),
    ]
}

/// One place of a schema: how it is called in messages, and its schema.
struct Place {
    path: String,
    schema: Value,
}

fn places(path: &str, schema: &Value, all: &mut Vec<Place>) {
    all.push(Place { path: path.to_owned(), schema: schema.clone() });
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        places(&format!("{path}.{name}"), field, all);
    }
    if schema["items"].is_object() {
        places(&format!("{path}[0]"), &schema["items"], all);
    }
}

/// A document that has this value at this path and nothing else; what the decoder says of it there.
fn said(kind: &str, namespaced: bool, path: &str, value: Value) -> Vec<Mistake> {
    let mut inner = value;
    for part in path.split('.').rev() {
        inner = match part.strip_suffix("[0]") {
            Some(name) => json!({name: [inner]}),
            None => json!({part: inner}),
        };
    }
    let mut document = inner;
    document["apiVersion"] = json!("pcigate.dev/v1alpha1");
    document["kind"] = json!(kind);
    document["metadata"] = json!({"name": "x"});
    if namespaced {
        document["metadata"]["namespace"] = json!("n");
    }
    let read = Documents::read_part(&[("x", document.to_string())]);
    let mistakes = read.err().unwrap_or_default();
    mistakes.iter().filter(|one| one.field.starts_with(path)).cloned().collect()
}

fn each(check: impl Fn(&str, &Place, &dyn Fn(Value) -> Vec<Mistake>)) {
    for (kind, namespaced, spec) in specs() {
        let mut all = Vec::new();
        places("spec", &spec, &mut all);
        assert!(all.len() > 40, "{kind}: {}", all.len());
        for place in &all {
            check(kind, place, &|value| said(kind, namespaced, &place.path, value));
        }
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(", ").map(str::to_owned).collect()
}

fn names(value: &Value) -> BTreeSet<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Without `[0]`, as [`FILE_FIELDS`] has it.
fn plain(path: &str) -> String {
    path.replace("[0]", "")
}

#[test]
fn every_mapping_knows_the_fields_of_its_schema_and_no_others() {
    each(|kind, place, said| {
        let Some(properties) = place.schema["properties"].as_object() else { return };
        let unknown = format!("{}.zzz", place.path);
        let mistakes = said(json!({"zzz": 1}));
        let answer = mistakes.iter().find(|one| one.field == unknown);
        let answer = answer.unwrap_or_else(|| panic!("{kind} {}: not decoded", place.path));
        let (_, known) = answer.message.split_once("known fields: ").unwrap();
        let mut described: BTreeSet<String> = properties.keys().cloned().collect();
        for (file, instead) in FILE_FIELDS {
            let (parent, name) = file.rsplit_once('.').unwrap();
            if parent == plain(&place.path) {
                assert!(described.contains(instead), "{file}: no {instead}");
                assert!(described.insert(name.to_owned()), "{file} is for files only");
            }
        }
        assert_eq!(words(known), described, "{kind} {}", place.path);
    });
}

#[test]
fn what_the_decoder_requires_the_schema_requires_and_the_reverse() {
    each(|kind, place, said| {
        if !place.schema["properties"].is_object() {
            return;
        }
        let mistakes = said(json!({}));
        let wanted: BTreeSet<String> = mistakes
            .iter()
            .filter(|one| one.message.starts_with("is required"))
            .filter_map(|one| one.field.strip_prefix(&format!("{}.", place.path)))
            .map(str::to_owned)
            .collect();
        let described = names(&place.schema["required"]);
        let missing: Vec<_> = wanted.difference(&described).collect();
        assert!(missing.is_empty(), "{kind} {}: {missing:?} are required", place.path);
        for name in described.difference(&wanted) {
            // One of several, of which the others name files.
            let told = mistakes.iter().any(|one| one.message.contains(&format!("`{name}`")));
            assert!(told, "{kind} {}: {name} is not required", place.path);
        }
    });
}

#[test]
fn words_numbers_and_types_are_those_of_the_decoder() {
    each(|kind, place, said| {
        let at = format!("{kind} {}", place.path);
        let answer = |value: Value| {
            let mistakes = said(value.clone());
            let found = mistakes.iter().find(|one| one.field == place.path);
            found.map(|one| one.message.clone()).unwrap_or_else(|| panic!("{at} takes {value}"))
        };
        match place.schema["type"].as_str().unwrap() {
            "string" => {
                assert!(answer(json!(7)).starts_with("expected text"), "{at}");
                if place.schema["enum"].is_array() {
                    let told = answer(json!("zzz"));
                    let (_, known) = told.split_once("known: ").unwrap();
                    assert_eq!(words(known), names(&place.schema["enum"]), "{at}");
                }
            }
            "integer" => {
                let least = place.schema["minimum"].as_i64().unwrap();
                let most = place.schema["maximum"].as_i64().unwrap_or(i64::MAX);
                let bounds = format!("must be a whole number from {least} to {most}");
                assert_eq!(answer(json!(-7)), bounds, "{at}");
            }
            "boolean" => {
                assert!(answer(json!("x")).starts_with("expected true or false"), "{at}");
            }
            "array" => {
                assert!(answer(json!("x")).starts_with("expected a list"), "{at}");
                let told = said(json!([]));
                let empty = told.iter().any(|one| {
                    one.field == place.path
                        && (one.message.contains("empty list") || one.message.contains("required"))
                });
                assert!(!empty || place.schema["minItems"] == 1, "{at}");
            }
            "object" => {
                assert!(answer(json!("x")).starts_with("expected a mapping"), "{at}");
                if place.schema["additionalProperties"].is_object() {
                    let told = said(json!({"a": 1}));
                    assert!(told.iter().any(|one| one.message.starts_with("expected text")));
                }
            }
            other => panic!("{at} is {other}"),
        }
    });
}

/// Texts of which each field takes some.
const TEXTS: [&str; 38] = [
    "a",
    "a-b",
    "a.b",
    "A",
    "a_b",
    "0",
    "-",
    "a-",
    "n/x",
    "*.stripe.com",
    "api.stripe.com",
    "x_y.z",
    "10.0.0.0/8",
    "fd00::/8",
    "::/0",
    "0.0.0.0/0",
    "10.0.0.5:5432",
    "[::1]:5432",
    "db.x:1",
    "90s",
    "168h",
    "15m",
    "1x",
    "/bin/sh",
    "/usr/**",
    "-c",
    "public.cards",
    "public.*",
    "*",
    "enforce",
    "a b",
    "pg_x",
    "pcigate_",
    "Größe",
    "password",
    "tls.crt",
    "::ffff:0:0/96",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeF",
];

#[test]
fn what_the_decoder_takes_no_pattern_refuses() {
    each(|kind, place, said| {
        if place.schema["type"] != "string" {
            return;
        }
        let mut taken = 0;
        for text in TEXTS {
            if said(json!(text)).iter().any(|one| one.field == place.path) {
                continue;
            }
            taken += 1;
            let refused = refusals(&place.schema, &json!(text), &place.path);
            assert!(refused.is_empty(), "{kind}: {refused:?}");
        }
        let words = place.schema["enum"].is_array();
        assert!(taken > 0 || words, "{kind} {}: no text is taken", place.path);
    });
}

#[test]
fn the_examples_are_taken() {
    let examples = [
        include_str!("../../../deploy/examples/billing-bot.yaml"),
        include_str!("../../../deploy/examples/baseline.yaml"),
    ];
    let mut seen = 0;
    for example in examples {
        for document in pcigate_policy::yaml::read("example", example).unwrap() {
            let mut document = document.to_json();
            // What files say by names of files, custom resources say by names of Secrets.
            if let Some(credential) = document.pointer_mut("/spec/credential") {
                credential.as_object_mut().unwrap().remove("passwordFile");
                credential["secretRef"] = json!({"name": "cards-db", "key": "password"});
            }
            if let Some(tls) = document.pointer_mut("/spec/upstream/tls") {
                tls.as_object_mut().unwrap().remove("caFile");
                tls["caSecretRef"] = json!({"name": "cards-db", "key": "ca.pem"});
            }
            let kind = document["kind"].as_str().unwrap();
            let (.., schema) = specs().into_iter().find(|(of, ..)| *of == kind).unwrap();
            assert_eq!(refusals(&schema, &document["spec"], kind), [""; 0]);
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}
