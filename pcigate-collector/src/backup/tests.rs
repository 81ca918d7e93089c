//! Backups of a ledger that grows, restores of them, and what is refused.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::{
    ledger::{Leaf, Ledger},
    restore::{self, RestoreError},
};

const LOG: &str = "test/log";

struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, state: &str) -> Ledger {
        Ledger::open(&self.path(state), LOG).unwrap()
    }

    fn append(&self, count: u64) {
        let mut ledger = self.open("state");
        let from = ledger.durable().size;
        ledger.commit(&leaves(from, count)).unwrap();
    }

    fn order(&self, to: &str, with_key: bool) -> Order {
        Order { state_dir: self.path("state"), to: self.path(to), with_key }
    }

    fn back_up(&self, with_key: bool) -> Result<Backup, BackupError> {
        backup(&self.order("backup", with_key), &mut |_, _, _| ())
    }

    fn restore(&self, to: &str) -> Result<restore::Restored, RestoreError> {
        let (state_dir, from) = (self.path(to), self.path("backup"));
        let order = restore::Order { state_dir, from, origin: LOG.into() };
        restore::restore(&order, &mut |_, _, _| ())
    }

    /// Leaves of a verified ledger, each what it should be.
    fn holds(&self, state: &str) -> u64 {
        let key = verifier_key(&self.path(state)).unwrap();
        let source = Directory::new(self.path(state).join("ledger"));
        let size = verify(&source, &key, None, |_| ()).unwrap().size;
        let read = pcigate_ledger::entries(&source, size, 0..size).map(|entry| entry.unwrap().1);
        assert!(read.eq(leaves(0, size).into_iter().map(|leaf| leaf.bytes)));
        size
    }
}

fn leaves(from: u64, count: u64) -> Vec<Leaf> {
    (from..from + count).map(|number| Leaf::new(format!("leaf {number}").into_bytes())).collect()
}

#[test]
fn a_backup_grows_with_the_ledger_and_copies_only_what_is_new() {
    let site = Site::new();
    site.append(1_000);
    let first = site.back_up(false).unwrap();
    // Entries and hashes, four tiles of each, and one of the level above.
    assert_eq!((first.size, first.copied.files), (1_000, 9));
    assert_eq!(site.holds("backup"), 1_000);
    site.append(300);
    let second = site.back_up(false).unwrap();
    assert_eq!((second.size, second.copied.files), (1_300, 7));
    assert_eq!(site.holds("backup"), 1_300);
    let tile = |name: &str| site.path("backup/ledger/tile").join(name).exists();
    assert!(tile("0/003") && tile("0/005.p/20") && !tile("0/003.p"), "old partial tiles are gone");
    assert_eq!(site.back_up(false).unwrap().copied.files, 3, "only partial tiles come again");
    assert!(!site.path("backup/ledger.key").exists());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    site.back_up(true).unwrap();
    assert_eq!(mode(site.path("backup/ledger.key")), 0o600);
}

