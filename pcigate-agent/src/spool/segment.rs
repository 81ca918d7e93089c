//! One segment file: making it, scanning it whole, and reading records from it in order.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::SEGMENT_BYTES_MAX;
use super::error::{SpoolError, io, write_error};
use super::format::{self, FRAME_BYTES, FrameError, HEADER_BYTES, Header, HeaderError};

/// Bytes between two positions kept in memory: 1 GiB of spool costs 256 KiB.
const MARK_BYTES: u64 = 64 * 1024;
/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// A segment as the open spool knows it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) first_seq: u64,
    /// `first_seq - 1` while it is empty.
    pub(super) last_seq: u64,
    /// Bytes up to the end of the last frame.
    pub(super) bytes: u64,
    /// Where some records begin, in order.
    pub(super) marks: Vec<Position>,
}

/// Where the frame of a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) offset: u64,
}

/// Remembers a position if the last one is far enough away.
pub(super) fn mark(marks: &mut Vec<Position>, seq: u64, offset: u64) {
    if marks.last().is_none_or(|last| offset >= last.offset + MARK_BYTES) {
        marks.push(Position { seq, offset });
    }
}

/// The file name of the segment that begins with `first_seq`.
pub(super) fn file_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// Makes an empty segment; durable on return.
pub(super) fn create(
    dir: &Path,
    epoch: &[u8; 16],
    first_seq: u64,
) -> Result<(Segment, File), SpoolError> {
    let path = dir.join(file_name(first_seq));
    // A file of this name holds nothing that was ever durable: seqs are never given twice.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| write_error(error, &path))?;
    let header = Header { epoch: *epoch, first_seq, salvaged: false }.to_bytes();
    let made = file
        .write_all_at(&header, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| File::open(dir)?.sync_all());
    if let Err(error) = made {
        let _ = std::fs::remove_file(&path);
        return Err(write_error(error, &path));
    }
    let bytes = HEADER_BYTES as u64;
    let segment = Segment { path, first_seq, last_seq: first_seq - 1, bytes, marks: Vec::new() };
    Ok((segment, file))
}

/// Writes a group at `start`; durable on return. `failure` is for tests: fail after so many bytes.
pub(super) fn write_group(
    file: &File,
    bytes: &[u8],
    start: u64,
    failure: Option<(usize, std::io::ErrorKind)>,
) -> std::io::Result<()> {
    if let Some((length, kind)) = failure {
        file.write_all_at(bytes.get(..length).unwrap_or(bytes), start)?;
        return Err(kind.into());
    }
    file.write_all_at(bytes, start)?;
    file.sync_data()
}

/// What a scan found behind the last valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The file ends there.
    Clean,
    /// Bytes of a group that was never durable: no valid frame among them, or only such as were
    /// written together with what is missing.
    Torn,
    /// Bytes, and behind them a valid frame with this seq, written after they were durable.
    Damaged { next_seq: u64 },
}

/// Reads a whole segment, at most [`SEGMENT_BYTES_MAX`] and one byte.
pub(super) fn load(path: &Path) -> Result<Vec<u8>, SpoolError> {
    let file = File::open(path).map_err(|error| io(error, "open", path))?;
    let mut bytes = Vec::new();
    file.take(SEGMENT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io(error, "read", path))?;
    Ok(bytes)
}

/// Checks every frame of the segment that its name says begins with `first_seq`.
pub(super) fn scan(
    path: &Path,
    bytes: &[u8],
    first_seq: u64,
    epoch: &[u8; 16],
) -> Result<(Segment, End), SpoolError> {
    let mut segment = Segment {
        path: path.to_owned(),
        first_seq,
        last_seq: first_seq - 1,
        bytes: 0,
        marks: Vec::new(),
    };
    let header = match Header::read(bytes) {
        Ok(header) if header.epoch != *epoch => {
            return Err(SpoolError::Epoch {
                path: segment.path,
                found: hex::encode(header.epoch),
                expected: hex::encode(epoch),
            });
        }
        Err(HeaderError::Version(found)) => {
            let supported = format::VERSION;
            return Err(SpoolError::Version { path: segment.path, found, supported });
        }
        Ok(header) if header.first_seq == first_seq => header,
        Ok(_) | Err(HeaderError::Unreadable) => {
            return Ok((segment, end(bytes, 0, 0, epoch)));
        }
    };
    let mut offset = HEADER_BYTES;
    while let Some(rest) = bytes.get(offset..)
        && let Ok(frame) = format::frame(rest, epoch)
    {
        let follows = if header.salvaged {
            frame.seq > segment.last_seq
        } else {
            frame.seq == segment.last_seq + 1
        };
        if !follows {
            break;
        }
        mark(&mut segment.marks, frame.seq, offset as u64);
        segment.last_seq = frame.seq;
        offset += frame.bytes;
    }
    segment.bytes = offset as u64;
    let end = end(bytes, offset, segment.last_seq, epoch);
    Ok((segment, end))
}

