//! The recorder's thread-local part: gathers a group, writes it, and accounts for every draft.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcigate_proto::record::kind;
use pcigate_proto::{Message as _, Record, Verdict};
use tokio::sync::watch;

use super::losses::Losses;
use super::{Message, NotRecorded, QUEUE_DRAFTS_MAX, Shared, SharedBooks, State, lock};
use crate::draft::{Draft, Event, LostReason, record_of};
use crate::spool::{Spool, SpoolError};

/// Drafts in one group: a quarter of the queue, so that a slow sync never holds up all of it.
const GROUP_DRAFTS_MAX: usize = QUEUE_DRAFTS_MAX / 4;
/// How often a full or failing spool is tried again while there is loss to tell of. Nobody can
/// announce that a disk has room again.
const RETRY: Duration = Duration::from_millis(500);

/// Whether the spool takes records; each change is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Writing,
    Full,
    DiskFull,
    Failed,
}

pub(super) struct Writer {
    spool: Arc<Mutex<Spool>>,
    node: String,
    epoch: [u8; 16],
    shared: Arc<Shared>,
    durable: watch::Sender<u64>,
    health: Health,
    /// While the spool is full: unreported losses that are worth a record of the reserve.
    report_at: u64,
    group: Vec<Entry>,
    /// By position in the last group: the durable number.
    numbers: Vec<Option<u64>>,
    books: Option<SharedBooks>,
}

/// The drafts of one `record_durable`: their positions in the group.
pub(super) struct Ticket {
    first: usize,
    count: usize,
}

/// A draft on its way through one commit.
struct Entry {
    draft: Draft,
    state: Progress,
}

enum Progress {
    Waiting,
    Staged(Tally),
    Durable(Tally),
    Lost(LostReason),
}

/// What the counters say about a record.
struct Tally {
    seq: u64,
    kind: &'static str,
    verdict: Verdict,
    masked: Vec<(String, u64)>,
}

impl Writer {
    pub(super) fn new(
        spool: Arc<Mutex<Spool>>,
        node: String,
        shared: Arc<Shared>,
        durable: watch::Sender<u64>,
    ) -> Self {
        let epoch = lock(&spool).epoch();
        Self {
            spool,
            node,
            epoch,
            shared,
            durable,
            health: Health::Writing,
            report_at: 0,
            group: Vec::new(),
            numbers: Vec::new(),
            books: None,
        }
    }

    pub(super) fn keeping(self, books: Option<SharedBooks>) -> Self {
        Self { books, ..self }
    }

