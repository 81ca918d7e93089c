//! Rounds against the agent's recorder and spool: `pcigate-spool-driver` records and says what is
//! durable; whatever it said must be there when the spool is opened again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use pcigate_agent::spool::{Limits, Spool};
use pcigate_proto::{Message as _, Record, record::Event};
use sha2::{Digest, Sha256};

use super::{
    any_fault,
    program::{Program, nobody_starts},
};
use crate::{
    faults::{FaultyDisk, Random},
    program,
};

/// The smallest spool: segments change every few records.
pub const LIMITS: Limits =
    Limits { total_bytes: 400 * 1024, segment_bytes: 40 * 1024, reserve_bytes: 20 * 1024 };

/// A spool, and what was said about it.
pub struct World {
    directory: PathBuf,
    disk: FaultyDisk,
    random: Random,
    epoch: Option<[u8; 16]>,
    /// By number: SHA-256 of a record that was durable at some time.
    told: BTreeMap<u64, String>,
    /// The last number acknowledged, as far as it was told.
    acked: u64,
}

impl World {
    /// An empty disk.
    #[must_use]
    pub fn new(directory: &Path, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = FaultyDisk::mount(&directory.join("disk"), random.bits());
        let directory = directory.to_owned();
        Self { directory, disk, random, epoch: None, told: BTreeMap::new(), acked: 0 }
    }

    /// The disk, for the account of a failure.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        &self.disk
    }

    /// One round; the fault that happened.
    ///
    /// # Errors
    /// A broken promise.
    pub fn round(&mut self) -> Result<String, String> {
        let fault = any_fault(&mut self.random);
        self.disk.note(&format!("round: {fault:?}"));
        self.disk.plan(fault);
        let turns = 5 + self.random.below(60);
        let mut command = Command::new(program("pcigate-spool-driver"));
        command.arg(self.spool()).arg(turns.to_string()).arg(self.random.bits().to_string());
        let mut driver = Program::start(&mut command, &self.directory.join("driver.log"));
        self.disk.set_victim(Some(driver.pid()));
        let mut told = Run::default();
        while let Ok(line) = driver.lines.recv() {
            self.take(&line, &mut told)?;
        }
        driver.wait()?;
        let stats = self.disk.stats();
        if told.end.is_none() && stats.fired.is_none() {
            return Err(format!("the driver ended early\n{}", driver.log_end()));
        }
        told.check_losses()?;
        if self.random.chance(30) {
            self.disk.cut_power();
        }
        driver.end(Signal::SIGKILL)?;
        self.disk.restore();
        self.check()?;
        Ok(stats.fired.unwrap_or_else(|| "nothing".to_owned()))
    }

    fn spool(&self) -> PathBuf {
        self.disk.path().join("state/spool")
    }

    /// One line of the driver.
    fn take(&mut self, line: &str, run: &mut Run) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| -> Result<u64, String> {
            let word = words.get(at).and_then(|word| word.parse().ok());
            word.ok_or_else(|| format!("the driver said `{line}`"))
        };
        match words.first().copied() {
            Some("durable") => {
                let (seq, lost) = (number(1)?, number(3)?);
                let digest = words.get(2).copied().unwrap_or_default();
                if lost == 0 {
                    run.durable += 1;
                }
                run.lost_told += lost;
                self.tell(seq, digest)?;
            }
            Some("acked") => self.acked = self.acked.max(number(1)?),
            Some("end") => run.end = Some([number(1)?, number(2)?, number(3)?]),
            // With a fault; without one, the round ends with this.
            Some("refused") => self.disk.note(line),
            _ => return Err(format!("the driver said `{line}`")),
        }
        Ok(())
    }

    fn tell(&mut self, seq: u64, digest: &str) -> Result<(), String> {
        match self.told.insert(seq, digest.to_owned()) {
            Some(before) if before != digest => {
                Err(format!("number {seq} was used twice: {before} and {digest}"))
            }
            _ => Ok(()),
        }
    }

    /// Opens the spool without faults.
    fn check(&mut self) -> Result<(), String> {
        self.disk.note("check: open");
        let _alone = nobody_starts();
        let spool = Spool::open(&self.spool(), LIMITS);
        let mut spool = spool.map_err(|error| format!("the spool does not open: {error}"))?;
        if self.epoch.is_some_and(|epoch| epoch != spool.epoch()) && !self.told.is_empty() {
            return Err("the spool has another epoch".into());
        }
        self.epoch = Some(spool.epoch());
        let last_told = self.told.keys().next_back().copied().unwrap_or(0);
        if spool.next_seq() <= last_told {
            return Err(format!("{last_told} was durable, but {} comes next", spool.next_seq()));
        }
        let mut next = spool.acked_seq() + 1;
        if next > self.acked + 1 {
            return Err(format!("{} is acknowledged, but only {} was", next - 1, self.acked));
        }
        // An older cursor may ask for what is deleted: all of that was acknowledged.
        loop {
            let batch = spool.read(next, 100, 1 << 20).map_err(|error| error.to_string())?;
            if let Some(hole) = batch.hole.filter(|hole| hole.last_seq > self.acked) {
                return Err(format!("{} to {} are missing", hole.first_seq, hole.last_seq));
            }
            if batch.records.is_empty() && batch.hole.is_none() {
                break;
            }
            next = batch.first_seq;
            for record in &batch.records {
                let digest = hex::encode(Sha256::digest(record));
                let origin = Record::decode(record.as_slice()).ok().and_then(|it| it.origin);
                if origin.is_none_or(|origin| origin.seq != next) {
                    return Err(format!("record {next} has another number inside"));
                }
                self.tell(next, &digest)?;
                next += 1;
            }
        }
        if next <= last_told {
            return Err(format!("records {next} to {last_told} were durable and are gone"));
        }
        Ok(())
    }
}

/// What one run of the driver said.
#[derive(Default)]
struct Run {
    /// Records of events.
    durable: u64,
    /// Sum of the Lost records.
    lost_told: u64,
    /// Drafts handed in, drafts lost, drafts lost that no record tells of.
    end: Option<[u64; 3]>,
}

impl Run {
    /// A run that came to its end has each draft as a record or as a count.
    fn check_losses(&self) -> Result<(), String> {
        let Some([drafts, lost, unreported]) = self.end else { return Ok(()) };
        if self.durable + lost != drafts {
            return Err(format!("{drafts} drafts: {} durable, {lost} lost", self.durable));
        }
        if self.lost_told + unreported != lost {
            return Err(format!("{lost} lost: {} told, {unreported} not", self.lost_told));
        }
        Ok(())
    }
}

/// The line the driver prints for a durable record.
#[must_use]
pub fn durable_line(seq: u64, record: &[u8]) -> String {
    let event = Record::decode(record).ok().and_then(|record| record.event);
    let lost = if let Some(Event::Lost(lost)) = event { lost.count } else { 0 };
    format!("durable {seq} {} {lost}", hex::encode(Sha256::digest(record)))
}
