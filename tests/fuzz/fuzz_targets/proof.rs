//! Inclusion and consistency proofs: what is accepted is true of the one log there is.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::damage::{Patch, damaged};
use pcigate_fuzz::ledger::{Files, entry, log};
use pcigate_ledger::{
    Hash, check_consistency, check_inclusion, leaf_hash, prove_consistency, prove_inclusion,
};

const SIZE: u64 = 300;

static LOG: LazyLock<(Hash, Files)> = LazyLock::new(|| {
    let (edge, files) = log(SIZE);
    (edge.root(), files)
});
/// The root of every earlier tree.
static ROOTS: LazyLock<Vec<Hash>> =
    LazyLock::new(|| (0..=SIZE).map(|size| log(size).0.root()).collect());

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// The tree or leaf the proof was made for, and the one it is shown for.
    made_for: u64,
    shown_for: u64,
    root_of: u64,
    patches: Vec<Patch<'a>>,
    sizes: [u64; 2],
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks::<32>().0.to_vec()
}

fuzz_target!(|input: Input<'_>| {
    let (root, files) = &*LOG;
    let changed = |proof: &[Hash]| hashes(&damaged(proof.as_flattened(), &[], &input.patches));

    let (made_for, shown_for) = (input.made_for % SIZE, input.shown_for);
    let proof = prove_inclusion(files, SIZE, made_for).expect("the log is whole");
    let leaf = leaf_hash(&entry(made_for));
    assert_eq!(check_inclusion(made_for, SIZE, &leaf, &proof, root), Ok(()));
    let proof = changed(&proof);
    if check_inclusion(shown_for, SIZE, &leaf, &proof, root).is_ok() {
        assert_eq!(shown_for, made_for);
    }
    let _ = check_inclusion(input.sizes[0], input.sizes[1], &leaf, &proof, root);

    let (old, claimed) = (input.made_for % (SIZE + 1), input.root_of % (SIZE + 1));
    let old_root = |size: u64| ROOTS[size as usize];
    let proof = prove_consistency(files, old, SIZE).expect("the log is whole");
    assert_eq!(check_consistency(old, &old_root(old), SIZE, root, &proof), Ok(()));
    let proof = changed(&proof);
    if check_consistency(shown_for, &old_root(claimed), SIZE, root, &proof).is_ok() {
        assert_eq!(shown_for, claimed);
    }
    let _ = check_consistency(input.sizes[0], root, input.sizes[1], root, &proof);
});