    /// The next message; `Some(None)` when it is time to tell of losses, `None` at the end.
    pub(super) fn wait(&self, messages: &Receiver<Message>) -> Option<Option<Message>> {
        if lock(&self.shared.state).unreported.is_empty() {
            return messages.recv().ok().map(Some);
        }
        // Right away where the spool takes records: the loss is over.
        let wait = if self.health == Health::Writing { Duration::ZERO } else { RETRY };
        match messages.recv_timeout(wait) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Adds drafts to the group.
    pub(super) fn take(&mut self, drafts: Vec<Draft>) -> Ticket {
        let ticket = Ticket { first: self.group.len(), count: drafts.len() };
        let entries = drafts.into_iter().map(|draft| Entry { draft, state: Progress::Waiting });
        self.group.extend(entries);
        ticket
    }

    pub(super) fn group_is_full(&self) -> bool {
        self.group.len() >= GROUP_DRAFTS_MAX
    }

    /// What became of a ticket's drafts in the last commit.
    pub(super) fn outcome(&self, ticket: &Ticket) -> Result<u64, NotRecorded> {
        let numbers = self.numbers.get(ticket.first..ticket.first + ticket.count);
        let numbers = numbers.unwrap_or_default();
        match numbers.last() {
            None => Ok(*self.durable.borrow()),
            Some(Some(last)) if numbers.iter().all(Option::is_some) => Ok(*last),
            Some(_) => Err(self.refusal()),
        }
    }

    /// Whether the last group went well, and the last durable number.
    pub(super) fn last_outcome(&self) -> Result<u64, NotRecorded> {
        match self.health {
            Health::Writing => Ok(*self.durable.borrow()),
            _ => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> NotRecorded {
        match self.health {
            Health::Failed | Health::Writing => NotRecorded::Failed,
            Health::Full | Health::DiskFull => NotRecorded::Full,
        }
    }

    /// Makes the group durable, losses first. Every draft ends as a durable record or as a count.
    pub(super) fn commit(&mut self, last: bool) {
        let spool = Arc::clone(&self.spool);
        let mut spool = lock(&spool);
        let mut entries = self.losses_to_tell(&spool, last);
        let own = entries.len();
        if own == 0 {
            std::mem::swap(&mut entries, &mut self.group);
        } else {
            entries.append(&mut self.group);
        }
        let mut failure = None;
        for at in 0..entries.len() {
            let (done, rest) = entries.split_at_mut(at);
            let Some(entry) = rest.first_mut() else { break };
            if matches!(self.stage(&mut spool, entry, &mut failure), Err(SpoolError::GroupFull)) {
                self.sync(&mut spool, done, &mut failure);
                // A group of one always fits a segment.
                let _ = self.stage(&mut spool, entry, &mut failure);
            }
        }
        self.sync(&mut spool, &mut entries, &mut failure);
        let durable_seq = spool.durable_seq();
        let has_room = spool.has_room();
        drop(spool);
        self.account(&entries, own);
        self.numbers = entries.iter().skip(own).map(Entry::durable_seq).collect();
        self.note_health(failure.as_ref(), has_room);
        if *self.durable.borrow() != durable_seq {
            self.durable.send_replace(durable_seq);
        }
    }

    /// Losses no record tells of yet, as drafts. While the spool is full, only whenever they have
    /// doubled: the reserve then lasts for any number, and a crash hides at most half of them.
    fn losses_to_tell(&mut self, spool: &Spool, last: bool) -> Vec<Entry> {
        let mut state = lock(&self.shared.state);
        let total = state.unreported.total();
        let is_full = self.health == Health::Full && !spool.has_room();
        if total == 0 || (is_full && total < self.report_at && !last) {
            return Vec::new();
        }
        self.report_at = if is_full { total.saturating_mul(2) } else { 0 };
        let drafts = state.unreported.take_drafts(now_unix_nano());
        drafts.into_iter().map(|draft| Entry { draft, state: Progress::Waiting }).collect()
    }

    /// Stages one entry, or marks it lost.
    fn stage(
        &self,
        spool: &mut Spool,
        entry: &mut Entry,
        failure: &mut Option<SpoolError>,
    ) -> Result<(), SpoolError> {
        let reserved = matches!(entry.draft.event, Event::Lost(_) | Event::Coverage { .. });
        let hopeless = match failure {
            None => false,
            Some(SpoolError::Full { .. }) => !reserved,
            Some(_) => true,
        };
        if hopeless {
            entry.state = Progress::Lost(reason(failure.as_ref()));
            return Ok(());
        }
        let seq = spool.next_seq();
        let record = record_of(&entry.draft, &self.node, &self.epoch, seq);
        let bytes = record.encode_to_vec();
        let staged =
            if reserved { spool.append_reserved(seq, &bytes) } else { spool.append(seq, &bytes) };
        match staged {
            Ok(()) => {
                entry.state = Progress::Staged(tally(seq, &record));
                if let Some(books) = &self.books {
                    lock(books).enter(&entry.draft);
                }
            }
            Err(SpoolError::GroupFull) => return Err(SpoolError::GroupFull),
            Err(error) => {
                entry.state = Progress::Lost(reason(Some(&error)));
                failure.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Makes what is staged durable, or marks it lost.
    fn sync(&self, spool: &mut Spool, entries: &mut [Entry], failure: &mut Option<SpoolError>) {
        let seq = spool.next_seq() - 1;
        if let Some(books) = &self.books
            && let Err(error) = lock(books).prepare(seq)
        {
            tracing::warn!(%error, "the books cannot be kept: a kill would lose count of records");
        }
        let error = spool.sync().err();
        if let Some(books) = &self.books {
            lock(books).conclude(error.is_none(), seq);
        }
        for entry in entries {
            let state = std::mem::replace(&mut entry.state, Progress::Waiting);
            entry.state = match state {
                Progress::Staged(_) if error.is_some() => Progress::Lost(reason(error.as_ref())),
                Progress::Staged(tally) => Progress::Durable(tally),
                other => other,
            };
        }
        if let Some(error) = error {
            // It weighs more than a full spool: nothing goes in any more, reserve or not.
            *failure = Some(error);
        }
    }

    /// Counts what became of the entries; the first `own` are Lost records of our own, whose
    /// events are counted already.
    fn account(&self, entries: &[Entry], own: usize) {
        let mut state = lock(&self.shared.state);
        let State { counters, unreported } = &mut *state;
        for (at, entry) in entries.iter().enumerate() {
            let mut lost = Losses::default();
            match &entry.state {
                Progress::Durable(tally) => {
                    counters.recorded += 1;
                    let by_verdict = (tally.kind, tally.verdict);
                    *counters.by_verdict.entry(by_verdict).or_default() += 1;
                    for (kind, count) in &tally.masked {
                        *counters.masked.entry(kind.clone()).or_default() += count;
                    }
                    if matches!(entry.draft.event, Event::Lost(_)) {
                        lost.add_draft(&entry.draft, LostReason::SpoolFull);
                    }
                }
                Progress::Lost(reason) => {
                    lost.add_draft(&entry.draft, *reason);
                    unreported.merge(&lost);
                }
                Progress::Waiting | Progress::Staged(_) => {}
            }
            if at >= own {
                for (key, count) in lost.iter() {
                    *counters.lost.entry(key).or_default() += count;
                }
            }
        }
    }

    fn note_health(&mut self, failure: Option<&SpoolError>, has_room: bool) {
        let health = match failure {
            None if has_room || self.health == Health::Writing => Health::Writing,
            None => self.health,
            Some(SpoolError::Full { .. }) => Health::Full,
            Some(SpoolError::DiskFull { .. }) => Health::DiskFull,
            Some(_) => Health::Failed,
        };
        if health == self.health {
            return;
        }
        match failure {
            Some(error) => tracing::error!(
                cause = std::error::Error::source(error).map(tracing::field::display),
                "records are being lost, and counted: {error}"
            ),
            None => tracing::info!("the spool takes records again"),
        }
        self.health = health;
    }
}

impl Entry {
    fn durable_seq(&self) -> Option<u64> {
        match &self.state {
            Progress::Durable(tally) => Some(tally.seq),
            _ => None,
        }
    }
}

fn reason(error: Option<&SpoolError>) -> LostReason {
    match error {
        Some(SpoolError::Full { .. } | SpoolError::DiskFull { .. }) => LostReason::SpoolFull,
        _ => LostReason::SpoolFailed,
    }
}

fn tally(seq: u64, record: &Record) -> Tally {
    let verdict = record.outcome.as_ref().map_or(Verdict::Unspecified, |outcome| outcome.verdict());
    let masked = record.masked.iter().map(|f| (f.kind.clone(), u64::from(f.count))).collect();
    Tally { seq, kind: record.event.as_ref().map_or("", kind), verdict, masked }
}

fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_nanos(1));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
