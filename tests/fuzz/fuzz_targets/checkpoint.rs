//! Signed checkpoints and keys: with a key that has signed one checkpoint, no other ever opens.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::damage::{Patch, damaged};
use pcigate_ledger::{Checkpoint, VerifierKey, leaf_hash};

/// Its private half is gone.
const KEY: &str = "fuzz.example/log+825ed30f+AUVz7dqHJ9nvvlNBXccYe7OLFWJhbRqweAe/rv25nViL";
const NOTE: &str = "fuzz.example/log\n1000\n/HSWGsO+cVbN0jm69SnyJFj4EXEt1mGqtH2JVCk85sc=\n\n\
    — fuzz.example/log gl7TD7bdXFm3WaadPKGhlZ3pR+GaqsoqcG2RkAw72\
    VhDKrtw3HA0UT0dvQeG8WBh8sIXxjBhGKZDVc3kZyMRPupViww=\n";
const SIZE: u64 = 1_000;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Note(&'a [u8]),
    DamagedNote(Vec<Patch<'a>>),
    Key(&'a str),
    DamagedKey(Vec<Patch<'a>>),
}

const WORDS: &[&str] = &["\n", "\n\n", "\u{2014} ", "fuzz.example/log", " ", "+", "=", "0", "1000"];

fn open(note: &[u8]) {
    let key = VerifierKey::parse(KEY).expect("the key is well-formed");
    let signed =
        Checkpoint { origin: "fuzz.example/log".to_owned(), size: SIZE, root: leaf_hash(b"fuzz") };
    if let Ok(opened) = key.open(note) {
        assert_eq!(opened, signed);
    }
    assert_eq!(key.open(NOTE.as_bytes()).expect("the checkpoint is whole"), signed);
}

fn parse(text: &str) {
    let Ok(key) = VerifierKey::parse(text) else { return };
    let again = VerifierKey::parse(&key.to_string()).expect("a printed key is a key");
    assert_eq!(again.name(), key.name());
    // Another key, even one of the same name, has not signed it.
    assert!(key.to_string() == KEY || key.open(NOTE.as_bytes()).is_err());
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Note(note) => open(note),
        Input::DamagedNote(patches) => open(&damaged(NOTE.as_bytes(), WORDS, &patches)),
        Input::Key(text) => parse(text),
        Input::DamagedKey(patches) => {
            parse(&String::from_utf8_lossy(&damaged(KEY.as_bytes(), WORDS, &patches)));
        }
    }
});
