//! The one writer: a thread that owns the ledger and commits what is queued in groups.
//!
//! The queue holds [`QUEUE_REQUESTS`] requests; when it is full, ingest waits, and so does the
//! node behind it. A group that cannot be written is answered with the reason and leaves nothing
//! behind in memory, so the next one starts from what is on disk.

mod group;

use std::{
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use pcigate_ledger::ReadError;
use pcigate_proto::{Record, Refused};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::{self, Clock},
    cursors::{Batch, OutOfOrder, Spool},
    index::Index,
    ledger::{CommitError, Durable, Ledger},
    metrics::Metrics,
    records,
    storage::{NoRoom, Storage},
};
use group::Group;

/// Requests waiting for the writer (a batch is at most 4 MiB).
pub const QUEUE_REQUESTS: usize = 32;

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Tell how far a spool has come.
    Cursor(Spool),
    /// Append what a batch adds.
    Batch(Batch),
    /// Append a record of the collector.
    Own(Box<Record>),
    /// Commit what was asked before, and end.
    Stop,
}

/// The answer, given when everything it speaks of is durable.
#[derive(Clone, Debug)]
pub struct Done {
    /// The cursor of the spool; 0 for a record of the collector.
    pub seq: u64,
    /// Records of the batch that are not stored.
    pub refused: Vec<Refused>,
    /// A tree that holds it.
    pub durable: Arc<Durable>,
}

/// Why nothing was appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The batch does not follow on what is stored.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// The ledger cannot be written at the moment.
    #[error(
        "the ledger cannot be written ({reason}); nothing of this request is stored, send it \
         again later"
    )]
    NotDurable {
        /// What the system says, without paths.
        reason: String,
    },
    /// Too little room is left for records of nodes.
    #[error("{reason}; nothing of this batch is stored, send it again later")]
    NoRoom {
        /// How much there is.
        reason: NoRoom,
    },
    /// What a batch repeats cannot be compared with what is stored.
    #[error(
        "a record stored before cannot be read, so that this batch cannot be compared with it \
         (the collector's log names the file); nothing of it is stored, send it again later"
    )]
    Unreadable,
    /// The collector stops.
    #[error("the collector is stopping; send the request again to its successor")]
    Stopped,
}

struct Request {
    job: Job,
    reply: oneshot::Sender<Result<Done, WriteError>>,
}

/// An answer still to come.
pub type Pending = oneshot::Receiver<Result<Done, WriteError>>;

/// A handle to the writer, which ends with [`Job::Stop`] or when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
    durable: watch::Receiver<Arc<Durable>>,
    origin: Arc<str>,
    verifier_key: Arc<str>,
    metrics: Arc<Metrics>,
    storage: Arc<Storage>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

/// Starts the thread.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    ledger: Ledger,
    index: Index,
    state_dir: PathBuf,
) -> std::io::Result<(Writer, JoinHandle<()>)> {
    let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
    let (published, durable) = watch::channel(Arc::clone(ledger.durable()));
    let metrics = Arc::new(Metrics::new());
    let storage = Arc::new(Storage::new(&state_dir, Arc::clone(&metrics)));
    let clock = Clock::of_ledger(&ledger.source(), ledger.durable().size, ledger.origin());
    let writer = Writer {
        queue,
        durable,
        origin: ledger.origin().into(),
        verifier_key: ledger.verifier_key().into(),
        metrics: Arc::clone(&metrics),
        storage: Arc::clone(&storage),
    };
    let mut owner =
        Owner { ledger, index, state_dir, published, metrics, storage, clock, stopping: false };
    let thread = thread::Builder::new()
        .name("ledger-writer".to_owned())
        .spawn(move || owner.run(requests))?;
    Ok((writer, thread))
}

impl Writer {
    /// Queues a job, waiting while the queue is full; the answer comes when it is durable.
    ///
    /// # Errors
    /// The writer has stopped.
    pub async fn submit(&self, job: Job) -> Result<Pending, WriteError> {
        let (reply, pending) = oneshot::channel();
        let sent = self.queue.send(Request { job, reply }).await;
        sent.map(|()| pending).map_err(|_| WriteError::Stopped)
    }

    /// Queues a job and waits for its answer.
    ///
    /// # Errors
    /// Nothing was appended.
    pub async fn ask(&self, job: Job) -> Result<Done, WriteError> {
        let pending = self.submit(job).await?;
        pending.await.unwrap_or(Err(WriteError::Stopped))
    }

    /// What is durable, now and as it grows.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Arc<Durable>> {
        self.durable.clone()
    }

    /// What the collector counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether the ledger can be written.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Requests that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whether the thread is there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public key of the log.
    #[must_use]
    pub fn verifier_key(&self) -> &str {
        &self.verifier_key
    }
}

