//! The whole collector over real mutual TLS on loopback.

use std::{path::PathBuf, time::Duration};

use pcigate_ledger::{
    Checkpoint, Directory, VerifierKey, check_consistency, check_inclusion, verify,
};
use pcigate_proto::{
    Ack, Batch, Egress, Gap, Hello, Message, Origin, Outcome, Process, ProveRequest, QueryRequest,
    ReadLedgerRequest, Record, Result as Success, Row, SendRequest, Summary, Verdict, Workload,
    evidence_client::EvidenceClient,
    ingest_client::IngestClient,
    query_reply::Message as Reply,
    record::{Event, Subject},
    send_request::Message as Sent,
    tls,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

mod answers;

use super::*;
use crate::issue::{Holder, Order, issue};

mod operations;

const EPOCH: [u8; 16] = [9; 16];
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("nothing came in time")
}

/// A collector in a directory with certificates for a node and a person.
struct Site {
    dir: TempDir,
    running: Running,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let holders = [
            ("server", Holder::Server(vec!["localhost".into(), "127.0.0.1".into()])),
            ("n1", Holder::Node("n1".into())),
            ("ana", Holder::Person("ana".into())),
        ];
        for (out, holder) in holders {
            let (ca_dir, out) = (dir.path().join("ca"), dir.path().join(out));
            let order = Order { ca_dir, out, holder, trust_domain: "pcigate".into(), days: 1 };
            issue(&order).unwrap();
        }
        let running = Self::start(&dir).await;
        Self { dir, running }
    }

    async fn start(dir: &TempDir) -> Running {
        start(Self::config(dir)).await.unwrap()
    }

    fn config(dir: &TempDir) -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: dir.path().join("state"),
            tls_dir: dir.path().join("server"),
            origin: "test/log".into(),
            web_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            log: crate::logging::Log::default(),
            enroll: None,
            retention: <_>::default(),
        }
    }

    async fn restart(self) -> Self {
        let Self { dir, running } = self;
        soon(running.stop()).await.unwrap();
        let running = Self::start(&dir).await;
        Self { dir, running }
    }

    async fn channel(&self, who: &str) -> Channel {
        let url = format!("https://{}", self.running.address());
        let tls = tls::client(&self.dir.path().join(who)).unwrap();
        soon(Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect()).await.unwrap()
    }

    async fn person(&self) -> EvidenceClient<Channel> {
        EvidenceClient::new(self.channel("ana").await)
    }

    fn ledger(&self) -> (Directory, VerifierKey) {
        let state: PathBuf = self.dir.path().join("state");
        let key = std::fs::read_to_string(state.join("ledger.vkey")).unwrap();
        (Directory::new(state.join("ledger")), VerifierKey::parse(&key).unwrap())
    }
}

/// The agent's end of an ingest stream.
struct Agent {
    requests: mpsc::Sender<SendRequest>,
    acks: Streaming<Ack>,
}

impl Agent {
    async fn connect(site: &Site, who: &str) -> Result<Self, Status> {
        let mut client = IngestClient::new(site.channel(who).await);
        let (requests, stream) = mpsc::channel(8);
        let acks = soon(client.send(ReceiverStream::new(stream))).await?.into_inner();
        Ok(Self { requests, acks })
    }

    async fn hello(&mut self, tree_size: u64) -> Result<Ack, Status> {
        let (epoch, agent_version) = (EPOCH.to_vec(), "test".into());
        let hello = Hello { epoch, tree_size, agent_version, place: Vec::new() };
        self.ask(Sent::Hello(hello)).await
    }

    async fn batch(&mut self, first_seq: u64, records: Vec<Vec<u8>>) -> Result<Ack, Status> {
        let batch =
            Batch { epoch: EPOCH.to_vec(), first_seq, records, hole: None, sent_unix_nano: 1 };
        self.ask(Sent::Batch(batch)).await
    }

