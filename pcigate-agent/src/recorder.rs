//! The only writer of the spool: takes drafts, makes records of them, and puts them on disk in
//! groups. What cannot be recorded is counted and becomes a Lost record.
//!
//! One thread. It takes whatever is queued, encodes it with the next numbers, and makes it durable
//! with one sync; there is no timer, a group is what arrived during the last sync. The queue is
//! bounded; a full one loses drafts, counted by the queue they came through, and never blocks the
//! reader of the kernel's rings ([`RecorderHandle::room`] lets it leave events there instead).

pub mod books;
mod losses;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pcigate_proto::Verdict;
use tokio::sync::{oneshot, watch};

use crate::draft::{Draft, LostReason, Queue};
use crate::spool::Spool;
use books::{Books, ByRing, ring_of};
use losses::Losses;
use writer::Writer;

/// Drafts queued at most: 50 ms at 300,000 events a second, hundreds of group commits; some 20 MiB
/// when full. The kernel's rings hold more than this behind it.
pub const QUEUE_DRAFTS_MAX: usize = 16 * 1024;
/// Messages queued at most; more than one per millisecond of the queue above.
const QUEUE_MESSAGES_MAX: usize = 256;

/// What the recorder has done since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Durable records.
    pub recorded: u64,
    /// Events that have no record, by queue and reason, whoever lost them.
    pub lost: BTreeMap<(Queue, LostReason), u64>,
    /// Lost events that no durable record tells of yet.
    pub lost_unreported: u64,
    /// What masking took out, by kind.
    pub masked: BTreeMap<String, u64>,
    /// Durable records by kind and verdict, for a summary at the end.
    pub by_verdict: BTreeMap<(&'static str, Verdict), u64>,
}

/// Why [`RecorderHandle::record_durable`] did not make a record durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The spool, or the disk below it, is full.
    #[error("the spool is full: nothing that needs evidence may proceed until it empties")]
    Full,
    /// The disk below the spool fails.
    #[error("the spool cannot be written; see the recorder's last error in the log")]
    Failed,
    /// The recorder has ended.
    #[error("the recorder has been stopped")]
    Stopped,
}

/// The way into the recorder; cheap to clone.
#[derive(Clone, Debug)]
pub struct RecorderHandle {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    durable: watch::Receiver<u64>,
    books: Option<SharedBooks>,
}

/// Books, shared with the recorder's thread.
pub type SharedBooks = Arc<Mutex<Books>>;

/// The running thread.
#[derive(Debug)]
pub struct Recorder {
    handle: RecorderHandle,
    thread: JoinHandle<()>,
}

type Answer = Result<u64, NotRecorded>;

/// Who waits for an answer.
enum Reply {
    Thread(SyncSender<Answer>),
    Task(oneshot::Sender<Answer>),
}

enum Message {
    Drafts(Vec<Draft>),
    Durable(Vec<Draft>, Reply),
    Stop(Reply),
}

#[derive(Debug, Default)]
struct Shared {
    queued_drafts: AtomicUsize,
    queued_messages: AtomicUsize,
    state: Mutex<State>,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    counters: Counters,
    /// Lost and not yet in a durable record.
    unreported: Losses,
}

/// Starts the recorder for a node: `node` is the name in the node's certificate.
///
/// # Errors
/// The thread cannot be made.
pub fn start(spool: Arc<Mutex<Spool>>, node: String) -> std::io::Result<Recorder> {
    start_with(spool, node, None)
}

/// As [`start`], keeping books for the next agent.
///
/// # Errors
/// The thread cannot be made.
pub fn start_with(
    spool: Arc<Mutex<Spool>>,
    node: String,
    books: Option<SharedBooks>,
) -> std::io::Result<Recorder> {
    let (queue, messages) = sync_channel(QUEUE_MESSAGES_MAX);
    let shared = Arc::new(Shared::default());
    let (durable_sender, durable) = watch::channel(lock(&spool).durable_seq());
    let writer = Writer::new(spool, node, Arc::clone(&shared), durable_sender);
    let writer = writer.keeping(books.clone());
    let of_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
        // Also when it ends by a panic.
        let _ended = Ended(Arc::clone(&of_thread));
        run(writer, &of_thread, &messages);
    })?;
    Ok(Recorder { handle: RecorderHandle { queue, shared, durable, books }, thread })
}

