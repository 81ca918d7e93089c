//! The built command over a ledger: a policy suggested from what was recorded, new documents over
//! the same records, rules nobody needed, and cases.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::fs;
use std::process::Command;

use pcigate_ledger::{Edge, SigningKey, leaf_hash};
use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{
    Egress, Exec, Message, Origin, Outcome, Process, Record, Result as Success, Session, Statement,
    Verdict, Workload, egress,
};
use tempfile::TempDir;

const START: u64 = 1_795_381_486_000_000_000;
const SECOND: u64 = 1_000_000_000;
const TARGET: &str = "apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: cards-db, namespace: ci}
spec:
  protocol: postgres
  endpoints: [{cidr: 10.0.0.5/32, port: 5432}]
  upstream: {address: \"10.0.0.5:5432\", tls: {mode: verify-full, caFile: /ca.pem, serverName: db}}
  credential: {username: ro, passwordFile: /run/pw}
";
/// What was in force.
const BEFORE: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bot, namespace: ci}
spec:
  selector: {serviceAccountNames: [bot]}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {id: no-nc, action: deny, paths: [/usr/bin/nc]}
      - {id: rust, action: allow, paths: [/usr/bin/cargo]}
      - {id: never, action: allow, paths: [/usr/bin/ftp]}
  egress:
    defaultAction: deny
    rules:
      - {id: registry, action: allow, to: [{fqdn: \"*.crates.io\"}], ports: [{port: 443}]}
      - {id: api, action: allow, to: [{cidr: 10.96.0.1/32}], ports: [{port: 443}]}
      - {id: mail, action: allow, to: [{cidr: 10.9.9.9/32}], ports: [{port: 25}]}
      - id: db
        action: gate
        target: cards-db
        statements:
          - {id: read-cards, action: allow, effects: [read], tables: [public.cards]}
          - {id: change, action: ask, effects: [write]}
---
";

fn record(seq: u64, outcome: (Success, Verdict, &str), event: Event) -> Record {
    let (result, verdict, rule) = outcome;
    Record {
        origin: Some(Origin { node: "n1".into(), epoch: vec![9; 16], seq, kernel: None }),
        time_unix_nano: START + seq * SECOND,
        subject: Some(Subject::Workload(Workload {
            namespace: "ci".into(),
            pod: format!("bot-{}", seq % 2),
            service_account: "bot".into(),
            container: "main".into(),
            ..Workload::default()
        })),
        process: Some(Process { pid: 1, executable: "/bin/sh".into(), ..Process::default() }),
        outcome: Some(Outcome {
            result: result.into(),
            verdict: verdict.into(),
            policy: if rule.contains('/') || rule == "default" { "" } else { "ci/bot" }.into(),
            rule: rule.into(),
            policy_hash: vec![1; 8],
            ..Outcome::default()
        }),
        event: Some(event),
        ..Record::default()
    }
}

fn exec(path: &str, invoked: &str, args: &[&str]) -> Event {
    Event::Exec(Exec {
        path: path.into(),
        invoked: invoked.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Exec::default()
    })
}

fn connect(protocol: &str, address: &str, port: u32) -> Event {
    Event::Egress(Egress {
        operation: egress::Operation::Connect.into(),
        protocol: protocol.into(),
        address: address.into(),
        port,
        v4_mapped: false,
    })
}

fn statement(effects: &[&str], tables: &[&str]) -> Event {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Event::Statement(Statement {
        session: vec![7; 16],
        target: "ci/cards-db".into(),
        effects: words(effects),
        tables: words(tables),
        ..Statement::default()
    })
}

const DONE: (Success, Verdict) = (Success::Success, Verdict::Allow);
const REFUSED: (Success, Verdict) = (Success::Refused, Verdict::Deny);

fn by((result, verdict): (Success, Verdict), rule: &str) -> (Success, Verdict, &str) {
    (result, verdict, rule)
}

/// What the bot did: builds, a script, a registry by name, the API, a database, what it may not.
fn events() -> Vec<(Event, (Success, Verdict, &'static str))> {
    let session = Session { target: "ci/cards-db".into(), ..Session::default() };
    vec![
        (exec("/usr/bin/cargo", "", &["cargo", "build"]), by(DONE, "rust")),
        (exec("/usr/bin/cargo", "", &["cargo", "test"]), by(DONE, "rust")),
        (exec("/usr/bin/dash", "/app/run.sh", &["/bin/sh", "/app/run.sh"]), by(DONE, "default")),
        (exec("/usr/bin/dash", "/bin/sh", &["sh", "-c", "true"]), by(DONE, "default")),
        (exec("/tmp/build-7/a.out", "", &["a.out"]), by(DONE, "default")),
        (exec("/tmp/411111******1111", "", &["x"]), by(DONE, "default")),
        (exec("/opt/\u{1b}[2J\n- {id: evil", "", &["x"]), by(DONE, "default")),
        (exec("/usr/bin/nc", "", &["nc"]), by(REFUSED, "no-nc")),
        (connect("tcp", "151.101.2.137", 443), by(DONE, "registry")),
        (connect("tcp", "10.96.0.1", 443), by(DONE, "api")),
        (connect("tcp", "10.96.0.1", 443), by(DONE, "api")),
        (connect("udp", "10.96.0.10", 53), by(DONE, "pcigate/grant")),
        (connect("tcp", "10.7.7.7", 22), by(REFUSED, "default")),
        (connect("tcp", "10.0.0.5", 5432), (Success::Success, Verdict::Gate, "db")),
        (Event::Session(session), (Success::Success, Verdict::Gate, "db")),
        (statement(&["read"], &["public.cards"]), by(DONE, "read-cards")),
        (statement(&["write"], &["public.cards"]), by(REFUSED, "default")),
    ]
}

struct Site {
    directory: TempDir,
}

impl Site {
    fn new(events: Vec<(Event, (Success, Verdict, &'static str))>) -> Self {
        let directory = TempDir::new().unwrap();
        let site = Self { directory };
        let records = (1..).zip(events).map(|(seq, (event, outcome))| record(seq, outcome, event));
        site.ledger(&records.collect::<Vec<_>>());
        site.write("before.yaml", &format!("{BEFORE}{TARGET}"));
        site
    }

    fn ledger(&self, records: &[Record]) {
        let key = SigningKey::generate("ledger.example/pci").unwrap();
        self.write("ledger.vkey", &format!("{}\n", key.verifier()));
        let (mut edge, mut files) = (Edge::empty(), Vec::new());
        for record in records {
            let bytes = record.encode_to_vec();
            edge.append(&bytes, leaf_hash(&bytes), &mut files).unwrap();
        }
        files.extend(edge.partial_files());
        for file in files {
            let path = self.path("ledger").join(file.path.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &file.bytes).unwrap();
        }
        let note = key.sign(records.len() as u64, &edge.root()).unwrap();
        fs::create_dir_all(self.path("ledger")).unwrap();
        fs::write(self.path("ledger/checkpoint"), note).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A shell script. Another process writes it: ours may have a child at any moment that keeps
    /// the file open, and what is open for writing is not executed.
    fn program(&self, name: &str, script: &str) {
        self.write("script", &format!("#!/bin/sh\n{script}"));
        let mut install = Command::new("install");
        install.args(["-m", "755", "script", name]).current_dir(self.directory.path());
        assert!(install.status().unwrap().success());
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pcigate"));
        let output = command.current_dir(self.directory.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// `pcigate policy VERB …` over the ledger.
    fn policy(&self, verb: &str, more: &[&str]) -> (i32, String, String) {
        let all = ["policy", verb, "--ledger", "ledger", "--since", "2026-11-01T00:00:00Z"];
        let until = ["--until", "2026-12-01T00:00:00Z"];
        self.run(&[&all[..], &until, more].concat())
    }
}

const WHOSE: [&str; 4] = ["--namespace", "ci", "--service-account", "bot"];

#[test]
fn a_suggested_policy_is_a_document_that_allows_what_happened_and_nothing_more() {
    let site = Site::new(events());
    let in_force = ["--policies", "before.yaml", "--mode", "enforce", "--name", "bot-new"];
    let (code, text, error) = site.policy("suggest", &[&WHOSE[..], &in_force].concat());
    assert_eq!(code, 0, "{error}");
    for part in [
        "selector: {serviceAccountNames: [\"bot\"]}",
        "- {id: exec-usr-bin-cargo, action: allow, paths: [\"/usr/bin/cargo\"]}",
        "# 2 times, 2026-11-22T21:04:47Z to 2026-11-22T21:04:48Z",
        "paths: [\"/app/run.sh\"]",
        "Pin it by `sha256`",
        "- {fqdn: \"*.crates.io\"}  # 1 time, 2026-11-22T21:04:55Z to 2026-11-22T21:04:55Z; \
         rule registry of ci/bot let it through",
        "- {cidr: \"10.96.0.1/32\"}  # 2 times",
        "target: \"cards-db\"",
        "- {id: read, action: allow, effects: [\"read\"], tables: [\"public.cards\"]}",
        "# Left out: 3 records (refused, or failed), such as number 16.",
        "# Left out: 1 records (allowed by a grant with a deadline, which is not to last)",
        "# Left out: 2 records (the path is masked, or holds what a rule cannot)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for never in
        ["nc\"", "10.7.7.7", "evil", "1111", "10.96.0.10", "\"write\"", "151.101", "\u{1b}"]
    {
        assert!(!text.contains(never), "{never}\n{text}");
    }
    site.write("new.yaml", &format!("{text}---\n{TARGET}"));
    let (code, said, _) = site.run(&["policy", "check", "new.yaml"]);
    assert_eq!((code, said.starts_with("ok: ")), (0, true), "{said}");
    // What was left out for its path is all that would be refused.
    let (code, said, error) =
        site.policy("replay", &["new.yaml", "--before", "before.yaml", "--output", "json"]);
    assert_eq!(code, 1, "{said}");
    let closed = said.lines().filter(|line| line.contains("\"after\":\"deny\"")).count();
    assert_eq!(closed, 3, "two paths and the grant: {said}\n{error}");
}

#[test]
fn what_was_refused_is_suggested_only_when_that_is_asked_for_and_says_so() {
    let site = Site::new(events());
    let asked = ["--policies", "before.yaml", "--include-refused"];
    let (code, text, error) = site.policy("suggest", &[&WHOSE[..], &asked].concat());
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("# 1 time, 1 of them REFUSED"), "{text}");
    assert!(text.contains("\"/usr/bin/nc\"") && text.contains("10.7.7.7/32"), "{text}");
    assert!(text.contains("mode: audit"), "{text}");
    let (code, _, error) = site.policy("suggest", &["-n", "ci", "--service-account", "nobody"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("nothing was recorded"), "{error}");
    let (code, _, error) = site.policy("suggest", &["--service-account", "bot"]);
    assert_eq!(code, 2);
    assert!(error.contains("--namespace"), "{error}");
}

#[test]
fn a_flood_of_names_makes_no_endless_policy_and_many_programs_of_a_directory_are_a_pattern() {
    let mut all = events();
    for number in 0..40 {
        let path = format!("/usr/lib/git-core/git-{number}");
        all.push((exec(&path, "", &["git"]), by(DONE, "default")));
    }
    for number in 0..3_000 {
        all.push((connect("tcp", "10.1.1.1", 10_000 + number), by(DONE, "default")));
    }
    let site = Site::new(all);
    let (code, text, error) = site.policy("suggest", &WHOSE);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("paths: [\"/usr/lib/git-core/*\"]"), "{text}");
    assert!(text.contains("because they are so many (--glob-from 0 lists each)"), "{text}");
    assert!(text.contains("(more different things than a policy should hold)"), "{text}");
    assert!(text.lines().count() < 20_000);
    let (_, text, _) = site.policy("suggest", &[&WHOSE[..], &["--glob-from", "0"]].concat());
    assert!(text.contains("\"/usr/lib/git-core/git-39\""), "{text}");
}

#[test]
fn replay_tells_what_would_be_refused_and_what_would_be_let_through() {
    let site = Site::new(events());
    let (code, text, error) = site.policy("replay", &["before.yaml"]);
    assert_eq!(code, 1, "what a grant let through is no rule's: {text}{error}");
    assert!(text.lines().count() == 2 && text.contains("udp:10.96.0.10:53"), "{text}");

    let stricter = BEFORE
        .replace("id: rust, action: allow", "id: rust, action: deny")
        .replace("      - {id: no-nc, action: deny, paths: [/usr/bin/nc]}\n", "")
        .replace("*.crates.io", "index.crates.io");
    site.write("new.yaml", &format!("{stricter}{TARGET}"));
    let (code, text, error) = site.policy("replay", &["new.yaml", "--before", "before.yaml"]);
    assert_eq!(code, 1);
    let line = |what: &str| {
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_default();
        line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("/usr/bin/cargo"), "2 allow deny ci/bot/rust", "{text}");
    assert_eq!(line("/usr/bin/nc"), "1 deny allow default", "{text}");
    // Under the old rule it may have been any name below crates.io.
    assert_eq!(line("151.101.2.137"), "1 allow deny default", "{text}");
    assert!(error.contains("4 happened and would be refused, 1 were refused"), "{error}");

    let audit = stricter.replace("mode: enforce", "mode: audit");
    site.write("new.yaml", &format!("{audit}{TARGET}"));
    let (_, text, _) = site.policy("replay", &["new.yaml"]);
    assert!(!text.contains("/usr/bin/cargo"), "audit mode refuses nothing: {text}");
    let (code, text, _) = site.policy("replay", &["new.yaml", "--as-enforced"]);
    assert!(code == 1 && text.contains("/usr/bin/cargo"), "{text}");

    // Policies that select by labels need them.
    let labels = stricter.replace("serviceAccountNames: [bot]", "matchLabels: {app: bot}");
    site.write("new.yaml", &format!("{labels}{TARGET}"));
    let (_, text, error) = site.policy("replay", &["new.yaml"]);
    assert!(
        !text.contains("/usr/bin/cargo") && error.contains("give --cluster, --pods"),
        "{text}{error}"
    );
    let (_, text, error) = site.policy("replay", &["new.yaml", "--label", "app=bot"]);
    assert!(text.contains("/usr/bin/cargo") && !error.contains("give --"), "{text}{error}");
    // From the API server, by whatever answers as kubectl does.
    let pods = r#"{"kind": "List", "items": [{"kind": "Pod", "spec": {"serviceAccountName": "bot"},
        "metadata": {"name": "bot-now", "namespace": "ci", "labels": {"app": "bot"}}}]}"#;
    let answer = format!("echo \"$@\" > asked\ncat << 'END'\n{pods}\nEND\n");
    site.program("kubectl", &answer);
    let cluster = ["new.yaml", "--cluster", "--kubectl", "./kubectl", "--context", "test"];
    let (_, text, error) = site.policy("replay", &cluster);
    assert!(text.contains("/usr/bin/cargo") && !error.contains("give --"), "{text}{error}");
    let asked = fs::read_to_string(site.path("asked")).unwrap();
    let expected = "--context test get -o json pods,namespaces --all-namespaces";
    assert!(asked.contains(expected), "{asked}");
    site.program("kubectl", "echo 'error: \u{1b}[2Jno way' >&2\nexit 1\n");
    let (code, _, error) = site.policy("replay", &cluster);
    assert!(code == 3 && error.contains("error: \\u{1b}[2Jno way"), "{code} {error}");
}

#[test]
fn rules_that_nothing_needed_are_listed_and_those_that_matched_are_not() {
    let site = Site::new(events());
    // It was the default that decided about the shell; now a rule matches it.
    let rule = "      - {id: rust,";
    let more = format!("      - {{id: shell, action: allow, paths: [/usr/bin/dash]}}\n{rule}");
    site.write("before.yaml", &format!("{}{TARGET}", BEFORE.replace(rule, &more)));
    let (code, text, error) = site.policy("unused", &["before.yaml"]);
    assert_eq!(code, 1);
    let unused: Vec<_> =
        text.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(unused, ["db/change", "mail", "never"], "{text}{error}");
    assert!(error.contains("3 of 10 rules allow what nothing needed"), "{error}");
    let (_, text, _) = site.policy("unused", &["before.yaml", "--all", "--output", "json"]);
    let read = text.lines().find(|line| line.contains("db/read-cards")).unwrap();
    assert!(read.contains("\"records\":1") && read.contains("2026-11-22T21:05:02Z"), "{read}");
}

#[test]
fn cases_pass_or_say_what_was_answered_instead() {
    let site = Site::new(Vec::new());
    let cases = "policies: [before.yaml]
workload: {pod: ci/bot-1, serviceAccount: bot}
cases:
  - {exec: /usr/bin/cargo, args: [build], expect: allow, rule: rust}
  - {name: no netcat, exec: /usr/bin/nc, expect: deny, rule: ci/bot/no-nc}
  - {connect: \"10.0.0.5:5432\", expect: gate}
  - {connect: \"index.crates.io:443\", expect: allow, rule: registry}
  - {connect: \"udp:10.96.0.10:53\", expect: deny, rule: default}
  - {exec: /usr/bin/nc, expect: allow, rule: pcigate/no-policy, workload: {pod: other/x}}
";
    site.write("cases.yaml", cases);
    let (code, text, error) = site.run(&["policy", "test", "cases.yaml"]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    assert!(
        text.contains("ok      no netcat\n") && text.ends_with("6 passed, 0 failed\n"),
        "{text}"
    );
    let wrong = cases.replace("expect: gate", "expect: allow").replace("rule: rust", "rule: x");
    site.write("cases.yaml", &wrong);
    let (code, text, _) = site.run(&["policy", "test", "cases.yaml"]);
    assert_eq!(code, 1);
    assert!(text.contains("FAILED  exec /usr/bin/cargo build (cases.yaml:4)"), "{text}");
    assert!(text.contains("expected allow by rule x, got it by rule rust of"), "{text}");
    assert!(text.contains("  expected allow, got gate\n"), "{text}");
    assert!(text.ends_with("4 passed, 2 failed\n"), "{text}");
    site.write("cases.yaml", "cases: []\n");
    let (code, _, error) = site.run(&["policy", "test", "cases.yaml"]);
    assert!(code == 2 && error.contains("cases.yaml:1: cases"), "{error}");
}

#[test]
fn the_three_agents_of_the_examples_have_policies_that_answer_as_their_cases_say() {
    for (name, most) in [("ci-bot", 15), ("scaling-controller", 12), ("ai-helper", 14)] {
        let place = format!("{}/../deploy/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        let site = Site::new(Vec::new());
        let (code, text, _) = site.run(&["policy", "check", &format!("{place}/policy.yaml")]);
        assert!(code == 0 && text.starts_with("ok: "), "{name}: {text}");
        let (code, text, _) = site.run(&["policy", "test", &format!("{place}/cases.yaml")]);
        assert_eq!(code, 0, "{name}:\n{text}");
        assert!(text.ends_with(&format!("{most} passed, 0 failed\n")), "{name}: {text}");
    }
}
