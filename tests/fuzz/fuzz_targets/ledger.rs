//! Ledger files: verification passes only for the entries that were signed; no file and no signed
//! size, however large, makes a reader panic.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::damage::{Patch, damaged};
use pcigate_fuzz::ledger::{Files, entry, log};
use pcigate_ledger::{
    Checkpoint, Edge, SigningKey, TilePath, entries, prove_consistency, prove_inclusion,
    read_bundle, read_hashes, root, verify,
};

const SIZE: u64 = 300;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate("fuzz").expect("a valid name"));

static LOG: LazyLock<Files> = LazyLock::new(|| {
    let (edge, mut files) = log(SIZE);
    let note = KEY.sign(SIZE, &edge.root()).expect("signing works");
    files.insert("checkpoint".to_owned(), note);
    files
});

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Damaged(Vec<(u8, Vec<Patch<'a>>)>),
    Hostile { size: u64, root: [u8; 32], since: u64, files: Vec<(u8, &'a [u8])>, index: u64 },
    Path(&'a str),
}

/// A log of which something was changed verifies only where the change did not matter.
fn check_damaged(damage: &[(u8, Vec<Patch<'_>>)]) {
    let mut files = LOG.clone();
    let paths: Vec<String> = files.keys().cloned().collect();
    for (number, patches) in damage {
        let path = &paths[usize::from(*number) % paths.len()];
        let content = damaged(&files[path], &[], patches);
        files.insert(path.clone(), content);
    }
    let Ok(report) = verify(&files, KEY.verifier(), None, |_| ()) else { return };
    assert_eq!(report.size, SIZE);
    for (expected, read) in (0..).zip(entries(&files, SIZE, 0..SIZE)) {
        assert_eq!(read.expect("a verified entry"), (expected, entry(expected)));
    }
}

/// A log whose owner signs what he likes.
fn check_hostile(files: &Files, size: u64, since: &Checkpoint, index: u64) {
    let _ = verify(files, KEY.verifier(), None, |_| ());
    let _ = verify(files, KEY.verifier(), Some(since), |_| ());
    let _ = Edge::load(files, size, &since.root);
    let _ = entries(files, size, index..size).take(600).count();
    let _ = root(files, size);
    let _ = prove_inclusion(files, size, index);
    let _ = prove_consistency(files, index, size);
    let _ = read_bundle(files, size, index).map(|bundle| bundle.entries().count());
    for level in 0..9 {
        let _ = read_hashes(files, size, level, index);
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Damaged(damage) => check_damaged(&damage),
        Input::Hostile { size, root, since, files, index } => {
            let mut all = LOG.clone();
            let paths: Vec<String> = LOG.keys().cloned().collect();
            for (number, content) in files {
                all.insert(paths[usize::from(number) % paths.len()].clone(), content.to_vec());
            }
            all.insert("checkpoint".to_owned(), KEY.sign(size, &root).expect("signing works"));
            let since = Checkpoint { origin: "fuzz".to_owned(), size: since, root };
            check_hostile(&all, size, &since, index);
        }
        Input::Path(text) => {
            if let Some(path) = TilePath::parse(text) {
                assert_eq!(path.to_string(), text);
                let _ = path.is_within(u64::MAX);
            }
        }
    }
});