fn end(bytes: &[u8], offset: usize, last_seq: u64, epoch: &[u8; 16]) -> End {
    if bytes.len() <= offset {
        // An empty file lacks even its header.
        return if offset == 0 { End::Torn } else { End::Clean };
    }
    let mut at = offset;
    while let Some((found, frame)) = format::find_frame(bytes, at, epoch) {
        // A disk may write the parts of a group in any order; but the group behind began only when
        // the one before was durable. A header is durable before any frame.
        if offset == 0 || frame.group_seq > last_seq + 1 {
            return End::Damaged { next_seq: frame.seq.max(last_seq) };
        }
        at = found + frame.bytes;
    }
    End::Torn
}

/// Reads on where the last read ended; opens the file anew only for another segment.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    epoch: [u8; 16],
    /// The next frame.
    next: Position,
}

impl Reader {
    /// A reader of `segment` at `start` or before it, re-using the last one where it fits.
    pub(super) fn at(
        last: Option<Self>,
        segment: &Segment,
        start: u64,
        epoch: [u8; 16],
    ) -> Result<Self, SpoolError> {
        let last = last.filter(|last| last.path == segment.path);
        if let Some(last) = last {
            if last.next.seq == start {
                return Ok(last);
            }
            return Ok(Self { next: before(segment, start), ..last });
        }
        let path = segment.path.clone();
        let file = File::open(&path).map_err(|error| io(error, "open", &path))?;
        Ok(Self { file, path, epoch, next: before(segment, start) })
    }

    /// Records from the first one at or after `start`, and its seq. They end at a jump of the
    /// numbering and at the end of the segment.
    pub(super) fn read(
        &mut self,
        segment: &Segment,
        start: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<(u64, Vec<Vec<u8>>), SpoolError> {
        let mut records: Vec<Vec<u8>> = Vec::new();
        let mut first_seq = None;
        let mut record_bytes = 0;
        let mut buffer = Vec::new();
        let mut at = 0;
        while self.next.offset < segment.bytes {
            let rest = buffer.get(at..).unwrap_or_default();
            let frame = match format::frame(rest, &self.epoch) {
                Ok(frame) => frame,
                Err(FrameError::Short) if self.more(&buffer, at, segment) => {
                    buffer.drain(..at);
                    at = 0;
                    match self.fill(&mut buffer, segment) {
                        Ok(()) => continue,
                        Err(error) => return before_error(first_seq, records, error),
                    }
                }
                Err(_) => return before_error(first_seq, records, self.corrupt(segment)),
            };
            if frame.seq >= start {
                let first = *first_seq.get_or_insert(frame.seq);
                let is_full = record_bytes + frame.record.len() > max_bytes && !records.is_empty();
                let jumps = frame.seq != first + records.len() as u64;
                if jumps || is_full || records.len() >= max_records.max(1) {
                    self.next.seq = frame.seq;
                    return Ok((first, records));
                }
                record_bytes += frame.record.len();
                records.push(frame.record.to_vec());
            }
            self.next =
                Position { seq: frame.seq + 1, offset: self.next.offset + frame.bytes as u64 };
            at += frame.bytes;
        }
        Ok((first_seq.unwrap_or(segment.last_seq + 1), records))
    }

    /// Whether the file holds bytes of this segment behind the buffer.
    fn more(&self, buffer: &[u8], at: usize, segment: &Segment) -> bool {
        self.next.offset + ((buffer.len() - at) as u64) < segment.bytes
    }

    fn fill(&self, buffer: &mut Vec<u8>, segment: &Segment) -> Result<(), SpoolError> {
        let offset = self.next.offset + buffer.len() as u64;
        let left = usize::try_from(segment.bytes - offset).unwrap_or(usize::MAX);
        let kept = buffer.len();
        buffer.resize(kept + left.min(READ_BYTES), 0);
        let space = buffer.get_mut(kept..).unwrap_or_default();
        let read =
            self.file.read_at(space, offset).map_err(|error| io(error, "read", &self.path))?;
        buffer.truncate(kept + read);
        // Shorter than what was written to it.
        if read == 0 { Err(self.corrupt(segment)) } else { Ok(()) }
    }

    fn corrupt(&self, segment: &Segment) -> SpoolError {
        SpoolError::Corrupt {
            path: self.path.clone(),
            offset: self.next.offset,
            first_seq: self.next.seq,
            last_seq: Some(segment.last_seq),
        }
    }
}

/// What is in front of damage is still good; the next read meets the damage itself.
fn before_error(
    first_seq: Option<u64>,
    records: Vec<Vec<u8>>,
    error: SpoolError,
) -> Result<(u64, Vec<Vec<u8>>), SpoolError> {
    first_seq.map(|first_seq| (first_seq, records)).ok_or(error)
}

/// The last known position at or before `start`.
fn before(segment: &Segment, start: u64) -> Position {
    let after = segment.marks.partition_point(|mark| mark.seq <= start);
    let known = after.checked_sub(1).and_then(|index| segment.marks.get(index));
    known.copied().unwrap_or(Position { seq: segment.first_seq, offset: HEADER_BYTES as u64 })
}

/// Records a segment of the largest size can hold behind `offset`: how far numbering must go on
/// when nobody knows where it ended.
pub(super) fn records_behind(offset: u64) -> u64 {
    SEGMENT_BYTES_MAX.saturating_sub(offset) / format::FRAME_BYTES_MIN + 1
}

const _: () = assert!(FRAME_BYTES < READ_BYTES);
