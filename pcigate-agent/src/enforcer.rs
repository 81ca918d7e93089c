//! The only place (with `enforcer/`) that loads and attaches kernel programs and fills maps.
//!
//! Order of life: [`Enforcer::load`] puts programs and empty maps into the kernel, [`Tables`] makes
//! the maps equal to the compiled policies, [`Enforcer::attach`] makes it bite. A workload is in
//! the maps before the programs are attached, or it counts as unknown.

mod costs;
mod doorbell;
mod files;
mod grants;
mod kernel_link;
mod names;
mod pins;
mod programs;
mod redirects;
mod regions;
mod tables;

use std::{
    error::Error as _, fs::File, io, os::fd::AsFd, path::Path, path::PathBuf, process::Command,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{
        ProgramError,
        links::{FdLink, LinkError},
    },
};
use pcigate_common::{
    limits,
    settings::{Offsets, Settings},
};
use zerocopy::IntoBytes;

pub use costs::Cost;
pub use doorbell::Doorbell;
pub use files::FileTable;
pub use grants::{Grant, Grants};
pub use kernel_link::wait_for_programs;
pub use names::NameCounts;
pub use pins::remove as remove_pins;
pub use pins::{Counts, Generation, PINS, Pinned, Reading, claim, generations, own_abi, pinned};
pub use redirects::Redirects;
pub use tables::{TableError, Tables};

/// The object built by `build.rs`; empty where the build skipped it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pcigate.o"));

/// What to load.
pub struct Options {
    /// Field offsets of this kernel.
    pub offsets: Offsets,
    /// What to govern.
    pub settings: Settings,
    /// Sizes of the rings, bytes: powers of two and at least a page.
    pub events_ring: u32,
    /// See `events_ring`.
    pub verdicts_ring: u32,
    /// Sockets redirected to the gateway at a time.
    pub redirected: u32,
    /// Whose grants and redirected sockets go on.
    pub maps_of: Option<Generation>,
}

impl Options {
    /// The default ring sizes.
    #[must_use]
    pub fn new(offsets: Offsets, settings: Settings) -> Self {
        Self {
            offsets,
            settings,
            events_ring: limits::EVENTS_RING_BYTES,
            verdicts_ring: limits::VERDICTS_RING_BYTES,
            redirected: limits::REDIRECTED_MAX,
            maps_of: None,
        }
    }
}

/// How an exec is refused on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecRefusal {
    /// EPERM before the caller's image is given up.
    Lsm,
    /// SIGKILL before the new program's first instruction, and why no LSM.
    Kill {
        /// What this kernel lacks for the LSM.
        reason: String,
    },
}

