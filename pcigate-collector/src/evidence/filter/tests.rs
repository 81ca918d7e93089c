//! Tests of filters: what matches, and what is refused.

use pcigate_proto::{Egress, Exec, Gap, Origin, Outcome, Process, Record, Traffic};
use proptest::prelude::*;

use super::*;

fn egress(address: &str, port: u32) -> Record {
    Record {
        origin: Some(Origin { node: "n1".into(), ..<_>::default() }),
        time_unix_nano: 100,
        subject: Some(Subject::Workload(Workload {
            namespace: "pay".into(),
            pod: "bot-1".into(),
            service_account: "bot".into(),
            ..<_>::default()
        })),
        process: Some(Process { executable: "/usr/bin/curl".into(), ..<_>::default() }),
        outcome: Some(Outcome { verdict: Verdict::Deny.into(), ..<_>::default() }),
        event: Some(Event::Egress(Egress { address: address.into(), port, ..<_>::default() })),
        ..<_>::default()
    }
}

fn matches(request: &QueryRequest, record: &Record) -> bool {
    Filter::new(request).unwrap().matches(record)
}

#[test]
fn every_condition_that_is_set_must_hold() {
    let record = egress("10.1.2.3", 443);
    let all = QueryRequest {
        since_unix_nano: 100,
        until_unix_nano: 101,
        namespace: "pay".into(),
        pod: "bot-1".into(),
        service_account: "bot".into(),
        kinds: vec!["exec".into(), "egress".into()],
        verdict: Verdict::Deny.into(),
        executable: "*/curl".into(),
        destination: "10.1.2.3:443".into(),
        node: "n1".into(),
        ..<_>::default()
    };
    assert!(matches(&QueryRequest::default(), &record));
    assert!(matches(&all, &record));
    let others: [fn(&mut QueryRequest); 11] = [
        |r| (r.since_unix_nano, r.until_unix_nano) = (101, 0),
        |r| (r.since_unix_nano, r.until_unix_nano) = (0, 100),
        |r| r.namespace = "pa".into(),
        |r| r.pod = "bot-2".into(),
        |r| r.service_account = "x".into(),
        |r| r.kinds = vec!["exec".into()],
        |r| r.verdict = Verdict::Allow.into(),
        |r| r.executable = "curl".into(),
        |r| r.destination = "10.1.2.3:80".into(),
        |r| r.node = "n2".into(),
        |r| r.session = "0a".into(),
    ];
    for (number, change) in others.iter().enumerate() {
        let mut request = all.clone();
        change(&mut request);
        assert!(!matches(&request, &record), "condition {number}");
    }
}

#[test]
fn a_session_is_named_by_the_beginning_of_its_id() {
    let mut record = egress("10.0.0.1", 1);
    let (session, text) = ([0x0a, 0xbc].repeat(8), "DataRow".into());
    record.event = Some(Event::Traffic(Traffic { session, text, ..<_>::default() }));
    for (session, wanted) in
        [("", true), ("0", true), ("0ab", true), ("0abc0abc", true), ("a", false), ("0abd", false)]
    {
        let request = QueryRequest { session: session.into(), ..<_>::default() };
        assert_eq!(matches(&request, &record), wanted, "{session}");
    }
    for wrong in ["0A", "x", "%", "0_", &"0".repeat(33)] {
        let request = QueryRequest { session: wrong.into(), ..<_>::default() };
        assert!(matches!(Filter::new(&request), Err(FilterError::Session { .. })), "{wrong}");
    }
}

#[test]
fn destinations_are_addresses_networks_and_ports() {
    let cases = [
        ("10.1.2.3", "10.1.2.3", 1, true),
        ("10.1.2.3", "10.1.2.4", 1, false),
        ("::ffff:10.1.2.3", "10.1.2.3", 1, true),
        ("10.0.0.0/8", "10.255.0.1", 1, true),
        ("10.0.0.0/8", "11.0.0.1", 1, false),
        ("0.0.0.0/0", "11.0.0.1", 1, true),
        ("0.0.0.0/0", "2001:db8::1", 1, false),
        ("2001:db8::/32", "2001:db8::1", 1, true),
        ("[2001:db8::1]:443", "2001:db8::1", 443, true),
        ("[2001:db8::1]:443", "2001:db8::1", 444, false),
        (":5432", "10.9.9.9", 5432, true),
        (":5432", "10.9.9.9", 5433, false),
    ];
    for (destination, address, port, wanted) in cases {
        let request = QueryRequest { destination: destination.into(), ..<_>::default() };
        assert_eq!(matches(&request, &egress(address, port)), wanted, "{destination} {address}");
    }
}

#[test]
fn the_executable_is_the_acting_or_the_requested_program() {
    let mut record = egress("10.0.0.1", 1);
    let exec = Exec { path: "/bin/sh".into(), ..<_>::default() };
    record.event = Some(Event::Exec(exec));
    for (executable, wanted) in
        [("/bin/sh", true), ("/usr/bin/curl", true), ("/bin/*", true), ("/bin/bash", false)]
    {
        let request = QueryRequest { executable: executable.into(), ..<_>::default() };
        assert_eq!(matches(&request, &record), wanted, "{executable}");
    }
}

#[test]
fn what_the_collector_says_about_a_node_belongs_to_the_node() {
    let event = Event::Gap(Gap { node: "n1".into(), ..<_>::default() });
    let record = crate::records::own("log", event);
    for (node, wanted) in [("n1", true), ("log", true), ("n2", false)] {
        let request = QueryRequest { node: node.into(), ..<_>::default() };
        assert_eq!(matches(&request, &record), wanted, "{node}");
    }
}

#[test]
fn mistakes_are_refused_with_a_sentence_and_without_card_numbers() {
    let refuse = |request: QueryRequest| Filter::new(&request).unwrap_err().to_string();
    let kind = refuse(QueryRequest { kinds: vec!["execs".into()], ..<_>::default() });
    assert!(kind.starts_with("kinds: there is no kind `execs`; the kinds are exec, "), "{kind}");
    refuse(QueryRequest { verdict: 9, ..<_>::default() });
    refuse(QueryRequest { since_unix_nano: 5, until_unix_nano: 5, ..<_>::default() });
    refuse(QueryRequest { limit: 1_000_001, ..<_>::default() });
    for destination in [
        "x",
        "10.0.0.0/33",
        "10.0.0.1:",
        ":",
        ":x",
        ":70000",
        "1.2.3",
        "::/129",
        "10.0.0.0/+8",
        "4111111111111111",
    ] {
        let text = refuse(QueryRequest { destination: destination.into(), ..<_>::default() });
        assert!(text.starts_with("destination: "), "{text}");
        assert!(!text.contains("4111111111111111"), "{text}");
    }
}

#[test]
fn the_text_of_a_request_names_what_is_set() {
    let request = QueryRequest {
        kinds: vec!["exec".into(), "egress".into()],
        verdict: Verdict::Deny.into(),
        limit: 5,
        follow: true,
        explain: false,
        ..<_>::default()
    };
    assert_eq!(text(&request), "kinds=exec,egress verdict=DENY limit=5 follow=true");
}

/// The meaning of a pattern, by trying everything.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
        Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn wildcards_mean_what_they_say(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(wildcard(pattern, text), naive(pattern, text));
    }

    #[test]
    fn any_destination_text_is_answered_without_panic(text in "\\PC{0,40}") {
        let _ = Filter::new(&QueryRequest { destination: text, ..<_>::default() });
    }
}
