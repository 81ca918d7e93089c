//! The books: how many of the kernel's records are on disk or told as lost, by ring, exact also
//! when the process is killed between any two instructions. With them the next agent knows what
//! became of every record the kernel has made.
//!
//! The file has two pages. Before a group is made durable, the page that is not valid is written
//! with the spool's number behind the group and the sums that hold then; whoever opens the books
//! takes the newest page whose number the spool has reached. A group is in the spool as a whole or
//! not at all, so one of both pages is always right. Nothing is synced: without power the rings are
//! gone, too.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::draft::{Draft, Ending, Event, LostReason, Queue};

const MAGIC: [u8; 8] = *b"pcgbook1";
/// Apart by more than a disk's sector.
const OFFSETS: [u64; 2] = [0, 4096];
const WORDS: usize = 15;
/// Magic, epoch of the spool, numbers, checksum.
const PAGE_BYTES: usize = 8 + 16 + WORDS * 8 + 4;

/// Counts by ring: events, verdicts.
pub type ByRing = [u64; 2];

/// What has become of the kernel's records since the books were opened for a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Durable records.
    pub recorded: ByRing,
    /// Told by durable Lost records, whatever the reason.
    pub lost: ByRing,
    /// Of those, the ones whose ring was full.
    pub ring_full: ByRing,
    /// Records that were in the rings twice, once of each of two generations.
    pub settled: ByRing,
    /// Losses of earlier generations that are told in this one's time.
    pub carried: ByRing,
}

impl Sums {
    /// Of so many records made, how many have neither a record nor are told as lost.
    #[must_use]
    pub fn missing(&self, made: ByRing) -> ByRing {
        let mut missing = made;
        add(&mut missing, self.carried);
        for known in [self.recorded, self.lost, self.settled] {
            for (missing, known) in missing.iter_mut().zip(known) {
                *missing = missing.saturating_sub(known);
            }
        }
        missing
    }
}

/// What the books are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// cgroup id of the governed root; 0 = nothing yet.
    pub root: u64,
    /// Generations before this one are done with.
    pub generation: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Page {
    written: u64,
    seq: u64,
    about: About,
    sums: Sums,
}

/// The open books.
#[derive(Debug)]
pub struct Books {
    file: File,
    epoch: [u8; 16],
    valid: Page,
    /// Index of the valid page.
    side: usize,
    /// What will hold when the group is durable.
    ahead: Sums,
    preparing: bool,
}

impl Books {
    /// Opens or makes the file beside a spool of this epoch that is durable up to `durable_seq`.
    ///
    /// # Errors
    /// It cannot be read or made. A page that does not check out, or is of another spool, counts
    /// as never written.
    pub fn open(path: &Path, epoch: [u8; 16], durable_seq: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(2 * OFFSETS[1]).read_to_end(&mut bytes)?;
        let pages = OFFSETS.iter().enumerate().filter_map(|(side, offset)| {
            let page = decode(bytes.get(usize::try_from(*offset).ok()?..)?, &epoch)?;
            (page.seq <= durable_seq).then_some((page, side))
        });
        let newest = pages.max_by_key(|(page, _)| (page.written, page.seq));
        let (valid, side) = newest.unwrap_or_default();
        Ok(Self { file, epoch, valid, side, ahead: valid.sums, preparing: false })
    }

    /// What they are about.
    #[must_use]
    pub fn about(&self) -> About {
        self.valid.about
    }