/// Tells the end of the thread when it is dropped.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

/// Takes a mutex whatever happened to another holder: the data behind ours stay consistent between
/// two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// The way in.
    #[must_use]
    pub fn handle(&self) -> RecorderHandle {
        self.handle.clone()
    }

    /// Records everything queued, tells of all losses, ends the thread, and returns the last
    /// durable number. Later drafts are counted lost: stop the sources of drafts first.
    ///
    /// # Errors
    /// The last group could not be made durable.
    pub fn stop(self) -> Result<u64, NotRecorded> {
        let answer = self.handle.ask(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the recorder thread ended by a panic");
        }
        answer
    }
}

impl RecorderHandle {
    /// Queues drafts, at most [`QUEUE_DRAFTS_MAX`] of them, and returns at once.
    ///
    /// # Errors
    /// The queue is full: how many drafts were lost (all of them; already counted).
    pub fn record(&self, drafts: Vec<Draft>) -> Result<(), usize> {
        let count = drafts.len();
        if count == 0 {
            return Ok(());
        }
        let queued = self.shared.queued_drafts.fetch_add(count, Ordering::Relaxed);
        let behind = queued + count > QUEUE_DRAFTS_MAX;
        let refused = if behind {
            Some(drafts)
        } else {
            self.try_queue(Message::Drafts(drafts)).err().and_then(Message::into_drafts)
        };
        let Some(refused) = refused else { return Ok(()) };
        self.shared.queued_drafts.fetch_sub(count, Ordering::Relaxed);
        self.shared.lose(&refused, LostReason::ReaderBehind);
        // Wakes the thread where it has meanwhile emptied the queue; a full queue wakes it anyway.
        let _ = self.try_queue(Message::Drafts(Vec::new()));
        Err(count)
    }

    fn try_queue(&self, message: Message) -> Result<(), Message> {
        self.shared.queued_messages.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(message).map_err(|error| {
            self.shared.queued_messages.fetch_sub(1, Ordering::Relaxed);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = error;
            message
        })
    }

    /// Drafts that can be queued now. A reader of the rings may wait for room instead of losing.
    #[must_use]
    pub fn room(&self) -> usize {
        // Many small messages fill the queue before many drafts do.
        if self.shared.queued_messages.load(Ordering::Relaxed) >= QUEUE_MESSAGES_MAX / 2 {
            return 0;
        }
        QUEUE_DRAFTS_MAX.saturating_sub(self.shared.queued_drafts.load(Ordering::Relaxed))
    }

