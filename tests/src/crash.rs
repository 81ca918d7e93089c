//! Crash proof: the real programs on a disk that fails, killed and robbed of power at random
//! storage calls, round after round. After each round: no acknowledged record is lost, none is
//! twice in an answer, the ledger verifies.
//!
//! Rounds come in worlds. A world is a disk with what runs on it ([`Kind`]), and lives for
//! [`ROUNDS_A_WORLD`] rounds, so that later rounds begin from what earlier crashes left behind.
//! The seed settles the plan (what fails, at which call), not how threads interleave.

mod agent;
pub mod check;
mod collector;
pub mod node;
pub mod program;
mod spool;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::errno::Errno;
use rand_core::RngCore as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    faults::{Call, Effect, Fault, FaultyDisk, Random},
    program,
};

pub use spool::{LIMITS, durable_line};

/// Rounds on one disk.
pub const ROUNDS_A_WORLD: u64 = 20;

/// What is crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The collector, with several nodes that send.
    Collector,
    /// The agent's recorder and spool.
    Spool,
    /// `pcigate-agent exec` with a collector, on a disk each.
    Agent,
}

/// What to do.
pub struct Options {
    /// How many rounds.
    pub rounds: u64,
    /// Settles the plan.
    pub seed: u64,
    /// Worlds at a time.
    pub jobs: usize,
    /// Only worlds of this kind.
    pub only: Option<Kind>,
    /// Where the disk of a failed world is kept.
    pub keep: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rounds done, by kind.
    pub rounds: BTreeMap<Kind, u64>,
    /// Faults that happened, by their effect.
    pub faults: BTreeMap<String, u64>,
    /// Broken promises, each with its account.
    pub broken: Vec<String>,
}