/// Why the kernel cannot be made to enforce.
#[derive(Debug, thiserror::Error)]
pub enum EnforcerError {
    /// Built with `PCIGATE_SKIP_EBPF=1`.
    #[error(
        "this build holds no kernel programs (PCIGATE_SKIP_EBPF=1 was set): build it again without"
    )]
    NoObject,
    /// The object does not load.
    #[error(
        "cannot load the kernel programs: run as root (or with CAP_BPF, CAP_PERFMON and \
             CAP_NET_ADMIN) on Linux 5.17 or newer; `pcigate-agent doctor` tells what is missing"
    )]
    Load(#[source] Box<aya::EbpfError>),
    /// The kernel's BTF does not parse.
    #[error("cannot read the kernel's type information")]
    Btf(#[source] Box<aya::BtfError>),
    /// One program is refused.
    #[error("the kernel refuses the program `{program}`")]
    Program {
        /// Which.
        program: &'static str,
        /// What the kernel says, with the verifier's log where it has one.
        #[source]
        source: Box<ProgramError>,
    },
    /// The object lacks a map or program: it and this binary were not built together.
    #[error("the embedded kernel programs lack `{0}`: rebuild pcigate-agent")]
    Missing(&'static str),
    /// The thread that hears of new cgroups cannot be made.
    #[error("cannot start the thread that hears of new cgroups")]
    Doorbell(#[source] io::Error),
    /// The governed cgroup cannot be opened.
    #[error("cannot open the cgroup {path}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A link cannot be kept.
    #[error("cannot take the link of `{program}`")]
    Link {
        /// Which program.
        program: &'static str,
        /// Why.
        #[source]
        source: LinkError,
    },
    /// A link does not take another program.
    #[error(
        "cannot exchange the program behind {path}: if the cgroup it was made for is gone, run \
         `pcigate-agent uninstall` and start again"
    )]
    Exchange {
        /// Pin of the link.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pin cannot be made.
    #[error(
        "cannot pin into {path}: mount a writable bpffs (`mount -t bpf bpf /sys/fs/bpf`), so that \
         enforcement outlives the agent"
    )]
    Pin {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The kernel's read ends, for the sensor.
pub struct Rings {
    /// Process events.
    pub events: RingBuf<MapData>,
    /// Egress verdicts and refusals.
    pub verdicts: RingBuf<MapData>,
    /// Records that found no room, per CPU and ring.
    pub lost: PerCpuArray<MapData, u64>,
    /// All records, per CPU and ring.
    pub made: PerCpuArray<MapData, u64>,
}

/// Loaded programs; attached after [`Enforcer::attach`].
pub struct Enforcer {
    ebpf: Ebpf,
    /// The kernel's types: until the programs are attached, because they take some 9 MiB.
    btf: Option<Btf>,
    links: Vec<(&'static str, FdLink)>,
}

impl Enforcer {
    /// Loads the object with this kernel's offsets; nothing is attached yet.
    ///
    /// # Errors
    /// See [`EnforcerError`].
    pub fn load(options: &Options) -> Result<Self, EnforcerError> {
        if OBJECT.is_empty() {
            return Err(EnforcerError::NoObject);
        }
        let btf = programs::kernel_types()?;
        let cpus = u32::try_from(aya::util::nr_cpus().map_or(1, |n| n)).unwrap_or(u32::MAX);
        let mut loader = EbpfLoader::new();
        for name in pins::INHERITED {
            let pin = options.maps_of.as_ref().and_then(|earlier| earlier.map(name));
            pin.map(|pin| loader.map_pin_path(name, pin));
        }
        let ebpf = loader
            .btf(Some(&btf))
            .override_global("OFFSETS", options.offsets.as_bytes(), true)
            .override_global("SETTINGS", options.settings.as_bytes(), true)
            .map_max_entries("EVENTS", options.events_ring)
            .map_max_entries("VERDICTS", options.verdicts_ring)
            .map_max_entries("REDIRECTED", options.redirected)
            .map_max_entries("NAME_SCRATCH", cpus.saturating_mul(limits::SCRATCHES_PER_CPU))
            .map_max_entries("SCRATCH", cpus.saturating_mul(limits::SCRATCHES_PER_CPU))
            .load(OBJECT)
            .map_err(|e| EnforcerError::Load(Box::new(e)))?;
        Ok(Self { ebpf, btf: Some(btf), links: Vec::new() })
    }

    /// Takes the maps policies are written to. Once.
    ///
    /// # Errors
    /// Called twice, or an object of another build.
    pub fn take_tables(&mut self) -> Result<Tables, EnforcerError> {
        Tables::take(&mut self.ebpf)
    }

    /// Takes the read ends. Once.
    ///
    /// # Errors
    /// Called twice, or an object of another build.
    pub fn take_rings(&mut self) -> Result<Rings, EnforcerError> {
        let mut ring = |name| {
            let map = self.ebpf.take_map(name).ok_or(EnforcerError::Missing(name))?;
            RingBuf::try_from(map).map_err(|_| EnforcerError::Missing(name))
        };
        let (events, verdicts) = (ring("EVENTS")?, ring("VERDICTS")?);
        let mut counters = |name| {
            let map = self.ebpf.take_map(name).ok_or(EnforcerError::Missing(name))?;
            PerCpuArray::try_from(map).map_err(|_| EnforcerError::Missing(name))
        };
        let (lost, made) = (counters("LOST")?, counters("MADE")?);
        Ok(Rings { events, verdicts, lost, made })
    }

    /// Begins the generation after `before` below `directory` and pins every map into it. Before
    /// [`Self::take_tables`] and [`Self::take_rings`].
    ///
    /// # Errors
    /// bpffs is missing, read-only or full.
    pub fn begin_generation(
        &mut self,
        directory: &Path,
        before: &[Generation],
    ) -> Result<Generation, EnforcerError> {
        Generation::begin(directory, before, &self.ebpf)
    }

    /// As [`Self::attach`], but pinned into `own` and without a gap after the generations
    /// `before`: in a cgroup link of theirs our program takes the place of the old one at a stroke;
    /// tracepoints and LSM programs run beside the old ones until those are detached
    /// ([`Generation::detach`]).
    ///
    /// # Errors
    /// As [`Self::attach`]; then what was in force stays in force.
    pub fn attach_after(
        &mut self,
        cgroup: &Path,
        own: &Generation,
        before: &[Generation],
    ) -> Result<ExecRefusal, EnforcerError> {
        let taken_over = |name: &str| before.iter().rev().find_map(|old| old.link(name));
        let mut exchanged = Vec::new();
        let refusal = self.attach_where(cgroup, |ebpf, name, hook| {
            let Some(pin) = taken_over(name) else { return Ok(false) };
            programs::load_cgroup(ebpf, name, hook)?;
            exchanged.push((name, pin));
            Ok(true)
        })?;
        for (name, link) in std::mem::take(&mut self.links) {
            own.pin_link(name, link)?;
        }
        own.pin_programs(&mut self.ebpf)?;
        // Last, when nothing can be refused any more.
        for (name, pin) in exchanged {
            let program = self.ebpf.program(name).ok_or(EnforcerError::Missing(name))?;
            let program = program.fd().map_err(programs::refused(name))?;
            kernel_link::exchange(&pin, program.as_fd())
                .map_err(|source| EnforcerError::Exchange { path: pin.clone(), source })?;
            own.adopt(&pin, name)?;
        }
        Ok(refusal)
    }

    /// Takes the counters of DNS messages. Once.
    ///
    /// # Errors
    /// Called twice, or an object of another build.
    pub fn take_name_counts(&mut self) -> Result<NameCounts, EnforcerError> {
        NameCounts::take(&mut self.ebpf)
    }

    /// Takes the maps by which the gateway and the kernel know of each other. Once.
    ///
    /// # Errors
    /// Called twice, or an object of another build.
    pub fn take_redirects(&mut self) -> Result<Redirects, EnforcerError> {
        Redirects::take(&mut self.ebpf)
    }

    /// Takes what tells of new cgroups, and begins to listen. Once.
    ///
    /// # Errors
    /// Called twice, an object of another build, or no thread can be made.
    pub fn take_doorbell(&mut self) -> Result<Doorbell, EnforcerError> {
        let ring = Doorbell::take(&mut self.ebpf)?;
        Doorbell::start(ring).map_err(EnforcerError::Doorbell)
    }

    /// Attaches every program: the egress hooks to `cgroup` and all below it, the tracepoints
    /// machine-wide (they look only at tasks below the governed root), the LSM where it works.
    ///
    /// # Errors
    /// A program that every supported kernel must accept is refused.
    pub fn attach(&mut self, cgroup: &Path) -> Result<ExecRefusal, EnforcerError> {
        self.attach_where(cgroup, |_, _, _| Ok(false))
    }

    /// As [`Self::attach`], leaving out the cgroup programs `is_done` says yes to.
    fn attach_where(
        &mut self,
        cgroup: &Path,
        mut is_done: impl FnMut(
            &mut Ebpf,
            &'static str,
            programs::CgroupHook,
        ) -> Result<bool, EnforcerError>,
    ) -> Result<ExecRefusal, EnforcerError> {
        let directory = File::open(cgroup)
            .map_err(|source| EnforcerError::Cgroup { path: cgroup.to_owned(), source })?;
        for (name, hook) in programs::CGROUP {
            if is_done(&mut self.ebpf, name, hook)? {
                continue;
            }
            let link = programs::attach_cgroup(&mut self.ebpf, name, hook, &directory)?;
            self.links.push((name, link));
        }
        let btf = self.btf.take().map_or_else(programs::kernel_types, Ok)?;
        for (name, tracepoint) in programs::TRACEPOINTS {
            let link = programs::attach_tracepoint(&mut self.ebpf, name, tracepoint, &btf)?;
            self.links.push((name, link));
        }
        Ok(self.attach_lsm(&btf))
    }

    /// An LSM program that is not in the active list loads, attaches and never fires, so the list
    /// is read first and a canary has to fire afterwards. All of them or none: what is said of a
    /// node with BPF-LSM holds for all of it.
    fn attach_lsm(&mut self, btf: &Btf) -> ExecRefusal {
        let kill = |reason: String| ExecRefusal::Kill { reason };
        if let Err(reason) = crate::preflight::bpf_lsm_listed() {
            return kill(reason);
        }
        let mut links = Vec::new();
        for (name, hook) in programs::LSM {
            match programs::attach_lsm(&mut self.ebpf, name, hook, btf) {
                Ok(link) => links.push((name, link)),
                Err(error) => {
                    let why = error.source().map_or_else(String::new, |why| format!(": {why}"));
                    return kill(format!("{error}{why}"));
                }
            }
        }
        let fires = self.canary();
        if matches!(fires, Ok(true)) {
            self.links.extend(links);
        }
        match fires {
            Ok(true) => ExecRefusal::Lsm,
            Ok(false) => kill("the LSM program is attached but does not fire".into()),
            Err(error) => kill(format!("the LSM canary did not run: {error}")),
        }
    }

    /// Executes a program (this one, asked for its version) and looks whether the LSM saw it.
    fn canary(&self) -> io::Result<bool> {
        let before = self.lsm_calls();
        Command::new("/proc/self/exe").arg("--version").output()?;
        Ok(self.lsm_calls() > before)
    }

    fn lsm_calls(&self) -> u64 {
        let Some(map) = self.ebpf.map("LSM_CALLS") else { return 0 };
        let Ok(calls) = PerCpuArray::<_, u64>::try_from(map) else { return 0 };
        calls.get(&0, 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }
}