    /// Drafts that wait to be recorded.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queued_drafts.load(Ordering::Relaxed)
    }

    /// Whether the recorder's thread still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.shared.ended.load(Ordering::Acquire)
    }

    /// Queues drafts and waits until they are durable; returns the number of the last one. Blocks
    /// the thread: not for an async worker.
    ///
    /// # Errors
    /// None of them is durable, and they are counted lost.
    pub fn record_durable(&self, drafts: Vec<Draft>) -> Result<u64, NotRecorded> {
        self.ask(|reply| Message::Durable(drafts, reply))
    }

    /// As [`Self::record_durable`], for a task: no thread waits for the disk.
    ///
    /// # Errors
    /// As there.
    pub async fn record_durably(&self, drafts: Vec<Draft>) -> Result<u64, NotRecorded> {
        let (reply, answer) = oneshot::channel();
        let count = drafts.len();
        self.shared.queued_drafts.fetch_add(count, Ordering::Relaxed);
        let Err(refused) = self.try_queue(Message::Durable(drafts, Reply::Task(reply))) else {
            return answer.await.unwrap_or(Err(NotRecorded::Stopped));
        };
        self.shared.queued_drafts.fetch_sub(count, Ordering::Relaxed);
        // A thread can wait for room.
        let drafts = refused.into_drafts().unwrap_or_default();
        let recorder = self.clone();
        let recorded = tokio::task::spawn_blocking(move || recorder.record_durable(drafts)).await;
        recorded.unwrap_or(Err(NotRecorded::Stopped))
    }

    /// Waits until everything queued so far is durable or counted lost. Blocks the thread.
    ///
    /// # Errors
    /// The recorder has been stopped.
    pub fn flush(&self) -> Result<u64, NotRecorded> {
        self.record_durable(Vec::new())
    }

    /// The last durable number, and a way to wait for the next.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = lock(&self.shared.state);
        Counters { lost_unreported: state.unreported.total(), ..state.counters.clone() }
    }

    /// The books, where they are kept.
    #[must_use]
    pub fn books(&self) -> Option<&SharedBooks> {
        self.books.as_ref()
    }

    /// Lost events of each ring that no durable record tells of yet.
    #[must_use]
    pub fn unreported(&self) -> ByRing {
        let mut by_ring = ByRing::default();
        for ((queue, _), count) in lock(&self.shared.state).unreported.iter() {
            if let Some(sum) = ring_of(queue).and_then(|ring| by_ring.get_mut(ring)) {
                *sum += count;
            }
        }
        by_ring
    }

    fn ask(&self, message: impl FnOnce(Reply) -> Message) -> Result<u64, NotRecorded> {
        let (reply, answer) = sync_channel(1);
        let message = message(Reply::Thread(reply));
        self.shared.queued_drafts.fetch_add(message.drafts(), Ordering::Relaxed);
        self.shared.queued_messages.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = self.queue.send(message) {
            let drafts = refused.0.into_drafts().unwrap_or_default();
            self.shared.queued_drafts.fetch_sub(drafts.len(), Ordering::Relaxed);
            self.shared.queued_messages.fetch_sub(1, Ordering::Relaxed);
            self.shared.lose(&drafts, LostReason::ReaderBehind);
            return Err(NotRecorded::Stopped);
        }
        answer.recv().unwrap_or(Err(NotRecorded::Stopped))
    }
}

impl Reply {
    /// Nobody may listen any more: the drafts are durable or counted all the same.
    fn send(self, answer: Answer) {
        match self {
            Self::Thread(reply) => drop(reply.send(answer)),
            Self::Task(reply) => drop(reply.send(answer)),
        }
    }
}

impl Message {
    fn drafts(&self) -> usize {
        match self {
            Self::Drafts(drafts) | Self::Durable(drafts, _) => drafts.len(),
            Self::Stop(_) => 0,
        }
    }

    fn into_drafts(self) -> Option<Vec<Draft>> {
        match self {
            Self::Drafts(drafts) | Self::Durable(drafts, _) => Some(drafts),
            Self::Stop(_) => None,
        }
    }
}

impl Shared {
    /// Counts drafts that will have no record.
    fn lose(&self, drafts: &[Draft], reason: LostReason) {
        if drafts.is_empty() {
            return;
        }
        let mut lost = Losses::default();
        for draft in drafts {
            lost.add_draft(draft, reason);
        }
        let mut state = lock(&self.state);
        for (key, count) in lost.iter() {
            *state.counters.lost.entry(key).or_default() += count;
        }
        state.unreported.merge(&lost);
    }
}

/// The thread: until Stop, or until every handle is gone.
fn run(mut writer: Writer, shared: &Shared, messages: &Receiver<Message>) {
    let mut stop = None;
    while let Some(first) = writer.wait(messages) {
        let mut replies = Vec::new();
        let mut next = first;
        while let Some(message) = next {
            shared.queued_drafts.fetch_sub(message.drafts(), Ordering::Relaxed);
            shared.queued_messages.fetch_sub(1, Ordering::Relaxed);
            match message {
                Message::Drafts(drafts) => drop(writer.take(drafts)),
                Message::Durable(drafts, reply) => replies.push((writer.take(drafts), reply)),
                // What is queued behind it still belongs to this run.
                Message::Stop(reply) => stop = Some(reply),
            }
            next = if writer.group_is_full() { None } else { messages.try_recv().ok() };
        }
        let was_full = writer.group_is_full();
        writer.commit(false);
        for (ticket, reply) in replies {
            reply.send(writer.outcome(&ticket));
        }
        if stop.is_some() && !was_full {
            break;
        }
    }
    // Whatever was lost up to here is told now, from the reserve if need be.
    writer.commit(true);
    if let Some(reply) = stop {
        reply.send(writer.last_outcome());
    }
}

#[cfg(test)]
mod tests;
