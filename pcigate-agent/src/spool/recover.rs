//! Opening a spool: making a new one, and recovering from whatever ended the last run.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pcigate_proto::record::RECORD_BYTES_MAX;
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};

use super::cursor::Cursor;
use super::error::{SpoolError, io, write_error};
use super::format::{FRAME_BYTES, HEADER_BYTES, SEQ_MAX};
use super::segment::{self, End, Segment};
use super::{Limits, SEGMENT_BYTES_MAX, Spool};

pub(super) fn open(dir: &Path, limits: Limits) -> Result<Spool, SpoolError> {
    check(limits)?;
    crate::atomic_file::make_dir(dir)
        .map_err(|(error, path)| io(error, "make, or make durable, the directory", &path))?;
    let lock = lock(dir)?;
    let files = segment_files(dir)?;
    let is_new = files.is_empty();
    let mut epoch = epoch(dir, is_new)?;
    let mut cursor = Cursor::open(dir, epoch)?;
    if is_new && cursor.newest() == 0 {
        // Numbers may have been given under this epoch, and everything deleted but its name.
        epoch = make_epoch(dir)?;
        cursor = Cursor::open(dir, epoch)?;
    }
    let (files, left_over) = without_left_over(files, &epoch, &cursor)?;
    for path in left_over {
        std::fs::remove_file(&path).map_err(|error| io(error, "delete", &path))?;
    }
    let mut segments = segments(files, &epoch, &cursor)?;
    let last_seq = segments.back().map_or(0, |segment| segment.last_seq);
    let newest_first = segments.back().map_or(0, |segment| segment.first_seq);
    // The cursor is durable before any frame: it was deleted, and a segment may be gone as well.
    let no_cursor = cursor.newest() == 0 && (last_seq > 0 || newest_first > 1);
    let is_behind = newest_first < cursor.newest()
        || last_seq < cursor.acked()
        || last_seq < cursor.durable()
        || no_cursor;
    let (active, next_seq) = if newest_first == 0 || is_behind {
        let next_seq = behind_missing_newest(&cursor, newest_first, last_seq);
        let (segment, file) = segment::create(dir, &epoch, next_seq)?;
        cursor.set_newest(next_seq)?;
        segments.push_back(segment);
        (file, next_seq)
    } else {
        (active(segments.back(), dir)?, last_seq + 1)
    };
    if let Some(newest) = segments.back() {
        settle(dir, newest, &active, &mut cursor)?;
    }
    let used_bytes = segments.iter().map(|segment| segment.bytes).sum();
    Ok(Spool {
        dir: dir.to_owned(),
        limits,
        epoch,
        place: place(dir)?,
        cursor,
        segments,
        active,
        staged: Vec::new(),
        staged_marks: Vec::new(),
        next_seq,
        durable_seq: next_seq - 1,
        used_bytes,
        reader: None,
        held: false,
        unnamed: false,
        #[cfg(test)]
        fail_write_after: None,
        _lock: lock,
    })
}

fn check(limits: Limits) -> Result<(), SpoolError> {
    let Limits { total_bytes, segment_bytes, reserve_bytes } = limits;
    let frame = (HEADER_BYTES + FRAME_BYTES + RECORD_BYTES_MAX) as u64;
    let sensible = (frame..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
        && segment_bytes <= total_bytes / 4
        && reserve_bytes <= total_bytes / 4;
    if sensible {
        Ok(())
    } else {
        Err(SpoolError::Limits { total_bytes, segment_bytes, reserve_bytes })
    }
}

/// Takes the spool for this process, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| io(error, "open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error, "lock", &path)),
    }
}

