//! The built command against a collector made of canned answers, over real mutual TLS.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};

use pcigate_ledger::{Edge, SigningKey, leaf_hash, prove_inclusion};
use pcigate_proto::evidence_server::{Evidence, EvidenceServer};
use pcigate_proto::query_reply::Message as Reply;
use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{
    Exit, LedgerFile, Message, Origin, Outcome, Process, Proof, ProveRequest, QueryReply,
    QueryRequest, ReadLedgerRequest, Record, Result as Success, Row, SqlColumn, SqlColumns,
    SqlReply, SqlRequest, SqlRow, SqlSummary, SqlValue, Summary, Verdict, Workload,
    sql_reply::Message as SqlMessage, sql_value::Value as SqlCase,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Content of a file during whose reading the collector goes down.
const DOWN: &[u8] = b"down";

/// Answers out of memory; keeps the last query.
#[derive(Clone)]
struct Canned {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    records: Arc<Vec<Vec<u8>>>,
    key: String,
    asked: Arc<Mutex<Option<QueryRequest>>>,
}

type SqlReplies = Pin<Box<dyn tokio_stream::Stream<Item = Result<SqlReply, Status>> + Send>>;
type Replies = Pin<Box<dyn tokio_stream::Stream<Item = Result<QueryReply, Status>> + Send>>;

#[tonic::async_trait]
impl Evidence for Canned {
    type QueryStream = Replies;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Replies>, Status> {
        let request = request.into_inner();
        if request.pod == "forbidden" {
            return Err(Status::permission_denied("only people may ask"));
        }
        let follow = request.follow;
        if request.explain {
            let plan = QueryReply { message: Some(Reply::Plan("scan of pod".into())) };
            return Ok(Response::new(Box::pin(tokio_stream::iter([Ok(plan)]))));
        }
        *self.asked.lock().unwrap() = Some(request);
        let row = |index: u64| {
            let record = self.records[usize::try_from(index).unwrap()].clone();
            Ok(QueryReply { message: Some(Reply::Row(Row { index, record })) })
        };
        let summary = Summary { matched: 40, scanned: 100, tree_size: 300 };
        let mut replies = vec![row(1), row(2)];
        replies.push(Ok(QueryReply { message: Some(Reply::Summary(summary)) }));
        if follow {
            replies.push(row(3));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    type SqlStream = SqlReplies;

    async fn sql(&self, request: Request<SqlRequest>) -> Result<Response<SqlReplies>, Status> {
        let request = request.into_inner();
        let reply = |message| Ok(SqlReply { message: Some(message) });
        let replies = match request.statement.as_str() {
            "typo" => return Err(Status::invalid_argument("statement: no column nam\u{1b}[2J")),
            "huge" => vec![
                reply(SqlMessage::Columns(SqlColumns::default())),
                Err(Status::resource_exhausted("statement: it needs more than 256 MiB")),
            ],
            _ if request.explain => vec![reply(SqlMessage::Plan("scan\n  \u{1b}[2J".into()))],
            _ => {
                let names = [("leaf", "UInt64"), ("pod", "Utf8")];
                let columns = names
                    .map(|(name, r#type)| SqlColumn { name: name.into(), r#type: r#type.into() });
                let row = |leaf, pod: Option<&str>| {
                    let pod = pod.map(|pod| SqlCase::Text(pod.to_owned()));
                    let values = [Some(SqlCase::Unsigned(leaf)), pod];
                    let values = values.map(|value| SqlValue { value }).into();
                    reply(SqlMessage::Row(SqlRow { values }))
                };
                let summary = SqlSummary { rows: 2, cut: request.limit == 2, tree_size: 300 };
                vec![
                    reply(SqlMessage::Columns(SqlColumns { columns: columns.into() })),
                    row(257, Some("bil\u{1b}ling")),
                    row(3, None),
                    reply(SqlMessage::Summary(summary)),
                ]
            }
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<Proof>, Status> {
        let index = request.into_inner().index;
        let size = self.records.len() as u64;
        let hashes = prove_inclusion(&*self.files, size, index)
            .map_err(|error| Status::not_found(error.to_string()))?;
        Ok(Response::new(Proof {
            index,
            record: self.records[usize::try_from(index).unwrap()].clone(),
            hashes: hashes.iter().map(|hash| hash.to_vec()).collect(),
            checkpoint: self.files["checkpoint"].clone(),
            verifier_key: self.key.clone(),
        }))
    }

    async fn read_ledger(
        &self,
        request: Request<ReadLedgerRequest>,
    ) -> Result<Response<LedgerFile>, Status> {
        match self.files.get(&request.into_inner().path) {
            Some(content) if content == DOWN => Err(Status::unavailable("going down")),
            Some(content) => Ok(Response::new(LedgerFile { content: content.clone() })),
            None => Err(Status::not_found("no such file")),
        }
    }
}

fn record(index: u64) -> Record {
    Record {
        origin: Some(Origin { node: "n1".into(), seq: index, ..Origin::default() }),
        time_unix_nano: 1_795_381_486_000_000_000 + index,
        subject: Some(Subject::Workload(Workload {
            namespace: "payments".into(),
            pod: "billing".into(),
            ..Workload::default()
        })),
        process: Some(Process { pid: 7, ..Process::default() }),
        outcome: Some(Outcome {
            result: Success::Success.into(),
            verdict: Verdict::Allow.into(),
            ..Outcome::default()
        }),
        event: Some(Event::Exit(Exit { code: 3, signal: 0 })),
        ..Record::default()
    }
}

fn canned(size: u64) -> Canned {
    let key = SigningKey::generate("ledger.example/pci").unwrap();
    let (mut edge, mut files, mut records) = (Edge::empty(), Vec::new(), Vec::new());
    for index in 0..size {
        let bytes = record(index).encode_to_vec();
        edge.append(&bytes, leaf_hash(&bytes), &mut files).unwrap();
        records.push(bytes);
    }
    files.extend(edge.partial_files());
    let mut files: BTreeMap<_, _> =
        files.into_iter().map(|file| (file.path.to_string(), file.bytes)).collect();
    files.insert("checkpoint".into(), key.sign(size, &edge.root()).unwrap());
    Canned {
        files: Arc::new(files),
        records: Arc::new(records),
        key: key.verifier().to_string(),
        asked: Arc::default(),
    }
}

/// A running collector and the TLS directory of a person.
struct Running {
    url: String,
    tls: TempDir,
    canned: Canned,
    _runtime: tokio::runtime::Runtime,
}

fn start(canned: Canned) -> Running {
    let tls = tempfile::tempdir().unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let issue = |san: SanType| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = vec![san];
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (cert, key) = issue(SanType::URI("spiffe://pcigate/person/ana".try_into().unwrap()));
    for (name, text) in [("ca.pem", &ca), ("cert.pem", &cert), ("key.pem", &key)] {
        fs::write(tls.path().join(name), text).unwrap();
    }
    let (cert, key) = issue(SanType::IpAddress("127.0.0.1".parse().unwrap()));
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(&ca));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let incoming = {
        let _context = runtime.enter();
        TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    };
    let url = format!("https://{}", incoming.local_addr().unwrap());
    let service = EvidenceServer::new(canned.clone());
    let mut server = Server::builder().tls_config(config).unwrap();
    runtime.spawn(server.add_service(service).serve_with_incoming(incoming));
    Running { url, tls, canned, _runtime: runtime }
}

impl Running {
    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_pcigate"))
            .args(arguments)
            .env("PCIGATE_COLLECTOR", &self.url)
            .env("PCIGATE_TLS_DIR", self.tls.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn records_are_listed_and_the_filters_arrive() {
    let collector = start(canned(5));
    let (code, out, error) = collector.ask(&["records", "--pod", "billing", "--verdict", "allow"]);
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("INDEX"), "{out}");
    assert!(lines[2].starts_with("2 ") && lines[2].contains("payments/billing"), "{out}");
    assert!(error.contains("newest 2 of 40"), "{error}");
    let asked = collector.canned.asked.lock().unwrap().clone().unwrap();
    assert_eq!((asked.pod.as_str(), asked.verdict()), ("billing", Verdict::Allow));
}

#[test]
fn followed_records_are_printed_in_the_same_columns() {
    let collector = start(canned(5));
    let (code, out, error) = collector.ask(&["records", "--follow"]);
    assert_eq!(code, Some(0), "{error}");
    let columns: Vec<_> = out.lines().map(|line| line.find("payments/billing")).collect();
    assert_eq!(columns.len(), 4, "{out}");
    assert!(columns[1].is_some() && columns[1] == columns[2] && columns[2] == columns[3], "{out}");
    assert_eq!(out.lines().next().and_then(|head| head.find("WHO")), columns[1], "{out}");
}

#[test]
fn json_records_are_one_object_per_line() {
    let collector = start(canned(5));
    let (code, out, _) = collector.ask(&["records", "--output", "json", "--follow"]);
    assert_eq!(code, Some(0));
    let indexes: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["index"].clone())
        .collect();
    assert_eq!(indexes, [1, 2, 3]);
}

#[test]
fn the_rows_of_a_statement_are_a_table_json_or_csv() {
    let collector = start(canned(5));
    for (format, expected) in [
        ("table", "leaf  pod\n257   bil\\u{1b}ling\n3     NULL\n"),
        ("json", "{\"leaf\":257,\"pod\":\"bil\\u001bling\"}\n{\"leaf\":3,\"pod\":null}\n"),
        ("csv", "leaf,pod\n257,bil\\u{1b}ling\n3,\n"),
    ] {
        let (code, out, error) = collector.ask(&["sql", "SELECT leaf, pod", "--output", format]);
        assert_eq!((code, out.as_str(), error.as_str()), (Some(0), expected, ""));
    }
    let (code, out, error) = collector.ask(&["sql", "SELECT leaf, pod", "--limit", "2"]);
    assert!(code == Some(0) && out.lines().count() == 3, "{out}");
    assert!(error.contains("the first 2 rows") && error.contains("--limit"), "{error}");
}

#[test]
fn a_plan_is_shown_instead_of_rows() {
    let collector = start(canned(5));
    let (code, out, _) = collector.ask(&["sql", "SELECT 1", "--explain"]);
    assert_eq!((code, out.as_str()), (Some(0), "scan\n  \\u{1b}[2J\n"));
    let (code, out, _) = collector.ask(&["records", "--explain", "--pod", "p"]);
    assert_eq!((code, out.as_str()), (Some(0), "scan of pod\n"));
}

#[test]
fn a_statement_the_collector_does_not_take_or_finish_is_exit_2_with_its_sentence() {
    let collector = start(canned(5));
    let (code, out, error) = collector.ask(&["sql", "typo"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("no column nam\\u{1b}[2J"), "{error}");
    let (code, out, error) = collector.ask(&["sql", "huge"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("more than 256 MiB"), "{error}");
}

#[test]
fn one_record_is_proved_and_a_wrong_key_is_noticed() {
    let collector = start(canned(300));
    let (code, out, error) = collector.ask(&["record", "257", "--proof"]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("proof.verified") && out.contains("exit.code"), "{out}");
    assert!(error.contains("proves less"), "{error}");
    let kept = collector.canned.key.clone();
    let (code, _, error) = collector.ask(&["record", "257", "--proof", "--key", &kept]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let other = SigningKey::generate("ledger.example/pci").unwrap().verifier().to_string();
    let (code, out, _) = collector.ask(&["record", "257", "--proof", "--key", &other]);
    assert!(code == Some(1) && out.contains("proof.error"), "{out}");
}

#[test]
fn a_record_that_was_changed_after_it_was_signed_is_exit_1() {
    let mut changed = canned(5);
    let mut records = changed.records.to_vec();
    records[2] = record(77).encode_to_vec();
    changed.records = Arc::new(records);
    let (code, out, _) = start(changed).ask(&["record", "2", "--proof", "--output", "json"]);
    assert!(code == Some(1) && out.contains("\"verified\":false"), "{out}");
}

#[test]
fn a_record_that_does_not_exist_is_bad_input() {
    let (code, _, error) = start(canned(5)).ask(&["record", "5"]);
    assert!(code == Some(2) && error.contains("leaf 5"), "{error}");
}

#[test]
fn a_ledger_is_verified_through_the_collector() {
    let collector = start(canned(300));
    let url = collector.url.clone();
    let (code, out, error) = collector.ask(&["verify", &url]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("300") && out.ends_with("ok\n"), "{out}");
    let mut changed = canned(300);
    let mut files = changed.files.as_ref().clone();
    let tile = files.get_mut("tile/entries/000").unwrap();
    *tile.last_mut().unwrap() ^= 1;
    changed.files = Arc::new(files);
    let collector = start(changed);
    let (code, out, _) = collector.ask(&["verify", &collector.url, "-o", "json"]);
    assert!(code == Some(1) && out.contains("leaf 255"), "{out}");
}

#[test]
fn a_ledger_that_grew_while_it_was_read_verifies() {
    let mut growing = canned(300);
    let mut files = growing.files.as_ref().clone();
    files.retain(|path, _| !path.contains(".p/44"));
    let grown = canned(512);
    for path in ["tile/entries/001", "tile/0/001"] {
        files.insert(path.into(), grown.files[path].clone());
    }
    growing.files = Arc::new(files);
    let collector = start(growing);
    let (code, out, error) = collector.ask(&["verify", &collector.url]);
    assert!(code == Some(0) && out.contains("300"), "{out}{error}");
}

#[test]
fn a_collector_that_goes_down_is_no_finding_against_the_ledger() {
    let mut down = canned(300);
    let mut files = down.files.as_ref().clone();
    files.insert("tile/0/000".into(), DOWN.to_vec());
    down.files = Arc::new(files);
    let collector = start(down);
    let given = collector.canned.key.clone();
    let (code, out, error) = collector.ask(&["verify", &collector.url, "--key", &given]);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{error}");
}

#[test]
fn a_refused_certificate_is_exit_3_with_a_remedy() {
    let (code, _, error) = start(canned(5)).ask(&["records", "--pod", "forbidden"]);
    assert!(code == Some(3) && error.contains("certificate of a person"), "{error}");
}

#[test]
fn a_collector_that_is_not_there_is_exit_3() {
    let collector = start(canned(5));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let (code, _, error) = collector.ask(&["--collector", &url, "records"]);
    assert!(code == Some(3) && error.contains(&url) && error.contains("because"), "{error}");
}