/// What only the thread touches.
struct Owner {
    ledger: Ledger,
    index: Index,
    state_dir: PathBuf,
    published: watch::Sender<Arc<Durable>>,
    metrics: Arc<Metrics>,
    storage: Arc<Storage>,
    clock: Clock,
    stopping: bool,
}

impl Owner {
    /// Ends with the queue closed, so that nobody waits for a dead thread.
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        while !self.stopping
            && let Some(first) = requests.blocking_recv()
        {
            let mut group = Group::default();
            self.look_at_clock(&mut group);
            self.take(&mut group, first);
            while !group.is_full()
                && !self.stopping
                && let Ok(next) = requests.try_recv()
            {
                self.take(&mut group, next);
            }
            self.commit(group);
        }
        let durable = Arc::clone(self.ledger.durable());
        self.index.save(&self.state_dir, &durable, true);
    }

    /// A clock that was set back is a record of its own, before those with the new time.
    fn look_at_clock(&mut self, group: &mut Group) {
        let Some(behind) = self.clock.look(records::now_unix_nano()) else { return };
        self.metrics.clock_set_back.inc();
        let sentence = clock::sentence(behind);
        tracing::warn!(seconds = behind.as_secs_f64(), "{sentence}");
        group.own(&records::change(self.ledger.origin(), &sentence));
    }

    fn take(&mut self, group: &mut Group, request: Request) {
        let Request { job, reply } = request;
        let planned = match job {
            Job::Cursor(spool) => Ok(group.cursor(&self.index.cursors, &spool)),
            Job::Own(record) => {
                self.clock.saw(record.time_unix_nano);
                Ok(group.own(&record))
            }
            Job::Batch(batch) => self.take_batch(group, batch),
            Job::Stop => {
                self.stopping = true;
                Ok(group::Answer::default())
            }
        };
        match planned {
            Ok(answer) => group.expect(reply, answer),
            // Nobody to tell: the stream is gone.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn take_batch(&mut self, group: &mut Group, batch: Batch) -> Result<group::Answer, WriteError> {
        self.storage.admit().map_err(|reason| WriteError::NoRoom { reason })?;
        let seen = group.cursor(&self.index.cursors, &batch.spool).seq;
        let mut stored = std::collections::BTreeMap::new();
        if batch.first_seq <= seen && !batch.records.is_empty() {
            // What it repeats may be in this very group: make that durable, then read it.
            self.commit(std::mem::take(group));
            let last = batch.first_seq.saturating_add(batch.records.len() as u64 - 1).min(seen);
            let (source, size) = (self.ledger.source(), self.ledger.durable().size);
            let read = self.index.stored(&source, size, &batch.spool, batch.first_seq, last);
            stored = read.map_err(|error| unreadable(&error))?;
        }
        let origin = self.ledger.origin().to_owned();
        Ok(group.batch(&self.index.cursors, &origin, batch, &stored)?)
    }

    fn commit(&mut self, group: Group) {
        let Group { leaves, steps, answers, tally, .. } = group;
        let began = Instant::now();
        let first = self.ledger.durable().size;
        let committed = match leaves.as_slice() {
            [] => Ok(Arc::clone(self.ledger.durable())),
            leaves => self.ledger.commit(leaves).map_err(|error| {
                self.storage.failed(answers.len() as u64, &told(&error));
                not_durable(&error)
            }),
        };
        let durable = match committed {
            Ok(durable) => durable,
            Err(error) => {
                for (reply, _) in answers {
                    drop(reply.send(Err(error.clone())));
                }
                return;
            }
        };
        for (offset, step) in steps {
            self.index.apply(first + offset, &step);
        }
        if durable.size > first {
            self.storage.succeeded();
            self.metrics.committed(&tally, leaves.len(), began.elapsed());
            self.published.send_replace(Arc::clone(&durable));
            self.index.save(&self.state_dir, &durable, false);
        }
        for (reply, group::Answer { seq, refused }) in answers {
            drop(reply.send(Ok(Done { seq, refused, durable: Arc::clone(&durable) })));
        }
    }
}

/// For the inward log: everything.
fn told(error: &CommitError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The outward text: only what the system says, without paths.
fn not_durable(error: &CommitError) -> WriteError {
    let source = std::error::Error::source(error);
    let system = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    let reason = match system.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::StorageFull) => "its disk is full".to_owned(),
        _ => source.map_or_else(|| error.to_string(), ToString::to_string),
    };
    WriteError::NotDurable { reason }
}

fn unreadable(error: &ReadError) -> WriteError {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, "the ledger cannot be read; a batch is refused");
    WriteError::Unreadable
}

#[cfg(test)]
mod tests;
