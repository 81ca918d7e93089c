//! Tests of verification: whole logs pass, and whatever is changed is found and named.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::SigningKey,
    testing::{entry, log},
};

type Files = BTreeMap<String, Vec<u8>>;

fn signed(size: u64, key: &SigningKey) -> Files {
    let (mut files, _) = log(size);
    // Only what this size needs: no partial tiles of smaller sizes.
    files.retain(|path, _| TilePath::parse(path).is_some_and(|tile| is_needed(tile, size)));
    let root = crate::root(&files, size).unwrap();
    files.insert("checkpoint".to_owned(), key.sign(size, &root).unwrap());
    files
}

fn is_needed(tile: TilePath, size: u64) -> bool {
    TilePath::in_tree(tile.kind, tile.index, size) == Some(tile)
}

fn check(files: &Files, key: &SigningKey) -> Result<Report, VerifyError> {
    verify(files, key.verifier(), None, |_| ())
}

#[test]
fn whole_logs_of_all_shapes_pass_and_report_progress() {
    let key = SigningKey::generate("log").unwrap();
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_536, 65_537, 66_000] {
        let files = signed(size, &key);
        let mut seen = 0;
        let report = verify(&files, key.verifier(), None, |n| seen = n).unwrap();
        assert_eq!((report.size, seen), (size, size));
        assert_eq!(report.root, crate::root(&files, size).unwrap());
    }
}

#[test]
fn every_flipped_bit_of_a_small_log_is_found_and_the_leaf_named() {
    let key = SigningKey::generate("log").unwrap();
    let whole = signed(9, &key);
    for (path, bytes) in &whole {
        for bit in 0..bytes.len() * 8 {
            let mut files = whole.clone();
            files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let error = check(&files, &key).expect_err("a flipped bit went unseen");
            if let Some(wanted) = expected_leaf(path, bit / 8) {
                assert_eq!(named_leaf(&error), Some(wanted), "{path} byte {}: {error}", bit / 8);
            }
        }
    }
}

/// The leaf a byte of a level-0 file belongs to.
fn expected_leaf(path: &str, byte: usize) -> Option<u64> {
    let tile = TilePath::parse(path)?;
    match tile.kind {
        TileKind::Hashes(0) => Some(tile.index * 256 + (byte / 32) as u64),
        TileKind::Hashes(_) => None,
        TileKind::Entries => {
            let (mut end, mut leaf) = (0, tile.index * 256);
            loop {
                end += 2 + entry(leaf).len();
                if byte < end {
                    return Some(leaf);
                }
                leaf += 1;
            }
        }
    }
}

fn named_leaf(error: &VerifyError) -> Option<u64> {
    match error {
        VerifyError::Leaf { leaf, .. } => Some(*leaf),
        VerifyError::Node { first, .. } => Some(*first),
        VerifyError::Read(
            ReadError::Cut { leaf, .. }
            | ReadError::Trailing { leaf, .. }
            | ReadError::Missing { leaf, .. }
            | ReadError::Length { leaf, .. },
        ) => Some(*leaf),
        _ => None,
    }
}

#[test]
fn a_changed_entry_is_named_with_both_files() {
    let key = SigningKey::generate("log").unwrap();
    let mut files = signed(1_500, &key);
    let position: usize = (1_024..1_234).map(|leaf| 2 + entry(leaf).len()).sum();
    files.get_mut("tile/entries/004").unwrap()[position + 2] ^= 1;
    let error = check(&files, &key).unwrap_err().to_string();
    assert_eq!(error, "leaf 1234 in tile/entries/004 does not match its hash in tile/0/004");
}

#[test]
fn a_changed_upper_hash_is_named_with_the_leaves_below_it() {
    let key = SigningKey::generate("log").unwrap();
    let mut files = signed(66_000, &key);
    files.get_mut("tile/1/000").unwrap()[3 * 32] ^= 1;
    let error = check(&files, &key).unwrap_err().to_string();
    assert!(error.contains("hash 3 in tile/1/000"), "{error}");
    assert!(error.contains("leaves 768 to 1023"), "{error}");
}

