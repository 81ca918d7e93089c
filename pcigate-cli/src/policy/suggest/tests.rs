//! Whatever stands in records, what is suggested is a document, and allows nothing that did not
//! happen.

use std::net::IpAddr;

use clap::Parser;
use pcigate_policy::decide::{EgressRequest, ExecRequest};
use pcigate_policy::workload::Identity;
use pcigate_proto::record::Event;
use pcigate_proto::{Egress, Exec, Session, Statement, Verdict, egress};
use proptest::prelude::*;

use super::*;
use crate::policy::observed::Seen;
use crate::policy::workloads::Who;
use crate::table::is_tricky;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options() -> Options {
    let line = ["suggest", "-n", "ci", "--service-account", "bot", "--mode", "enforce"];
    Line::parse_from(line).options
}

/// Text of somebody who knows YAML and terminals.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "/[a-z\u{202e}\u{200f}é]{1,6}",
        "[a-z./\\*?\"'#:{}\\[\\] \n-]{0,20}",
        "/[a-z]{1,8}/[a-z0-9._+-]{1,12}",
        Just("/usr/bin/x\"]}\n      - {id: evil, action: allow, paths: [\"/**".to_owned()),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let words = || proptest::collection::vec(text(), 0..3);
    let effect = prop_oneof![
        Just("read".to_owned()),
        Just("write".to_owned()),
        Just("function".to_owned()),
        Just("session".to_owned()),
        Just("unknown".to_owned()),
        text()
    ];
    let table = prop_oneof!["[a-z]{1,6}(\\.[a-z]{1,6}){0,3}", text()];
    let tables = proptest::collection::vec(table, 0..3);
    let effects = proptest::collection::vec(effect, 0..3);
    let target = prop_oneof![Just("ci/db".to_owned()), Just("other/db".to_owned()), text()];
    let protocol = prop_oneof![
        Just("tcp".to_owned()),
        Just("udp".to_owned()),
        Just("ip-proto-132".to_owned()),
        text()
    ];
    let address = prop_oneof![any::<IpAddr>().prop_map(|address| address.to_string()), text()];
    prop_oneof![
        (text(), text(), words()).prop_map(|(path, invoked, mut args)| {
            args.push(invoked.clone());
            Event::Exec(Exec { path, invoked, args, ..Exec::default() })
        }),
        (protocol, address, 0_u32..70_000).prop_map(|(protocol, address, port)| {
            let operation = egress::Operation::Connect.into();
            Event::Egress(Egress { operation, protocol, address, port, v4_mapped: false })
        }),
        (target.clone(), effects, tables).prop_map(|(target, effects, tables)| {
            Event::Statement(Statement { target, effects, tables, ..Statement::default() })
        }),
        target.prop_map(|target| Event::Session(Session { target, ..Session::default() })),
    ]
}

/// An event, whether it happened, and who did it.
fn seen() -> impl Strategy<Value = (Event, bool, String)> {
    let account = prop_oneof![4 => Just("bot".to_owned()), 1 => text()];
    (event(), any::<bool>(), account)
}

const TARGET: &str = "apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: db, namespace: ci}
spec:
  protocol: postgres
  endpoints: [{cidr: 10.0.0.5/32, port: 5432}]
  upstream: {address: \"10.0.0.5:5432\", tls: {mode: verify-full, caFile: /ca.pem, serverName: db}}
  credential: {username: ro, passwordFile: /run/pw}
";

proptest! {
    #[test]
    fn whatever_was_recorded_the_suggestion_is_a_document_and_allows_only_what_happened(
        all in proptest::collection::vec(seen(), 0..20)
    ) {
        let mut gathered = Gathered::new(Names::default(), false);
        for (index, (event, happened, account)) in (1..).zip(&all) {
            gathered.take(&Seen {
                index,
                time: index * 1_000_000_000,
                who: Who {
                    namespace: "ci".into(),
                    service_account: account.clone(),
                    pod: "bot-1".into(),
                },
                event,
                happened: *happened,
                verdict: Verdict::Allow,
                by: ("", "default"),
            });
        }
        if gathered.is_empty() {
            return Ok(());
        }
        let policy = write::policy(&gathered, &options(), (1, 2));
        prop_assert!(policy.chars().all(|letter| letter == '\n' || !is_tricky(letter)));
        let documents = Documents::read(&[("policy", policy.as_str()), ("target", TARGET)]);
        let wrong = |wrong| TestCaseError::fail(format!("{wrong}\n{policy}"));
        let documents = documents.map_err(wrong)?;
        let service_account = gathered.accounts.first().cloned().unwrap_or_default();
        let identity = Identity { namespace: "ci".into(), service_account, ..Identity::default() };
        let set = documents.select(&identity);
        for path in ["/evil", "/usr/bin/x", "/usr/bin/never-seen"] {
            let happened = |(event, happened, _): &(Event, bool, String)| {
                let Event::Exec(exec) = event else { return false };
                *happened && (exec.path == path || exec.invoked == path)
            };
            let request = ExecRequest {
                path: Some(path.as_bytes()),
                invoked: b"",
                sha256: None,
                args: Some(&[]),
            };
            let says_nothing = gathered.programs.is_empty();
            let allows = set.decide_exec(&request).decision.allows();
            prop_assert!(!allows || says_nothing || all.iter().any(happened), "{path}\n{policy}");
        }
        let address = "192.0.2.77".parse().ok();
        let request = EgressRequest { address, names: &[], protocol: 6, port: 4444 };
        let seen_it = policy.contains("192.0.2.77");
        prop_assert!(!set.decide_egress(&request).decision.allows() || seen_it, "{policy}");
    }
}
