//! What the pages look at: the running parts, and what the thread that governs has published last.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::metrics;
use crate::{
    beat::Beat,
    exporter::Progress,
    gateway::{Live, Timings},
    recorder::{RecorderHandle, lock},
    spool::Spool,
};

/// How long the agent's own threads may be silent: they look every few milliseconds, and every
/// quarter of a second.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// How often what is known is published, unless it is the first time.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The parts of an agent that enforces, to look at from other threads.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What was recorded and lost.
    pub recorder: RecorderHandle,
    /// What waits for the collector.
    pub spool: Arc<Mutex<Spool>>,
    /// What the collector has; `None` without one.
    pub exporter: Option<Progress>,
    /// Of the thread that reads the rings.
    pub pipeline: Beat,
    /// Gated sessions under way.
    pub live: Arc<Live>,
    /// What statements wait for.
    pub timings: Timings,
}

/// What the thread that governs knows after a look. Numbers, and sentences that name no pod.
#[derive(Clone, Debug, Default)]
pub struct Governed {
    /// The policies in force.
    pub policies: Policies,
    /// Who is there.
    pub workloads: WorkloadCounts,
    /// Workloads or tables that are not as the policies say; each has a line in the log.
    pub failures: usize,
    /// Network namespaces the gateway listens in.
    pub networks: usize,
    /// Network namespaces it could not listen in, so that gated connections there are refused.
    pub unheard: usize,
    /// How the source of workloads is doing.
    pub source: SourceState,
    /// Grants in force.
    pub grants: usize,
    /// By capability, how many things of it this node does not do.
    pub missing: BTreeMap<&'static str, usize>,
}

/// The policies in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// SHA-256 over all of them, in hexadecimal digits.
    pub hash: String,
    /// Policies.
    pub policies: usize,
    /// Targets.
    pub targets: usize,
    /// Distinct sets of policies that were compiled for the kernel.
    pub compiled: usize,
    /// How often documents were read.
    pub readings: Readings,
}

/// How often documents were read since the start, and how that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Taken.
    pub taken: u64,
    /// Refused for their mistakes; those before stayed in force.
    pub refused: u64,
    /// Whether the last ones were refused.
    pub last_refused: bool,
}

/// How many pods are what; containers of one are counted with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// Governed by the policies that select them.
    pub governed: usize,
    /// Governed by none.
    pub exempt: usize,
    /// Refused everything, because too little of them is kept.
    pub refused: usize,
    /// They have a cgroup, and no source names them.
    pub unknown: usize,
}

/// How the source of workloads is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Why it cannot be known who is there; empty where it is.
    pub unknown: &'static str,
    /// For the API server.
    pub api_server: Option<ApiServer>,
}

/// How the API server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Whether it tells what happens.
    pub answers: bool,
    /// When it last told something of this node's pods and of namespaces; `None` = never.
    pub heard: Option<Instant>,
}

/// What the pages look at; cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    stage: Mutex<Stage>,
    looked: Beat,
    governed: Mutex<Option<(Instant, Governed)>>,
}

#[derive(Debug)]
enum Stage {
    Starting,
    Enforcing(Box<Watched>),
    Stopping,
}

