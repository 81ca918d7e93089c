//! Turns a valid input into one that is nearly valid, so that a run needs no corpus to get deep.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// One replaced stretch.
#[derive(Arbitrary, Debug)]
pub struct Patch<'a> {
    at: u16,
    removed: u8,
    inserted: Inserted<'a>,
}

#[derive(Arbitrary, Debug)]
enum Inserted<'a> {
    Bytes(&'a [u8]),
    /// One of the format's own words.
    Word(u8),
    /// A stretch of the valid input itself: from where, how long.
    Copy(u16, u8),
}

/// `valid` with all patches applied. `words` are pieces the format gives a meaning to.
#[must_use]
pub fn damaged(valid: &[u8], words: &[&str], patches: &[Patch<'_>]) -> Vec<u8> {
    let mut text = valid.to_vec();
    for patch in patches {
        let at = usize::from(patch.at) % (text.len() + 1);
        let end = text.len().min(at + usize::from(patch.removed));
        let inserted = match patch.inserted {
            Inserted::Bytes(bytes) => bytes,
            Inserted::Word(number) => match words.len() {
                0 => b"",
                count => words[usize::from(number) % count].as_bytes(),
            },
            Inserted::Copy(from, length) => {
                let from = usize::from(from) % (valid.len() + 1);
                &valid[from..valid.len().min(from + usize::from(length))]
            }
        };
        text.splice(at..end, inserted.iter().copied());
    }
    text
}

/// What YAML gives a meaning to, card numbers, and the words of the documents.
#[rustfmt::skip]
pub const YAML_WORDS: &[&str] = &[
    "\n", "\n  ", "\n- ", ": ", "{", "}", "[", "]", ", ", "? ", "|\n", ">-\n", "---\n", "...\n",
    "&a ", "*a", "!!str ", "!x ", "%YAML 1.2\n", "%TAG ! x\n", "\"", "'", "\\x0a", "#", "\u{feff}",
    "\t", "\r", "~", "null", "true", "-1", "1e999", "0x1f", ".nan", "4111111111111111",
    "4111 1111 1111 1111", "'5555-5555-5555-4444'", "378282246310005: ", "/**", "*", "?", "/bin/sh",
    "10.0.0.0/8", "::/0", "fd00::/16", "AgentPolicy", "ClusterAgentPolicy", "Target", "metadata: ",
    "namespace: ", "namespaceSelector: {}", "selector: {}", "matchLabels: {a: b}", "mode: audit",
    "exec: ", "egress: ", "defaultAction: ", "rules: ", "id: ", "action: ", "allow", "deny", "ask",
    "gate", "paths: ", "sha256: ", "to: ", "cidr: ", "fqdn: ", "ports: ", "port: ", "protocol: ",
    "endPort: ", "target: ", "statements: ", "effects: ", "endpoints: ", "upstream: ", "tls: ",
    "{4111111111111111: 1, 4111111111111111: 2}", "matchLabels: {4111111111111111: []}",
];
