//! Sets damaged segments aside and keeps what can still be read of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::error::{SpoolError, io, write_error};
use super::format::{self, HEADER_BYTES, Header};
use super::recover::{self, Judgement};
use super::segment::{self, Segment};

/// A damaged file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where the damaged file is now.
    pub file: PathBuf,
    /// Records that could be kept.
    pub kept: u64,
    /// Numbers that are gone, where frames or segments around them tell: (first, last).
    pub missing: Vec<(u64, u64)>,
    /// First of the numbers whose existence nobody can tell, with the last possible one.
    pub unknown: Option<(u64, u64)>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was set aside; {} of its records are kept", self.file.display(), self.kept)?;
        for (first, last) in &self.missing {
            write!(f, "; {first} to {last} are gone")?;
        }
        if let Some((first, last)) = self.unknown {
            write!(
                f,
                "; {first} to {last} are reported as a gap, because nobody can tell how many \
                       of them existed"
            )?;
        }
        Ok(())
    }
}

/// Repairs the spool in `dir` that [`super::Spool::open`] refuses as damaged: each damaged segment
/// is kept as `FILE.corrupt`, a segment with its readable records takes its place, and reading
/// reports the others as a hole. Changes nothing where nothing is damaged. May be run again after a
/// crash.
///
/// # Errors
/// The spool is in use, is not damaged but of another version or epoch, or the disk fails.
pub fn set_aside_corrupt(dir: &Path) -> Result<Vec<SetAside>, SpoolError> {
    let _lock = recover::lock(dir)?;
    let files = recover::segment_files(dir)?;
    let epoch = recover::epoch(dir, files.is_empty())?;
    let mut cursor = Cursor::open(dir, epoch)?;
    let mut done = Vec::new();
    let (files, _) = recover::without_left_over(files, &epoch, &cursor)?;
    let mut files = files.into_iter().peekable();
    while let Some((first_seq, path)) = files.next() {
        let next_first = recover::next_first(files.peek(), first_seq, &cursor);
        if next_first.is_some_and(|next| next - 1 <= cursor.acked()) {
            continue;
        }
        let bytes = segment::load(&path)?;
        let (segment, end) = segment::scan(&path, &bytes, first_seq, &epoch)?;
        let judgement = recover::judge(&segment, end, next_first, &cursor, bytes.len());
        if !matches!(judgement, Judgement::Corrupt { .. }) {
            continue;
        }
        let limit = next_first.unwrap_or(u64::MAX);
        let kept = Kept::from(&bytes, &segment, limit, &epoch);
        let next = match next_first {
            Some(next) => next,
            None => begin_next(dir, &epoch, &kept, &mut cursor)?,
        };
        let mut set_aside = kept.put_in_place(&path, first_seq, next_first, &epoch)?;
        if next_first.is_none() {
            set_aside.unknown = Some((kept.next_seq, next - 1));
        }
        done.push(set_aside);
    }
    Ok(done)
}

/// The frames of a damaged segment that still check out.
struct Kept {
    /// By seq: the bytes of the frame.
    frames: BTreeMap<u64, Vec<u8>>,
    /// Behind the last frame.
    next_seq: u64,
}

impl Kept {
    fn from(bytes: &[u8], segment: &Segment, limit: u64, epoch: &[u8; 16]) -> Self {
        let mut frames = BTreeMap::new();
        let mut offset = HEADER_BYTES.min(usize::try_from(segment.bytes).unwrap_or(HEADER_BYTES));
        while let Some((found, frame)) = format::find_frame(bytes, offset, epoch) {
            if (segment.first_seq..limit).contains(&frame.seq) {
                let whole = bytes.get(found..found + frame.bytes).unwrap_or_default();
                frames.entry(frame.seq).or_insert_with(|| whole.to_vec());
            }
            offset = found + frame.bytes;
        }
        let next_seq = frames.keys().next_back().map_or(segment.first_seq, |last| last + 1);
        Self { frames, next_seq }
    }

    /// Puts a segment of these frames in the place of `path`, which stays as `*.corrupt`.
    fn put_in_place(
        &self,
        path: &Path,
        first_seq: u64,
        next_first: Option<u64>,
        epoch: &[u8; 16],
    ) -> Result<SetAside, SpoolError> {
        let aside = link_aside(path)?;
        let mut content = Header { epoch: *epoch, first_seq, salvaged: true }.to_bytes();
        for frame in self.frames.values() {
            content.extend_from_slice(frame);
        }
        crate::atomic_file::replace(path, &content).map_err(|error| write_error(error, path))?;
        let mut missing = Vec::new();
        let mut expected = first_seq;
        for seq in self.frames.keys().copied().chain(next_first) {
            if seq > expected {
                missing.push((expected, seq - 1));
            }
            expected = seq + 1;
        }
        Ok(SetAside { file: aside, kept: self.frames.len() as u64, missing, unknown: None })
    }
}

/// Begins the segment behind a damaged newest one, before that is touched: nobody knows the last
/// number it held, so numbering goes on behind the largest it could have held.
fn begin_next(
    dir: &Path,
    epoch: &[u8; 16],
    kept: &Kept,
    cursor: &mut Cursor,
) -> Result<u64, SpoolError> {
    let used: usize = kept.frames.values().map(Vec::len).sum();
    let behind = kept.next_seq + segment::records_behind((HEADER_BYTES + used) as u64);
    let next = behind.max(cursor.acked() + 1).max(cursor.durable() + 1);
    segment::create(dir, epoch, next)?;
    cursor.set_newest(next)?;
    Ok(next)
}

/// Gives the file a second name `FILE.corrupt` (or `FILE.corrupt.2`, …): whatever happens now, its
/// bytes stay.
fn link_aside(path: &Path) -> Result<PathBuf, SpoolError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut number = 1_u32;
    loop {
        let suffix = if number == 1 { String::new() } else { format!(".{number}") };
        let aside = path.with_file_name(format!("{name}.corrupt{suffix}"));
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(io(error, "keep a copy of", path)),
        }
    }
}
