//! The Ingest service: a node's stream of batches in, Acks out, in order.
//!
//! Up to [`BATCHES_IN_FLIGHT`] batches of a stream wait for the disk at a time, so that they share
//! commits; then reading stops, and the node's sending with it.

mod check;

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pcigate_ledger::{Directory, prove_consistency};
use pcigate_proto::{
    self as proto, Ack, Hello, Refused, SendRequest, ingest_server, send_request::Message as Sent,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    cursors::{Batch, Epoch, Place, Spool},
    identity,
    ledger::Durable,
    logging,
    metrics::nodes,
    occasionally::Occasionally,
    records,
    writer::{Done, Job, Pending, WriteError, Writer},
};

#[cfg(test)]
pub(crate) use check::record as check_record;
pub(crate) use check::speaks_for_others;

/// Batches of one stream that wait for the disk.
const BATCHES_IN_FLIGHT: usize = 8;

/// The service.
#[derive(Clone)]
pub struct Ingest {
    writer: Writer,
    source: Directory,
    stopping: watch::Receiver<bool>,
    /// That records are refused is told now and then.
    refused: Arc<Mutex<Occasionally>>,
}

impl Ingest {
    /// A service that appends through `writer`, proves from `source`, and ends its streams when
    /// `stopping` turns true.
    #[must_use]
    pub fn new(writer: Writer, source: Directory, stopping: watch::Receiver<bool>) -> Self {
        Self { writer, source, stopping, refused: Arc::default() }
    }
}

impl Ingest {
    /// The metrics count them; the log tells now and then.
    fn tell_refused(&self, refused: &[Refused]) {
        let Some(first) = refused.first() else { return };
        let told = self.refused.lock().unwrap_or_else(PoisonError::into_inner).tell();
        if let Some(batches) = told {
            let (count, seq, field) = (refused.len(), first.seq, &first.field);
            tracing::warn!(count, seq, field, batches, "records refused");
        }
    }
}

type Acks = Pin<Box<dyn Stream<Item = Result<Ack, Status>> + Send>>;

#[tonic::async_trait]
impl ingest_server::Ingest for Ingest {
    type SendStream = Acks;

    async fn send(
        &self,
        request: Request<Streaming<SendRequest>>,
    ) -> Result<Response<Acks>, Status> {
        let (node, left) = (identity::node(&request)?, identity::left(&request));
        let (pending, answers) = mpsc::channel(BATCHES_IN_FLIGHT);
        let (acks, outward) = mpsc::channel(BATCHES_IN_FLIGHT);
        let stream = self.writer.metrics().nodes.connect(&node);
        let reader = Reader { service: self.clone(), node, left, pending, stream };
        let answerer = Answerer { service: self.clone(), previous: 0, first: true, acks };
        tokio::spawn(reader.run(request.into_inner()));
        tokio::spawn(answerer.run(answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(outward))))
    }
}

/// A request whose answer is due.
enum Due {
    Hello { epoch: Epoch, tree_size: u64, pending: Pending },
    Batch { epoch: Epoch, pending: Pending },
    End(Status),
}

/// Takes requests from the stream, checks them and queues them for the writer.
struct Reader {
    service: Ingest,
    node: String,
    /// How long its certificate counts, from the stream's beginning.
    left: Duration,
    pending: mpsc::Sender<Due>,
    /// Counts the stream while it is read.
    stream: nodes::Stream,
}

impl Reader {
    async fn run(self, mut requests: Streaming<SendRequest>) {
        if let Err(status) = self.read(&mut requests).await {
            // The answerer may be gone because the node is.
            drop(self.pending.send(Due::End(status)).await);
        }
    }

    async fn read(&self, requests: &mut Streaming<SendRequest>) -> Result<(), Status> {
        let mut stopping = self.service.stopping.clone();
        let mut spool = None;
        let mut expired = pin!(tokio::time::sleep(self.left));
        loop {
            let request = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(write_status(&WriteError::Stopped));
                }
                () = &mut expired => {
                    let text = "the node's certificate has expired; connect with a new one";
                    return Err(Status::unauthenticated(text));
                }
                request = requests.message() => request?,
            };
            let due = match (request.map(|request| request.message), &spool) {
                (None, _) => return Ok(()),
                (Some(Some(Sent::Hello(hello))), None) => {
                    let (epoch, place, due) = self.hello(hello).await?;
                    spool = Some((epoch, place));
                    due
                }
                (Some(Some(Sent::Batch(batch))), Some((epoch, place))) => {
                    self.batch(*epoch, place, batch).await?
                }
                _ => {
                    let text = "a stream begins with one Hello, all that follows are Batches";
                    return Err(Status::invalid_argument(text));
                }
            };
            if self.pending.send(due).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn hello(&self, hello: Hello) -> Result<(Epoch, Place, Due), Status> {
        let Hello { epoch, tree_size, agent_version, place } = hello;
        let epoch = Epoch::try_from(epoch.as_slice()).map_err(|_| {
            let text = format!("hello.epoch: expected 16 bytes, got {}", epoch.len());
            Status::invalid_argument(text)
        })?;
        if !matches!(place.len(), 0 | 16) {
            let text = format!("hello.place: expected 16 bytes or none, got {}", place.len());
            return Err(Status::invalid_argument(text));
        }
        let node = &self.node;
        let (id, version) = (hex::encode(epoch), logging::foreign(&agent_version));
        if self.stream.is_news {
            tracing::info!(node, epoch = id, tree_size, version, "node connected");
        } else {
            tracing::debug!(node, epoch = id, tree_size, version, "node connected again");
        }
        let spool = Spool { node: node.clone(), epoch };
        let pending = self.submit(Job::Cursor(spool)).await?;
        Ok((epoch, place, Due::Hello { epoch, tree_size, pending }))
    }

