//! The thread between the kernel's rings and the recorder: drain, attribute, hand over.
//!
//! It never waits for the recorder. While that has no room, records stay in the rings, and what
//! finds the rings full is counted by the kernel and becomes a Lost record.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pcigate_common::maps::Ring;

use crate::{
    attribution::Attribution,
    beat::Beat,
    draft::{Draft, Event, Lost, LostReason, Queue},
    recorder::RecorderHandle,
    sensor::{self, Batch, Sensor},
};

/// Records taken from a ring at a time: bounds the memory of a batch to some 20 MiB.
const BATCH_RECORDS: usize = 4096;

/// A batch with fewer records was all there was. Looking again at once would find a handful, and
/// cost the recorder a sync of the disk for it (docs/performance/gains.md).
const FEW_RECORDS: usize = BATCH_RECORDS / 4;
/// How long the reader lets the recorder catch up.
const PAUSE: Duration = Duration::from_millis(1);

/// The running thread.
pub struct Pipeline {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    beat: Beat,
}

/// Starts reading.
///
/// # Errors
/// The thread cannot be made.
pub fn start(
    sensor: Sensor,
    attribution: Attribution,
    recorder: RecorderHandle,
) -> io::Result<Pipeline> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let beat = Beat::new();
    let of_thread = beat.clone();
    let batch = Batch::default();
    let reader = Reader { sensor, attribution, recorder, batch, beat: of_thread };
    let thread = std::thread::Builder::new()
        .name("sensor".to_owned())
        .spawn(move || reader.run(&stopped))?;
    Ok(Pipeline { thread, stop, beat })
}

impl Pipeline {
    /// Beats each time the rings were looked at.
    #[must_use]
    pub fn beat(&self) -> Beat {
        self.beat.clone()
    }

    /// Reads what is still in the rings, hands it over, and ends.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the sensor thread ended by a panic");
        }
    }
}

/// What a turn came to.
enum Turn {
    Many,
    Few,
    Empty,
    NoRoom,
}

struct Reader {
    sensor: Sensor,
    attribution: Attribution,
    recorder: RecorderHandle,
    batch: Batch,
    beat: Beat,
}

impl Reader {
    fn run(mut self, stop: &AtomicBool) {
        loop {
            // Read before the turn: what was in the rings when the stop came is still taken.
            let last = stop.load(Ordering::Acquire);
            self.beat.now();
            match self.turn(last) {
                Turn::Many => continue,
                Turn::Few if last => continue,
                // Not `wait`, which would return at once: records have come meanwhile.
                Turn::Few => std::thread::sleep(sensor::POLL),
                Turn::Empty if last => return self.report_lost(),
                Turn::Empty => self.sensor.wait(),
                // Not `wait`, which would return at once: the rings are not empty.
                Turn::NoRoom => std::thread::sleep(PAUSE),
            }
            self.report_lost();
        }
    }

    /// Moves one batch; in the last turns also what would wait for something older.
    fn turn(&mut self, last: bool) -> Turn {
        // A batch may hold that many of each ring.
        let limit = (self.recorder.room() / 2).min(BATCH_RECORDS);
        if limit == 0 {
            return Turn::NoRoom;
        }
        self.sensor.drain(&mut self.batch, limit);
        if last {
            self.batch.release();
        }
        if self.batch.is_empty() {
            return Turn::Empty;
        }
        let count = hand_over(&self.batch, &mut self.attribution, &self.recorder);
        if count < FEW_RECORDS { Turn::Few } else { Turn::Many }
    }

    fn report_lost(&mut self) {
        match self.sensor.take_lost() {
            Ok(lost_by_ring) => {
                if lost_by_ring.iter().any(|(ring, _)| *ring == Ring::Events) {
                    self.attribution.forget();
                }
                let drafts = lost_by_ring.into_iter().map(|(ring, count)| {
                    let queue = match ring {
                        Ring::Events => Queue::Events,
                        Ring::Verdicts => Queue::Verdicts,
                    };
                    lost(queue, LostReason::RingFull, count)
                });
                let _ = self.recorder.record(drafts.collect());
            }
            Err(error) => tracing::error!(%error, "cannot read the kernel's loss counters"),
        }
    }
}

/// Makes drafts of a batch and gives them to the recorder; how many.
pub fn hand_over(batch: &Batch, attribution: &mut Attribution, recorder: &RecorderHandle) -> usize {
    attribution.tick();
    let mut drafts: Vec<Draft> = batch.events().map(|event| attribution.draft(&event)).collect();
    if let Some(error) = batch.undecodable().first() {
        tracing::error!(%error, "the kernel programs and this agent do not match");
        let count = batch.undecodable().len() as u64;
        drafts.push(lost(Queue::Events, LostReason::Undecodable, count));
    }
    let count = drafts.len();
    // A refusal is counted by the recorder itself.
    let _ = recorder.record(drafts);
    count
}

fn lost(queue: Queue, reason: LostReason, count: u64) -> Draft {
    Draft::agent(now_unix_nano(), Event::Lost(Lost { count, reason, queue }))
}

/// The wall clock, ns since 1970; never 0.
#[must_use]
pub fn now_unix_nano() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(1)
}