    /// What holds for what is durable.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.valid.sums
    }

    /// Begins anew for a generation: all before it is done with, but for losses that are `carried`
    /// over: they will be told later.
    ///
    /// # Errors
    /// A group is just being made durable (`WouldBlock`), or the file cannot be written; the books
    /// are as they were.
    pub fn begin(&mut self, about: About, carried: ByRing) -> io::Result<()> {
        if self.preparing {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sums = Sums { carried, ..Sums::default() };
        let page = Page { about, sums, ..self.valid };
        self.write(page, 1 - self.side)?;
        self.turn(page);
        self.ahead = sums;
        Ok(())
    }

    /// Records of a ring need no record.
    ///
    /// # Errors
    /// The file cannot be written; then it holds from the next group on.
    pub fn settle(&mut self, settled: ByRing) -> io::Result<()> {
        add(&mut self.valid.sums.settled, settled);
        add(&mut self.ahead.settled, settled);
        if self.preparing {
            return Ok(()); // the next group's page says it
        }
        self.write(self.valid, 1 - self.side)?;
        self.turn(self.valid);
        Ok(())
    }

    /// A draft goes into the group.
    pub(super) fn enter(&mut self, draft: &Draft) {
        let sums = &mut self.ahead;
        match &draft.event {
            Event::Lost(lost) => {
                let Some(ring) = ring_of(lost.queue) else { return };
                add(&mut sums.lost, only(ring, lost.count));
                if lost.reason == LostReason::RingFull {
                    add(&mut sums.ring_full, only(ring, lost.count));
                }
            }
            _ if draft.kernel.is_some() => {
                let ring = usize::from(draft.outcome.result != Ending::Success);
                add(&mut sums.recorded, only(ring, 1));
            }
            _ => {}
        }
    }

    /// The group is about to be made durable, up to `seq`.
    pub(super) fn prepare(&mut self, seq: u64) -> io::Result<()> {
        self.preparing = true;
        self.write(Page { seq, sums: self.ahead, ..self.valid }, 1 - self.side)
    }

    /// The group is durable, or will never be.
    pub(super) fn conclude(&mut self, durable: bool, seq: u64) {
        self.preparing = false;
        if durable {
            self.turn(Page { seq, sums: self.ahead, ..self.valid });
        } else {
            self.ahead = self.valid.sums;
        }
    }

    fn turn(&mut self, page: Page) {
        self.valid = Page { written: self.valid.written + 1, ..page };
        self.side = 1 - self.side;
    }

    /// Writes a page as the successor of the valid one.
    fn write(&self, page: Page, side: usize) -> io::Result<()> {
        let Sums { recorded, lost, ring_full, settled, carried } = page.sums;
        let About { root, generation } = page.about;
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.epoch);
        let head = [self.valid.written + 1, page.seq, root, generation, 0];
        let sums = [recorded, lost, ring_full, settled, carried];
        for word in head.iter().chain(sums.iter().flatten()) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        self.file.write_all_at(&bytes, OFFSETS.get(side).copied().unwrap_or_default())
    }
}

/// The place of a queue in [`ByRing`]; `None` for the agent's own records.
#[must_use]
pub fn ring_of(queue: Queue) -> Option<usize> {
    match queue {
        Queue::Events => Some(0),
        Queue::Verdicts => Some(1),
        Queue::Spool => None,
    }
}

fn only(ring: usize, count: u64) -> ByRing {
    if ring == 0 { [count, 0] } else { [0, count] }
}

/// Adds ring by ring.
pub fn add(sums: &mut ByRing, more: ByRing) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

fn decode(bytes: &[u8], epoch: &[u8; 16]) -> Option<Page> {
    let (body, checksum) = bytes.get(..PAGE_BYTES)?.split_at_checked(PAGE_BYTES - 4)?;
    let checksum = u32::from_le_bytes(checksum.try_into().ok()?);
    if crc32c::crc32c(body) != checksum || !body.starts_with(&MAGIC) {
        return None;
    }
    let (own, words) = body.get(8..)?.split_at_checked(16)?;
    let word =
        |at: usize| Some(u64::from_le_bytes(words.get(at * 8..)?.get(..8)?.try_into().ok()?));
    let pair = |at: usize| Some([word(at)?, word(at + 1)?]);
    (own == epoch).then_some(Page {
        written: word(0)?,
        seq: word(1)?,
        about: About { root: word(2)?, generation: word(3)? },
        sums: Sums {
            recorded: pair(5)?,
            lost: pair(7)?,
            ring_full: pair(9)?,
            settled: pair(11)?,
            carried: pair(13)?,
        },
    })
}

#[cfg(test)]
mod tests;
