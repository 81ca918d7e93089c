//! From one agent to the next, without a gap in enforcement and with every record accounted for.
//!
//! Order: the earlier generations' rings are read out as far as possible, the new programs take
//! over ([`Enforcer::attach_after`]), what is left of the old ones is detached, their rings are
//! read to the end. What the kernel had made and nobody recorded is told as lost, with the reason.
//! Then the books are begun anew, and only then the old pins go. A kill at any point repeats what
//! was not finished.

mod before;
mod report;
mod twice;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    atomic_file,
    downtime::{Downtime, Heartbeat},
    draft::{Draft, Event},
    enforcer::{self, Enforcer, Generation, Reading},
    pipeline::{self, now_unix_nano},
    recorder::{
        RecorderHandle, SharedBooks,
        books::{About, Books},
        lock,
    },
    sensor::boot_clock,
    spool::Spool,
};
use twice::Twice;

pub use before::Reader;
use before::{Before, room};
pub use report::Report;

/// Records taken from a ring at a time.
const BATCH_RECORDS: usize = 4096;
/// Batches read before the takeover; under a flood the rest comes after it.
const BATCHES_BEFORE: usize = 64;
/// How long the recorder gets to make room.
const PAUSE: Duration = Duration::from_millis(1);
/// Times the books are asked to begin while the recorder is at work.
const ATTEMPTS: usize = 1000;

/// Where an agent keeps what outlives it.
#[derive(Clone, Debug)]
pub struct Survival {
    /// Directory in bpffs of the governed root.
    pub pins: PathBuf,
    /// cgroup id of the governed root.
    pub root: u64,
    /// Directory on disk.
    pub state_dir: PathBuf,
}

/// What stays with a running agent.
#[derive(Debug)]
pub struct Kept {
    heartbeat: Heartbeat,
    _reading: Reading,
}

impl Kept {
    /// This agent is alive.
    ///
    /// # Errors
    /// The heartbeat cannot be written.
    pub fn beat(&self) -> io::Result<()> {
        self.heartbeat.beat()
    }
}

/// A governed root that no other agent may take.
pub struct Claim {
    survival: Survival,
    kept: Kept,
    downtime: Option<Downtime>,
}

impl Claim {
    /// Before anything is loaded: who is refused here has changed nothing.
    ///
    /// # Errors
    /// Another agent enforces there, or bpffs or the state directory cannot be written.
    pub fn take(survival: Survival) -> anyhow::Result<Self> {
        let Some(reading) = enforcer::claim(&survival.pins)? else {
            bail!(
                "another pcigate-agent enforces with the pins in {}: stop it first",
                survival.pins.display()
            );
        };
        let state = &survival.state_dir;
        atomic_file::make_dir(&state.join("names")).map_err(|(error, path)| {
            let path = path.display();
            anyhow::Error::new(error).context(format!("cannot write {path} (stateDir)"))
        })?;
        let path = state.join("alive");
        let (heartbeat, downtime) = Heartbeat::open(&path)
            .with_context(|| format!("cannot write {} (stateDir)", path.display()))?;
        Ok(Self { survival, kept: Kept { heartbeat, _reading: reading }, downtime })
    }

    /// The newest generation there is, of any version.
    ///
    /// # Errors
    /// The pins cannot be listed.
    pub fn newest(&self) -> anyhow::Result<Option<Generation>> {
        Ok(generations(&self.survival)?.pop())
    }
}

/// A takeover under way.
pub struct Handover {
    survival: Survival,
    own: Begun,
    before: Vec<Before>,
    books: SharedBooks,
    kept: Kept,
    downtime: Option<Downtime>,
    enforced: bool,
    /// Whether the books are about what is pinned here.
    known: bool,
    began_ns: u64,
    read: u64,
}

/// The generation of this agent: gone again where it never came to enforce anything.
struct Begun(Generation);

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.0.enforces()
            && let Err(error) = self.0.remove()
        {
            tracing::warn!("pins of an agent that did not start stay behind: {error}");
        }
    }
}

impl Handover {
    /// Pins the new generation's maps and opens what is left of those before. Before any map is
    /// taken out of the enforcer.
    ///
    /// # Errors
    /// bpffs or the state directory cannot be written.
    pub fn begin(claim: Claim, enforcer: &mut Enforcer, spool: &Spool) -> anyhow::Result<Self> {
        let Claim { survival, kept, downtime } = claim;
        let path = survival.state_dir.join("books");
        let books = Books::open(&path, spool.epoch(), spool.durable_seq())
            .with_context(|| format!("cannot write {} (stateDir)", path.display()))?;
        let generations = generations(&survival)?;
        let own = Begun(enforcer.begin_generation(&survival.pins, &generations)?);
        let enforced = generations.iter().any(Generation::enforces);
        let about = books.about();
        let is_done = |generation: &Generation| {
            about.root == survival.root && generation.number < about.generation
        };
        let open = |generation| {
            let done = is_done(&generation);
            Before::open(generation, &survival, done)
        };
        let (before, never_used): (Vec<_>, Vec<_>) =
            generations.into_iter().map(open).partition(|before: &Before| before.matters());
        // Of agents that were killed before they enforced: a row of them would fill the memory.
        for before in never_used {
            before.generation.remove()?;
        }
        Ok(Self {
            own,
            before,
            books: Arc::new(Mutex::new(books)),
            kept,
            downtime,
            enforced,
            known: about.root == survival.root,
            began_ns: 0,
            read: 0,
            survival,
        })
    }

