//! What all definitions have in common: the frame, and the status that the agents write.

use serde_json::{Value, json};

use super::schema::{list, number, object, text, with_rules, word};

pub struct Names<'a> {
    pub kind: &'a str,
    pub plural: &'a str,
    pub short: &'a str,
    pub scope: &'a str,
    pub about: &'a str,
}

/// A definition; columns are (name, type, path).
pub fn definition(
    names: &Names<'_>,
    parts: Vec<(&str, Value)>,
    columns: &[(&str, &str, &str)],
) -> Value {
    let columns = columns
        .iter()
        .map(|(name, kind, path)| json!({"name": name, "type": kind, "jsonPath": path}));
    let api = "What version of the API this is of.";
    let mut fields = vec![
        ("apiVersion", json!({"type": "string", "description": api})),
        ("kind", json!({"type": "string", "description": "What kind of object this is."})),
        ("metadata", json!({"type": "object"})),
    ];
    fields.extend(parts);
    let mut schema = object(names.about, fields);
    if names.kind != "NodeCoverage" {
        let label = "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')";
        let message = "metadata.name must be a DNS label: at most 63 characters without dots";
        schema = with_rules(schema, &[(label, message)]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.pcigate.dev", names.plural),
            "labels": {"app.kubernetes.io/name": "pcigate"},
        },
        "spec": {
            "group": "pcigate.dev",
            "scope": names.scope,
            "names": {
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "singular": names.kind.to_lowercase(),
                "shortNames": [names.short],
                "categories": ["pcigate"],
            },
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns.collect::<Vec<_>>(),
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
            }],
        },
    })
}

/// The columns of a document that nodes put in force.
pub const STATUS_COLUMNS: [(&str, &str, &str); 5] = [
    ("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status"),
    ("Enforced", "string", ".status.conditions[?(@.type==\"Enforced\")].status"),
    ("Nodes", "integer", ".status.nodes.enforced"),
    ("Rejected", "integer", ".status.nodes.rejected"),
    ("Age", "date", ".metadata.creationTimestamp"),
];

/// The states a document can have on a node.
pub const STATES: [&str; 4] = ["enforced", "audited", "notEnforceable", "rejected"];

/// What the nodes together make of a document.
pub fn status() -> Value {
    let count = |about| number(about, 0, i64::MAX);
    let nodes = object(
        "How many nodes have the newest version, by what they make of it.",
        vec![
            ("enforced", count("Nodes that enforce all of it.")),
            ("audited", count("Nodes that only report what it would refuse.")),
            ("notEnforceable", count("Nodes that cannot enforce a part of it.")),
            ("rejected", count("Nodes that do not use it; an earlier version may be in force.")),
        ],
    );
    let detail = object(
        "A node that does not enforce all of it, and why.",
        vec![
            ("node!", text("Name of the node.", 253)),
            ("state!", word("What it makes of it.", &STATES)),
            ("reason", json!({"type": "string", "maxLength": 1024, "description": "Why."})),
        ],
    );
    let mut details = list("The first nodes that do not enforce all of it.", 20, detail);
    details["minItems"] = json!(0);
    object(
        "What the nodes make of it; written by the agents.",
        vec![
            ("observedGeneration", count("The generation this speaks of.")),
            (
                "hash",
                json!({"type": "string", "maxLength": 64,
                            "description": "First bytes of the SHA-256 of its content."}),
            ),
            ("nodes", nodes),
            ("workloads", count("Containers and pods it selects, on all nodes.")),
            ("conditions", conditions()),
            ("details", details),
        ],
    )
}

/// `metav1.Condition`.
fn conditions() -> Value {
    let text = |about: &str, least: u64, most: u64| {
        let mut made = json!({"type": "string", "description": about});
        (made["minLength"], made["maxLength"]) = (json!(least), json!(most));
        made
    };
    let condition = object(
        "Accepted: the nodes can use it. Enforced: all of them enforce all of it.",
        vec![
            ("type!", text("Accepted or Enforced.", 1, 316)),
            ("status!", word("Whether it is so.", &["True", "False", "Unknown"])),
            ("reason!", text("Why, in one word.", 1, 1024)),
            ("message!", text("Why.", 0, 32_768)),
            ("observedGeneration", number("The generation this speaks of.", 0, i64::MAX)),
            (
                "lastTransitionTime!",
                json!({"type": "string", "format": "date-time",
                                           "description": "Since when it is so."}),
            ),
        ],
    );
    json!({"type": "array", "description": "In standard form.", "maxItems": 8, "items": condition,
           "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
}
