//! Tests of the inclusion proof: what passes, and that nothing changed passes.

use pcigate_ledger::{SigningKey, node_hash};

use super::*;

/// The proof of leaf 1 in a tree of two leaves.
fn proof(key: &SigningKey) -> Proof {
    let (first, second) = (leaf_hash(b"first"), leaf_hash(b"second"));
    Proof {
        index: 1,
        record: b"second".to_vec(),
        hashes: vec![first.to_vec()],
        checkpoint: key.sign(2, &node_hash(&first, &second)).expect("a key can sign"),
        verifier_key: key.verifier().to_string(),
    }
}

fn key() -> SigningKey {
    SigningKey::generate("ledger.example/pci").expect("the name is valid")
}

fn wrong(proof: &Proof, key: &SigningKey) -> Option<String> {
    check(1, proof, key.verifier(), Trust::Given).wrong
}

#[test]
fn a_true_proof_passes_and_shows_what_was_checked() {
    let key = key();
    let checked = check(1, &proof(&key), key.verifier(), Trust::Given);
    let shown = checked.json();
    assert_eq!(shown["verified"], json!(true));
    assert_eq!(shown["tree_size"], json!(2));
    assert_eq!(shown["leaf_hash"], json!(hex::encode(leaf_hash(b"second"))));
    assert_eq!(shown["key_from"], json!("given"));
    assert!(
        shown["checkpoint"].as_str().is_some_and(|note| note.starts_with("ledger.example/pci"))
    );
}

#[test]
fn a_changed_record_is_found() {
    let key = key();
    let mut changed = proof(&key);
    changed.record = b"secone".to_vec();
    assert!(wrong(&changed, &key).is_some_and(|error| error.contains("root")));
}

#[test]
fn another_records_proof_is_found() {
    let key = key();
    let mut other = proof(&key);
    other.index = 0;
    assert!(wrong(&other, &key).is_some_and(|error| error.contains("record 0 instead of 1")));
}

#[test]
fn a_hash_of_the_wrong_length_is_found() {
    let key = key();
    let mut short = proof(&key);
    short.hashes = vec![vec![0; 31]];
    assert!(wrong(&short, &key).is_some());
}

#[test]
fn a_checkpoint_signed_by_another_key_is_found() {
    let (key, other) = (key(), key());
    assert!(wrong(&proof(&key), &other).is_some_and(|error| error.contains("signature")));
}

#[test]
fn a_checkpoint_is_shown_line_by_line() {
    let key = key();
    let checked = check(1, &proof(&key), key.verifier(), Trust::Collector);
    let rows = rows(&json!({"index": 1, "proof": checked.json()}));
    let lines = rows.iter().filter(|row| row[0] == "proof.checkpoint").count();
    assert_eq!(lines, 5, "origin, size, root, an empty line, a signature");
    assert_eq!(rows[0], ["index", "1"]);
}
