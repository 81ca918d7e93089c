//! Running a collector: metrics, health, stopping under load, certificates, the clock.

use std::{collections::BTreeMap, fs, path::Path};

use pcigate_proto::coverage::State as CoverageState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::ledger::Leaf;

/// Asks the web port; status and body.
async fn get(site: &Site, path: &str) -> (u16, String) {
    let address = site.running.web_address().unwrap();
    let mut stream = soon(tokio::net::TcpStream::connect(address)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a sample, written as the exposition writes it.
async fn sample(site: &Site, name: &str) -> String {
    let (_, text) = get(site, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
}

/// Waits until a sample has a value.
async fn wait_for_sample(site: &Site, name: &str, value: &str) {
    let wait = async {
        while sample(site, name).await != value {
            tokio::task::yield_now().await;
        }
    };
    soon(wait).await;
}

/// Names and types of `# TYPE` lines, as samples spell them.
fn exposed(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => (format!("{name}_total"), kind.to_owned()),
            "info" => (format!("{name}_info"), kind.to_owned()),
            _ => (name.to_owned(), kind.to_owned()),
        })
        .collect()
}

/// Names and types in the table of the documentation.
fn documented() -> BTreeMap<String, String> {
    include_str!("../../../../docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `pcigate_collector_")?.split('|').map(str::trim);
            let name = cells.next()?.split(['`', '{']).next()?;
            Some((format!("pcigate_collector_{name}"), cells.next()?.to_owned()))
        })
        .collect()
}

#[tokio::test]
async fn every_metric_is_in_the_documents_and_the_reverse_and_none_tells_of_a_record() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let records: Vec<_> = (1..=3).map(|seq| record(seq, "secret-namespace", 1)).collect();
    agent.batch(1, bytes(&records)).await.unwrap();
    let (status, text) = get(&site, "/metrics").await;
    assert_eq!(status, 200);
    assert_eq!(exposed(&text), documented());
    assert!(text.ends_with("# EOF\n"));
    for foreign in ["secret-namespace", "bot-1", "curl"] {
        assert!(!text.contains(foreign), "{text}");
    }
    for (name, value) in [
        ("pcigate_collector_records_total{result=\"stored\"}", "3"),
        ("pcigate_collector_batches_total{result=\"stored\"}", "1"),
        ("pcigate_collector_nodes_connected", "1"),
        ("pcigate_collector_ledger_leaves", "5"),
        ("pcigate_collector_ledger_writable", "1"),
        ("pcigate_collector_tls_handshakes_total{result=\"ok\"}", "1"),
        ("pcigate_collector_connections", "1"),
        ("pcigate_collector_queue_requests_limit", "32"),
    ] {
        assert_eq!(sample(&site, name).await, value, "{name}");
    }
    assert!(text.contains("node_last_receive_seconds{node=\"n1\"}"), "{text}");
    drop(agent);
    wait_for_sample(&site, "pcigate_collector_nodes_connected", "0").await;
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_a_repeat_a_gap_and_a_conflict_are_counted() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let mut sent = bytes(&[record(1, "pay", 1), record(2, "pay", 1)]);
    sent.push(vec![0xff]);
    agent.batch(1, sent).await.unwrap();
    let again = bytes(&[record(1, "pay", 1), record(2, "pay", 2)]);
    agent.batch(1, again).await.unwrap();
    for (name, value) in [
        ("pcigate_collector_records_total{result=\"stored\"}", "2"),
        ("pcigate_collector_records_total{result=\"repeated\"}", "1"),
        ("pcigate_collector_records_total{result=\"refused\"}", "2"),
        ("pcigate_collector_gaps_total", "1"),
        ("pcigate_collector_conflicts_total", "1"),
        ("pcigate_collector_queries_total{operation=\"records\"}", "0"),
    ] {
        assert_eq!(sample(&site, name).await, value, "{name}");
    }
    query(&site, QueryRequest::default()).await;
    let name = "pcigate_collector_queries_total{operation=\"records\"}";
    assert_eq!(sample(&site, name).await, "1");
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn health_tells_that_it_lives_and_readiness_that_the_ledger_can_be_written() {
    let site = Site::new().await;
    assert_eq!(get(&site, "/healthz").await, (200, "ok\n".into()));
    let (code, parts) = get(&site, "/readyz").await;
    assert_eq!(code, 200);
    // The index may still be on its way.
    assert!(parts.starts_with("serving: ok\nledger: ok\nindex: "), "{parts}");
    assert_eq!(get(&site, "/else").await.0, 404);
    let obstacle = site.dir.path().join("state/ledger/checkpoint.tmp");
    fs::create_dir(&obstacle).unwrap();
    let probe = site.dir.path().join("state/ledger/probe");
    fs::create_dir(&probe).unwrap();
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let status = agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("send it again later"), "{status}");
    let (status, text) = get(&site, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("ledger: the ledger cannot be written"), "{text}");
    assert_eq!(sample(&site, "pcigate_collector_ledger_writable").await, "0");
    assert_eq!(sample(&site, "pcigate_collector_ledger_write_failures_total").await, "1");
    fs::remove_dir(&obstacle).unwrap();
    fs::remove_dir(&probe).unwrap();
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    assert_eq!(agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap().seq, 1);
    assert_eq!(get(&site, "/readyz").await.0, 200);
    assert_eq!(sample(&site, "pcigate_collector_ledger_writable").await, "1");
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn stopping_under_load_ends_streams_with_a_status_and_keeps_what_it_acknowledged() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let (acked_sender, mut acked) = tokio::sync::watch::channel(0);
    let load = tokio::spawn(async move {
        for first in (1..).step_by(10) {
            let records: Vec<_> = (first..first + 10).map(|seq| record(seq, "pay", 1)).collect();
            match agent.batch(first, bytes(&records)).await {
                Ok(ack) => drop(acked_sender.send_replace(ack.seq)),
                Err(status) => return status,
            }
        }
        unreachable!("the collector stops before");
    });
    soon(acked.wait_for(|acked| *acked >= 50)).await.unwrap();
    let (source, key) = site.ledger();
    soon(site.running.stop()).await.unwrap();
    let status = soon(load).await.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the collector is stopping"), "{status}");
    let report = verify(&source, &key, None, |_| ()).unwrap();
    let stored = pcigate_ledger::entries(&source, report.size, 0..report.size)
        .map(|entry| Record::decode(entry.unwrap().1.as_slice()).unwrap())
        .filter(|record| !record.origin.as_ref().unwrap().epoch.is_empty())
        .map(|record| record.origin.unwrap().seq);
    let stored: Vec<u64> = stored.collect();
    assert!(stored.len() as u64 >= *acked.borrow(), "{} stored", stored.len());
    assert!(stored.iter().copied().eq(1..=stored.len() as u64));
}