#[test]
fn a_backup_beside_a_ledger_that_is_written_is_whole_each_time() {
    let site = Site::new();
    site.append(10);
    let state = site.path("state");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut ledger = Ledger::open(&state, LOG).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let from = ledger.durable().size;
                ledger.commit(&leaves(from, 97)).unwrap();
            }
        });
        let mut last = 0;
        for _ in 0..12 {
            let backup = site.back_up(false).unwrap();
            assert!(backup.size >= last);
            last = backup.size;
            assert_eq!(site.holds("backup"), last);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_restored_ledger_goes_on_under_the_same_key() {
    let site = Site::new();
    site.append(700);
    site.back_up(true).unwrap();
    site.append(50);
    assert_eq!(site.restore("new").unwrap().size, 700);
    assert_eq!(site.holds("new"), 700);
    let mut ledger = site.open("new");
    ledger.commit(&leaves(700, 5)).unwrap();
    drop(ledger);
    assert_eq!(site.holds("new"), 705);
    assert!(restore::marker(&site.path("new")).unwrap().contains("a backup of 700 leaves"));
    restore::remove_marker(&site.path("new"));
    assert_eq!(restore::marker(&site.path("new")), None);
}

#[test]
fn a_restore_overwrites_no_ledger_and_needs_the_key_of_this_log() {
    let site = Site::new();
    site.append(5);
    site.back_up(false).unwrap();
    assert!(matches!(site.restore("state"), Err(RestoreError::Exists { .. })));
    let error = site.restore("new").unwrap_err();
    assert!(matches!(error, RestoreError::NoKey { .. }), "{error}");
    assert!(error.to_string().contains("--with-key"), "{error}");
    Ledger::open(&site.path("other"), LOG).unwrap();
    fs::copy(site.path("other/ledger.key"), site.path("new/ledger.key")).unwrap();
    assert!(matches!(site.restore("new"), Err(RestoreError::Key { .. })));
    fs::copy(site.path("state/ledger.key"), site.path("new/ledger.key")).unwrap();
    assert_eq!(site.restore("new").unwrap().size, 5);
    let running = site.open("new");
    fs::remove_dir_all(site.path("new/ledger")).unwrap();
    assert!(matches!(site.restore("new"), Err(RestoreError::InUse { .. })));
    drop(running);
    let (state_dir, from) = (site.path("third"), site.path("backup"));
    let order = restore::Order { state_dir, from, origin: "else".into() };
    let error = restore::restore(&order, &mut |_, _, _| ()).unwrap_err();
    assert!(matches!(error, RestoreError::Origin { .. }), "{error}");
}

#[test]
fn a_damaged_backup_is_not_restored_and_nothing_stays_in_the_way() {
    let site = Site::new();
    site.append(600);
    site.back_up(true).unwrap();
    let bundle = site.path("backup/ledger/tile/entries/001");
    let right = fs::read(&bundle).unwrap();
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    fs::write(&bundle, wrong).unwrap();
    let error = site.restore("new").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("leaf 26") && cause.contains("tile/entries/001"), "{cause}");
    assert!(!site.path("new/ledger/checkpoint").exists());
    fs::write(&bundle, right).unwrap();
    assert_eq!(site.restore("new").unwrap().size, 600);
}

#[test]
fn a_backup_that_does_not_verify_keeps_the_checkpoint_it_had() {
    let site = Site::new();
    site.append(300);
    site.back_up(false).unwrap();
    let before = fs::read(site.path("backup/ledger/checkpoint")).unwrap();
    let bundle = site.path("backup/ledger/tile/entries/000");
    let mut wrong = fs::read(&bundle).unwrap();
    wrong[10] ^= 1;
    fs::write(&bundle, wrong).unwrap();
    site.append(300);
    assert!(matches!(site.back_up(false), Err(BackupError::Verify { .. })));
    assert_eq!(fs::read(site.path("backup/ledger/checkpoint")).unwrap(), before);
}

#[test]
fn a_ledger_that_is_shorter_rewritten_or_of_another_log_does_not_replace_a_backup() {
    let site = Site::new();
    site.append(100);
    fs::create_dir(site.path("early")).unwrap();
    for name in ["ledger.key", "ledger.vkey"] {
        fs::copy(site.path("state").join(name), site.path("early").join(name)).unwrap();
    }
    site.back_up(false).unwrap();
    let from = |state: &str| Order { state_dir: site.path(state), ..site.order("backup", false) };
    let run = |state: &str| backup(&from(state), &mut |_, _, _| ());
    let mut early = site.open("early");
    early.commit(&leaves(0, 99)).unwrap();
    assert!(matches!(run("early"), Err(BackupError::Shorter { backup: 100, ledger: 99, .. })));
    early.commit(&leaves(5, 9)).unwrap();
    assert!(matches!(run("early"), Err(BackupError::Rewritten { size: 100, .. })));
    Ledger::open(&site.path("other"), LOG).unwrap();
    assert!(matches!(run("other"), Err(BackupError::OtherLog { .. })));
    assert!(matches!(run("nowhere"), Err(BackupError::File(_))));
    let inside = backup(&site.order("state/backup", false), &mut |_, _, _| ());
    assert!(matches!(inside, Err(BackupError::Inside { .. })));
    assert_eq!(site.holds("backup"), 100);
}
