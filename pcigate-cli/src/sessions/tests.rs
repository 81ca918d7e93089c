//! Tests of which sessions are listed.

use clap::{CommandFactory, Parser};

use super::*;
use crate::samples;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn parsed(arguments: &str) -> Options {
    let line = Line::try_parse_from(["sessions"].into_iter().chain(arguments.split_whitespace()));
    line.unwrap_or_else(|error| panic!("{error}")).options
}

fn known(most: usize) -> Known {
    let mut known = Known::new(most);
    for (index, record) in (0..).zip(samples::records()) {
        known.take(index, &record);
    }
    known
}

#[test]
fn the_options_are_consistent_and_reach_the_request() {
    Line::command().debug_assert();
    let options = parsed("--since 1h --namespace n --pod p --service-account s --node k --limit 7");
    let now = 10_000_000_000_000;
    let expected = QueryRequest {
        since_unix_nano: now - 3_600_000_000_000,
        namespace: "n".into(),
        pod: "p".into(),
        service_account: "s".into(),
        node: "k".into(),
        kinds: vec!["session".into()],
        limit: 14,
        ..QueryRequest::default()
    };
    assert_eq!(request(&options, now).expect("valid"), expected);
    let here = request(&parsed("--target t --limit 7"), now).expect("valid");
    assert_eq!(here.limit, RECORDS_MAX, "what the collector does not filter, it must not cut");
    assert!(request(&parsed("--since 1h --until 2h"), now).is_err());
}

#[test]
fn both_records_of_a_session_are_one_line() {
    let known = known(9);
    assert_eq!(known.sessions.len(), 1);
    let one = known.sessions.values().next().expect("it is there");
    assert_eq!(one.counts.as_ref().map(|counts| counts.statements), Some(1));
    assert!(matches!(&one.end, End::Recorded(_, reason) if reason == "the client said goodbye"));
    for (arguments, wanted) in [
        ("--target payments/cards-db", true),
        ("--target cards-db", true),
        ("--target cards", false),
        ("--user billing_ro", true),
        ("--user bot --database shop", true),
        ("--user bot --database other", false),
    ] {
        assert_eq!(is_meant(one, &parsed(arguments)), wanted, "{arguments}");
    }
}

#[test]
fn beyond_the_limit_the_oldest_is_dropped_and_that_is_known() {
    let mut known = known(1);
    assert!(!known.dropped);
    let mut another = samples::records().pop().expect("the last one is a session's end");
    let Some(pcigate_proto::record::Event::Session(session)) = &mut another.event else {
        panic!("it is no session")
    };
    session.id = vec![1; 16];
    known.take(99, &another);
    assert!(known.dropped);
    let left: Vec<_> = known.sessions.values().map(Summary::id).collect();
    assert_eq!(left, ["01".repeat(16)]);
}
