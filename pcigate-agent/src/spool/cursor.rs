//! The file `acked`: what the collector has, how far the spool is durable, and which segment is
//! the newest.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::{SpoolError, io, write_error};
use super::format::{Input, SEQ_MAX};

const MAGIC: [u8; 4] = *b"pgc2";
const SLOT_BYTES: usize = 40;
/// Before the durable seq was in it.
const OLD: ([u8; 4], usize) = (*b"pgck", 32);
/// Apart by more than a disk's sector, so that no torn write hits both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];

/// The open file. It keeps the last values in memory.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    path: PathBuf,
    epoch: [u8; 16],
    generation: u64,
    values: Values,
}

#[derive(Clone, Copy, Debug, Default)]
struct Values {
    acked: u64,
    newest: u64,
    durable: u64,
}

impl Cursor {
    /// Opens or makes the file. Values are 0 where nothing was ever written.
    pub(super) fn open(dir: &Path, epoch: [u8; 16]) -> Result<Self, SpoolError> {
        let path = dir.join("acked");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io(error, "open", &path))?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(SLOT_OFFSETS[1] + SLOT_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| io(error, "read", &path))?;
        let slots = SLOT_OFFSETS.iter().filter_map(|offset| {
            let bytes = bytes.get(usize::try_from(*offset).ok()?..)?;
            slot(bytes, &epoch)
        });
        let newest_slot = slots.max_by_key(|(generation, _)| *generation);
        // Zeros are a file whose first write never reached the disk.
        if newest_slot.is_none() && bytes.iter().any(|byte| *byte != 0) {
            return Err(SpoolError::State {
                path,
                problem: "the cursor does not check out",
                remedy: "delete this file: the collector's own cursor is used instead, and what \
                         it already has is recognised",
            });
        }
        let (generation, values) = newest_slot.unwrap_or_default();
        Ok(Self { file, path, epoch, generation, values })
    }

    pub(super) fn acked(&self) -> u64 {
        self.values.acked
    }

    /// First seq of the newest segment ever begun; 0 = none.
    pub(super) fn newest(&self) -> u64 {
        self.values.newest
    }

    /// A seq that was durable once; maybe not the last.
    pub(super) fn durable(&self) -> u64 {
        self.values.durable
    }

    /// Written at once, durable with the next [`Self::sync`].
    pub(super) fn set_acked(&mut self, acked: u64) -> Result<(), SpoolError> {
        self.write(Values { acked, ..self.values })
    }

    /// Written at once, durable whenever the system writes it. Call it when `durable` is durable.
    pub(super) fn note_durable(&mut self, durable: u64) -> Result<(), SpoolError> {
        self.write(Values { durable, ..self.values })
    }

    /// Durable on return.
    pub(super) fn set_newest(&mut self, newest: u64) -> Result<(), SpoolError> {
        self.write(Values { newest, ..self.values })?;
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<(), SpoolError> {
        self.file.sync_data().map_err(|error| io(error, "sync", &self.path))
    }

    fn write(&mut self, values: Values) -> Result<(), SpoolError> {
        let generation = self.generation + 1;
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(&MAGIC);
        for value in [generation, values.acked, values.newest, values.durable] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&checksum(&bytes, &self.epoch).to_le_bytes());
        let [even, odd] = SLOT_OFFSETS;
        let offset = if generation.is_multiple_of(2) { even } else { odd };
        self.file.write_all_at(&bytes, offset).map_err(|error| write_error(error, &self.path))?;
        (self.generation, self.values) = (generation, values);
        Ok(())
    }
}

/// Generation and values of the slot `bytes` begin with, if it checks out.
fn slot(bytes: &[u8], epoch: &[u8; 16]) -> Option<(u64, Values)> {
    let mut input = Input(bytes);
    let magic: [u8; 4] = input.take()?;
    let is_old = magic == OLD.0;
    let length = if is_old { OLD.1 } else { SLOT_BYTES };
    if !is_old && magic != MAGIC {
        return None;
    }
    let (generation, acked, newest) = (input.u64()?, input.u64()?, input.u64()?);
    let durable = if is_old { 0 } else { input.u64()? };
    let sane = generation.max(acked).max(newest).max(durable) <= SEQ_MAX;
    let checks = input.u32()? == checksum(bytes.get(..length - 4)?, epoch);
    (sane && checks).then_some((generation, Values { acked, newest, durable }))
}

fn checksum(bytes: &[u8], epoch: &[u8; 16]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(epoch), bytes)
}
