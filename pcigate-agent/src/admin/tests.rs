//! Tests of the agent's HTTP port: what it says when, that its metrics are documented, that the
//! dashboard and the alerts ask for metrics there are, and that nobody can hold it up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Instant,
};

use pcigate_policy::mask::{Cut, Masked};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    beat::Beat,
    draft::{Draft, Event},
    gateway::{Live, Timings},
    recorder::{self, Recorder},
    spool::{Limits, Spool},
};

/// A board with parts that are as they are in an agent.
struct Site {
    board: Board,
    recorder: Recorder,
    watched: Watched,
    _directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let spool = Spool::open(directory.path(), Limits::default()).unwrap();
        let spool = Arc::new(Mutex::new(spool));
        let recorder = recorder::start(Arc::clone(&spool), "n1".to_owned()).unwrap();
        let watched = Watched {
            recorder: recorder.handle(),
            spool,
            exporter: None,
            pipeline: Beat::new(),
            live: Live::new(),
            timings: Timings::new(),
        };
        Self { board: Board::new(), recorder, watched, _directory: directory }
    }

    /// One that enforces.
    fn enforcing() -> Self {
        let site = Self::new();
        site.board.enforcing(site.watched.clone());
        assert!(site.board.looked(), "the first look is to be published");
        site.board.publish(governed());
        site
    }

    async fn serve(&self) -> SocketAddr {
        self.serve_within(BOUNDS).await
    }

    async fn serve_within(&self, bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, self.board.clone(), bounds));
        address
    }
}

fn governed() -> Governed {
    let heard = Some(Instant::now());
    Governed {
        policies: Policies {
            hash: "ab".repeat(32),
            policies: 3,
            targets: 1,
            compiled: 2,
            readings: Readings { taken: 2, refused: 1, last_refused: false },
        },
        workloads: WorkloadCounts { governed: 7, exempt: 2, refused: 1, unknown: 4 },
        source: SourceState { unknown: "", api_server: Some(ApiServer { answers: true, heard }) },
        missing: BTreeMap::from([("exec-refusal", 0), ("policy-rule", 2)]),
        ..Governed::default()
    }
}

async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")).await
}

#[tokio::test]
async fn it_is_ready_when_it_enforces_and_says_which_part_is_not_otherwise() {
    let site = Site::new();
    let address = site.serve().await;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()), "it starts, and lives");
    let (status, text) = get(address, "/readyz").await;
    assert_eq!(status, 503);
    let not_yet = "programs: not attached yet, the agent starts\npolicies: not looked at yet\n\
                   workloads: not looked at yet\n";
    assert_eq!(text, not_yet);

    site.board.enforcing(site.watched.clone());
    assert_eq!(get(address, "/readyz").await.0, 503, "attached, and nothing is in the maps");
    assert!(site.board.looked());
    site.board.publish(governed());
    let all = "programs: ok\npolicies: ok\nworkloads: ok\ndocuments: ok\ngateway: ok\n\
               api-server: ok\nspool: ok\n";
    assert_eq!(get(address, "/readyz").await, (200, all.to_owned()));
    assert!(!site.board.looked(), "the next look is not to be published at once");

    site.board.publish(Governed { failures: 3, ..governed() });
    let (status, text) = get(address, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("\npolicies: 3 are not in the kernel as they should be;"), "{text}");

    let unknown = "the API server has not listed";
    let source = SourceState { unknown, ..governed().source };
    site.board.publish(Governed { source, ..governed() });
    let (status, text) = get(address, "/readyz").await;
    assert_eq!((status, text.contains("workloads: the API server has not listed")), (503, true));

    let mut refused = governed();
    refused.policies.readings.last_refused = true;
    refused.source.api_server = Some(ApiServer { answers: false, heard: None });
    site.board.publish(refused);
    let (status, text) = get(address, "/readyz").await;
    assert_eq!(status, 200, "what was known last is enforced: {text}");
    assert!(text.contains("documents: documents with mistakes are refused;"), "{text}");
    assert!(text.contains("api-server: does not answer;"), "{text}");

    site.board.stopping();
    assert_eq!(get(address, "/readyz").await.0, 503);
    assert_eq!(get(address, "/healthz").await.0, 200);
}

#[tokio::test]
async fn an_agent_whose_recorder_has_ended_is_to_be_started_again() {
    let site = Site::enforcing();
    let address = site.serve().await;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
    site.recorder.stop().unwrap();
    let (status, text) = get(address, "/healthz").await;
    assert_eq!((status, text.as_str()), (500, "the recorder has ended\n"));
}