/// What all worlds share: certificates and a runtime for the nodes.
pub struct Site {
    directory: TempDir,
    runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for holder in [
            ["--server", "127.0.0.1", "collector"],
            ["--node", "node-1", "node-1"],
            ["--node", "node-2", "node-2"],
            ["--node", "node-3", "node-3"],
            ["--person", "ana@example.com", "person"],
        ] {
            let [kind, name, out] = holder;
            let mut issue = Command::new(program("pcigate-collector"));
            issue.args(["issue", "--ca-dir", "ca", kind, name, "--out", out]);
            crate::site::succeed(issue.current_dir(directory.path()));
        }
        Self { directory, runtime: Runtime::new().expect("threads") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A world of either kind.
enum World<'a> {
    Collector(Box<collector::World<'a>>),
    Spool(Box<spool::World>),
    Agent(Box<agent::World<'a>>),
}

impl World<'_> {
    fn disk(&self) -> &FaultyDisk {
        match self {
            Self::Collector(world) => world.disk(),
            Self::Spool(world) => world.disk(),
            Self::Agent(world) => world.disk(),
        }
    }

    fn round(&mut self) -> Result<String, String> {
        match self {
            Self::Collector(world) => world.round(),
            Self::Spool(world) => world.round(),
            Self::Agent(world) => world.round(),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self {
            Self::Collector(world) => world.end(),
            Self::Spool(_) | Self::Agent(_) => Ok(()),
        }
    }
}

/// Runs rounds; `progress` hears of each. Stops at the first broken promise.
///
/// # Panics
/// Not root, no FUSE, or the programs are not built.
pub fn run(options: &Options, progress: impl Fn(u64) + Sync) -> Summary {
    crate::need_root();
    let site = Site::new();
    let summary = Mutex::new(Summary::default());
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let worlds = options.rounds.div_ceil(ROUNDS_A_WORLD);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= worlds || !lock(&summary).broken.is_empty() {
                        return;
                    }
                    let first = number * ROUNDS_A_WORLD;
                    let rounds = ROUNDS_A_WORLD.min(options.rounds - first);
                    let told = |fault: &str, kind| {
                        let mut summary = lock(&summary);
                        *summary.rounds.entry(kind).or_default() += 1;
                        let effect = fault.split(" at ").next().unwrap_or(fault).to_owned();
                        *summary.faults.entry(effect).or_default() += 1;
                        drop(summary);
                        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                    };
                    if let Err(account) = world(&site, options, number, rounds, told) {
                        lock(&summary).broken.push(account);
                    }
                }
            });
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One world from its empty disk to its end.
fn world(
    site: &Site,
    options: &Options,
    number: u64,
    rounds: u64,
    told: impl Fn(&str, Kind),
) -> Result<(), String> {
    let mut random = Random::new(options.seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
    let kind = options.only.unwrap_or_else(|| {
        // Rounds of the whole agent take seconds: one world in twenty.
        match number % 20 {
            2 => Kind::Agent,
            even if even.is_multiple_of(2) => Kind::Collector,
            _ => Kind::Spool,
        }
    });
    let directory = site.path(&format!("world-{number}"));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let seed = random.bits();
    let mut world = match kind {
        Kind::Collector => {
            World::Collector(Box::new(collector::World::new(site, &directory, seed)?))
        }
        Kind::Spool => World::Spool(Box::new(spool::World::new(&directory, seed))),
        Kind::Agent => World::Agent(Box::new(agent::World::new(site, &directory, seed))),
    };
    let mut ended = Ok(());
    for round in 0..rounds {
        match world.round() {
            Ok(fault) => told(&fault, kind),
            Err(broken) => {
                ended = Err((round, broken));
                break;
            }
        }
    }
    let ended = ended.and_then(|()| world.end().map_err(|broken| (rounds, broken)));
    ended.map_err(|(round, broken)| {
        let mut account = format!("{kind:?}, world {number}, round {round}: {broken}");
        if let Some(keep) = &options.keep {
            let kept = keep_world(&world, &directory, &keep.join(format!("world-{number}")));
            account.push_str(&kept);
        }
        let calls = world.disk().stats().calls;
        let last = calls.get(calls.len().saturating_sub(80)..).unwrap_or_default();
        format!("{account}\nthe last calls:\n{}", last.join("\n"))
    })
}

fn keep_world(world: &World<'_>, directory: &Path, to: &Path) -> String {
    let kept = world.disk().copy_to(&to.join("disk")).and_then(|()| {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                fs::copy(&path, to.join(name))?;
            }
        }
        fs::write(to.join("calls"), world.disk().stats().calls.join("\n"))
    });
    match kept {
        Ok(()) => format!("\nkept in {}", to.display()),
        Err(error) => format!("\ncould not be kept in {}: {error}", to.display()),
    }
}

/// Any fault that can happen.
fn any_fault(random: &mut Random) -> Fault {
    let most = random.one_of(&[3, 10, 30, 30, 100, 300]);
    let nth = 1 + random.below(most);
    let more = random.one_of(&[0, 0, 1, 5]);
    let done = random.chance(50);
    let call = if random.chance(60) {
        Call::Change
    } else {
        random.one_of(&[
            Call::Write,
            Call::Sync,
            Call::SyncDir,
            Call::Rename,
            Call::Create,
            Call::Remove,
            Call::Resize,
            Call::Read,
            Call::Open,
        ])
    };
    match random.below(10) {
        0 | 1 => Fault { call, nth, effect: Effect::Fail { errno: Errno::EIO, more } },
        2 => Fault { call, nth, effect: Effect::Fail { errno: Errno::ENOSPC, more } },
        3 => Fault { call: Call::Write, nth, effect: Effect::Short },
        4..=6 => Fault { call, nth, effect: Effect::Kill { done } },
        _ => Fault { call, nth, effect: Effect::CutPower { done } },
    }
}

/// A seed nobody chose.
///
/// # Panics
/// The system gives no random bytes.
#[must_use]
pub fn random_seed() -> u64 {
    // Short enough to be typed again.
    u64::from(rand_core::OsRng.next_u32())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
