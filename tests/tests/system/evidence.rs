//! The way of the evidence: from a governed command to a verified answer.

use std::{fs, os::unix::fs::FileExt, process::Command};

use nix::sys::signal::Signal;
use pcigate_tests::site::{Site, fail, line_with, output, start, succeed};
use serde_json::Value;

/// A published test number.
const CARD: &str = "4111111111111111";
const TRUNCATED: &str = "411111******1111";

fn probe() -> String {
    pcigate_tests::program("pcigate-probe").display().to_string()
}

/// A collector with the evidence of one governed command.
pub fn site_with_evidence() -> Site {
    let mut site = Site::new();
    site.start_collector();
    let card = format!("exec:/usr/bin/env true --card={CARD} --track=;{CARD}=29121011234567?");
    let actions =
        [probe(), card, "exec:/usr/bin/base64 /etc/hostname".into(), "tcp:127.0.0.2:9".into()];
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    succeed(&mut site.exec(&actions));
    site
}

fn text<'a>(record: &'a Value, path: &str) -> &'a str {
    record.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} in {record:#}"))
}

#[test]
fn the_ledger_answers_who_did_what_with_which_verdict_by_which_rule() {
    let site = site_with_evidence();
    let denied = site.records(&["--verdict", "deny"]);
    assert_eq!(denied.len(), 2, "{denied:#?}");
    let (exec, egress) = (&denied[0], &denied[1]);
    for record in [exec, egress] {
        assert_eq!(text(record, "/subject/workload/namespace"), "payments");
        assert_eq!(text(record, "/subject/workload/pod"), "billing-bot");
        assert_eq!(text(record, "/subject/workload/service_account"), "billing-bot");
        assert_eq!(text(record, "/origin/node"), "node-1");
        assert_eq!(text(record, "/outcome/result"), "refused");
        assert!(record.pointer("/process/pid").and_then(Value::as_u64).unwrap() > 1);
        assert!(text(record, "/time").starts_with("20"));
    }
    assert_eq!(text(exec, "/exec/path"), "/usr/bin/base64");
    assert_eq!(text(exec, "/outcome/policy"), "payments/billing-bot");
    assert_eq!(text(exec, "/outcome/rule"), "no-encoders");
    assert_eq!(text(egress, "/egress/address"), "127.0.0.2");
    assert_eq!(text(egress, "/outcome/rule"), "default");
    assert_eq!(text(egress, "/outcome/enforcement"), "cgroup");
    assert_eq!(text(egress, "/process/executable"), probe());
}

#[test]
fn every_filter_of_a_query_narrows_the_answer() {
    let site = site_with_evidence();
    let all = site.records(&[]).len();
    for (filter, matching) in [
        (vec!["--namespace", "payments", "--pod", "billing-bot", "--kind", "egress"], 1),
        (vec!["--service-account", "nobody"], 0),
        (vec!["--executable", "/usr/bin/base*", "--kind", "exec"], 1),
        (vec!["--destination", "127.0.0.0/8"], 1),
        (vec!["--destination", "127.0.0.2:9"], 1),
        (vec!["--destination", "127.0.0.3"], 0),
        (vec!["--since", "1h", "--verdict", "deny"], 2),
        (vec!["--until", "1h"], 0),
        (vec!["--node", "node-2"], 0),
    ] {
        let found = site.records(&filter).len();
        assert_eq!(found, matching, "{filter:?} of {all}");
    }
}

#[test]
fn a_card_number_is_truncated_in_the_evidence_and_in_no_file_at_all() {
    let mut site = site_with_evidence();
    let execs = site.records(&["--kind", "exec", "--executable", "/usr/bin/true"]);
    let shown = execs[0].to_string();
    assert!(shown.contains(TRUNCATED), "{shown}");
    assert!(shown.contains("[SAD:track2]"), "{shown}");
    assert!(!shown.contains("29121011234567"), "nothing of a track is kept: {shown}");
    site.stop_collector(Signal::SIGTERM);
    for secret in [CARD, "29121011234567"] {
        assert_eq!(site.files_holding(secret), Vec::<std::path::PathBuf>::new());
    }
    let (ledger, spool) = (site.path("ledger/tile/entries"), site.path("exec/node-1/0/spool"));
    assert!(ledger.exists() && spool.exists(), "the search was over real data");
}