#[tokio::test]
async fn what_is_recorded_waits_and_is_masked_is_counted() {
    let site = Site::enforcing();
    let address = site.serve().await;
    let draft = Draft::agent(
        crate::pipeline::now_unix_nano() - 90_000_000_000,
        Event::Attempt {
            operation: "gateway",
            object: Masked::new(b"pay with 4111111111111111", Cut::Whole),
        },
    );
    site.watched.recorder.record_durable(vec![draft]).unwrap();
    site.watched.timings.decided(Duration::from_micros(80));
    site.watched.timings.decided(Duration::MAX);
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    let sample = |name: &str| {
        let name = format!("pcigate_agent_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    for (name, value) in [
        ("enforcing", 1.0),
        ("records_total{kind=\"attempt\",verdict=\"none\"}", 1.0),
        ("records_total{kind=\"egress\",verdict=\"deny\"}", 0.0),
        ("masked_values_total{kind=\"pan\"}", 1.0),
        ("lost_events_total{ring=\"events\",reason=\"ring-full\"}", 0.0),
        ("spool_records", 1.0),
        ("spool_writable", 1.0),
        ("workloads{state=\"unknown\"}", 4.0),
        ("coverage_missing{capability=\"policy-rule\"}", 2.0),
        ("statement_decision_seconds_count", 2.0),
        ("statement_decision_seconds_sum", 3_600.000_08),
    ] {
        assert!((sample(name) - value).abs() < 1e-9, "{name} is {}", sample(name));
    }
    let oldest = sample("spool_oldest_seconds");
    assert!((90.0..150.0).contains(&oldest), "its own time counts: {oldest}");
    assert!(!text.contains("411111") && text.ends_with("# EOF\n"), "{text}");
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

/// Names and types in the tables of the documentation.
fn documented() -> BTreeMap<String, String> {
    include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.split(['`', '{']).next()?;
            name.starts_with("pcigate_").then_some((name.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

#[test]
fn every_metric_is_in_the_documents_and_the_reverse_and_labels_are_closed_sets() {
    let site = Site::enforcing();
    let text = site.board.metrics().unwrap();
    let mut ours = documented();
    ours.retain(|name, _| name.starts_with("pcigate_agent_"));
    assert_eq!(exposed(&text), ours);
    let labels = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| {
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let pairs = labels.map_or("", |(labels, _)| labels).split(',');
        pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())).collect::<Vec<_>>()
    });
    let labels: BTreeSet<String> = labels.collect();
    let known = ["capability", "hash", "kind", "le", "reason", "result", "ring", "state"];
    let known = known.into_iter().chain(["verdict", "version"]);
    assert_eq!(labels, known.map(str::to_owned).collect());
    assert!(text.lines().count() < 500, "a node has so many series: {}", text.lines().count());
}

/// The names of ours in a text that asks for metrics.
fn asked(text: &str) -> BTreeSet<String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character: char| !is_name(character));
    let is_ours =
        |word: &&str| word.starts_with("pcigate_agent_") || word.starts_with("pcigate_collector_");
    words.filter(is_ours).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_there_are() {
    let known = documented();
    let is_there = |name: &str| {
        let of_histogram = name.strip_suffix("_bucket").and_then(|name| known.get(name));
        known.contains_key(name) || of_histogram.is_some_and(|kind| kind == "histogram")
    };
    let dashboard = include_str!("../../../deploy/grafana/pcigate.json");
    let alerts = include_str!("../../../deploy/grafana/alerts.yaml");
    for (file, text, least) in [("pcigate.json", dashboard, 40), ("alerts.yaml", alerts, 20)] {
        let asked = asked(text);
        assert!(asked.len() > least, "{file}: {asked:?}");
        let missing: Vec<_> = asked.iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{file} asks for what nobody tells: {missing:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(places.insert(panel["gridPos"].to_string()), "two panels at one place: {panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let count = |bracket: char| query.matches(bracket).count();
            assert_eq!(count('('), count(')'), "{query}");
            assert!(!asked(query).is_empty(), "{query}");
        }
    }
}

#[tokio::test]
async fn other_methods_other_paths_and_large_requests_are_refused() {
    let address = Site::enforcing().serve().await;
    assert_eq!(get(address, "/").await.0, 404);
    let post = "POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(address, post).await.0, 405);
    let large = format!("GET /{} HTTP/1.1\r\nHost: here\r\n\r\n", "a".repeat(REQUEST_MAX));
    let (status, _) = ask(address, &large).await;
    assert!([414, 431].contains(&status), "{status}");
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_keep_nobody_out() {
    let whole = Duration::from_millis(200);
    for head in [Duration::from_millis(50), Duration::from_secs(3600)] {
        let site = Site::enforcing();
        let address = site.serve_within(Bounds { connections: 2, head, whole }).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(get(address, "/healthz").await.0, 200);
        let mut rest = Vec::new();
        silent[0].read_to_end(&mut rest).await.unwrap();
    }
}