fn authority(site: &Site, ca: &str, who: &str, holder: Holder) {
    let (ca_dir, out) = (site.dir.path().join(ca), site.dir.path().join(who));
    issue(&Order { ca_dir, out, holder, trust_domain: "pcigate".into(), days: 1 }).unwrap();
}

fn server() -> Holder {
    Holder::Server(vec!["localhost".into(), "127.0.0.1".into()])
}

/// Puts files of one directory into another, one after the other.
fn swap(site: &Site, from: &str, to: &str, files: &[&str]) {
    for file in files {
        let from: &Path = &site.dir.path().join(from).join(file);
        fs::copy(from, site.dir.path().join(to).join(file)).unwrap();
    }
}

/// Whether a node with this TLS directory gets an answer.
async fn gets_in(site: &Site, who: &str) -> bool {
    let url = format!("https://{}", site.running.address());
    let tls = tls::client(&site.dir.path().join(who)).unwrap();
    let channel = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy();
    let (requests, stream) = mpsc::channel(8);
    let Ok(acks) = soon(IngestClient::new(channel).send(ReceiverStream::new(stream))).await else {
        return false;
    };
    let mut agent = Agent { requests, acks: acks.into_inner() };
    agent.hello(0).await.is_ok()
}

#[tokio::test]
async fn new_certificates_are_used_without_a_restart_and_broken_ones_are_not() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let not_after = "pcigate_collector_tls_certificate_not_after_seconds{file=\"cert.pem\"}";
    let before = sample(&site, not_after).await;
    // Half a swap: the certificate of one issue with the key of another.
    authority(&site, "ca", "server-2", server());
    swap(&site, "server-2", "server", &["cert.pem"]);
    site.running.reload().await;
    assert_eq!(sample(&site, "pcigate_collector_tls_files_wrong").await, "1");
    assert_eq!(sample(&site, not_after).await, before);
    assert!(gets_in(&site, "n1").await, "what was in use stays in use");
    swap(&site, "server-2", "server", &["key.pem"]);
    site.running.reload().await;
    assert_eq!(sample(&site, "pcigate_collector_tls_files_wrong").await, "0");
    assert!(gets_in(&site, "n1").await);
    // Another authority for the nodes, and a certificate of the server by it.
    authority(&site, "ca-2", "server-3", server());
    authority(&site, "ca-2", "n2", Holder::Node("n2".into()));
    swap(&site, "server-3", "server", &["ca.pem", "cert.pem", "key.pem"]);
    site.running.reload().await;
    assert!(gets_in(&site, "n2").await, "the new authority's node");
    // It trusts the new server, and shows a certificate of the old authority.
    swap(&site, "n2", "n1", &["ca.pem"]);
    assert!(!gets_in(&site, "n1").await, "the old authority's node");
    assert_eq!(agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap().seq, 1);
    let reloads = "pcigate_collector_tls_reloads_total";
    assert_eq!(sample(&site, &format!("{reloads}{{result=\"ok\"}}")).await, "2");
    assert_eq!(sample(&site, &format!("{reloads}{{result=\"failed\"}}")).await, "1");
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn changed_certificates_are_noticed_by_themselves() {
    let site = Site::new().await;
    authority(&site, "ca", "server-2", server());
    swap(&site, "server-2", "server", &["cert.pem", "key.pem"]);
    let name = "pcigate_collector_tls_reloads_total{result=\"ok\"}";
    wait_for_sample(&site, name, "1").await;
    assert!(gets_in(&site, "n1").await);
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_second_collector_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let site = Site::new().await;
    let config = Config { web_listen: None, ..Site::config(&site.dir) };
    let error = start(config).await.err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("another collector uses the state directory"), "{cause}");
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    assert_eq!(agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap().seq, 1);
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_clock_set_back_is_a_record_and_nothing_is_refused() {
    let site = Site::new().await;
    let Site { dir, running } = site;
    soon(running.stop()).await.unwrap();
    let mut later = records::coverage("test/log", CoverageState::Stop);
    later.time_unix_nano += 3_600_000_000_000;
    let mut ledger = crate::ledger::Ledger::open(&dir.path().join("state"), "test/log").unwrap();
    ledger.commit(&[Leaf::new(later.encode_to_vec())]).unwrap();
    drop(ledger);
    let site = Site { running: Site::start(&dir).await, dir };
    assert_eq!(sample(&site, "pcigate_collector_clock_set_back_total").await, "1");
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    assert_eq!(agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap().seq, 1);
    let request = QueryRequest { kinds: vec!["coverage".into()], ..<_>::default() };
    let (rows, _) = query(&site, request).await;
    let said = rows.iter().map(|row| match Record::decode(row.record.as_slice()).unwrap().event {
        Some(Event::Coverage(coverage)) => (coverage.state(), coverage.message),
        other => panic!("{other:?}"),
    });
    let said: Vec<_> = said.collect();
    let states: Vec<_> = said.iter().map(|(state, _)| *state).collect();
    use CoverageState::{Change, Start, Stop};
    assert_eq!(states, [Start, Stop, Stop, Change, Start]);
    assert!(said[3].1.contains("was set back: it is 3599."), "{}", said[3].1);
    // While it runs: a record of its own with a later time, then the next request.
    let mut later = records::coverage("test/log", CoverageState::Change);
    later.time_unix_nano += 60_000_000_000;
    site.running.writer.ask(Job::Own(Box::new(later))).await.unwrap();
    assert_eq!(agent.batch(2, bytes(&[record(2, "pay", 1)])).await.unwrap().seq, 2);
    assert_eq!(sample(&site, "pcigate_collector_clock_set_back_total").await, "2");
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_does_and_what_it_had_sent_is_kept() {
    let site = Site::new().await;
    let (ca, n1) = (site.dir.path().join("ca"), site.dir.path().join("n1"));
    let (_, issuer) = crate::issue::authority(&ca, "not used").unwrap();
    let validity = Duration::from_secs(2);
    let params = crate::issue::params(&Holder::Node("n1".into()), "pcigate", validity).unwrap();
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(n1.join("key.pem")).unwrap()).unwrap();
    fs::write(n1.join("cert.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    assert_eq!(agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap().seq, 1);
    let ended = soon(agent.acks.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert!(ended.message().contains("has expired"), "{ended}");
}
