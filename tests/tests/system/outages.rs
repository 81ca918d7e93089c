//! Nothing is lost silently: collector down and back, agent killed, disk full.

use std::collections::BTreeMap;

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_tests::{
    site::{Mounted, Site, output, succeed},
    wait,
};
use serde_json::Value;

/// Sequence numbers in the ledger, by (node, epoch).
fn numbers(records: &[Value]) -> BTreeMap<(String, String), Vec<u64>> {
    let mut numbers: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for record in records {
        let origin = record.get("origin").unwrap();
        let field = |name: &str| origin.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let seq =
            origin.get("seq").map_or(0, |seq| seq.to_string().trim_matches('"').parse().unwrap());
        if seq > 0 {
            numbers.entry((field("node"), field("epoch"))).or_default().push(seq);
        }
    }
    numbers
}

/// Every number from 1 on, once and in order, for each spool.
fn assert_complete(records: &[Value]) {
    let numbers = numbers(records);
    assert!(!numbers.is_empty());
    for (spool, numbers) in numbers {
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{spool:?}");
    }
}

#[test]
fn what_is_recorded_while_the_collector_is_down_arrives_when_it_is_back() {
    let mut site = Site::new();
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/id"]));
    site.stop_collector(Signal::SIGTERM);
    let output = succeed(&mut site.exec(&["/usr/bin/whoami"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not yet at the collector"), "{said}");
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/uname"]));
    let all = site.records(&[]);
    for program in ["/usr/bin/id", "/usr/bin/whoami", "/usr/bin/uname"] {
        let of =
            |record: &&Value| record.pointer("/exec/path").and_then(Value::as_str) == Some(program);
        assert_eq!(all.iter().filter(of).count(), 1, "{program}");
    }
    assert_complete(&all);
    assert!(site.records(&["--kind", "gap"]).is_empty());
}

#[test]
fn a_collector_killed_at_any_moment_keeps_what_it_acknowledged_and_stores_nothing_twice() {
    let mut site = Site::new();
    site.start_collector();
    for _ in 0..3 {
        let probe = pcigate_tests::program("pcigate-probe").display().to_string();
        let mut agent = site.exec(&[&probe, "fork-exec:150:/usr/bin/true"]);
        let mut running = agent.spawn().unwrap();
        wait::until("a first record in the ledger", || {
            (site.records(&["--limit", "100000"]).len() > 20).then_some(())
        });
        site.stop_collector(Signal::SIGKILL);
        site.start_collector();
        assert!(running.wait().unwrap().success());
    }
    let all = site.records(&["--limit", "100000"]);
    assert_complete(&all);
    let execs =
        site.records(&["--limit", "100000", "--executable", "/usr/bin/true", "--kind", "exec"]);
    assert_eq!(execs.len(), 450);
    site.stop_collector(Signal::SIGTERM);
    succeed(&mut site.pcigate(&["verify", "ledger"]));
}

#[test]
fn a_full_disk_under_the_spool_is_told_and_every_event_is_recorded_or_counted() {
    let site = Site::new();
    // As good as full: room for a part of the records only.
    let _disk = Mounted::new("tmpfs", &site.path("exec"), "size=192k", MsFlags::empty());
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    let mut agent = site.command("pcigate-agent");
    agent.args(["exec", "--state-dir", "exec", "--", &probe]).arg("fork-exec:400:/usr/bin/true");
    let output = output(&mut agent);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lost = said
        .lines()
        .find_map(|line| line.strip_suffix(" lost")?.rsplit(' ').next()?.parse::<u64>().ok());
    let recorded = said
        .lines()
        .find_map(|line| line.strip_prefix("pcigate: ")?.split(' ').next()?.parse::<u64>().ok());
    let (lost, recorded) = (lost.expect(&said), recorded.expect(&said));
    assert!(lost > 0, "{said}");
    // 400 × (fork, exec, exit), the probe itself, pid 1's fork and exit.
    assert!(recorded + lost >= 1200, "{said}");
    assert!(said.contains("full") || said.contains("No space"), "the log says why: {said}");
}