#[test]
fn a_missing_or_cut_file_is_named_with_its_first_leaf() {
    let key = SigningKey::generate("log").unwrap();
    let whole = signed(1_000, &key);
    let mut files = whole.clone();
    files.remove("tile/0/002");
    let error = check(&files, &key).unwrap_err();
    assert!(error.to_string().starts_with("tile/0/002 is missing"), "{error}");
    assert_eq!(named_leaf(&error), Some(512));
    let mut files = whole.clone();
    files.get_mut("tile/0/002").unwrap().truncate(33);
    assert_eq!(named_leaf(&check(&files, &key).unwrap_err()), Some(513));
    let mut files = whole;
    files.get_mut("tile/entries/001").unwrap().pop();
    assert_eq!(named_leaf(&check(&files, &key).unwrap_err()), Some(511));
}

#[test]
fn entries_and_tiles_replaced_together_do_not_fit_the_signature() {
    let key = SigningKey::generate("log").unwrap();
    let mut files = signed(10, &key);
    let (mut edge, mut full) = (crate::Edge::empty(), Vec::new());
    for _ in 0..10 {
        edge.append(b"forged", leaf_hash(b"forged"), &mut full).unwrap();
    }
    files.extend(edge.partial_files().into_iter().map(|f| (f.path.to_string(), f.bytes)));
    assert!(matches!(check(&files, &key), Err(VerifyError::Root { size: 10, .. })));
}

#[test]
fn a_log_signed_by_another_key_or_without_checkpoint_is_refused() {
    let (key, other) = (SigningKey::generate("log").unwrap(), SigningKey::generate("log").unwrap());
    let mut files = signed(3, &key);
    assert!(matches!(check(&files, &other), Err(VerifyError::Checkpoint(_))));
    files.remove("checkpoint");
    assert!(matches!(check(&files, &key), Err(VerifyError::NoCheckpoint)));
}

#[test]
fn a_log_extends_each_of_its_earlier_checkpoints_and_no_other() {
    let key = SigningKey::generate("log").unwrap();
    let size = 1_030;
    let files = signed(size, &key);
    for earlier in [0, 1, 100, 255, 256, 257, 512, 1_023, 1_024, 1_029, 1_030] {
        let root = crate::root(&log(earlier).0, earlier).unwrap();
        let mut since = Checkpoint { origin: "log".into(), size: earlier, root };
        verify(&files, key.verifier(), Some(&since), |_| ()).unwrap();
        since.root[0] ^= 1;
        let error = verify(&files, key.verifier(), Some(&since), |_| ()).unwrap_err();
        assert!(matches!(error, VerifyError::SinceRoot { size, .. } if size == earlier));
    }
    let larger = Checkpoint { origin: "log".into(), size: size + 1, root: [0; 32] };
    let error = verify(&files, key.verifier(), Some(&larger), |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the log had 1031 leaves and now has 1030: it was rolled back");
}

#[test]
fn a_partial_tile_that_is_gone_is_read_from_the_full_one() {
    let key = SigningKey::generate("log").unwrap();
    let mut files = signed(300, &key);
    let (grown, _) = log(700);
    for path in ["tile/0/001", "tile/entries/001"] {
        files.remove(&format!("{path}.p/44"));
        files.insert(path.to_owned(), grown[path].clone());
    }
    check(&files, &key).unwrap();
    let read: Vec<_> = crate::entries(&files, 300, 250..300).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, (250..300).map(|leaf| (leaf, entry(leaf))).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_bit_anywhere_in_a_larger_log_is_found(
        size in 1_u64..1_400, file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let key = SigningKey::generate("log").unwrap();
        let mut files = signed(size, &key);
        let path = file.get(&files.keys().cloned().collect::<Vec<_>>()).clone();
        let bytes = files.get_mut(&path).unwrap();
        prop_assume!(!bytes.is_empty());
        let at = byte.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let error = check(&files, &key);
        prop_assert!(error.is_err());
        if let Some(wanted) = expected_leaf(&path, at) {
            prop_assert_eq!(named_leaf(&error.unwrap_err()), Some(wanted));
        }
    }
}