    /// For the recorder.
    #[must_use]
    pub fn books(&self) -> SharedBooks {
        Arc::clone(&self.books)
    }

    /// The file for the names of this generation.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        names(&self.survival, self.own.0.number)
    }

    /// Reads out what was left in the rings while no agent ran, then lets the new programs take
    /// over.
    ///
    /// # Errors
    /// As [`Enforcer::attach_after`].
    pub fn take_over(
        &mut self,
        enforcer: &mut Enforcer,
        cgroup: &Path,
        recorder: &RecorderHandle,
    ) -> anyhow::Result<enforcer::ExecRefusal> {
        for _ in 0..BATCHES_BEFORE {
            let count: usize =
                self.before.iter_mut().map(|before| before.read(recorder, None)).sum();
            self.read += count as u64;
            if count < BATCH_RECORDS {
                break;
            }
        }
        self.began_ns = boot_clock();
        let generations: Vec<Generation> =
            self.before.iter().map(|before| before.generation.clone()).collect();
        Ok(enforcer.attach_after(cgroup, &self.own.0, &generations)?)
    }

    /// Ends what is left of earlier generations; what the first Coverage record says of it. `new`
    /// reads the rings of this one.
    ///
    /// # Errors
    /// bpffs or the books cannot be written.
    pub fn finish(
        mut self,
        recorder: &RecorderHandle,
        new: &mut Reader,
    ) -> anyhow::Result<(Kept, Report)> {
        for before in &self.before {
            before.generation.detach()?;
        }
        enforcer::wait_for_programs();
        let mut twice = Twice::from(self.began_ns);
        for before in &mut self.before {
            loop {
                let count = before.read(recorder, Some(&mut twice));
                self.read += count as u64;
                if count == 0 {
                    break;
                }
            }
        }
        let both_until = boot_clock();
        twice.ends(both_until);
        recorder.flush()?;
        let lost = self.losses(recorder);
        let drafts = lost.iter().map(|lost| Draft::agent(now_unix_nano(), Event::Lost(*lost)));
        if let Err(error) = recorder.record_durable(drafts.collect()) {
            tracing::warn!("losses of an earlier agent are told later: {error}");
        }
        self.begin_books(recorder)?;
        self.strip(recorder, new, &mut twice, both_until);
        for before in &self.before {
            before.generation.remove()?;
        }
        self.forget_names();
        self.kept.beat()?;
        let report = self.report(&lost);
        Ok((self.kept, report))
    }

    /// Takes out of the new rings what the old programs recorded as well, and records the rest.
    fn strip(
        &self,
        recorder: &RecorderHandle,
        new: &mut Reader,
        twice: &mut Twice,
        both_until: u64,
    ) {
        while !twice.is_over()
            && let Some(room) = room(recorder)
        {
            new.sensor.drain(&mut new.batch, room.min(BATCH_RECORDS));
            new.batch.release();
            let newest = new.batch.events().last().map_or(u64::MAX, |last| last.header().time_ns);
            if let Err(error) = lock(&self.books).settle(twice.strip(&mut new.batch)) {
                tracing::warn!(%error, "the books cannot be kept: a kill would lose count");
            }
            pipeline::hand_over(&new.batch, &mut new.attribution, recorder);
            if newest > both_until {
                break;
            }
        }
    }

    fn begin_books(&self, recorder: &RecorderHandle) -> anyhow::Result<()> {
        let about = About { root: self.survival.root, generation: self.own.0.number };
        for _ in 0..ATTEMPTS {
            match lock(&self.books).begin(about, recorder.unreported()) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot write the books (stateDir)"),
            }
            recorder.flush()?;
        }
        bail!("the recorder does not come to rest, so the books of this agent cannot be begun")
    }

    /// Names of generations that are gone. What cannot be removed only takes room.
    fn forget_names(&self) {
        let directory = self.survival.state_dir.join("names");
        let keep: HashSet<PathBuf> = [self.names()].into();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !keep.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn generations(survival: &Survival) -> anyhow::Result<Vec<Generation>> {
    let pins = &survival.pins;
    enforcer::generations(pins).with_context(|| format!("cannot list {}", pins.display()))
}

fn names(survival: &Survival, generation: u64) -> PathBuf {
    survival.state_dir.join("names").join(format!("{}-{generation}.json", survival.root))
}
