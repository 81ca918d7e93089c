//! Ways out of a governed workload, each as a function that takes it and says how far it came.
//!
//! `pcigate-attack` runs one of them, `tests/kernel/bypass.rs` all of them, outside of the governed
//! cgroup (where each must get through, or the kernel lacks it) and inside.

pub mod calls;
mod carried;
pub mod links;
mod network;
mod node;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::errno::Errno;

pub use carried::{PASS, pass};

/// How long something may take that a packet filter may have swallowed.
const SILENT_AFTER_MS: u16 = 1500;

/// Where an attack stopped, and by which errno; `ETIMEDOUT` where nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The step that was refused.
    pub step: &'static str,
    /// How.
    pub errno: Errno,
}

/// Got through, or stopped.
pub type Tried = Result<(), Stopped>;

/// Which policy an attack is tried under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Under {
    /// Egress and ingress are denied by default; only the scene's decoy address is open.
    Closed,
    /// Egress is allowed by default.
    Open,
    /// No policy selects the workload.
    Unselected,
}

/// When an attack enters the governed cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// Before it begins, and with a fresh program, as a container's does.
    First,
    /// In its midst: it brings something along.
    Itself,
}

/// One way out.
#[derive(Clone, Copy)]
pub struct Vector {
    /// Its name in docs/bypass.md.
    pub name: &'static str,
    /// The policy it is tried under.
    pub under: Under,
    /// When it enters the governed cgroup.
    pub joins: Joins,
    /// The capability of Coverage records and `doctor` that names it where it is open.
    pub named: &'static str,
    /// Takes it.
    pub take: fn(&Scene) -> Tried,
}

/// Every way out that is known to us.
#[must_use]
pub fn vectors() -> Vec<Vector> {
    [network::VECTORS, carried::VECTORS, node::VECTORS].concat()
}

impl Vector {
    /// Takes it, with the words of a scene; does not return where a fresh program goes on with it.
    pub fn run(&self, words: Vec<String>) -> Tried {
        let scene = Scene::of(words.iter().cloned());
        if self.joins == Joins::Itself || !scene.words.contains_key("cgroup") {
            return (self.take)(&scene);
        }
        scene.join()?;
        let rest = words.into_iter().filter(|word| !word.starts_with("cgroup="));
        let own = step("join", std::env::current_exe())?;
        step("join", Err(Command::new(own).arg(self.name).args(rest).exec()))
    }
}

/// What an attack finds around it.
pub struct Scene {
    words: BTreeMap<String, String>,
}

impl Scene {
    /// From `key=value` words.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = String>) -> Self {
        let pair = |word: String| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        Self { words: words.into_iter().filter_map(pair).collect() }
    }

    /// A word of the scene.
    ///
    /// # Panics
    /// The test does not give it.
    #[must_use]
    pub fn word(&self, key: &str) -> &str {
        self.words.get(key).unwrap_or_else(|| panic!("the scene has no `{key}`"))
    }

    fn path(&self, key: &str) -> PathBuf {
        PathBuf::from(self.word(key))
    }

    fn address(&self, key: &str) -> SocketAddr {
        self.word(key).parse().expect("an address with a port")
    }

    fn number(&self, key: &str) -> i32 {
        self.word(key).parse().expect("a number")
    }

    /// Enters the governed cgroup, where there is one.
    fn join(&self) -> Tried {
        match self.words.get("cgroup") {
            None => Ok(()),
            Some(cgroup) => enter(Path::new(cgroup)),
        }
    }
}

fn enter(cgroup: &Path) -> Tried {
    step("join", fs::write(cgroup.join("cgroup.procs"), "0"))
}

/// Names a step that failed.
fn step<T>(step: &'static str, result: Result<T, impl Into<std::io::Error>>) -> Result<T, Stopped> {
    result.map_err(|error| {
        let number = error.into().raw_os_error().unwrap_or(0);
        Stopped { step, errno: Errno::from_raw(number) }
    })
}
