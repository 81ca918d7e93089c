//! Tests of reading and of decoding by hand.

use proptest::prelude::*;

use super::{Fields, Mistakes, Node, Value, read, read_one, shown};

fn mistakes(text: &str) -> Vec<String> {
    let error = read("f.yaml", text).err().unwrap_or_default();
    error.iter().map(ToString::to_string).collect()
}

fn one(text: &str) -> Node {
    read_one("f.yaml", text).unwrap()
}

#[test]
fn documents_know_their_lines() {
    let nodes = read("f.yaml", "# one\na: 1\n---\n---\nb:\n  - x\n  - y: [true]\n...\n").unwrap();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[0].line, 2);
    let list = nodes[1].get("b").unwrap();
    let Value::List(items) = &list.value else { panic!("no list") };
    assert_eq!(items[0].as_text(), Some("x"));
    assert_eq!(items[1].get("y").unwrap().line, 7);
}

#[test]
fn json_is_read_as_it_is() {
    let node = one(r#"{"a": [1, -2.5, true, null, "x\n\u00e9"], "b": {"c": "1"}}"#);
    let json: serde_json::Value = serde_json::json!(
        {"a": [1, -2.5, true, null, "x\n\u{e9}"], "b": {"c": "1"}});
    assert_eq!(node.to_json(), json);
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let node = one("[yes, 0x10, 0o17, 1e3, +5, 1.2.3.4, 10.0.0.0/8, ~, .5, 1-2, 0x, '7', e]");
    let json = serde_json::json!([
        "yes",
        16,
        15,
        1000.0,
        5,
        "1.2.3.4",
        "10.0.0.0/8",
        null,
        0.5,
        "1-2",
        "0x",
        "7",
        "e"
    ]);
    assert_eq!(node.to_json(), json);
}

#[test]
fn duplicate_keys_aliases_and_tags_are_all_refused_at_once() {
    let text = "a: &x 1\na: 2\nb: *x\nc: !secret 3\nd: !!str 4\n? [e]\n: f\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("f.yaml:2: a: given twice"), "{found:#?}");
    assert!(found[1].starts_with("f.yaml:3: an alias"), "{found:#?}");
    assert!(found[2].starts_with("f.yaml:4: the tag `!secret`"), "{found:#?}");
    assert!(found[3].starts_with("f.yaml:6: a key is a list"), "{found:#?}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let found = mistakes("a: 1\nb: [1, 2\nc: 3\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("f.yaml:3: not valid YAML: "), "{found:?}");
}

#[test]
fn nesting_is_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(mistakes(&deep(64)), [""; 0]);
    assert!(mistakes(&deep(65))[0].contains("nested deeper than 64 levels"));
    assert_eq!(mistakes(&deep(100_000)).len(), 1);
    let block = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    assert!(mistakes(&block)[0].contains("nested deeper than 64 levels"));
}

#[test]
fn every_mistake_of_a_mapping_is_noted_once_with_its_path() {
    let root = one("name: 7\nport: 70000\nmode: enfroce\nlist: [a, 1]\nempty:\nprotcol: TCP\n");
    let mut noted = Mistakes::default();
    let mut top = Fields::of(&root, "spec", &mut noted);
    assert_eq!(top.required_string("name"), "");
    assert_eq!(top.integer("port", 1..=65_535), None);
    assert_eq!(top.one_of("mode", &[("enforce", 1), ("audit", 2)]), None);
    assert_eq!(top.string_list("list"), ["a"]);
    assert!(top.fields("empty").is_none());
    assert_eq!(top.required_string("missing"), "");
    assert_eq!(top.string("protocol"), None);
    top.finish();
    let text = noted.into_result(()).unwrap_err().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "f.yaml:1: spec.name: expected text, found a number; put it in quotes",
            "f.yaml:1: spec.missing: is required; add it",
            "f.yaml:2: spec.port: must be a whole number from 1 to 65535",
            "f.yaml:3: spec.mode: `enfroce` is not known; did you mean `enforce`? \
             known: enforce, audit",
            "f.yaml:4: spec.list[1]: expected text, found a number; put it in quotes",
            "f.yaml:5: spec.empty: has no value; give it one or remove the field",
            "f.yaml:6: spec.protcol: unknown field; did you mean `protocol`? \
             known fields: name, port, mode, list, empty, missing, protocol",
        ]
    );
}

#[test]
fn a_configuration_is_one_document() {
    assert!(read_one("f.yaml", "# nothing\n").is_err());
    assert!(read_one("f.yaml", "a: 1\n---\nb: 2\n").is_err());
}

#[test]
fn messages_never_quote_a_card_number_or_control_characters() {
    assert!(!shown("card 4111111111111111").contains("4111"));
    assert!(!shown("4111-1111-1111-1111 x").contains("1111"));
    assert_eq!(shown("a\nb\"c"), "`a\\nb\"c`");
    assert_eq!(shown("10.0.0.1/8"), "`10.0.0.1/8`");
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = read("f.yaml", &text);
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", ": ", ":", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "&x ", "*x", "!t ",
            "? ", "|", ">", "|-2\n", "---\n", "...\n", "\"", "'", "\\", "#", "%YAML 1.2\n", "~",
            "1", "\u{feff}", "é", "\r", "\0", "<<",
        ]), 0..40)
    ) {
        let _ = read("f.yaml", &parts.concat());
    }
}
