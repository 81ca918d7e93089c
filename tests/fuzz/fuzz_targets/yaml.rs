//! YAML: nodes or mistakes, never both; no mistake shows a card number; nesting is bounded.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::cards;
use pcigate_fuzz::damage::{Patch, YAML_WORDS, damaged};
use pcigate_policy::yaml::{DEPTH_MAX, Node, Value, read, read_one};

const VALID: &str = "# comment\na: {b: [1, -2.5, ~, true], 'c d': \"x\\ty\"}\nlist:\n- - 1\n\
    \x20 - |\n    text\n    more\n- >-\n  folded\n  text\n? key\n: value\n---\n\
    !!map {k: !!str 1}\n...\n";

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Text(&'a str),
    Damaged(Vec<Patch<'a>>),
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn check(text: &str) {
    let one = read_one("f.yaml", text);
    match read("f.yaml", text) {
        Ok(nodes) => {
            assert_eq!(one.is_ok(), nodes.len() == 1);
            for node in &nodes {
                assert!(depth(node) <= DEPTH_MAX);
                // The JSON form is JSON.
                let _ = node.to_json().to_string();
            }
        }
        Err(mistakes) => {
            assert!(one.is_err() && !mistakes.is_empty());
            let message = mistakes.to_string();
            assert!(!cards::shown_in(message.as_bytes()), "{message}");
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Text(text) => check(text),
        Input::Damaged(patches) => {
            let bytes = damaged(VALID.as_bytes(), YAML_WORDS, &patches);
            check(&String::from_utf8_lossy(&bytes));
        }
    }
});
