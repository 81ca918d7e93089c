//! The parts schemas are made of. Every list, map and text has a bound, so that the API server can
//! tell what a rule costs at most.

use serde_json::{Map, Value, json};

pub const NAMES_MAX: u64 = 64;
pub const RULES_MAX: u64 = 128;
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
pub const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A mapping; fields whose names end in `!` are required.
pub fn object(about: &str, fields: Vec<(&str, Value)>) -> Value {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for (name, schema) in fields {
        let plain = name.trim_end_matches('!');
        if plain != name {
            required.push(plain.to_owned());
        }
        assert!(properties.insert(plain.to_owned(), schema).is_none(), "{plain} twice");
    }
    let mut made = json!({"type": "object", "description": about, "properties": properties});
    if !required.is_empty() {
        made["required"] = json!(required);
    }
    made
}

/// Rules across the fields of a mapping: (CEL, what is said where it does not hold).
pub fn with_rules(mut schema: Value, rules: &[(&str, &str)]) -> Value {
    let rules = rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message}));
    schema["x-kubernetes-validations"] = rules.collect();
    schema
}

/// Text of 1 to `most` characters.
pub fn text(about: &str, most: u64) -> Value {
    json!({"type": "string", "description": about, "minLength": 1, "maxLength": most})
}

/// Text of a form.
pub fn form(about: &str, most: u64, pattern: &str) -> Value {
    let mut made = text(about, most);
    made["pattern"] = json!(pattern);
    made
}

pub fn word(about: &str, words: &[&str]) -> Value {
    json!({"type": "string", "description": about, "enum": words})
}

pub fn flag(about: &str) -> Value {
    json!({"type": "boolean", "description": about})
}

pub fn number(about: &str, least: i64, most: i64) -> Value {
    let mut made = json!({"type": "integer", "format": "int64", "description": about,
                          "minimum": least});
    if most < i64::MAX {
        made["maximum"] = json!(most);
    }
    made
}

/// A list of at least one.
#[expect(clippy::needless_pass_by_value, reason = "it is made in place")]
pub fn list(about: &str, most: u64, items: Value) -> Value {
    json!({"type": "array", "description": about, "minItems": 1, "maxItems": most, "items": items})
}

/// A list of mappings with an `id` that none of them shares.
pub fn by_id(mut list: Value) -> Value {
    list["x-kubernetes-list-type"] = json!("map");
    list["x-kubernetes-list-map-keys"] = json!(["id"]);
    list
}

pub fn labels(about: &str) -> Value {
    json!({"type": "object", "description": about, "maxProperties": NAMES_MAX,
           "additionalProperties": {"type": "string", "maxLength": 63}})
}

pub fn id() -> Value {
    form("Names the rule in records and answers; unique in its document.", 63, "^[a-z0-9-]+$")
}

pub fn cidr(about: &str) -> Value {
    form(about, 43, "^[0-9a-fA-F:.]+/[0-9]{1,3}$")
}

pub fn fqdn(about: &str) -> Value {
    const PART: &str = "[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?";
    form(about, 125, &format!("^(\\*\\.)?{PART}(\\.{PART})*$"))
}

pub fn mode(about: &str) -> Value {
    word(about, &["enforce", "audit"])
}

pub fn ports() -> Value {
    let port = object(
        "A protocol, a port of it, or both.",
        vec![
            ("port", number("Port; left out: every port.", 1, 65_535)),
            ("protocol", word("TCP where nothing is said.", &["TCP", "UDP", "SCTP"])),
        ],
    );
    let port = with_rules(
        port,
        &[("has(self.port) || has(self.protocol)", "needs a port, a protocol, or both")],
    );
    list("Protocols and ports, any of them; left out: every one.", NAMES_MAX, port)
}

/// Who answers for a rule (PCI DSS 4.0.1, 1.2.5).
pub fn about() -> Vec<(&'static str, Value)> {
    vec![
        ("owner", text("Who owns the rule (PCI DSS 1.2.5).", 253)),
        ("ticket", text("The change it came with.", 253)),
        ("justification", text("Why it is needed.", 1024)),
    ]
}

pub fn session(about: &str) -> Value {
    let number = |about| number(about, 1, i64::MAX);
    let time = |about| form(about, 16, "^[0-9]+[smh]$");
    let mut session = object(
        about,
        vec![
            ("maxRows", number("Rows of all answers.")),
            ("maxBytes", number("Bytes of all answers.")),
            ("maxStatements", number("Statements that are run.")),
            ("maxDuration", time("From the login to the end, as 90s, 15m or 8h; at most 168h.")),
            ("idle", time("How long the client may ask for nothing while nothing runs.")),
        ],
    );
    session["minProperties"] = json!(1);
    session
}

pub fn mask(about: &str) -> Value {
    let detector = object(
        "A pattern of one's own.",
        vec![
            ("name!", form("What is found is called custom:NAME.", 63, LABEL)),
            ("pattern!", text("Regular expression of bytes, at most 4096 of them a match.", 1024)),
            ("checksum", word("What a match has to hold.", &["luhn", "none"])),
        ],
    );
    let field = form("Name of a column or field.", 64, "^[ -~]+$");
    object(
        about,
        vec![
            ("default", word("What stays of a card number.", &["truncate", "last4", "full"])),
            ("cardData", flag("A right check digit alone makes a card number.")),
            ("secrets", flag("Static secrets are taken out too (PCI DSS 8.6.2).")),
            ("fields", list("Columns or fields whose values go whole.", 256, field)),
            ("detectors", list("Patterns of one's own.", NAMES_MAX, detector)),
        ],
    )
}

pub fn secret_key(about: &str) -> Value {
    object(
        about,
        vec![
            ("name!", form("Name of the Secret.", 253, SUBDOMAIN)),
            ("key!", form("Key within it.", 253, "^[-._a-zA-Z0-9]+$")),
        ],
    )
}

pub fn secret_pair(about: &str) -> Value {
    object(about, vec![("name!", form("Name of the Secret.", 253, SUBDOMAIN))])
}
