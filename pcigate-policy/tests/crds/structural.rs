//! The rules of structural schemas (Kubernetes documentation, "Specifying a structural schema"),
//! and whether a value agrees with one.

use serde_json::Value;

use super::all;

fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
    check(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, check);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&format!("{path}[]"), &schema[inner], check);
        }
    }
}

fn schemas() -> Vec<(String, Value)> {
    let schema = |definition: Value| {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let at = "/spec/versions/0/schema/openAPIV3Schema";
        (kind, definition.pointer(at).unwrap().clone())
    };
    all().into_iter().map(|(_, definition)| schema(definition)).collect()
}

const KNOWN: [&str; 20] = [
    "type",
    "description",
    "properties",
    "additionalProperties",
    "required",
    "items",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
];

#[test]
fn every_schema_is_structural_described_and_bounded() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            let of = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
            let is_frame = path.matches('.').count() == 1
                && ["apiVersion", "kind", "metadata"].iter().any(|name| path.ends_with(name));
            for key in schema.as_object().unwrap().keys() {
                assert!(KNOWN.contains(&key.as_str()), "{path}: {key}");
            }
            let is_bare = is_frame || path.ends_with("[]") && of == "string";
            assert!(is_bare || schema["description"].is_string(), "{path} is not described");
            if is_frame {
                return;
            }
            let bounded = match of {
                "string" => {
                    schema["maxLength"].is_u64()
                        || schema["enum"].is_array()
                        || schema["format"] == "date-time"
                }
                "array" => schema["maxItems"].is_u64() && schema["items"].is_object(),
                "object" => {
                    let fields = schema["properties"].is_object();
                    let any = schema["additionalProperties"].is_object();
                    assert!(fields != any, "{path}: fields or any fields, not both");
                    fields || schema["maxProperties"].is_u64()
                }
                "integer" => schema["minimum"].is_i64() || schema["minimum"].is_u64(),
                _ => of == "boolean",
            };
            assert!(bounded, "{path} has no bound");
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(schema["properties"][name.as_str().unwrap()].is_object(), "{path}: {name}");
            }
            for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                let required = schema["items"]["required"].as_array().unwrap();
                assert!(required.contains(key), "{path}: a key must be required");
            }
            if let Some(pattern) = schema["pattern"].as_str() {
                regex::Regex::new(pattern).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        });
    }
}

#[test]
fn rules_across_fields_speak_of_fields_there_are() {
    let named = regex::Regex::new(r"self((?:\.[a-zA-Z0-9]+)+)(\()?").unwrap();
    let mut rules = 0;
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                rules += 1;
                let text = rule["rule"].as_str().unwrap();
                assert!(!rule["message"].as_str().unwrap().contains('\n'), "{path}");
                for found in named.captures_iter(text) {
                    let mut names: Vec<&str> = found[1].split('.').skip(1).collect();
                    if found.get(2).is_some() {
                        // A function of what stands before it.
                        names.pop();
                    }
                    let mut at = schema;
                    for name in names {
                        at = &at["properties"][name];
                        let known = at.is_object() || path == kind;
                        assert!(known, "{path}: {text}: no {name}");
                    }
                }
            }
        });
    }
    assert!(rules > 25, "{rules}");
}

/// Why a value does not agree with a schema; rules across fields are not looked at.
pub fn refusals(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let most = |of: &str| schema[of].as_u64().unwrap_or(u64::MAX);
    let least = |of: &str| schema[of].as_u64().unwrap_or(0);
    let right = match (schema["type"].as_str().unwrap_or_default(), value) {
        ("string", Value::String(text)) => {
            let length = text.chars().count() as u64;
            let words = schema["enum"].as_array();
            let pattern = schema["pattern"].as_str();
            (least("minLength")..=most("maxLength")).contains(&length)
                && words.is_none_or(|words| words.contains(value))
                && pattern.is_none_or(|of| regex::Regex::new(of).unwrap().is_match(text))
        }
        ("integer", Value::Number(number)) => number.as_i64().is_some_and(|number| {
            number >= schema["minimum"].as_i64().unwrap_or(i64::MIN)
                && number <= schema["maximum"].as_i64().unwrap_or(i64::MAX)
        }),
        ("array", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                all.extend(refusals(&schema["items"], item, &format!("{path}[{index}]")));
            }
            (least("minItems")..=most("maxItems")).contains(&(items.len() as u64))
        }
        ("object", Value::Object(fields)) => {
            for (name, value) in fields {
                let inner = match &schema["additionalProperties"] {
                    Value::Object(_) => &schema["additionalProperties"],
                    _ => &schema["properties"][name.as_str()],
                };
                let at = format!("{path}.{name}");
                if inner.is_object() {
                    all.extend(refusals(inner, value, &at));
                } else {
                    all.push(format!("{at} is not known"));
                }
            }
            let required = schema["required"].as_array().into_iter().flatten();
            let mut required = required.filter_map(Value::as_str);
            (least("minProperties")..=most("maxProperties")).contains(&(fields.len() as u64))
                && required.all(|name| fields.contains_key(name))
        }
        ("boolean", Value::Bool(_)) => true,
        _ => false,
    };
    if !right {
        all.push(format!("{path}: {value} does not agree"));
    }
    all
}