/// Segments in the directory by first seq, in order. Other files are none of our business.
pub(super) fn segment_files(dir: &Path) -> Result<Files, SpoolError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| io(error, "list", dir))? {
        let path = entry.map_err(|error| io(error, "list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let first_seq = name.strip_suffix(".seg").and_then(|seq| seq.parse().ok()).unwrap_or(0);
        if (1..=SEQ_MAX).contains(&first_seq) && name == segment::file_name(first_seq) {
            files.push((first_seq, path));
        }
    }
    files.sort();
    Ok(files)
}

/// The spool's epoch; made where there is none and `may_make` says that nothing hangs on it.
pub(super) fn epoch(dir: &Path, may_make: bool) -> Result<[u8; 16], SpoolError> {
    let path = dir.join("epoch");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mut epoch = [0; 16];
            match hex::decode_to_slice(text.trim_end(), &mut epoch) {
                Ok(()) => Ok(epoch),
                Err(_) => Err(lost_epoch(path, "it does not hold 32 hex digits")),
            }
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(error, "read", &path)),
        Err(_) if !may_make => Err(lost_epoch(path, "it is missing, but there are segments")),
        Err(_) => make_epoch(dir),
    }
}

/// See [`Spool::place`].
fn place(dir: &Path) -> Result<[u8; 16], SpoolError> {
    let path = dir.canonicalize().map_err(|error| io(error, "find the path of", dir))?;
    let mut hash = Sha256::new_with_prefix(b"pcigate spool at ");
    hash.update(path.as_os_str().as_encoded_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut place = [0; 16];
    place.copy_from_slice(hash.split_at(16).0);
    Ok(place)
}

fn make_epoch(dir: &Path) -> Result<[u8; 16], SpoolError> {
    let path = dir.join("epoch");
    let mut epoch = [0; 16];
    OsRng.fill_bytes(&mut epoch);
    crate::atomic_file::replace(&path, format!("{}\n", hex::encode(epoch)).as_bytes())
        .map_err(|error| write_error(error, &path))?;
    Ok(epoch)
}

fn lost_epoch(path: PathBuf, problem: &'static str) -> SpoolError {
    SpoolError::State {
        path,
        problem,
        remedy: "restore the file, or move the whole spool directory aside: a new spool with a \
                 new epoch is made then",
    }
}

/// Segments by first seq.
pub(super) type Files = Vec<(u64, PathBuf)>;

/// Takes out segments that were made and given up again, when their making failed half-way: no
/// frame ever went in, and the one before went on with their numbers.
pub(super) fn without_left_over(
    files: Files,
    epoch: &[u8; 16],
    cursor: &Cursor,
) -> Result<(Files, Vec<PathBuf>), SpoolError> {
    let (mut kept, mut left_over) = (Files::new(), Vec::new());
    for (first_seq, path) in files {
        let length = std::fs::metadata(&path).map_err(|error| io(error, "look at", &path))?.len();
        let before = kept.last().filter(|_| length <= HEADER_BYTES as u64);
        let Some((before_seq, before)) = before else {
            kept.push((first_seq, path));
            continue;
        };
        let (segment, _) = segment::scan(before, &segment::load(before)?, *before_seq, epoch)?;
        let is_named = (1..=cursor.newest()).contains(&first_seq);
        if segment.last_seq >= first_seq || (!is_named && cursor.newest() > 0) {
            left_over.push(path);
        } else {
            kept.push((first_seq, path));
        }
    }
    Ok((kept, left_over))
}

fn segments(
    files: Files,
    epoch: &[u8; 16],
    cursor: &Cursor,
) -> Result<VecDeque<Segment>, SpoolError> {
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut files = files.into_iter().peekable();
    while let Some((first_seq, path)) = files.next() {
        let next_first = next_first(files.peek(), first_seq, cursor);
        if next_first.is_some_and(|next| next - 1 <= cursor.acked()) {
            std::fs::remove_file(&path).map_err(|error| io(error, "delete", &path))?;
            continue;
        }
        let bytes = segment::load(&path)?;
        let (segment, end) = segment::scan(&path, &bytes, first_seq, epoch)?;
        match judge(&segment, end, next_first, cursor, bytes.len()) {
            Judgement::Whole => segments.push_back(segment),
            Judgement::CutOff => {
                let cut_bytes = bytes.len() as u64 - segment.bytes;
                tracing::warn!(file = %path.display(), cut_bytes, "cut off an unfinished write");
                cut(&segment)?;
                segments.push_back(segment);
            }
            Judgement::NeverBegun => {
                std::fs::remove_file(&path).map_err(|error| io(error, "delete", &path))?;
            }
            Judgement::Corrupt { last_seq } => {
                let (offset, first_seq) = (segment.bytes, segment.last_seq + 1);
                return Err(SpoolError::Corrupt { path, offset, first_seq, last_seq });
            }
        }
    }
    Ok(segments)
}

/// Where the segment behind this one begins, be it there or known to the cursor only.
pub(super) fn next_first(
    next: Option<&(u64, PathBuf)>,
    first_seq: u64,
    cursor: &Cursor,
) -> Option<u64> {
    let missing = Some(cursor.newest()).filter(|newest| *newest > first_seq);
    next.map(|(next_first, _)| *next_first).or(missing)
}

/// What recovery makes of a scanned segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Whole,
    /// Behind the last valid frame lies a write that was never durable.
    CutOff,
    /// Not even its header was durable.
    NeverBegun,
    /// Bytes that were durable are gone; `last_seq` is the last number at stake, where known.
    Corrupt {
        last_seq: Option<u64>,
    },
}

