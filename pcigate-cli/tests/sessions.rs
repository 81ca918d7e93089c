//! The built command over a ledger made of a gated session's records: list, story and replay.
//! `PCIGATE_BLESS=1` writes the golden files anew.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pcigate_ledger::{Edge, SigningKey, leaf_hash};
use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{
    Component, Coverage, Finding, Gap, Message, Origin, Outcome, Parameter, Process, Record,
    Result as Success, Session, Statement, StatementEnd, Traffic, Verdict, Workload, coverage,
    session,
};
use tempfile::TempDir;

const START: u64 = 1_795_381_486_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// Of the session with everything in it, and of one that never ended.
const IDS: [u8; 2] = [0x5e, 0xa7];

fn outcome(result: Success, verdict: Verdict, rule: &str) -> Outcome {
    Outcome {
        result: result.into(),
        verdict: verdict.into(),
        policy: "payments/billing-bot".into(),
        rule: rule.into(),
        policy_hash: vec![1, 2, 3, 4, 5, 6, 7, 8],
        ..Outcome::default()
    }
}

fn record(seq: u64, outcome: Outcome, event: Event) -> Record {
    Record {
        origin: Some(Origin { node: "n1".into(), epoch: vec![9; 16], seq, kernel: None }),
        time_unix_nano: START + seq * 10 * MILLISECOND,
        subject: Some(Subject::Workload(Workload {
            namespace: "payments".into(),
            pod: "billing-7f9c".into(),
            service_account: "billing-bot".into(),
            container: "main".into(),
            ..Workload::default()
        })),
        process: Some(Process {
            pid: 4242,
            uid: 1000,
            executable: "/usr/bin/psql".into(),
            ..Process::default()
        }),
        outcome: Some(outcome),
        event: Some(event),
        ..Record::default()
    }
}

fn plain(seq: u64, event: Event) -> Record {
    record(seq, Outcome { result: Success::Success.into(), ..Outcome::default() }, event)
}

fn connection(id: u8) -> Session {
    Session {
        id: vec![id; 16],
        phase: session::Phase::Started.into(),
        target: "payments/cards-db".into(),
        protocol: "postgres".into(),
        database: "shop".into(),
        user: "nobody\u{1b}[2J".into(),
        role: "billing_ro".into(),
        application: "psql".into(),
        client: "10.0.0.9:40112".into(),
        token_subject: "system:serviceaccount:payments:billing-bot".into(),
        token_issuer: "https://issuer.example".into(),
        ..Session::default()
    }
}

fn statement(number: u64, text: &str, effects: &[&str], reason: &str) -> Event {
    Event::Statement(Statement {
        session: vec![IDS[0]; 16],
        number,
        target: "payments/cards-db".into(),
        step: "query".into(),
        command: text.split(' ').next().unwrap().into(),
        text: text.into(),
        text_bytes: text.len() as u64,
        effects: effects.iter().map(|effect| (*effect).to_owned()).collect(),
        tables: vec!["public.cards".into()],
        reason: reason.into(),
        ..Statement::default()
    })
}

fn end(number: u64, rows: u64, sqlstate: &str) -> Event {
    Event::StatementEnd(StatementEnd {
        session: vec![IDS[0]; 16],
        number,
        rows,
        bytes: 150,
        duration_ns: 1_500_000,
        sqlstate: sqlstate.into(),
    })
}

fn traffic(from_client: bool, text: &str, truncated: bool) -> Event {
    let session = vec![IDS[0]; 16];
    Event::Traffic(Traffic { session, from_client, text: text.into(), truncated })
}

/// A session with an allowed, a refused, a parametrised and an unfinished statement, a gap in it,
/// and the end of its traffic; one behind it that never ended.
fn records() -> Vec<Record> {
    let allow = || outcome(Success::Success, Verdict::Allow, "read");
    let deny = || outcome(Success::Refused, Verdict::Deny, "default");
    let gate = || outcome(Success::Success, Verdict::Gate, "cards-db");
    let pan = |count| vec![Finding { kind: "pan".into(), count }];
    let select = statement(1, "SELECT id, pan\n  FROM cards", &["read"], "");
    let answer = "RowDescription\tid\tpan\nDataRow\t1\t411111******1111\n\
                  DataRow\t2\t\u{1b}]0;x\\n< y\nCommandComplete\tSELECT 2\n";
    let denial = "ErrorResponse\tERROR\t42501\tpcigate: a change without a condition\trule: x\n";
    let refused =
        statement(2, "DELETE FROM cards", &["write"], "pcigate: a change without a condition");
    let Event::Statement(mut refused) = refused else { panic!("it is a statement") };
    refused.request_key = vec![7; 32];
    let refused = Event::Statement(refused);
    let Event::Statement(mut execute) = statement(3, "SELECT $1, $2", &["read"], "") else {
        panic!("it is a statement")
    };
    execute.step = "execute".into();
    execute.text_bytes = 40_000;
    execute.parameters = vec![
        Parameter { null: false, text: "7".into() },
        Parameter { null: true, ..<_>::default() },
    ];
    execute.parameters_truncated = true;
    let ended = Session {
        phase: session::Phase::Ended.into(),
        reason: "the client said goodbye".into(),
        statements: 6,
        refused: 1,
        rows: 2,
        bytes: 210,
        duration_ns: 170 * MILLISECOND,
        ..connection(IDS[0])
    };
    let gap = Gap {
        node: "n1".into(),
        epoch: vec![9; 16],
        first_seq: 13,
        last_seq: 14,
        reason: "spool-lost".into(),
    };
    let cut = "traffic is kept up to 16777216 bytes, not beyond";
    let mut records = vec![
        record(1, gate(), Event::Session(connection(IDS[0]))),
        record(2, allow(), select),
        plain(3, traffic(true, "Query\tSELECT id, pan\\n  FROM cards\n", false)),
        plain(4, traffic(false, answer, false)),
        Record { masked: pan(1), ..plain(5, end(1, 2, "")) },
        record(6, deny(), refused),
        plain(7, traffic(true, "Query\tDELETE FROM cards\n", false)),
        plain(8, traffic(false, denial, false)),
        record(9, allow(), Event::Statement(execute)),
        plain(10, end(3, 0, "22012")),
        plain(11, traffic(false, cut, true)),
        record(12, allow(), statement(4, "SELECT 4", &["read"], "")),
        record(15, allow(), statement(6, "SELECT 6 -- \u{1b}c", &["read"], "")),
        Record { masked: pan(1), ..record(18, gate(), Event::Session(ended)) },
        record(20, gate(), Event::Session(connection(IDS[1]))),
    ];
    let start = Coverage { state: coverage::State::Start.into(), ..Coverage::default() };
    for (event, name) in [(Event::Gap(gap), "log"), (Event::Coverage(start), "n1")] {
        let mut own = plain(30, event);
        own.origin = Some(Origin { node: name.into(), ..own.origin.unwrap() });
        own.process = None;
        own.subject =
            Some(Subject::Component(Component { name: "agent".into(), version: "1".into() }));
        records.push(own);
    }
    records
}

