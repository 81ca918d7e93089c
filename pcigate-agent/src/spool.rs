//! Queue 2: records on disk between the recorder, which writes, and the exporter, which reads and
//! acknowledges. It knows bytes and sequence numbers, not what a record says.
//!
//! # Constraints
//!
//! * Sequence numbers count from 1 without holes within an epoch (128 random bits made with the
//!   spool); a number is never used twice, whatever is damaged or deleted.
//! * Only durable records are ever read: "durable" means that `fdatasync` returned.
//! * A group of records is durable as a whole or not there at all ([`Spool::sync`]).
//! * Every frame is checksummed, and checked again when it is read.
//! * The directory never grows beyond [`Limits::total_bytes`]; a reserve inside it is kept for the
//!   records that say what was lost ([`Spool::append_reserved`]).
//! * One process at a time (`flock`).
//!
//! # On disk (integers little-endian; every crc32c begins with the 16 bytes of the epoch)
//!
//! ```text
//! epoch                     32 hex digits
//! lock                      empty, held with flock
//! acked                     2 slots, at 0 and 4096, written in turn; the valid one with the larger
//!                           generation counts:
//!                           magic 4 | generation 8 | acked seq 8 | newest segment 8 |
//!                           durable seq 8 | crc32c 4
//! 00000000000000000001.seg  a segment, named by its first seq:
//!   header                  magic 8 | version 4 | flags 4 | epoch 16 | first seq 8 | crc32c 4
//!   frame, repeated         magic 4 | length 2 | records of its group before it 2 | seq 8 |
//!                           crc32c 4 | bytes
//! *.seg.corrupt             set aside by hand or by `set_aside_corrupt`; never read again
//! ```
//!
//! The frame magic is not valid UTF-8 and the epoch is not known outside, so no text inside a
//! record can pass for a frame. Flag 1 marks a salvaged segment, in which seqs may jump.
//!
//! # Writing
//!
//! [`Spool::append`] only stages. [`Spool::sync`] opens the next segment if the group does not fit
//! (its header is durable, and the cursor names it, before a frame goes in), writes the group with
//! one `pwrite` and calls `fdatasync`. If anything fails, the group is taken back: the file is cut
//! to what it was and the numbers are free again. Then the durable seq is noted in `acked`
//! (written, not synced: it may be older, never too large).
//!
//! # Reading and deleting
//!
//! [`Spool::read`] gives records in order from any seq. Numbers that can never arrive are a
//! [`Hole`]. [`Spool::ack`] moves the cursor (written, not synced: an older cursor only means that
//! records are sent twice, which the collector recognises) and deletes segments that are wholly
//! acknowledged, after a sync of the cursor. The newest segment is never deleted: it holds the
//! numbering.
//!
//! # Recovery is the normal [`Spool::open`]
//!
//! * An invalid end of the newest segment was never durable, and is cut off, if nothing valid comes
//!   after it, or only frames of the same group (a disk writes the parts of a group in any order),
//!   and `acked` does not say that it was durable.
//! * Anything else that does not check out is damage: open refuses and names file, offset and
//!   seqs. [`set_aside_corrupt`] keeps the damaged file as `*.seg.corrupt` and puts the frames
//!   that still check out in its place. `mv FILE FILE.corrupt` by hand gives up the whole file.
//! * A missing segment is a hole. If it was the newest, or if `acked` is not there to say which was
//!   the newest, numbering goes on behind the largest seq it could have held.
//! * What is found may be in the page cache only, left by a process that was killed between a write
//!   and its sync: everything is synced before it counts as durable.

mod cursor;
mod error;
mod format;
mod recover;
mod salvage;
mod segment;
mod writing;

use std::collections::VecDeque;
use std::fs::File;
#[cfg(test)]
use std::io;
use std::path::{Path, PathBuf};

use pcigate_proto::record::RECORD_BYTES_MAX;

use cursor::Cursor;
use error::io;
use segment::{Position, Segment};

pub use error::SpoolError;
pub use salvage::{SetAside, set_aside_corrupt};

