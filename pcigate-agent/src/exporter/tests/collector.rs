//! A collector in this process, with a real log and one fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pcigate_ledger::{Edge, SigningKey, leaf_hash, prove_consistency};
use pcigate_proto::ingest_server::{Ingest, IngestServer};
use pcigate_proto::{Ack, Batch, Refused, SendRequest, send_request};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Scenario {
    AcksAll,
    /// Stores a batch, ends the stream without an answer and does not remember, so many times.
    DiesBeforeAck {
        times: u32,
    },
    Refuses {
        seq: u64,
    },
    /// Shows the log of other records, signed with the same key.
    Forks,
    /// Answers only when nothing more comes for a while.
    WaitsForMore,
    /// Claims to have more than was sent.
    AcksTooMuch,
}

struct Log {
    edge: Edge,
    files: BTreeMap<String, Vec<u8>>,
}

impl Log {
    fn new() -> Self {
        Self { edge: Edge::empty(), files: BTreeMap::new() }
    }

    fn append(&mut self, leaf: &[u8]) {
        let mut files = Vec::new();
        self.edge.append(leaf, leaf_hash(leaf), &mut files).unwrap();
        files.extend(self.edge.partial_files());
        self.files.extend(files.into_iter().map(|file| (file.path.to_string(), file.bytes)));
    }
}

struct State {
    scenario: Scenario,
    key: SigningKey,
    log: Log,
    forked: Log,
    records: BTreeMap<u64, Vec<u8>>,
    cursor: u64,
    hello_tree_sizes: Vec<u64>,
    holes: Vec<(u64, u64, String)>,
    resent: u64,
    conflicts: u64,
    most_in_flight: usize,
}

#[derive(Clone)]
pub(super) struct Collector {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

impl Collector {
    pub(super) async fn start(scenario: Scenario) -> Self {
        Self::start_at(0, scenario).await
    }

    pub(super) async fn start_at(port: u16, scenario: Scenario) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            scenario,
            key: SigningKey::generate("ledger.example").unwrap(),
            log: Log::new(),
            forked: Log::new(),
            records: BTreeMap::new(),
            cursor: 0,
            hello_tree_sizes: Vec::new(),
            holes: Vec::new(),
            resent: 0,
            conflicts: 0,
            most_in_flight: 0,
        };
        let collector = Self { state: Arc::new(Mutex::new(state)), address };
        let service = IngestServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    /// A port nobody listens on.
    pub(super) fn free_port() -> u16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.local_addr().unwrap().port()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn play(&self, scenario: Scenario) {
        lock(&self.state).scenario = scenario;
    }

    pub(super) fn pretend_to_have(&self, epoch: [u8; 16], last: u64) {
        let mut state = lock(&self.state);
        state.cursor = last;
        state.records = (1..=last).map(|seq| (seq, [&epoch[..], b"other"].concat())).collect();
        state.records.values_mut().for_each(|record| record.clear());
    }

    pub(super) fn records(&self) -> BTreeMap<u64, Vec<u8>> {
        lock(&self.state).records.clone()
    }

    pub(super) fn holes(&self) -> Vec<(u64, u64, String)> {
        lock(&self.state).holes.clone()
    }

    pub(super) fn hello_tree_sizes(&self) -> Vec<u64> {
        lock(&self.state).hello_tree_sizes.clone()
    }

    pub(super) fn resent(&self) -> u64 {
        lock(&self.state).resent
    }

    pub(super) fn conflicts(&self) -> u64 {
        lock(&self.state).conflicts
    }

    pub(super) fn most_in_flight(&self) -> usize {
        lock(&self.state).most_in_flight
    }
}

