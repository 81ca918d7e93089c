//! A node of ours that sends records over real mTLS and writes down everything it was promised.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcigate_ledger::{Checkpoint, Hash, VerifierKey, check_consistency};
use pcigate_proto::{
    Ack, Batch, Component, Coverage, Hello, Message as _, Origin, Outcome, Record,
    Result as Ending, SendRequest,
    coverage::State,
    ingest_client::IngestClient,
    record::{Event, Subject},
    send_request::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{ClientTlsConfig, Endpoint},
};

use crate::faults::Random;

/// Batches without an Ack.
const IN_FLIGHT: usize = 4;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(20);

/// A spool of a node, and what the collector has promised about it.
pub struct Node {
    /// As in its certificate.
    pub name: String,
    /// Of its spool.
    pub epoch: [u8; 16],
    /// Where its spool lies, as told in the Hello; empty for an agent that does not tell.
    pub place: Vec<u8>,
    /// Record 1, 2, … as they were made; a resend is the same bytes.
    pub records: Vec<Vec<u8>>,
    /// Records the collector has acknowledged.
    pub acked: u64,
    /// Everything the ledger has shown to this node.
    pub seen: Seen,
    tls: ClientTlsConfig,
    random: Random,
}

/// Checkpoints shown by Acks; each extends the one before.
#[derive(Default)]
pub struct Seen {
    /// The key of the log.
    pub key: Option<VerifierKey>,
    /// In order.
    pub checkpoints: Vec<Checkpoint>,
}

/// How a session ended, when no promise was broken.
#[derive(Debug)]
pub enum End {
    /// Everything was sent and acknowledged.
    Done,
    /// The collector went away or refused: why.
    Broken(String),
}

impl Node {
    /// A node with a new spool.
    #[must_use]
    pub fn new(name: &str, tls: ClientTlsConfig, random: &mut Random) -> Self {
        let mut epoch = [0; 16];
        for part in epoch.chunks_mut(8) {
            part.copy_from_slice(&random.bits().to_le_bytes());
        }
        Self {
            name: name.to_owned(),
            epoch,
            place: Vec::new(),
            records: Vec::new(),
            acked: 0,
            seen: Seen::default(),
            tls,
            random: random.fork(),
        }
    }

    /// Sends what is not acknowledged yet and `more` new records; the outer error is a broken
    /// promise.
    ///
    /// # Errors
    /// A broken promise, in a sentence.
    pub async fn send(&mut self, url: &str, more: u64) -> Result<End, String> {
        match self.converse(url, more).await {
            Ok(()) => Ok(End::Done),
            Err(Trouble::Broken(why)) => Ok(End::Broken(why)),
            Err(Trouble::Promise(what)) => Err(format!("node {}: {what}", self.name)),
        }
    }

    async fn converse(&mut self, url: &str, more: u64) -> Result<(), Trouble> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(broken)?;
        let endpoint = endpoint.tls_config(self.tls.clone()).map_err(broken)?.tcp_nodelay(true);
        let channel = within(endpoint.connect()).await?.map_err(broken)?;
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT + 1);
        let (epoch, place) = (self.epoch.to_vec(), self.place.clone());
        let tree_size = self.seen.checkpoints.last().map_or(0, |seen| seen.size);
        let hello = Hello { epoch, tree_size, agent_version: "crash".to_owned(), place };
        send(&requests, Message::Hello(hello)).await?;
        let mut client = IngestClient::new(channel);
        let answer = within(client.send(ReceiverStream::new(outgoing))).await?.map_err(broken)?;
        let mut acks = answer.into_inner();
        let had = self.ack(&next(&mut acks).await?, None)?;
        let target = had.max(self.records.len() as u64) + more;
        let mut sent = had;
        let mut waiting = VecDeque::new();
        loop {
            while waiting.len() < IN_FLIGHT && sent < target {
                let count = (1 + self.random.below(60)).min(target - sent);
                let batch = self.batch(sent + 1, count);
                sent += count;
                waiting.push_back(sent);
                send(&requests, Message::Batch(batch)).await?;
            }
            let Some(last) = waiting.pop_front() else { return Ok(()) };
            self.ack(&next(&mut acks).await?, Some(last))?;
        }
    }

    fn batch(&mut self, first_seq: u64, count: u64) -> Batch {
        let records = (first_seq..first_seq + count).map(|seq| self.record(seq)).collect();
        let epoch = self.epoch.to_vec();
        Batch { epoch, first_seq, records, hole: None, sent_unix_nano: now() }
    }

    /// Record `seq`, made at its first use.
    fn record(&mut self, seq: u64) -> Vec<u8> {
        let at = usize::try_from(seq - 1).expect("few records");
        while self.records.len() <= at {
            let seq = self.records.len() as u64 + 1;
            let length = self.random.one_of(&[30, 200, 200, 700, 3000]);
            let record = record(&self.name, &self.epoch, seq, self.random.index(length));
            self.records.push(record.encode_to_vec());
        }
        self.records.get(at).cloned().unwrap_or_default()
    }

    /// Takes an Ack in. `batch`: the last number of the batch it answers.
    fn ack(&mut self, ack: &Ack, batch: Option<u64>) -> Result<u64, Trouble> {
        let promise = |what: String| Err(Trouble::Promise(what));
        if let Some(refused) = ack.refused.first() {
            return promise(format!("record {} was refused: {}", refused.seq, refused.reason));
        }
        match batch {
            None if ack.seq < self.acked => {
                return promise(format!(
                    "the collector had acknowledged {}, now it has {}",
                    self.acked, ack.seq
                ));
            }
            None if ack.seq > self.records.len() as u64 => {
                return promise(format!("it has {} records nobody made", ack.seq));
            }
            Some(last) if ack.seq < last => {
                return promise(format!("batch up to {last} was answered with {}", ack.seq));
            }
            _ => {}
        }
        self.seen.check(ack).map_err(Trouble::Promise)?;
        self.acked = self.acked.max(ack.seq);
        Ok(ack.seq)
    }
}

