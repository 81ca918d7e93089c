//! Staging records and writing them as a group, and beginning the next segment.

use pcigate_proto::record::RECORD_BYTES_MAX;

use super::error::{SpoolError, io, write_error};
use super::format::{self, FRAME_BYTES, HEADER_BYTES};
use super::{GROUP_BYTES_MAX, Spool, segment};

impl Spool {
    /// Two headers are left: the group may need a further segment, and so may a skip behind it.
    pub(super) fn fits(&self, record_bytes: usize, limit_bytes: u64) -> bool {
        let frame = (FRAME_BYTES + record_bytes) as u64;
        self.used_bytes() + frame + 2 * HEADER_BYTES as u64 <= limit_bytes
    }

    pub(super) fn stage(
        &mut self,
        seq: u64,
        record: &[u8],
        limit_bytes: u64,
    ) -> Result<(), SpoolError> {
        if seq != self.next_seq {
            return Err(SpoolError::Order { seq, next_seq: self.next_seq });
        }
        if record.is_empty() || record.len() > RECORD_BYTES_MAX {
            return Err(SpoolError::Size { bytes: record.len() });
        }
        if !self.fits(record.len(), limit_bytes) {
            return Err(SpoolError::Full { limit_bytes, held: self.held });
        }
        let group = (self.staged.len() + FRAME_BYTES + record.len()) as u64;
        let before = u16::try_from(self.next_seq - 1 - self.durable_seq);
        let (Ok(length), Ok(before)) = (u16::try_from(record.len()), before) else {
            return Err(SpoolError::GroupFull);
        };
        if group > GROUP_BYTES_MAX.min(self.limits.segment_bytes - HEADER_BYTES as u64) {
            return Err(SpoolError::GroupFull);
        }
        segment::mark(&mut self.staged_marks, seq, self.staged.len() as u64);
        format::put_frame(&mut self.staged, &self.epoch, seq, (length, before), record);
        self.next_seq += 1;
        Ok(())
    }

    pub(super) fn write_staged(&mut self) -> Result<(), SpoolError> {
        let staged_bytes = self.staged.len() as u64;
        let newest_bytes = self.newest().map_or(0, |segment| segment.bytes);
        if newest_bytes + staged_bytes > self.limits.segment_bytes {
            self.begin_segment(self.durable_seq + 1)?;
        }
        self.name_newest()?;
        let Some(newest) = self.segments.back_mut() else { return Ok(()) };
        let start = newest.bytes;
        #[cfg(test)]
        let failure = self.fail_write_after.take();
        #[cfg(not(test))]
        let failure = None;
        let written = segment::write_group(&self.active, &self.staged, start, failure);
        if let Err(error) = written {
            // Best effort: what stays behind lies beyond the end and is overwritten by the next
            // group, or cut off by the next open.
            let _ = self.active.set_len(start);
            return Err(write_error(error, &newest.path));
        }
        for position in &self.staged_marks {
            segment::mark(&mut newest.marks, position.seq, start + position.offset);
        }
        newest.bytes += staged_bytes;
        newest.last_seq = self.next_seq - 1;
        self.used_bytes += staged_bytes;
        Ok(())
    }

    pub(super) fn begin_segment(&mut self, first_seq: u64) -> Result<(), SpoolError> {
        let (segment, file) = segment::create(&self.dir, &self.epoch, first_seq)?;
        self.used_bytes += segment.bytes;
        self.active = file;
        self.segments.push_back(segment);
        Ok(())
    }

    /// Removes the segment before the newest, where a skip has left it without a record: else skips
    /// in a row would take more room than there is. The newest is named by now.
    pub(super) fn remove_empty(&mut self) -> Result<(), SpoolError> {
        let before = self.segments.len().checked_sub(2);
        let is_empty = |of: &segment::Segment| of.last_seq < of.first_seq;
        let before = before.filter(|at| self.segments.get(*at).is_some_and(is_empty));
        if let Some(empty) = before.and_then(|at| self.segments.remove(at)) {
            self.used_bytes -= empty.bytes;
            std::fs::remove_file(&empty.path).map_err(|error| io(error, "delete", &empty.path))?;
        }
        Ok(())
    }

    /// No frame goes into a segment before the cursor names it. A cursor that could not be written
    /// may be on disk all the same, so there is no way back to the segment before.
    pub(super) fn name_newest(&mut self) -> Result<(), SpoolError> {
        let newest = self.newest().map_or(0, |segment| segment.first_seq);
        if newest > self.cursor.newest() || self.unnamed {
            self.unnamed = true;
            self.cursor.set_newest(newest)?;
            self.unnamed = false;
        }
        Ok(())
    }
}