    async fn ask(&mut self, message: Sent) -> Result<Ack, Status> {
        // The answer of a stream that has ended is read below.
        drop(self.requests.send(SendRequest { message: Some(message) }).await);
        soon(self.acks.message()).await.map(|ack| ack.expect("the stream ended without status"))
    }
}

fn record(seq: u64, namespace: &str, port: u32) -> Record {
    Record {
        origin: Some(Origin { node: "n1".into(), epoch: EPOCH.to_vec(), seq, kernel: None }),
        time_unix_nano: 1_000 + seq,
        subject: Some(Subject::Workload(Workload {
            namespace: namespace.into(),
            pod: "bot-1".into(),
            ..<_>::default()
        })),
        process: Some(Process { pid: 7, executable: "/usr/bin/curl".into(), ..<_>::default() }),
        outcome: Some(Outcome {
            result: Success::Refused.into(),
            verdict: Verdict::Deny.into(),
            ..<_>::default()
        }),
        event: Some(Event::Egress(Egress {
            protocol: "tcp".into(),
            address: "10.0.0.1".into(),
            port,
            ..<_>::default()
        })),
        ..<_>::default()
    }
}

fn bytes(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(Message::encode_to_vec).collect()
}

async fn next_row(replies: &mut Streaming<pcigate_proto::QueryReply>) -> Row {
    match soon(replies.message()).await.unwrap().unwrap().message.unwrap() {
        Reply::Row(row) => row,
        other => panic!("no row: {other:?}"),
    }
}

async fn query(site: &Site, request: QueryRequest) -> (Vec<Row>, Summary) {
    let mut replies = site.person().await.query(request).await.unwrap().into_inner();
    let mut rows = Vec::new();
    loop {
        match soon(replies.message()).await.unwrap().unwrap().message.unwrap() {
            Reply::Row(row) => rows.push(row),
            Reply::Summary(summary) => return (rows, summary),
            Reply::Plan(plan) => panic!("a plan instead of rows: {plan}"),
        }
    }
}

fn open(site: &Site, ack: &Ack) -> Checkpoint {
    site.ledger().1.open(&ack.checkpoint).unwrap()
}