/// Largest segment, bytes. It bounds what one damaged file can cost and how many numbers are
/// skipped when the newest segment is missing.
pub const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes one group may hold: four batches of the exporter.
pub const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How large a spool may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All segments together, bytes.
    pub total_bytes: u64,
    /// One segment, bytes: a frame of [`RECORD_BYTES_MAX`] up to [`SEGMENT_BYTES_MAX`], and at most
    /// a quarter of the total.
    pub segment_bytes: u64,
    /// Part of the total kept for [`Spool::append_reserved`]; at most a quarter of it.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    /// 1 GiB holds some 4 million records: an hour of a busy node without its collector. The
    /// reserve holds some 400 records about loss.
    fn default() -> Self {
        Self {
            total_bytes: 1024 * 1024 * 1024,
            segment_bytes: SEGMENT_BYTES_MAX,
            reserve_bytes: 64 * 1024,
        }
    }
}

/// Records in order, as the exporter sends them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number of the first record; where there is none, the number that comes next.
    pub first_seq: u64,
    /// The records `first_seq`, `first_seq + 1`, …
    pub records: Vec<Vec<u8>>,
    /// Numbers before `first_seq` that were asked for and are gone.
    pub hole: Option<Hole>,
}

/// Numbers that will never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// First number.
    pub first_seq: u64,
    /// Last number.
    pub last_seq: u64,
    /// Why they are gone.
    pub reason: &'static str,
}

/// The open spool. Reading and writing exclude each other; both are short.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limits: Limits,
    epoch: [u8; 16],
    place: [u8; 16],
    cursor: Cursor,
    /// In order; the last one is being written. Never empty.
    segments: VecDeque<Segment>,
    active: File,
    staged: Vec<u8>,
    /// Positions within `staged`.
    staged_marks: Vec<Position>,
    next_seq: u64,
    durable_seq: u64,
    used_bytes: u64,
    reader: Option<segment::Reader>,
    held: bool,
    /// The cursor may not name the newest segment durably.
    unnamed: bool,
    #[cfg(test)]
    fail_write_after: Option<(usize, io::ErrorKind)>,
    /// Held as long as the spool is open.
    _lock: File,
}