impl Seen {
    /// What an agent's witness does.
    fn check(&mut self, ack: &Ack) -> Result<(), String> {
        if !ack.verifier_key.is_empty() {
            let offered = VerifierKey::parse(&ack.verifier_key).map_err(|e| e.to_string())?;
            match &self.key {
                Some(key) if key.to_string() != offered.to_string() => {
                    return Err(format!("the key of the log changed from {key} to {offered}"));
                }
                _ => self.key = Some(offered),
            }
        }
        let key = self.key.as_ref().ok_or("no key was shown")?;
        let shown = key.open(&ack.checkpoint).map_err(|error| error.to_string())?;
        if let Some(last) = self.checkpoints.last() {
            let proof: Option<Vec<Hash>> = ack
                .consistency_proof
                .iter()
                .map(|hash| Hash::try_from(hash.as_slice()).ok())
                .collect();
            let proof = proof.ok_or("a hash of the proof is not 32 bytes long")?;
            check_consistency(last.size, &last.root, shown.size, &shown.root, &proof).map_err(
                |error| {
                    format!(
                        "the ledger of {} leaves does not extend the one of {} leaves: {error}",
                        shown.size, last.size
                    )
                },
            )?;
        }
        if self.checkpoints.last().is_none_or(|last| last.size < shown.size) {
            self.checkpoints.push(shown);
        }
        Ok(())
    }
}

enum Trouble {
    Broken(String),
    Promise(String),
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, Trouble> {
    let silent = |_| Trouble::Promise(format!("the collector was silent for {WITHIN:?}"));
    tokio::time::timeout(WITHIN, work).await.map_err(silent)
}

async fn send(requests: &mpsc::Sender<SendRequest>, message: Message) -> Result<(), Trouble> {
    let request = SendRequest { message: Some(message) };
    within(requests.send(request)).await?.map_err(|_| broken("the stream ended"))
}

async fn next(acks: &mut Streaming<Ack>) -> Result<Ack, Trouble> {
    let ack = within(acks.message()).await?;
    ack.map_err(|status| broken(status.message()))?.ok_or_else(|| broken("the stream ended"))
}

fn record(node: &str, epoch: &[u8; 16], seq: u64, length: usize) -> Record {
    let component = Component { name: "agent".into(), version: "crash".into() };
    let message = "x".repeat(length);
    let coverage = Coverage { state: State::Change.into(), message, capabilities: Vec::new() };
    Record {
        origin: Some(Origin { node: node.into(), epoch: epoch.to_vec(), seq, kernel: None }),
        time_unix_nano: now(),
        subject: Some(Subject::Component(component)),
        outcome: Some(Outcome { result: Ending::Success.into(), ..Outcome::default() }),
        event: Some(Event::Coverage(coverage)),
        ..Record::default()
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
