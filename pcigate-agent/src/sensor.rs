//! Reads the kernel's rings: raw records in the order they happened, and how many were lost.
//!
//! The reader never waits for anybody: it copies what is there and goes back to the rings. It also
//! does not rely on wake-ups, which the kernel side sends only when much is pending.

use std::{os::fd::AsFd, time::Duration};

use aya::maps::{MapData, MapError, PerCpuArray, RingBuf};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};
use pcigate_common::{
    event::{DecodeError, Event, decode},
    maps::Ring,
};

use crate::enforcer::Rings;

/// How long the reader sleeps when nothing wakes it: the age a record may reach in the ring.
pub const POLL: Duration = Duration::from_millis(5);

/// The rings and what has been read of them.
pub struct Sensor {
    events: RingBuf<MapData>,
    verdicts: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    /// Kept open: programs are loaded later and refer to it.
    _made: PerCpuArray<MapData, u64>,
    lost_seen: [u64; 2],
}

/// Records copied out of the rings, oldest first. Reused from drain to drain.
#[derive(Default)]
pub struct Batch {
    /// Records one after the other, each from a multiple of 8 bytes, as decoding needs.
    words: Vec<u64>,
    /// Time, sequence number, first word, and length in bytes of each record.
    index: Vec<(u64, u64, usize, usize)>,
    /// How many of the index are old enough that nothing older can still come.
    ready: usize,
    /// Records that were no records, by why.
    undecodable: Vec<DecodeError>,
}

impl Sensor {
    /// Takes over the read ends.
    #[must_use]
    pub fn new(rings: Rings) -> Self {
        let Rings { events, verdicts, lost, made } = rings;
        Self { events, verdicts, lost, _made: made, lost_seen: [0; 2] }
    }

    /// Waits until the kernel wakes the reader, or a few milliseconds.
    pub fn wait(&self) {
        let mut fds = [
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.verdicts.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(POLL).unwrap_or(PollTimeout::ZERO);
        // An interrupted or failed wait only means to look at the rings now.
        let _ = poll(&mut fds, timeout);
    }

    /// Replaces the batch by what is in the rings, oldest first: at most `limit` records of each.
    /// The rest stays in the kernel, which counts what it cannot keep.
    ///
    /// There are two rings, and one is read before the other. What is younger than this call stays
    /// in the batch for the next one, so that the order of time holds across batches too.
    pub fn drain(&mut self, batch: &mut Batch, limit: usize) {
        let now = boot_clock();
        batch.keep_unread();
        batch.take(&mut self.verdicts, limit);
        batch.take(&mut self.events, limit);
        batch.sort(now);
    }

    /// Records lost since the last call because their ring was full, by ring.
    ///
    /// # Errors
    /// The kernel refuses to read the counters.
    pub fn take_lost(&mut self) -> Result<Vec<(Ring, u64)>, MapError> {
        let mut lost = Vec::new();
        for (ring, seen) in [Ring::Events, Ring::Verdicts].into_iter().zip(&mut self.lost_seen) {
            let total: u64 = self.lost.get(&(ring as u32), 0)?.iter().sum();
            if total > *seen {
                lost.push((ring, total - *seen));
                *seen = total;
            }
        }
        Ok(lost)
    }
}

impl Batch {
    /// Replaces the batch by records from elsewhere than the kernel, as [`Sensor::drain`] would:
    /// for measurements of what comes after the rings.
    pub fn refill<'a>(&mut self, records: impl IntoIterator<Item = &'a [u8]>) {
        self.keep_unread();
        records.into_iter().for_each(|record| self.push(record));
        self.sort(u64::MAX);
    }

    /// Drops what has been read.
    fn keep_unread(&mut self) {
        let read = std::mem::take(self);
        for &(_, _, first, len) in read.index.get(read.ready..).unwrap_or_default() {
            self.push(read.bytes(first, len));
        }
    }

    fn sort(&mut self, until_ns: u64) {
        self.index.sort_unstable();
        self.ready = self.index.partition_point(|&(time_ns, ..)| time_ns <= until_ns);
    }

    fn take(&mut self, ring: &mut RingBuf<MapData>, limit: usize) {
        for _ in 0..limit {
            let Some(record) = ring.next() else { break };
            self.push(&record);
        }
    }