    async fn batch(&self, epoch: Epoch, place: &Place, batch: proto::Batch) -> Result<Due, Status> {
        let spool = Spool { node: self.node.clone(), epoch };
        let proto::Batch { epoch: of, first_seq, records, hole, sent_unix_nano } = batch;
        check::limits(&records).map_err(Status::invalid_argument)?;
        if of != epoch {
            let text = "batch.epoch: it differs from the one of the Hello; open a stream per spool";
            return Err(Status::invalid_argument(text));
        }
        let nodes = &self.service.writer.metrics().nodes;
        nodes.received(&self.node, records::now_unix_nano(), sent_unix_nano);
        let origin = self.service.writer.origin();
        let checked = (first_seq..)
            .zip(records)
            .map(|(seq, bytes)| check::record(bytes, &spool, seq, origin))
            .collect();
        let place = place.clone();
        let batch = Batch { spool, place, first_seq, records: checked, hole, sent_unix_nano };
        let pending = self.submit(Job::Batch(batch)).await?;
        Ok(Due::Batch { epoch, pending })
    }

    async fn submit(&self, job: Job) -> Result<Pending, Status> {
        self.service.writer.submit(job).await.map_err(|error| write_status(&error))
    }
}

/// Waits for the writer's answers in order and turns them into Acks.
struct Answerer {
    service: Ingest,
    /// Tree size of the Ack before.
    previous: u64,
    first: bool,
    acks: mpsc::Sender<Result<Ack, Status>>,
}

impl Answerer {
    async fn run(mut self, mut due: mpsc::Receiver<Due>) {
        while let Some(due) = due.recv().await {
            let answer = self.answer(due).await;
            let end = answer.is_err();
            if self.acks.send(answer).await.is_err() || end {
                return;
            }
        }
    }

    async fn answer(&mut self, due: Due) -> Result<Ack, Status> {
        let mut is_batch = false;
        let (epoch, pending) = match due {
            Due::End(status) => return Err(status),
            Due::Batch { epoch, pending } => {
                is_batch = true;
                (epoch, pending)
            }
            Due::Hello { epoch, tree_size, pending } => {
                self.previous = tree_size;
                (epoch, pending)
            }
        };
        let answer = pending.await.unwrap_or(Err(WriteError::Stopped));
        if is_batch {
            let label = [("result", result_name(&answer))];
            self.service.writer.metrics().batches.get_or_create(&label).inc();
        }
        let Done { seq, refused, durable } = answer.map_err(|error| write_status(&error))?;
        self.service.tell_refused(&refused);
        let consistency_proof = self.proof(&durable).await?;
        self.previous = durable.size;
        let first = std::mem::take(&mut self.first);
        let verifier_key = if first { self.service.writer.verifier_key() } else { "" };
        Ok(Ack {
            epoch: epoch.to_vec(),
            seq,
            checkpoint: durable.checkpoint.clone(),
            consistency_proof,
            refused,
            verifier_key: verifier_key.to_owned(),
        })
    }

    /// Empty also for a tree size the log never had: the node sees that nothing fits, and says so.
    async fn proof(&self, durable: &Durable) -> Result<Vec<Vec<u8>>, Status> {
        let (old, new, source) = (self.previous, durable.size, self.service.source.clone());
        if old == 0 || old >= new {
            return Ok(Vec::new());
        }
        let made = tokio::task::spawn_blocking(move || prove_consistency(&source, old, new)).await;
        match made {
            Ok(Ok(hashes)) => Ok(hashes.into_iter().map(Vec::from).collect()),
            Ok(Err(error)) => {
                tracing::error!(%error, old, new, "no consistency proof");
                Err(Status::internal("the ledger cannot be read; see the collector's log"))
            }
            Err(_) => Err(write_status(&WriteError::Stopped)),
        }
    }
}

/// One of the results of the metric `batches`.
fn result_name(answer: &Result<Done, WriteError>) -> &'static str {
    match answer {
        Ok(_) => "stored",
        Err(WriteError::OutOfOrder(_)) => "out_of_order",
        Err(WriteError::Stopped) => "stopped",
        Err(WriteError::NotDurable { .. } | WriteError::NoRoom { .. } | WriteError::Unreadable) => {
            "not_durable"
        }
    }
}

/// The outward form of a failed append.
pub(crate) fn write_status(error: &WriteError) -> Status {
    match error {
        WriteError::OutOfOrder(_) => Status::invalid_argument(error.to_string()),
        WriteError::NotDurable { .. }
        | WriteError::NoRoom { .. }
        | WriteError::Unreadable
        | WriteError::Stopped => Status::unavailable(error.to_string()),
    }
}