#[test]
fn who_asked_for_evidence_is_evidence() {
    let site = site_with_evidence();
    assert!(site.records(&["--kind", "exit"]).len() > 1);
    let queries = site.records(&["--kind", "query"]);
    let first = &queries[0];
    assert!(
        text(first, "/subject/person/identity").ends_with("/person/ana@example.com"),
        "{first:#}"
    );
    assert!(text(first, "/query/filter").contains("exit"), "{first:#}");
}

#[test]
fn following_shows_a_record_as_it_becomes_durable() {
    let site = site_with_evidence();
    let mut follow = site.pcigate(&["records", "--follow", "--output", "json", "--kind", "exec"]);
    let (mut following, _first) = start(&mut follow);
    succeed(&mut site.exec(&["/usr/bin/id"]));
    line_with(&mut following.output, "\"/usr/bin/id\"");
}

#[test]
fn a_record_comes_with_a_proof_that_verifies_and_fails_against_another_key() {
    let site = site_with_evidence();
    let record = &site.records(&["--verdict", "deny"])[0];
    let index = record.get("index").unwrap().to_string();
    let index = index.trim_matches('"');
    let proof = output(&mut site.pcigate(&["record", index, "--proof", "--key", "ledger.vkey"]));
    assert!(proof.status.success(), "{proof:?}");
    let other = Site::new();
    let mut other = other;
    other.start_collector();
    let key = other.path("ledger.vkey").display().to_string();
    let output = output(&mut site.pcigate(&["record", index, "--proof", "--key", &key]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// The independent verifier, built by `cargo xtask test`.
fn independent(site: &Site) -> std::process::Output {
    let verifier = pcigate_tests::program("../verifier/verifier");
    Command::new(verifier).arg(site.path("ledger")).arg(site.path("ledger.vkey")).output().unwrap()
}

#[test]
fn the_ledger_verifies_offline_by_our_program_and_by_one_that_is_not_ours() {
    let mut site = site_with_evidence();
    site.stop_collector(Signal::SIGTERM);
    let ours = succeed(&mut site.pcigate(&["verify", "ledger", "--output", "json"]));
    let ours: Value = serde_json::from_slice(&ours.stdout).unwrap();
    let theirs = independent(&site);
    let answer = String::from_utf8_lossy(&theirs.stdout).into_owned();
    assert!(theirs.status.success(), "{theirs:?}");
    let size = ours.get("size").unwrap().to_string();
    assert!(answer.contains(&format!("ok size={}", size.trim_matches('"'))), "{answer} {ours}");
}

#[test]
fn a_changed_byte_in_the_ledger_is_found_and_its_leaf_named() {
    let mut site = site_with_evidence();
    let url = site.url();
    succeed(&mut site.pcigate(&["verify", &url, "--key", "ledger.vkey"]));
    let index = site.records(&["--verdict", "deny"])[0].get("index").unwrap().to_string();
    let index = index.trim_matches('"');
    site.stop_collector(Signal::SIGTERM);
    let bundle = site.newest_partial("ledger/tile/entries/000.p");
    let content = fs::read(&bundle).unwrap();
    let at = content.windows(11).position(|window| window == b"no-encoders").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&bundle).unwrap();
    file.write_at(b"N", at as u64).unwrap();
    let output = output(&mut site.pcigate(&["verify", "ledger"]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains(&format!("leaf {index} ")), "{said}");
    let theirs = independent(&site);
    assert_eq!(theirs.status.code(), Some(2), "{theirs:?}");
    let answer = String::from_utf8_lossy(&theirs.stdout).into_owned();
    assert!(answer.contains(&format!("MISMATCH at entry {index}")), "{answer}");
}

#[test]
fn a_question_without_a_certificate_of_a_person_is_refused() {
    let site = site_with_evidence();
    let mut as_node = site.pcigate(&["records"]);
    as_node.env("PCIGATE_TLS_DIR", site.path("tls/node"));
    let said = fail(&mut as_node, 3);
    assert!(said.contains("person"), "{said}");
}