    fn push(&mut self, record: &[u8]) {
        let first = self.words.len();
        self.words.resize(first + record.len().div_ceil(size_of::<u64>()), 0);
        let space = self.words.get_mut(first..).unwrap_or_default();
        if let Some(space) = zerocopy::IntoBytes::as_mut_bytes(space).get_mut(..record.len()) {
            space.copy_from_slice(record);
        }
        match decode(self.bytes(first, record.len())) {
            Ok(event) => {
                let header = event.header();
                let entry = (header.time_ns, header.seq, first, record.len());
                self.index.push(entry);
            }
            Err(error) => {
                self.undecodable.push(error);
                self.words.truncate(first);
            }
        }
    }

    fn bytes(&self, first: usize, len: usize) -> &[u8] {
        let words = self.words.get(first..).unwrap_or_default();
        zerocopy::IntoBytes::as_bytes(words).get(..len).unwrap_or_default()
    }

    /// The records, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let ready = self.index.get(..self.ready).unwrap_or_default();
        ready.iter().filter_map(|&(_, _, first, len)| decode(self.bytes(first, len)).ok())
    }

    /// Drops readable records that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&Event<'_>) -> bool) {
        let mut index = std::mem::take(&mut self.index);
        let waiting = index.split_off(self.ready.min(index.len()));
        index.retain(|&(_, _, first, len)| {
            decode(self.bytes(first, len)).is_ok_and(|event| keep(&event))
        });
        self.ready = index.len();
        index.extend(waiting);
        self.index = index;
    }

    /// Makes also those records readable that are younger than the drain: nothing comes after.
    pub fn release(&mut self) {
        self.ready = self.index.len();
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready == 0 && self.undecodable.is_empty()
    }

    /// Records that could not be decoded, which the caller must count as lost.
    #[must_use]
    pub fn undecodable(&self) -> &[DecodeError] {
        &self.undecodable
    }
}

/// The clock of the records' times, ns. 0 where it cannot be read, which delays records until the
/// next batch and loses none.
#[must_use]
pub fn boot_clock() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use pcigate_common::{
        event::{Exit, Header, Kind, Task},
        maps::Decision,
    };
    use zerocopy::IntoBytes;

    use super::*;

    fn exit(time_ns: u64) -> Exit {
        let task = Task { pid: 1, tid: 1, start_ns: 1, parent_pid: 1, uid: 0, parent_start_ns: 1 };
        let decision = Decision::enforced(1, 0);
        let (kind, seq, cgroup) = (Kind::Exit, time_ns, 1);
        let header = Header {
            kind,
            flags: 0,
            time_ns,
            seq,
            cpu: 0,
            policy: 0,
            cgroup,
            workload: 1,
            task,
            decision,
        };
        Exit { header, status: 0, reserved: 0 }
    }

    fn times(batch: &Batch) -> Vec<u64> {
        batch.events().map(|event| event.header().time_ns).collect()
    }

    #[test]
    fn bytes_that_are_no_record_are_kept_as_a_loss() {
        let mut batch = Batch::default();
        batch.push(&[0xff; 200]);
        batch.push(&[1, 0, 0]);
        assert_eq!(batch.undecodable(), [DecodeError::Unknown, DecodeError::Short]);
        assert_eq!(batch.events().count(), 0);
    }

    #[test]
    fn a_record_younger_than_the_drain_waits_for_what_may_still_be_older() {
        let mut batch = Batch::default();
        for time in [30, 10, 25] {
            batch.push(exit(time).as_bytes());
        }
        batch.sort(20);
        assert_eq!(times(&batch), [10]);
        batch.keep_unread();
        batch.push(exit(22).as_bytes());
        batch.sort(40);
        assert_eq!(times(&batch), [22, 25, 30]);
        batch.keep_unread();
        batch.sort(50);
        assert!(batch.is_empty());
    }

    #[test]
    fn the_last_batch_leaves_nothing_behind() {
        let mut batch = Batch::default();
        for time in [30, 10] {
            batch.push(exit(time).as_bytes());
        }
        batch.sort(0);
        assert!(batch.is_empty());
        batch.release();
        assert_eq!(times(&batch), [10, 30]);
    }
}
