//! Rounds against the whole: `pcigate-agent exec` with real kernel events and a collector, each on
//! a disk of its own; either of them is killed. When the dust has settled, every record of every
//! spool is in the ledger once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use pcigate_agent::spool::{Limits, Spool};
use pcigate_ledger::VerifierKey;

use super::{
    Site, any_fault, check, collector,
    program::{Program, nobody_starts},
};
use crate::{
    faults::{FaultyDisk, Random},
    program,
};

/// An agent and a collector.
pub struct World<'a> {
    site: &'a Site,
    directory: PathBuf,
    random: Random,
    collector: Option<Program>,
    /// Where the collector listens; it comes back there.
    address: String,
    collector_disk: FaultyDisk,
    agent_disk: FaultyDisk,
}

impl<'a> World<'a> {
    /// Empty disks.
    #[must_use]
    pub fn new(site: &'a Site, directory: &Path, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let collector_disk = FaultyDisk::mount(&directory.join("collector"), random.bits());
        let agent_disk = FaultyDisk::mount(&directory.join("disk"), random.bits());
        let (directory, address) = (directory.to_owned(), "127.0.0.1:0".to_owned());
        Self { site, directory, random, collector: None, address, collector_disk, agent_disk }
    }

    /// The agent's disk, for the account of a failure.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        &self.agent_disk
    }

    /// One round; the fault that happened.
    ///
    /// # Errors
    /// A broken promise.
    pub fn round(&mut self) -> Result<String, String> {
        self.start_collector()?;
        let fault = any_fault(&mut self.random);
        let at_agent = self.random.chance(60);
        self.agent_disk.note(&format!("round: {fault:?}, at the agent: {at_agent}"));
        if at_agent {
            self.agent_disk.plan(fault);
        } else {
            self.collector_disk.plan(fault);
        }
        let forks = 1 + self.random.below(60);
        let mut agent = self.agent(&format!("fork-exec:{forks}:/usr/bin/true"));
        self.agent_disk.set_victim(Some(agent.pid()));
        let mut fired = None;
        while agent.goes_on() {
            let collector_ends = self.collector.as_mut().is_none_or(|it| !it.is_running());
            if collector_ends || self.collector_disk.stats().without_power {
                fired = self.collector_disk.stats().fired;
                self.collector = None;
                self.collector_disk.restore();
                self.start_collector()?;
            }
        }
        agent.wait()?;
        let told = fired.or(self.agent_disk.stats().fired);
        let told = told.or(self.collector_disk.stats().fired);
        if self.random.chance(30) {
            self.agent_disk.cut_power();
        }
        self.agent_disk.restore();
        if self.random.chance(30) {
            if let Some(mut collector) = self.collector.take() {
                collector.end(Signal::SIGKILL)?;
            }
            self.collector_disk.cut_power();
        }
        if self.collector_disk.stats().without_power {
            self.collector = None;
        }
        self.collector_disk.restore();
        self.settle()?;
        Ok(told.unwrap_or_else(|| "nothing".to_owned()))
    }

    /// Another run without faults sends what is left; then everything is looked at.
    fn settle(&mut self) -> Result<(), String> {
        self.start_collector()?;
        self.agent_disk.note("settle");
        let mut agent = self.agent("exec:/usr/bin/true");
        if !agent.wait()? {
            return Err(format!("the agent does not run again:\n{}", agent.log_end()));
        }
        self.agent_disk.restore();
        let alone = nobody_starts();
        let spool = self.agent_disk.path().join("lib/exec/node-1/0/spool");
        let spool = Spool::open(&spool, Limits::default()).map_err(|error| error.to_string())?;
        if spool.acked_seq() != spool.durable_seq() {
            let (acked, durable) = (spool.acked_seq(), spool.durable_seq());
            let log = agent.log_end();
            return Err(format!("{acked} of {durable} records were sent\n{log}"));
        }
        drop((spool, alone));
        let state = collector::state(&self.collector_disk);
        let key = std::fs::read_to_string(state.join("ledger.vkey")).map_err(|e| e.to_string())?;
        let key = VerifierKey::parse(&key).map_err(|error| error.to_string())?;
        check::contiguous(&check::ledger(&state, &key)?)
    }

    fn start_collector(&mut self) -> Result<(), String> {
        if self.collector.as_mut().is_some_and(Program::is_running) {
            return Ok(());
        }
        let started =
            collector::start(self.site, &self.directory, &self.collector_disk, &self.address)?;
        let (program, url) = started.ok_or("the collector does not start")?;
        url.trim_start_matches("https://").clone_into(&mut self.address);
        self.collector = Some(program);
        Ok(())
    }

    fn agent(&self, action: &str) -> Program {
        let mut command = Command::new(program("pcigate-agent"));
        command
            .args(["exec", "--name", "payments/billing-bot", "--collector"])
            .arg(format!("https://{}", self.address))
            .arg("--tls-dir")
            .arg(self.site.path("node-1"))
            .arg("--state-dir")
            .arg(self.agent_disk.path().join("lib/exec"))
            .arg("--")
            .arg(program("pcigate-probe"))
            .arg(action)
            .current_dir(&self.directory);
        Program::start(&mut command, &self.directory.join("agent.log"))
    }
}
