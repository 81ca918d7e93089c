//! A thousand nodes on one collector: the program itself, TLS, a certificate for each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{Signal, kill},
};
use pcigate_collector::issue::{Holder, Order, issue};
use pcigate_proto::{
    Ack, Batch, Egress, Hello, Message, Origin, Outcome, Process, Record, Result as Success,
    SendRequest, Verdict, Workload,
    ingest_client::IngestClient,
    record::{Event, Subject},
    send_request::Message as Sent,
    tls,
};
use tokio::{
    sync::{Barrier, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

const NODES: usize = 1_000;
const BATCHES: u64 = 2;
const BATCH_RECORDS: u64 = 15;
/// Connections under way at a time.
const CONNECTING: usize = 64;
/// Longer than anything here may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(240);
const PROGRAM: &str = env!("CARGO_BIN_EXE_pcigate-collector");

/// The collector as a process, with few file descriptors at first.
struct Collector {
    child: Child,
    _output: BufReader<ChildStdout>,
    url: String,
    web: String,
}

impl Collector {
    fn start(dir: &Path) -> Self {
        let config = format!(
            "listen: 127.0.0.1:0\nwebListen: 127.0.0.1:0\nstateDir: {0}/state\n\
             tlsDir: {0}/server\norigin: test/log\nlog: {{level: warn}}\n",
            dir.display()
        );
        std::fs::write(dir.join("collector.yaml"), config).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -Sn 256 && exec \"$0\" serve --config collector.yaml", PROGRAM])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = |prefix: &str| {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim().strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).to_owned()
        };
        let url = format!("https://{}", said("pcigate-collector ready on "));
        let web = said("metrics and health on http://");
        Self { child, _output: output, url, web }
    }

    /// The value of a sample.
    fn sample(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.web).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    fn stop(mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It has ended already where all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn make_certificates(dir: &Path) {
    let order = |out: PathBuf, holder| {
        let (ca_dir, trust_domain) = (dir.join("ca"), "pcigate".into());
        issue(&Order { ca_dir, out, holder, trust_domain, days: 1 }).unwrap();
    };
    order(dir.join("server"), Holder::Server(vec!["127.0.0.1".into()]));
    for node in 0..NODES {
        order(dir.join(name(node)), Holder::Node(name(node)));
    }
}

fn name(node: usize) -> String {
    format!("node-{node:04}")
}

fn epoch(node: usize) -> [u8; 16] {
    let mut epoch = [1; 16];
    epoch[..8].copy_from_slice(&(node as u64).to_be_bytes());
    epoch
}

fn record(node: usize, seq: u64) -> Vec<u8> {
    let workload =
        Workload { namespace: "pay".into(), pod: format!("bot-{seq}"), ..<_>::default() };
    let egress =
        Egress { protocol: "tcp".into(), address: "10.0.0.1".into(), port: 443, ..<_>::default() };
    let outcome = Outcome {
        result: Success::Success.into(),
        verdict: Verdict::Allow.into(),
        ..<_>::default()
    };
    Record {
        origin: Some(Origin { node: name(node), epoch: epoch(node).into(), seq, kernel: None }),
        time_unix_nano: 1_000 + seq,
        subject: Some(Subject::Workload(workload)),
        process: Some(Process { pid: 7, executable: "/usr/bin/curl".into(), ..<_>::default() }),
        outcome: Some(outcome),
        event: Some(Event::Egress(egress)),
        ..<_>::default()
    }
    .encode_to_vec()
}

/// One node's end of a stream.
struct Agent {
    node: usize,
    requests: mpsc::Sender<SendRequest>,
    acks: Streaming<Ack>,
}

impl Agent {
    async fn connect(url: &str, dir: &Path, node: usize) -> (Self, Ack) {
        let tls = tls::client(&dir.join(name(node))).unwrap();
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tls_config(tls).unwrap();
        let mut client = IngestClient::new(endpoint.connect().await.unwrap());
        let (requests, stream) = mpsc::channel(4);
        let acks = client.send(ReceiverStream::new(stream)).await.unwrap().into_inner();
        let mut agent = Self { node, requests, acks };
        let epoch = epoch(node).to_vec();
        let hello = Hello { epoch, tree_size: 0, agent_version: "test".into(), place: vec![] };
        let ack = agent.ask(Sent::Hello(hello)).await;
        (agent, ack)
    }

    async fn ask(&mut self, message: Sent) -> Ack {
        self.requests.send(SendRequest { message: Some(message) }).await.unwrap();
        self.acks.message().await.unwrap().unwrap()
    }

    async fn send(&mut self, first_seq: u64) -> Ack {
        let records =
            (first_seq..first_seq + BATCH_RECORDS).map(|seq| record(self.node, seq)).collect();
        let epoch = epoch(self.node).to_vec();
        let batch = Batch { epoch, first_seq, records, hole: None, sent_unix_nano: 1 };
        self.ask(Sent::Batch(batch)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_nodes_send_over_tls_and_nothing_is_lost() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let collector = Collector::start(dir.path());
    let alone = collector.sample("pcigate_collector_resident_memory_bytes");
    let began = Instant::now();
    let (all, connecting) =
        (Arc::new(Barrier::new(NODES + 1)), Arc::new(Semaphore::new(CONNECTING)));
    let nodes: Vec<_> = (0..NODES)
        .map(|node| {
            let (url, dir) = (collector.url.clone(), dir.path().to_owned());
            let (all, connecting) = (Arc::clone(&all), Arc::clone(&connecting));
            tokio::spawn(async move {
                let turn = connecting.acquire().await.unwrap();
                let (mut agent, hello) = Agent::connect(&url, &dir, node).await;
                drop(turn);
                assert_eq!(hello.seq, 0);
                all.wait().await;
                for batch in 0..BATCHES {
                    let ack = agent.send(batch * BATCH_RECORDS + 1).await;
                    assert_eq!(ack.seq, (batch + 1) * BATCH_RECORDS);
                    assert!(ack.refused.is_empty());
                }
                all.wait().await;
            })
        })
        .collect();
    timeout(DEADLINE, all.wait()).await.expect("all nodes connect in time");
    let connected = began.elapsed();
    assert_eq!(collector.sample("pcigate_collector_nodes_connected"), NODES as u64);
    timeout(DEADLINE, all.wait()).await.expect("all nodes get their Acks in time");
    let sent = began.elapsed() - connected;
    let records = NODES as u64 * BATCHES * BATCH_RECORDS;
    assert_eq!(collector.sample("pcigate_collector_records_total{result=\"stored\"}"), records);
    let memory = collector.sample("pcigate_collector_resident_memory_bytes");
    eprintln!(
        "{NODES} nodes connected in {connected:.1?}, {records} records acknowledged in {sent:.1?}; \
         the collector's memory: {} MiB alone, {} MiB with all of them",
        alone >> 20,
        memory >> 20
    );
    for node in nodes {
        timeout(DEADLINE, node).await.unwrap().unwrap();
    }
    // Who comes back is told how far it got.
    for node in [0, NODES / 2, NODES - 1] {
        let (_, hello) = Agent::connect(&collector.url, dir.path(), node).await;
        assert_eq!(hello.seq, BATCHES * BATCH_RECORDS);
    }
    assert!(collector.stop(), "exit code 0");
    let state = dir.path().join("state");
    let output = Command::new(PROGRAM).arg("fsck").arg(state).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("records  {records} of nodes, in {NODES} spools")), "{said}");
    assert!(said.contains("cursors  right"), "{said}");
}
