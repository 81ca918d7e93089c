//! Tests of tile paths and bundles.

use proptest::prelude::*;

use super::*;

fn path(kind: TileKind, index: u64, width: u16) -> TilePath {
    TilePath { kind, index, width }
}

#[test]
fn paths_are_those_of_the_specification() {
    // The examples of c2sp.org/tlog-tiles, "Merkle Tree".
    assert_eq!(path(TileKind::Hashes(0), 1_234_067, 256).to_string(), "tile/0/x001/x234/067");
    assert_eq!(path(TileKind::Hashes(1), 273, 112).to_string(), "tile/1/273.p/112");
    assert_eq!(path(TileKind::Entries, 5, 1).to_string(), "tile/entries/005.p/1");
}

#[test]
fn a_tree_of_70000_leaves_has_the_tiles_of_the_specification() {
    let at = |level, index| TilePath::in_tree(TileKind::Hashes(level), index, 70_000);
    assert_eq!(at(0, 272), Some(path(TileKind::Hashes(0), 272, 256)));
    assert_eq!(at(0, 273), Some(path(TileKind::Hashes(0), 273, 112)));
    assert_eq!(at(0, 274), None);
    assert_eq!(at(1, 1), Some(path(TileKind::Hashes(1), 1, 17)));
    assert_eq!(at(2, 0), Some(path(TileKind::Hashes(2), 0, 1)));
    assert_eq!(at(3, 0), None);
}

#[test]
fn paths_outside_the_grammar_are_refused() {
    for wrong in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/0/../../x",
        "/tile/0/001",
        "tile/0/001/",
        "tile/data/001",
        "tile/0/x001/x234/067/",
        "tile/0/+01",
        "checkpoint",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(TilePath::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_directory_reads_no_file_outside_the_log() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    let log = Directory::new(dir.path().join("tile"));
    assert!(log.read("../secret").is_err());
    assert!(log.read("checkpoint").unwrap().is_none());
}

proptest! {
    #[test]
    fn every_path_reads_back(level in 0_u8..=63, index in 0_u64..=u64::MAX, width in 1_u16..=256) {
        for kind in [TileKind::Entries, TileKind::Hashes(level)] {
            let tile = path(kind, index, width);
            prop_assert_eq!(TilePath::parse(&tile.to_string()), Some(tile));
        }
    }

    #[test]
    fn a_path_that_parses_is_canonical(text in "tile/(entries|[0-9]{1,3})/[x0-9/.p]{0,16}") {
        if let Some(tile) = TilePath::parse(&text) {
            prop_assert_eq!(tile.to_string(), text);
        }
    }

    #[test]
    fn a_bundle_of_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut source = std::collections::BTreeMap::new();
        source.insert("tile/entries/000.p/9".to_owned(), bytes);
        let bundle = read_bundle(&source, 9, 0).unwrap();
        let seen: Vec<_> = bundle.entries().collect();
        prop_assert!(seen.len() <= 9);
        prop_assert!(seen.iter().rev().skip(1).all(Result::is_ok));
    }
}