fn ledger() -> TempDir {
    ledger_of(&records())
}

fn ledger_of(records: &[Record]) -> TempDir {
    let parent = tempfile::tempdir().unwrap();
    let key = SigningKey::generate("ledger.example/pci").unwrap();
    fs::write(parent.path().join("ledger.vkey"), format!("{}\n", key.verifier())).unwrap();
    let (mut edge, mut files) = (Edge::empty(), Vec::new());
    for record in records {
        let bytes = record.encode_to_vec();
        edge.append(&bytes, leaf_hash(&bytes), &mut files).unwrap();
    }
    files.extend(edge.partial_files());
    for file in files {
        let path = parent.path().join("ledger").join(file.path.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.bytes).unwrap();
    }
    let note = key.sign(records.len() as u64, &edge.root()).unwrap();
    fs::write(parent.path().join("ledger/checkpoint"), note).unwrap();
    parent
}

fn pcigate(place: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcigate"));
    command.args(arguments).args(["--ledger", "ledger"]).current_dir(place.path());
    command.env_remove("PCIGATE_COLLECTOR").env_remove("PCIGATE_TLS_DIR");
    command.output().unwrap()
}

fn shown(arguments: &[&str]) -> String {
    let output = pcigate(&ledger(), arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    text
}

fn check(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PCIGATE_BLESS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, golden, "{name} differs; if it should, run with PCIGATE_BLESS=1");
}

#[test]
fn golden_the_list_of_sessions_looks_as_agreed() {
    check("sessions.txt", &shown(&["sessions"]));
    assert_eq!(shown(&["sessions", "--user", "someone"]).lines().count(), 1);
    assert_eq!(shown(&["sessions", "--pod", "someone"]).lines().count(), 1);
}

#[test]
fn golden_the_story_of_a_session_looks_as_agreed() {
    check("session-show.txt", &shown(&["session", "show", "5e5"]));
    check("session-show.ndjson", &shown(&["session", "show", "5E5E", "--output", "json"]));
}

#[test]
fn golden_a_replay_looks_as_agreed() {
    check("session-replay.txt", &shown(&["session", "replay", "5e", "--speed", "max"]));
}

#[test]
fn a_replay_in_time_says_the_same_as_one_without_waiting() {
    let timed = shown(&["session", "replay", "5e", "--max-pause", "1ms"]);
    assert_eq!(timed, shown(&["session", "replay", "5e", "--speed", "max"]));
    let client = shown(&["session", "replay", "5e", "--speed", "max", "--from", "client"]);
    assert!(client.contains("> DELETE FROM cards") && !client.contains("  < "), "{client}");
}

#[test]
fn an_unknown_session_is_exit_2_with_a_remedy() {
    for (arguments, remedy) in [
        (["session", "show", "77"], "`pcigate sessions` lists them"),
        (["session", "replay", "x"], "up to 32 hex digits"),
        (["session", "show", ""], "up to 32 hex digits"),
    ] {
        let output = pcigate(&ledger(), &arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(output.stdout.is_empty() && error.contains(remedy), "{error}");
    }
}

#[test]
fn a_beginning_that_several_ids_have_is_refused_with_two_of_them() {
    let output = pcigate(&ledger(), &["session", "show", "5"]);
    assert!(output.status.success(), "one id begins with 5");
    let mut records = records();
    for record in records.iter_mut().skip(14).take(1) {
        if let Some(Event::Session(other)) = &mut record.event {
            other.id = vec![0x5f; 16];
        }
    }
    let output = pcigate(&ledger_of(&records), &["session", "show", "5"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("5e5e5e") && error.contains("5f5f5f"), "{error}");
}

#[test]
fn a_ledger_that_is_none_or_was_signed_by_another_is_refused() {
    let place = ledger();
    let key = SigningKey::generate("ledger.example/pci").unwrap().verifier().to_string();
    let other = pcigate(&place, &["sessions", "--key", &key]);
    let error = String::from_utf8(other.stderr).unwrap();
    assert_eq!(other.status.code(), Some(2), "{error}");
    assert!(error.contains("not signed with this key"), "{error}");
    fs::remove_file(place.path().join("ledger/checkpoint")).unwrap();
    let none = pcigate(&place, &["sessions"]);
    let error = String::from_utf8(none.stderr).unwrap();
    assert!(none.status.code() == Some(2) && error.contains("no checkpoint"), "{error}");
}