pub(super) fn judge(
    segment: &Segment,
    end: End,
    next_first: Option<u64>,
    cursor: &Cursor,
    file_bytes: usize,
) -> Judgement {
    if let Some(next) = next_first {
        return if end == End::Clean && segment.last_seq < next {
            Judgement::Whole
        } else {
            Judgement::Corrupt { last_seq: Some(next - 1) }
        };
    }
    let promised = cursor.acked().max(cursor.durable());
    let lost_promised = segment.last_seq < promised;
    let at_stake = Some(promised).filter(|promised| *promised > cursor.acked());
    match end {
        End::Damaged { next_seq } => Judgement::Corrupt { last_seq: Some(next_seq - 1) },
        // No longer than a header: without a cursor, nothing else tells it from a destroyed one.
        End::Torn
            if segment.bytes == 0
                && cursor.newest() < segment.first_seq
                && (cursor.newest() > 0 || file_bytes <= HEADER_BYTES) =>
        {
            Judgement::NeverBegun
        }
        End::Torn if segment.bytes == 0 => Judgement::Corrupt { last_seq: None },
        End::Clean | End::Torn if lost_promised => Judgement::Corrupt { last_seq: at_stake },
        End::Torn => Judgement::CutOff,
        End::Clean => Judgement::Whole,
    }
}

fn cut(segment: &Segment) -> Result<(), SpoolError> {
    let file = OpenOptions::new().write(true).open(&segment.path);
    file.and_then(|file| {
        file.set_len(segment.bytes)?;
        file.sync_all()
    })
    .map_err(|error| io(error, "cut off the end of", &segment.path))
}

fn active(newest: Option<&Segment>, dir: &Path) -> Result<File, SpoolError> {
    let path = newest.map_or(dir, |segment| segment.path.as_path());
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| io(error, "open for writing", path))
}

/// Makes durable what was found: the process before may have died between a write and its sync.
/// What is not known to be durable is written again, because a sync that failed before leaves
/// bytes in the page cache that no later sync writes.
fn settle(
    dir: &Path,
    newest: &Segment,
    active: &File,
    cursor: &mut Cursor,
) -> Result<(), SpoolError> {
    let failed = |error| write_error(error, &newest.path);
    if newest.last_seq > cursor.durable() || newest.last_seq < newest.first_seq {
        let bytes = segment::load(&newest.path)?;
        let known = newest.marks.iter().rfind(|mark| mark.seq <= cursor.durable());
        let from = known.map_or(0, |mark| usize::try_from(mark.offset).unwrap_or(0));
        let rest = bytes.get(from..).unwrap_or_default();
        active.write_all_at(rest, from as u64).map_err(failed)?;
    }
    active.sync_data().and_then(|()| File::open(dir)?.sync_all()).map_err(failed)?;
    cursor.set_newest(newest.first_seq)?;
    cursor.note_durable(newest.last_seq)
}

/// The number to go on with when the newest segment is not there.
fn behind_missing_newest(cursor: &Cursor, newest_first: u64, last_seq: u64) -> u64 {
    let newest = cursor.newest().max(newest_first);
    let behind = if newest == 0 { 1 } else { newest + segment::records_behind(0) };
    behind.max(last_seq + 1).max(cursor.acked() + 1).max(cursor.durable() + 1)
}
