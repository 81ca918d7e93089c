//! Running a collector: a full disk, backup and restore, fsck, the second signal.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_tests::{
    site::{Mounted, Site, fail, line_with, output, start, succeed},
    wait,
};
use serde_json::Value;

/// Uses up all room of a disk, or all its files; what to remove to get it back.
fn fill(dir: &Path, room: bool) -> PathBuf {
    let filler = dir.join("filler");
    if room {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
    } else {
        fs::create_dir(&filler).unwrap();
        let mut names = 0..;
        while File::create(filler.join(names.next().unwrap().to_string())).is_ok() {}
    }
    filler
}

fn remove(filler: &Path) {
    if filler.is_dir() {
        fs::remove_dir_all(filler).unwrap();
    } else {
        fs::remove_file(filler).unwrap();
    }
}

fn sample(site: &Site, name: &str) -> u64 {
    let (_, text) = site.web("/metrics");
    let name = format!("pcigate_collector_{name} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

fn text<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Runs that were recorded, by the program they executed.
fn executed(site: &Site) -> Vec<String> {
    let execs = site.records(&["--kind", "exec", "--limit", "100000"]);
    execs.iter().map(|record| text(record, "/exec/path").to_owned()).collect()
}

#[test]
fn a_full_disk_refuses_batches_is_told_once_and_recovers_without_a_restart() {
    let mut site = Site::new();
    let options = "size=24m,nr_inodes=2000,mode=700";
    let disk = Mounted::new("tmpfs", &site.path("ledger"), options, MsFlags::empty());
    site.configure("log: {format: json}\n");
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/id"]));
    assert_eq!(site.web("/readyz").0, 200);
    for (room, program, why) in [
        (true, "/usr/bin/whoami", "kept for its own records"),
        (false, "/usr/bin/uname", "its disk is full"),
    ] {
        let filler = fill(&disk.path, room);
        let refused = sample(&site, "ledger_write_failures_total");
        let output = succeed(&mut site.exec(&[program]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not yet at the collector") && said.contains(why), "{said}");
        assert!(sample(&site, "ledger_write_failures_total") > refused);
        assert_eq!(sample(&site, "ledger_writable"), 0);
        assert_eq!(site.web("/readyz").0, 503);
        assert_eq!(site.web("/healthz").0, 200);
        // A question is a record, and no record can be written.
        let said = fail(&mut site.pcigate(&["records"]), 3);
        assert!(said.contains("its disk is full"), "{said}");
        remove(&filler);
        wait::until("readiness", || (site.web("/readyz").0 == 200).then_some(()));
        succeed(&mut site.exec(&["/usr/bin/true"]));
        assert_eq!(sample(&site, "ledger_writable"), 1);
        assert!(executed(&site).iter().any(|path| path == program), "{program} arrived");
    }
    let log = site.collector_log();
    let mut told = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("each line is an object");
        told += i32::from(text(&line, "/message").contains("the ledger cannot be written"));
    }
    assert!((1..=3).contains(&told), "told {told} times:\n{log}");
    site.stop_collector(Signal::SIGTERM);
    succeed(&mut site.pcigate(&["verify", "ledger"]));
    succeed(site.command("pcigate-collector").args(["fsck", "--config", "collector.yaml"]));
}

#[test]
fn a_restored_ledger_is_told_in_the_evidence_and_nodes_raise_the_alarm() {
    let mut site = Site::new();
    let backup = tempfile::tempdir().unwrap();
    let to = backup.path().display().to_string();
    let collector = |site: &Site, args: &[&str]| {
        let mut command = site.command("pcigate-collector");
        command.args(args);
        command
    };
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/id"]));
    let back_up = ["backup", "--config", "collector.yaml", "--to", &to];
    let said = String::from_utf8(succeed(&mut collector(&site, &back_up)).stdout).unwrap();
    assert!(said.contains("key     not included") && said.contains("ok: "), "{said}");
    succeed(&mut collector(&site, &["fsck", &to]));
    succeed(&mut site.exec(&["/usr/bin/whoami"]));
    let restore = ["restore", "--config", "collector.yaml", "--from", &to];
    let said = fail(&mut collector(&site, &restore), 1);
    assert!(said.contains("a collector uses the state directory"), "{said}");
    site.stop_collector(Signal::SIGTERM);
    let said = fail(&mut collector(&site, &restore), 1);
    assert!(said.contains("a ledger is never overwritten"), "{said}");
    // The disaster: the disk with the ledger is gone, the key was kept.
    fs::remove_dir_all(site.path("ledger")).unwrap();
    fs::remove_dir_all(site.path("index")).unwrap();
    let said = String::from_utf8(succeed(&mut collector(&site, &restore)).stdout).unwrap();
    assert!(said.contains("is gone from the ledger"), "{said}");
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/uname"]));
    let coverage = site.records(&["--kind", "coverage", "--limit", "1000"]);
    let said =
        |what: &str| coverage.iter().any(|record| text(record, "/coverage/message").contains(what));
    assert!(said("the ledger was restored from a backup"), "{coverage:#?}");
    assert!(said("does not extend what this node has seen"), "{coverage:#?}");
    let executed = executed(&site);
    let has = |program: &str| executed.iter().any(|path| path == program);
    assert!(has("/usr/bin/id") && has("/usr/bin/uname"), "{executed:?}");
    // Acknowledged after the backup, and still in the node's spool: it comes again.
    assert!(has("/usr/bin/whoami"), "{executed:?}");
    site.stop_collector(Signal::SIGTERM);
    succeed(&mut collector(&site, &["fsck", "--config", "collector.yaml"]));
    let told = site.collector_log();
    assert_eq!(told.matches("was restored from a backup").count(), 1, "{told}");
}

#[test]
fn fsck_says_what_is_wrong_by_its_exit_code_and_its_first_leaf() {
    let mut site = Site::new();
    let fsck = |site: &Site| {
        let mut command = site.command("pcigate-collector");
        command.args(["fsck", "--config", "collector.yaml"]);
        command
    };
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/id"]));
    let said = String::from_utf8(succeed(&mut fsck(&site)).stdout).unwrap();
    assert!(said.contains("ok: "), "beside a running collector: {said}");
    site.stop_collector(Signal::SIGTERM);
    succeed(&mut fsck(&site));
    let bundle = site.newest_partial("ledger/tile/entries/000.p");
    let right = fs::read(&bundle).unwrap();
    let mut wrong = right.clone();
    wrong[40] ^= 1;
    fs::write(&bundle, wrong).unwrap();
    let found = output(&mut fsck(&site));
    let said = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.contains("WRONG    leaf 0 in tile/entries/000.p/"), "{said}");
    fs::write(&bundle, right).unwrap();
    fs::remove_file(site.path("ledger/checkpoint")).unwrap();
    let said = fail(&mut fsck(&site), 3);
    assert!(said.contains("ledger/checkpoint is missing"), "{said}");
}

#[test]
fn a_second_signal_ends_the_collector_at_once() {
    let mut site = Site::new();
    site.start_collector();
    // A person who does not read keeps the orderly end waiting.
    let mut follow = site.pcigate(&["records", "--follow", "--output", "json"]);
    let (mut reader, _) = start(&mut follow);
    succeed(&mut site.exec(&["/usr/bin/id"]));
    line_with(&mut reader.output, "exec");
    reader.signal(Signal::SIGSTOP);
    let collector = site.take_collector();
    let logged = |what: &str| site.collector_log().contains(what).then_some(());
    collector.signal(Signal::SIGHUP);
    wait::until("the answer to SIGHUP", || logged("asked to read `tlsDir` again"));
    collector.signal(Signal::SIGTERM);
    wait::until("the orderly end", || logged("stopping"));
    collector.signal(Signal::SIGTERM);
    assert_eq!(collector.code(), 130);
    assert!(site.collector_log().contains("asked a second time"), "{}", site.collector_log());
    site.start_collector();
    assert!(!site.records(&["--kind", "exec"]).is_empty());
}