impl State {
    fn store(&mut self, batch: &Batch) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut refuse = |seq, field: &str| {
            refused.push(Refused { seq, field: field.to_owned(), reason: "test".to_owned() });
        };
        if let Some(hole) = &batch.hole {
            assert_eq!(hole.last_seq + 1, batch.first_seq);
            assert!(hole.first_seq > self.cursor, "a hole where records are");
            self.holes.push((hole.first_seq, hole.last_seq, hole.reason.clone()));
        } else {
            assert!(batch.first_seq <= self.cursor + 1, "an unexplained hole");
        }
        assert!(batch.records.len() <= 1024);
        for (seq, record) in (batch.first_seq..).zip(&batch.records) {
            self.cursor = self.cursor.max(seq);
            if matches!(self.scenario, Scenario::Refuses { seq: refused } if refused == seq) {
                refuse(seq, "subject");
                continue;
            }
            match self.records.get(&seq) {
                None => {
                    self.records.insert(seq, record.clone());
                    self.log.append(record);
                    self.forked.append(&seq.to_le_bytes());
                }
                Some(stored) if stored == record => self.resent += 1,
                Some(_) => {
                    self.conflicts += 1;
                    refuse(seq, "origin");
                }
            }
        }
        refused
    }

    fn ack(&self, epoch: &[u8], proven: &mut u64, first: bool, refused: Vec<Refused>) -> Ack {
        let forks = matches!(self.scenario, Scenario::Forks);
        let log = if forks { &self.forked } else { &self.log };
        let (size, root) = (log.edge.size(), log.edge.root());
        let proof = prove_consistency(&log.files, (*proven).min(size), size).unwrap();
        *proven = size;
        let checkpoint = if size == 0 { Vec::new() } else { self.key.sign(size, &root).unwrap() };
        let key = self.key.verifier().to_string();
        let extra = u64::from(matches!(self.scenario, Scenario::AcksTooMuch) && !first);
        Ack {
            epoch: epoch.to_vec(),
            seq: self.cursor + extra,
            checkpoint,
            consistency_proof: proof.into_iter().map(|hash| hash.to_vec()).collect(),
            refused,
            verifier_key: if first { key } else { String::new() },
        }
    }
}

#[tonic::async_trait]
impl Ingest for Collector {
    type SendStream = ReceiverStream<Result<Ack, Status>>;

    async fn send(
        &self,
        request: Request<Streaming<SendRequest>>,
    ) -> Result<Response<Self::SendStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let collector = self.clone();
        tokio::spawn(async move { collector.serve(request.into_inner(), answers).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Collector {
    async fn serve(
        &self,
        mut requests: Streaming<SendRequest>,
        answers: mpsc::Sender<Result<Ack, Status>>,
    ) {
        let (mut proven, mut epoch, mut first) = (0, Vec::new(), true);
        let mut unanswered = Vec::new();
        while let Ok(Some(request)) = requests.message().await {
            let Some(ack) = self.take(request, &mut proven, &mut epoch, first) else { return };
            unanswered.push(ack);
            let waits = matches!(lock(&self.state).scenario, Scenario::WaitsForMore);
            if waits && !first {
                let moment = Duration::from_millis(100);
                while let Ok(next) = tokio::time::timeout(moment, requests.message()).await {
                    let Ok(Some(request)) = next else { return };
                    unanswered.extend(self.take(request, &mut proven, &mut epoch, false));
                }
            }
            first = false;
            {
                let mut state = lock(&self.state);
                state.most_in_flight = state.most_in_flight.max(unanswered.len());
            }
            for ack in unanswered.drain(..) {
                if answers.send(Ok(ack)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Stores a request; `None` = the collector dies.
    fn take(
        &self,
        request: SendRequest,
        proven: &mut u64,
        epoch: &mut Vec<u8>,
        first: bool,
    ) -> Option<Ack> {
        let mut state = lock(&self.state);
        let refused = match request.message.unwrap() {
            send_request::Message::Hello(hello) => {
                state.hello_tree_sizes.push(hello.tree_size);
                (*proven, *epoch) = (hello.tree_size, hello.epoch);
                Vec::new()
            }
            send_request::Message::Batch(batch) => {
                let before = state.cursor;
                let refused = state.store(&batch);
                if let Scenario::DiesBeforeAck { times } = &mut state.scenario
                    && *times > 0
                {
                    *times -= 1;
                    state.cursor = before;
                    return None;
                }
                refused
            }
        };
        Some(state.ack(epoch, proven, first, refused))
    }
}