impl Spool {
    /// Opens the spool in `dir`, making it if it is not there, and recovers from whatever ended
    /// the last run.
    ///
    /// # Errors
    /// Each names the file and the remedy; nothing was changed except for a cut-off end.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, SpoolError> {
        recover::open(dir, limits)
    }

    /// The 128 random bits made with this spool.
    #[must_use]
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// Where the spool lies on its node: 16 bytes made of the path of its directory. A spool that
    /// is made anew in this directory has another epoch and the same place.
    #[must_use]
    pub fn place(&self) -> [u8; 16] {
        self.place
    }

    /// The number the next record must carry.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The last durable number; 0 = none yet.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    /// The last acknowledged number; 0 = none yet.
    #[must_use]
    pub fn acked_seq(&self) -> u64 {
        self.cursor.acked()
    }

    /// Bytes in segments, staged ones included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes + self.staged.len() as u64
    }

    /// How large it may become.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether a record of any size fits without the reserve.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.fits(RECORD_BYTES_MAX, self.limits.total_bytes - self.limits.reserve_bytes)
    }

    /// Stages record `seq`. It is lost unless [`Self::sync`] returns well.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::GroupFull`], [`SpoolError::Size`] or
    /// [`SpoolError::Order`]; nothing was staged.
    pub fn append(&mut self, seq: u64, record: &[u8]) -> Result<(), SpoolError> {
        self.stage(seq, record, self.limits.total_bytes - self.limits.reserve_bytes)
    }

    /// Like [`Self::append`], but may use the reserve: for records that say what was lost.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_reserved(&mut self, seq: u64, record: &[u8]) -> Result<(), SpoolError> {
        self.stage(seq, record, self.limits.total_bytes)
    }

    /// Makes everything staged durable and returns the last durable number.
    ///
    /// # Errors
    /// [`SpoolError::DiskFull`] or [`SpoolError::Io`]: everything staged is taken back, and its
    /// numbers will be given again.
    pub fn sync(&mut self) -> Result<u64, SpoolError> {
        if self.staged.is_empty() {
            return Ok(self.durable_seq);
        }
        let written = self.write_staged();
        if written.is_ok() {
            self.durable_seq = self.next_seq - 1;
            // The records are durable whether or not this can be noted.
            let _ = self.cursor.note_durable(self.durable_seq);
        } else {
            self.next_seq = self.durable_seq + 1;
        }
        self.staged.clear();
        self.staged_marks.clear();
        written.map(|()| self.durable_seq)
    }

    /// Durable records from `from_seq` on, in order: at most `max_records`, and no further one once
    /// `max_bytes` are reached. Empty where there is nothing (yet).
    ///
    /// # Errors
    /// [`SpoolError::Corrupt`] where the disk no longer gives what was written.
    pub fn read(
        &mut self,
        from_seq: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Batch, SpoolError> {
        let from = from_seq.max(1);
        let after = self.segments.partition_point(|segment| segment.first_seq <= from);
        let covering = after
            .checked_sub(1)
            .and_then(|index| self.segments.get(index))
            .filter(|segment| from <= segment.last_seq);
        let segment = covering.or_else(|| self.segments.get(after));
        let Some(segment) = segment.filter(|_| from <= self.durable_seq) else {
            return Ok(Batch { first_seq: from, ..Batch::default() });
        };
        let start = from.max(segment.first_seq);
        let reader = segment::Reader::at(self.reader.take(), segment, start, self.epoch)?;
        let reader = self.reader.insert(reader);
        let (first_seq, records) = reader.read(segment, start, max_records, max_bytes)?;
        let hole = (first_seq > from).then(|| self.hole(from, first_seq - 1));
        Ok(Batch { first_seq, records, hole })
    }

    /// Everything up to `seq` is safe elsewhere. Smaller numbers than before change nothing.
    ///
    /// # Errors
    /// [`SpoolError::AckBeyond`], or the cursor cannot be written.
    pub fn ack(&mut self, seq: u64) -> Result<(), SpoolError> {
        if seq > self.durable_seq {
            return Err(SpoolError::AckBeyond { seq, durable_seq: self.durable_seq });
        }
        if seq <= self.cursor.acked() {
            return Ok(());
        }
        self.cursor.set_acked(seq)?;
        let wholly_acked = |segment: &Segment| segment.last_seq <= seq;
        if self.segments.len() < 2 || !self.segments.front().is_some_and(wholly_acked) {
            return Ok(());
        }
        self.cursor.sync()?;
        while self.segments.len() > 1
            && let Some(segment) = self.segments.pop_front_if(|segment| wholly_acked(segment))
        {
            self.used_bytes -= segment.bytes;
            std::fs::remove_file(&segment.path)
                .map_err(|error| io(error, "delete", &segment.path))?;
        }
        Ok(())
    }

    /// While held, nothing is deleted: whoever acknowledges may not be believed. A full spool says
    /// so.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether [`Self::hold`] is in force.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Goes on with `next_seq`, leaving a hole: for when the numbers before it are in use elsewhere
    /// (a spool that was set back to an older state). Numbers never go backwards.
    ///
    /// # Errors
    /// [`SpoolError::Order`] with something staged or with a smaller number; or the new segment
    /// cannot be made.
    pub fn skip_to(&mut self, next_seq: u64) -> Result<(), SpoolError> {
        if !self.staged.is_empty() || next_seq < self.next_seq {
            return Err(SpoolError::Order { seq: next_seq, next_seq: self.next_seq });
        }
        if next_seq > self.next_seq {
            self.begin_segment(next_seq)?;
            self.next_seq = next_seq;
            self.durable_seq = next_seq - 1;
        }
        self.name_newest()?;
        self.remove_empty()
    }

    /// The next write fails after so many bytes.
    #[cfg(test)]
    pub(crate) fn fail_next_write(&mut self, after_bytes: usize, kind: io::ErrorKind) {
        self.fail_write_after = Some((after_bytes, kind));
    }

    fn newest(&self) -> Option<&Segment> {
        self.segments.back()
    }

    fn hole(&self, first_seq: u64, last_seq: u64) -> Hole {
        let reason = if last_seq <= self.cursor.acked() {
            "acknowledged by the collector before, and deleted on the node"
        } else {
            "segment missing, set aside or skipped on the node"
        };
        Hole { first_seq, last_seq, reason }
    }
}

#[cfg(test)]
mod tests;