#[tokio::test]
async fn records_are_acked_with_checkpoints_that_extend_each_other() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    let hello = agent.hello(0).await.unwrap();
    let key = VerifierKey::parse(&hello.verifier_key).unwrap();
    assert_eq!((hello.seq, key.name()), (0, "test/log"));
    let mut last = open(&site, &hello);
    for first in [1, 3, 5] {
        let records = bytes(&[record(first, "pay", 1), record(first + 1, "pay", 2)]);
        let ack = agent.batch(first, records).await.unwrap();
        assert_eq!((ack.seq, ack.refused.len()), (first + 1, 0));
        let now = open(&site, &ack);
        let proof: Vec<[u8; 32]> =
            ack.consistency_proof.iter().map(|h| h.as_slice().try_into().unwrap()).collect();
        check_consistency(last.size, &last.root, now.size, &now.root, &proof).unwrap();
        assert_eq!(now.size, last.size + 3);
        last = now;
    }
    let site = site.restart().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    let ack = agent.hello(last.size).await.unwrap();
    let now = open(&site, &ack);
    let proof: Vec<[u8; 32]> =
        ack.consistency_proof.iter().map(|h| h.as_slice().try_into().unwrap()).collect();
    check_consistency(last.size, &last.root, now.size, &now.root, &proof).unwrap();
    assert_eq!(ack.seq, 6);
    let ahead = Agent::connect(&site, "n1").await.unwrap().hello(now.size + 100).await.unwrap();
    assert_eq!(ahead.consistency_proof.len(), 0);
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_record_of_another_node_or_without_subject_is_refused_and_leaves_a_gap() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let mut other = record(2, "pay", 1);
    other.origin.as_mut().unwrap().node = "n2".into();
    let nobody = Record { subject: None, ..record(3, "pay", 1) };
    let mut sent = bytes(&[record(1, "pay", 1), other, nobody, record(4, "pay", 1)]);
    sent.push(vec![0xff]);
    sent.push(vec![0; 40_000]);
    let ack = agent.batch(1, sent).await.unwrap();
    let refused: Vec<_> = ack.refused.iter().map(|r| (r.seq, r.field.as_str())).collect();
    assert_eq!(refused, [(2, "origin.node"), (3, "subject"), (5, "record"), (6, "record")]);
    assert_eq!(ack.seq, 6);
    let request = QueryRequest { kinds: vec!["gap".into()], ..<_>::default() };
    let (rows, _) = query(&site, request).await;
    let gaps: Vec<_> = rows
        .iter()
        .map(|row| match Record::decode(row.record.as_slice()).unwrap().event {
            Some(Event::Gap(Gap { first_seq, reason, .. })) => (first_seq, reason),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(gaps[0], (2, "refused: origin.node".to_owned()));
    assert_eq!(gaps.len(), 4);
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_jump_and_a_batch_that_is_too_large_end_the_stream_with_a_sentence() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let status = agent.batch(5, bytes(&[record(5, "pay", 1)])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("expected at most seq 1, got 5"), "{status}");
    let records = vec![Vec::new(); 1_025];
    let big = vec![vec![0; 33_000]; 150];
    for records in [records, big] {
        let mut agent = Agent::connect(&site, "n1").await.unwrap();
        agent.hello(0).await.unwrap();
        let status = agent.batch(1, records).await.unwrap_err();
        assert!(status.message().contains("send smaller batches"), "{status}");
    }
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    let status = agent.batch(1, Vec::new()).await.unwrap_err();
    assert!(status.message().contains("begins with one Hello"), "{status}");
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn people_cannot_ingest_nodes_cannot_query_and_nobody_else_gets_in() {
    let site = Site::new().await;
    let status = Agent::connect(&site, "ana").await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut node = EvidenceClient::new(site.channel("n1").await);
    let request = QueryRequest::default();
    assert_eq!(node.query(request).await.unwrap_err().code(), Code::PermissionDenied);
    let request = ProveRequest { index: 0 };
    assert_eq!(node.prove(request).await.unwrap_err().code(), Code::PermissionDenied);
    let request = ReadLedgerRequest { path: "checkpoint".into() };
    assert_eq!(node.read_ledger(request).await.unwrap_err().code(), Code::PermissionDenied);
    // A certificate of another authority, and one for servers only.
    let foreign = tempfile::tempdir().unwrap();
    let order = Order {
        ca_dir: foreign.path().join("ca"),
        out: foreign.path().join("eve"),
        holder: Holder::Person("eve".into()),
        trust_domain: "pcigate".into(),
        days: 1,
    };
    issue(&order).unwrap();
    let ca = site.dir.path().join("ana/ca.pem");
    std::fs::copy(ca, order.out.join("ca.pem")).unwrap();
    for dir in [order.out, site.dir.path().join("server")] {
        let url = format!("https://{}", site.running.address());
        let endpoint = Endpoint::from_shared(url).unwrap();
        let channel = endpoint.tls_config(tls::client(&dir).unwrap()).unwrap().connect_lazy();
        let refused = soon(EvidenceClient::new(channel).query(QueryRequest::default())).await;
        assert!(refused.is_err(), "{}", dir.display());
    }
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_query_filters_keeps_the_newest_rows_and_is_itself_recorded() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let records: Vec<_> =
        (1..=300).map(|seq| record(seq, if seq % 2 == 0 { "pay" } else { "web" }, 443)).collect();
    agent.batch(1, bytes(&records)).await.unwrap();
    let request = QueryRequest {
        namespace: "pay".into(),
        destination: ":443".into(),
        executable: "*curl".into(),
        limit: 3,
        ..<_>::default()
    };
    let (rows, summary) = query(&site, request).await;
    let seqs = rows.iter().map(|row| Record::decode(row.record.as_slice()).unwrap());
    let seqs: Vec<_> = seqs.map(|record| record.origin.unwrap().seq).collect();
    assert_eq!(seqs, [296, 298, 300]);
    assert_eq!((summary.matched, summary.scanned, summary.tree_size), (150, 303, 303));
    let request = QueryRequest { kinds: vec!["query".into()], ..<_>::default() };
    let (rows, _) = query(&site, request).await;
    let asked = Record::decode(rows[0].record.as_slice()).unwrap();
    let Some(Event::Query(event)) = asked.event else { panic!("no query record") };
    assert_eq!(event.operation, "records");
    assert_eq!(event.filter, "namespace=pay executable=*curl destination=:443 limit=3");
    let Some(Subject::Person(person)) = asked.subject else { panic!("no person") };
    assert_eq!(person.identity, "spiffe://pcigate/person/ana");
    let request = QueryRequest { kinds: vec!["nothing".into()], ..<_>::default() };
    let status = site.person().await.query(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    soon(site.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_followed_query_delivers_new_records_until_the_collector_stops() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    agent.batch(1, bytes(&[record(1, "pay", 1)])).await.unwrap();
    let request = QueryRequest { namespace: "pay".into(), follow: true, ..<_>::default() };
    let mut replies = site.person().await.query(request).await.unwrap().into_inner();
    assert_eq!(next_row(&mut replies).await.index, 1);
    let summary = soon(replies.message()).await.unwrap().unwrap();
    assert!(matches!(summary.message, Some(Reply::Summary(Summary { matched: 1, .. }))));
    for seq in [2, 3] {
        agent.batch(seq, bytes(&[record(seq, "pay", 1)])).await.unwrap();
        let row = next_row(&mut replies).await;
        assert_eq!(Record::decode(row.record.as_slice()).unwrap(), record(seq, "pay", 1));
    }
    soon(site.running.stop()).await.unwrap();
    let status = soon(replies.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn proofs_and_files_of_the_ledger_hold_with_the_pure_verifier() {
    let site = Site::new().await;
    let mut agent = Agent::connect(&site, "n1").await.unwrap();
    agent.hello(0).await.unwrap();
    let records: Vec<_> = (1..=600).map(|seq| record(seq, "pay", 1)).collect();
    agent.batch(1, bytes(&records)).await.unwrap();
    let mut person = site.person().await;
    let proof = person.prove(ProveRequest { index: 300 }).await.unwrap().into_inner();
    let (source, key) = site.ledger();
    assert_eq!(proof.verifier_key, key.to_string());
    let Checkpoint { size, root, .. } = key.open(&proof.checkpoint).unwrap();
    let hashes: Vec<[u8; 32]> =
        proof.hashes.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
    let leaf = pcigate_ledger::leaf_hash(&proof.record);
    check_inclusion(300, size, &leaf, &hashes, &root).unwrap();
    assert_eq!(Record::decode(proof.record.as_slice()).unwrap(), records[299]);
    let status = person.prove(ProveRequest { index: 10_000 }).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let mut read = async |path: &str| {
        let request = ReadLedgerRequest { path: path.to_owned() };
        person.read_ledger(request).await.map(|file| file.into_inner().content)
    };
    key.open(&read("checkpoint").await.unwrap()).unwrap();
    assert_eq!(read("tile/0/001").await.unwrap().len(), 256 * 32);
    let absent = read("tile/0/009").await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    for path in ["../ledger.key", "tile/../../ledger.key", "tile/0/1", "ledger.key", ""] {
        assert_eq!(read(path).await.unwrap_err().code(), Code::InvalidArgument, "{path}");
    }
    soon(site.running.stop()).await.unwrap();
    let report = verify(&source, &key, None, |_| ()).unwrap();
    // start, 600 records, received, two proofs, one reading of the checkpoint, stop
    assert_eq!(report.size, 1 + 600 + 1 + 2 + 1 + 1);
}
