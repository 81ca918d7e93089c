//! Durable records a second through a real collector: gRPC over mutual TLS on loopback, fsync on.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../../tests/src/figures.rs"]
mod figures;
mod records;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use figures::{Budget, cpu_seconds, figure, flag, how, option, status_kib};
use pcigate_collector::issue::{Holder, Order, issue};
use pcigate_proto::{
    Ack, Batch, Hello, SendRequest, ingest_client::IngestClient, send_request::Message as Sent, tls,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

/// Numbers of agents that send at the same time.
const AGENTS: [usize; 3] = [1, 2, 4];
/// Records each round sends, by all agents together.
const RECORDS: usize = 400_000;
/// Records of a batch, as the agent's exporter makes them.
const BATCH: usize = 1024;
/// Batches without an Ack, as the agent's exporter allows.
const IN_FLIGHT: usize = 8;

fn main() {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 2 } else { 7 });
    let records = if quick { RECORDS / 4 } else { RECORDS };
    let own = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let (collector, url) = Collector::start(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); AGENTS.len()];
    let (mut all, mut per_cpu) = (Vec::new(), Vec::new());
    let mut agents = runtime.block_on(async {
        let mut agents = Vec::new();
        for number in 0..4 {
            let node = format!("node-{number}");
            agents.push(Agent::connect(&url, &directory.path().join(&node), node).await);
        }
        agents
    });
    for round in 0..rounds {
        eprintln!("ingest: round {} of {rounds}", round + 1);
        for (rates, count) in rates.iter_mut().zip(AGENTS) {
            let some = agents.get_mut(..count).unwrap();
            let loads: Vec<_> =
                some.iter().map(|agent| agent.batches(records / count / BATCH)).collect();
            let sent = (records / count / BATCH * BATCH * count) as f64;
            let cpu_before = cpu_seconds(collector.0.id());
            let began = Instant::now();
            runtime.block_on(send_all(some, loads));
            let rate = sent / began.elapsed().as_secs_f64();
            rates.push(rate);
            per_cpu.push(sent / (cpu_seconds(collector.0.id()) - cpu_before));
            if count == 4 {
                all.push(rate);
            }
        }
    }
    let peak = status_kib(collector.0.id(), "VmHWM") / 1024.0;
    drop(collector);
    how(&format!(
        "A real collector process with its ledger on the local disk, fsync on; {records} records \
         a round (of full length: 250 pods, container ids, cgroup paths) in batches of {BATCH} \
         with at most {IN_FLIGHT} unanswered, as the agent's exporter sends them. The clock stops \
         at the last Ack, which says durable. The senders run on the same two processors; \
         what they send was encoded before."
    ));
    figure("durable records, 4 agents", "records/s", Budget::AtLeast(200_000.0), &all);
    figure("durable records, 1 agent", "records/s", Budget::None, &rates[0]);
    figure("durable records, 2 agents", "records/s", Budget::None, &rates[1]);
    figure(
        "durable records a second of the collector's own processor time",
        "records/s",
        Budget::None,
        &per_cpu,
    );
    figure("collector RSS, its peak", "MiB", Budget::None, &[peak]);
}

async fn send_all(agents: &mut [Agent], loads: Vec<Vec<Batch>>) {
    let sending = agents.iter_mut().zip(loads).map(|(agent, load)| agent.send(load));
    let mut sending: Vec<_> = sending.map(Box::pin).collect();
    // All at once: each is polled whenever any of them can go on.
    std::future::poll_fn(|context| {
        sending.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if sending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// A collector process; ended when dropped.
struct Collector(Child);

impl Collector {
    /// Starts one with certificates for itself and four nodes.
    fn start(directory: &Path) -> (Self, String) {
        let nodes = (0..4).map(|number| {
            let name = format!("node-{number}");
            (name.clone(), Holder::Node(name))
        });
        let server = Holder::Server(vec!["127.0.0.1".to_owned()]);
        for (out, holder) in nodes.chain([("server".to_owned(), server)]) {
            let (ca_dir, out) = (directory.join("ca"), directory.join(out));
            let trust_domain = "pcigate".to_owned();
            issue(&Order { ca_dir, out, holder, trust_domain, days: 1 }).unwrap();
        }
        let root = directory.display();
        let config = format!(
            "listen: 127.0.0.1:0\nstateDir: {root}/state\ntlsDir: {root}/server\n\
             origin: example.com/bench\nwebListen: off\n"
        );
        std::fs::write(directory.join("collector.yaml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pcigate-collector"))
            .args(["serve", "--config"])
            .arg(directory.join("collector.yaml"))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let collector = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("pcigate-collector ready on ");
        let url = format!("https://{}", address.expect("the collector says where it listens"));
        (collector, url)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended already, which is just as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sending end of a stream.
struct Agent {
    node: String,
    next_seq: u64,
    requests: mpsc::Sender<SendRequest>,
    acks: Streaming<Ack>,
}

impl Agent {
    async fn connect(url: &str, tls_dir: &Path, node: String) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tcp_nodelay(true);
        let tls = tls::client(tls_dir).unwrap();
        let channel: Channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        let (requests, stream) = mpsc::channel(IN_FLIGHT + 1);
        let hello = Hello {
            epoch: records::EPOCH.to_vec(),
            tree_size: 0,
            agent_version: "bench".to_owned(),
            place: Vec::new(),
        };
        requests.send(SendRequest { message: Some(Sent::Hello(hello)) }).await.unwrap();
        let mut client = IngestClient::new(channel);
        let mut acks = client.send(ReceiverStream::new(stream)).await.unwrap().into_inner();
        acks.message().await.unwrap().unwrap();
        Self { node, next_seq: 1, requests, acks }
    }

    /// The next batches of this agent.
    fn batches(&self, count: usize) -> Vec<Batch> {
        let first = |batch: usize| self.next_seq + (batch * BATCH) as u64;
        let record = |seq: u64| {
            let time = records::time_of(seq, 10_000_000);
            records::encoded(&self.node, seq, time, records::mix(seq))
        };
        let batch = |at: usize| Batch {
            epoch: records::EPOCH.to_vec(),
            first_seq: first(at),
            records: (first(at)..first(at + 1)).map(record).collect(),
            hole: None,
            sent_unix_nano: 1,
        };
        (0..count).map(batch).collect()
    }

    /// Sends them and waits until all are durable.
    async fn send(&mut self, batches: Vec<Batch>) {
        let last = batches.last().map_or(0, |batch| batch.first_seq + BATCH as u64 - 1);
        let mut in_flight = 0;
        for batch in batches {
            if in_flight == IN_FLIGHT {
                self.ack().await;
                in_flight -= 1;
            }
            let message = Some(Sent::Batch(batch));
            self.requests.send(SendRequest { message }).await.unwrap();
            in_flight += 1;
        }
        while self.next_seq <= last {
            self.ack().await;
        }
    }

    async fn ack(&mut self) {
        let ack = self.acks.message().await.unwrap().unwrap();
        assert!(ack.refused.is_empty(), "refused: {:?}", ack.refused.first());
        self.next_seq = ack.seq + 1;
    }
}