/// A part and whether it is as it should be.
type Part = (&'static str, Result<(), String>);

impl Board {
    /// An agent that starts.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            stage: Mutex::new(Stage::Starting),
            looked: Beat::new(),
            governed: Mutex::default(),
        }))
    }

    /// The programs are attached.
    pub fn enforcing(&self, watched: Watched) {
        *lock(&self.0.stage) = Stage::Enforcing(Box::new(watched));
    }

    /// The agent has been told to stop; what it has pinned goes on enforcing.
    pub fn stopping(&self) {
        *lock(&self.0.stage) = Stage::Stopping;
    }

    /// The thread that governs has looked. Whether it is time to publish what it found.
    #[must_use]
    pub fn looked(&self) -> bool {
        self.0.looked.now();
        let governed = lock(&self.0.governed);
        governed.as_ref().is_none_or(|(at, _)| at.elapsed() >= PUBLISH_EVERY)
    }

    /// What it found.
    pub fn publish(&self, governed: Governed) {
        *lock(&self.0.governed) = Some((Instant::now(), governed));
    }

    /// Whether the process can still do its work; "no" calls for a restart.
    pub(super) fn health(&self) -> (bool, String) {
        let stage = lock(&self.0.stage);
        let Stage::Enforcing(watched) = &*stage else { return (true, "ok\n".to_owned()) };
        let moving = |what: &str, beat: &Beat| match beat.age() {
            age if age <= SILENT_MAX => None,
            age => Some(format!("{what} has not moved for {} s; see the log\n", age.as_secs())),
        };
        let ended = (!watched.recorder.is_running()).then(|| "the recorder has ended\n".to_owned());
        let wrong = [
            moving("the reader of the kernel's rings", &watched.pipeline),
            moving("the thread that governs", &self.0.looked),
            ended,
        ];
        let wrong: String = wrong.into_iter().flatten().collect();
        if wrong.is_empty() { (true, "ok\n".to_owned()) } else { (false, wrong) }
    }

    /// Whether it enforces, one line a part; then parts that change nothing about that.
    pub(super) fn readiness(&self) -> (bool, String) {
        let parts = self.parts();
        let ready = parts.iter().all(|(_, state)| state.is_ok());
        let mut text = String::new();
        for (part, state) in &parts {
            let state = state.as_ref().map_or_else(String::as_str, |()| "ok");
            // Into memory.
            let _ = writeln!(text, "{part}: {state}");
        }
        text += &self.remarks();
        (ready, text)
    }

    pub(super) fn metrics(&self) -> Result<String, std::fmt::Error> {
        let ready = self.parts().iter().all(|(_, state)| state.is_ok());
        let governed = lock(&self.0.governed).as_ref().map(|(_, governed)| governed.clone());
        let watched = match &*lock(&self.0.stage) {
            Stage::Enforcing(watched) => Some(Watched::clone(watched)),
            Stage::Starting | Stage::Stopping => None,
        };
        let looked = self.0.looked.age();
        metrics::text(&metrics::Seen {
            running: self.0.began.elapsed(),
            ready,
            looked,
            watched,
            governed: governed.unwrap_or_default(),
        })
    }

    /// What "enforcing" takes.
    fn parts(&self) -> [Part; 3] {
        let programs = match &*lock(&self.0.stage) {
            Stage::Enforcing(_) => Ok(()),
            Stage::Starting => Err("not attached yet, the agent starts".to_owned()),
            Stage::Stopping => Err("the agent stops; what it has pinned goes on".to_owned()),
        };
        let silent = self.0.looked.age();
        let governed = lock(&self.0.governed);
        let (policies, workloads) = match &*governed {
            None => {
                let not_yet = || Err("not looked at yet".to_owned());
                (not_yet(), not_yet())
            }
            Some(_) if silent > SILENT_MAX => {
                let old = || Err(format!("nobody has looked for {} s", silent.as_secs()));
                (old(), old())
            }
            Some((_, governed)) => (in_maps(governed), known(&governed.source)),
        };
        [("programs", programs), ("policies", policies), ("workloads", workloads)]
    }

    /// Parts whose trouble does not end enforcement.
    fn remarks(&self) -> String {
        let mut text = String::new();
        if let Some((_, governed)) = &*lock(&self.0.governed) {
            let mut remark = |part: &str, wrong: Option<String>| {
                let _ = writeln!(text, "{part}: {}", wrong.unwrap_or_else(|| "ok".to_owned()));
            };
            let refused = "documents with mistakes are refused; those before stay in force";
            let wrong = governed.policies.readings.last_refused.then(|| refused.to_owned());
            remark("documents", wrong);
            let unheard = governed.unheard;
            let wrong = (unheard > 0).then(|| format!("{unheard} network namespaces without it"));
            remark("gateway", wrong);
            if let Some(server) = governed.source.api_server {
                let wrong = "does not answer; pods stay as last known".to_owned();
                remark("api-server", (!server.answers).then_some(wrong));
            }
        }
        let stage = lock(&self.0.stage);
        if let Stage::Enforcing(watched) = &*stage {
            let room = lock(&watched.spool).has_room();
            text += if room { "spool: ok\n" } else { "spool: full; what needs evidence waits\n" };
            if let Some(exporter) = &watched.exporter {
                let connected = exporter.counters().connected;
                text += if connected { "collector: ok\n" } else { "collector: not connected\n" };
            }
        }
        text
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

fn in_maps(governed: &Governed) -> Result<(), String> {
    match governed.failures {
        0 => Ok(()),
        many => Err(format!("{many} are not in the kernel as they should be; see the log")),
    }
}

fn known(source: &SourceState) -> Result<(), String> {
    if source.unknown.is_empty() { Ok(()) } else { Err(source.unknown.to_owned()) }
}
