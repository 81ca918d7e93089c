//! Tests of the replay's options, its pace, and what it says of gaps.

use pcigate_proto::{Origin, Statement, Traffic};

use super::*;

const BEGAN: u64 = 1_795_381_486_000_000_000;

fn script(from: Side, missing: Vec<Missing>) -> Script {
    let event = Event::Traffic(Traffic { session: vec![7; 16], ..Traffic::default() });
    let record = Record { time_unix_nano: BEGAN, event: Some(event), ..Record::default() };
    let summary = Summary::of(0, &record).expect("it is of a session");
    Script::new(&summary, from, missing)
}

fn record(seq: u64, event: Event) -> Record {
    Record {
        origin: Some(Origin { seq, ..Origin::default() }),
        time_unix_nano: BEGAN + seq * 1_500_000_000,
        event: Some(event),
        ..Record::default()
    }
}

fn traffic(seq: u64, from_client: bool, text: &str) -> Record {
    let text = text.to_owned();
    record(seq, Event::Traffic(Traffic { from_client, text, ..Traffic::default() }))
}

fn statement(seq: u64, number: u64, text: &str) -> Record {
    let text = text.to_owned();
    record(seq, Event::Statement(Statement { number, text, ..Statement::default() }))
}

fn texts(lines: Vec<Line>) -> Vec<String> {
    lines.into_iter().map(|line| line.text).collect()
}

#[test]
fn speeds_and_pauses_are_read_and_wrong_ones_refused_with_the_remedy() {
    assert_eq!((speed("max"), speed("0.5")), (Ok(Speed::Max), Ok(Speed::Times(0.5))));
    for wrong in ["0", "-1", "inf", "NaN", "fast", ""] {
        assert!(speed(wrong).is_err_and(|error| error.contains("or max")), "{wrong}");
    }
    assert_eq!(pause("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!((pause("0s"), pause("1m")), (Ok(Duration::ZERO), Ok(Duration::from_secs(60))));
    for wrong in ["2", "s", "1.5s", "-1s", "99999999999m"] {
        assert!(pause(wrong).is_err_and(|error| error.contains("500ms")), "{wrong}");
    }
}

#[test]
fn long_pauses_are_shortened_before_the_speed_counts() {
    let longest = Duration::from_secs(2);
    let of = |nanoseconds, speed| before(nanoseconds, speed, longest);
    assert_eq!(of(3_600_000_000_000, Speed::Times(1.0)), longest);
    assert_eq!(of(3_600_000_000_000, Speed::Times(4.0)), Duration::from_millis(500));
    assert_eq!(of(1_000_000_000, Speed::Times(0.5)), longest);
    assert_eq!(of(u64::MAX, Speed::Max), Duration::ZERO);
}

#[test]
fn each_side_can_be_seen_alone_with_the_time_of_each_record() {
    let records = || {
        [
            traffic(1, true, "Query\tSELECT 1,\\n 2\n"),
            traffic(2, false, "RowDescription\ta\nDataRow\t1\nErrorResponse\tERROR\t22012\tno\n"),
        ]
    };
    let seen = |from| {
        let mut script = script(from, Vec::new());
        records().into_iter().flat_map(|one| texts(script.push(&one))).collect::<Vec<_>>()
    };
    let client = ["    1.500  > SELECT 1,", "           |  2"];
    let server =
        ["    3.000  < a", "           | -", "           < 1", "           < ERROR:  no  [22012]"];
    assert_eq!(seen(Side::Client), client);
    assert_eq!(seen(Side::Server), server);
    assert_eq!(seen(Side::Both), [&client[..], &server[..]].concat());
}

#[test]
fn what_is_missing_is_said_where_it_is() {
    let gap = Missing { seq: 3, text: "records 3–9 of the node are missing (x)".into() };
    let mut script = script(Side::Both, vec![gap]);
    assert!(script.push(&statement(1, 1, "SELECT 1")).is_empty());
    assert_eq!(
        texts(script.push(&statement(10, 4, "SELECT 4"))),
        [
            "!! MISSING: records 3–9 of the node are missing (x)",
            "!! MISSING: the records of 2 statements before this one",
        ]
    );
}

#[test]
fn where_traffic_ends_statements_stand_for_it() {
    let mut script = script(Side::Both, Vec::new());
    assert!(script.push(&statement(1, 1, "SELECT 1")).is_empty());
    let end = Traffic { text: "kept up to 9 bytes".into(), truncated: true, ..Traffic::default() };
    let end = texts(script.push(&record(2, Event::Traffic(end))));
    assert_eq!(end, ["!! TRAFFIC ENDS HERE: kept up to 9 bytes"]);
    let further = texts(script.push(&statement(4, 2, "SELECT\n\u{1b}[2J")));
    assert_eq!(further, ["    6.000  > () SELECT \\x1b[2J"]);
}
