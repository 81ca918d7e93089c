//! The agent's line from the kernel programs to the spool, as `pcigate-agent` assembles it, around
//! a cgroup of a bench program's own.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use pcigate_agent::{
    attribution::Attribution,
    btf::{self, Btf},
    cgroup::{self, Cgroup},
    enforcer::{Enforcer, Options},
    governor::Governor,
    offsets,
    pipeline::{self, Pipeline},
    recorder::{self, Counters, Recorder},
    sensor::Sensor,
    spool::{Limits, Spool},
    workloads::Found,
};
use pcigate_common::{maps::verdict, settings::Settings};
use pcigate_policy::{document::Documents, workload::Identity};

/// How often the spool is acknowledged, in place of an exporter.
const ACK_EVERY: Duration = Duration::from_millis(20);

/// A cgroup, made for a bench program and removed with this.
pub struct Place {
    root: cgroup::Owned,
    directory: tempfile::TempDir,
}

/// The kernel programs attached to a [`Place`], with their tables filled.
pub struct Hooks {
    enforcer: Enforcer,
    /// Keeps the tables.
    pub governor: Governor,
}

/// Hooks whose events are recorded.
pub struct Line {
    enforcer: Enforcer,
    pipeline: Pipeline,
    store: Store,
}

/// A recorder over a spool on disk that is acknowledged as it grows.
pub struct Store {
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    acking: JoinHandle<()>,
}

impl Place {
    /// Makes the cgroup, and a directory on the disk that holds the build.
    ///
    /// # Panics
    /// The machine cannot run kernel tests.
    #[must_use]
    pub fn new() -> Self {
        crate::need_root();
        // A run that was cut short could not remove its own.
        cgroup::sweep("bench");
        let root = cgroup::create(&format!("bench-{}", std::process::id()));
        let root = root.expect("a cgroup can be made");
        Self { root, directory: on_disk() }
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.root.cgroup
    }

    /// A directory for files, on a real disk.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Loads and fills; nothing is attached yet.
    ///
    /// # Panics
    /// The kernel refuses.
    #[must_use]
    pub fn load(&self, policy: &str) -> Hooks {
        let btf = Btf::read(Path::new(btf::VMLINUX)).expect("the kernel has BTF");
        let settings = Settings {
            root_cgroup: self.root.cgroup.id,
            root_level: self.root.cgroup.level,
            unknown_verdict: verdict::DENY,
            ..Settings::default()
        };
        let options = Options::new(offsets::find(&btf).expect("offsets"), settings);
        let mut enforcer = Enforcer::load(&options).expect("the kernel programs load");
        let tables = enforcer.take_tables().expect("tables");
        let documents = Documents::read(&[("policy.yaml", policy)]);
        let documents = documents.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let mut governor = Governor::new(documents, tables);
        let path = self.root.cgroup.path.display().to_string();
        govern(&mut governor, self.root.cgroup.id, &path, "billing-bot");
        Hooks { enforcer, governor }
    }

    /// Attaches hooks and records what they see.
    ///
    /// # Panics
    /// The kernel refuses, or the disk.
    #[must_use]
    pub fn start(&self, mut hooks: Hooks) -> Line {
        let store = Store::open(self.directory());
        let sensor = Sensor::new(hooks.enforcer.take_rings().expect("rings"));
        let attribution = Attribution::new(hooks.governor.directory());
        hooks.enforcer.attach(&self.root.cgroup.path).expect("the programs attach");
        let pipeline = pipeline::start(sensor, attribution, store.recorder.handle());
        Line { enforcer: hooks.enforcer, pipeline: pipeline.expect("a thread"), store }
    }

    /// Runs this program again as a workload in the cgroup, on processor `cpu`, and gives the line
    /// it prints. The arguments end up behind `drive`.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn drive(&self, cpu: usize, arguments: &[&str]) -> String {
        let own = std::env::current_exe().expect("a process has a path");
        let output = Command::new(own)
            .arg("drive")
            .arg(&self.root.cgroup.path)
            .arg(cpu.to_string())
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("the workload starts");
        assert!(output.status.success(), "the workload failed: {}", output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// What has been recorded.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.store.recorder.handle().counters()
    }

    /// Reads what is left in the rings, makes it durable, detaches everything.
    #[must_use]
    pub fn stop(self) -> Counters {
        self.pipeline.stop();
        drop(self.enforcer);
        self.store.stop()
    }
}

impl Store {
    /// A new spool below `directory`; one that an earlier run left there goes away.
    ///
    /// # Panics
    /// The disk refuses.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let directory = directory.join("spool");
        // It is missing the first time.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).expect("the directory is ours");
        let spool = Spool::open(&directory, Limits::default()).expect("a spool");
        let spool = Arc::new(Mutex::new(spool));
        let recorder = recorder::start(Arc::clone(&spool), "node-1".to_owned()).expect("a thread");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let acking = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::sleep(ACK_EVERY);
                let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
                let durable = spool.durable_seq();
                spool.ack(durable).expect("the cursor can be written");
            }
        });
        Self { recorder, stop, acking }
    }

    /// The way in.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Makes everything durable and ends.
    ///
    /// # Panics
    /// The disk refused.
    #[must_use]
    pub fn stop(self) -> Counters {
        let handle = self.recorder.handle();
        self.recorder.stop().expect("the last group is durable");
        self.stop.store(true, Ordering::Release);
        self.acking.join().expect("the spool is acknowledged");
        handle.counters()
    }
}

/// Puts a cgroup under the policies as pod `payments/POD`.
///
/// # Panics
/// The kernel refuses.
pub fn govern(governor: &mut Governor, cgroup_id: u64, path: &str, pod: &str) {
    let identity = Identity {
        namespace: "payments".into(),
        pod: pod.into(),
        pod_uid: "1a2b3c4d-0000-4000-8000-1234567890ab".into(),
        service_account: pod.into(),
        labels: [("app".to_owned(), pod.to_owned())].into(),
        namespace_labels: [("kubernetes.io/metadata.name".into(), "payments".into())].into(),
    };
    let found = Found::new(cgroup_id, path, Arc::new(identity), None);
    governor.govern(&found).expect("the kernel takes the policy");
}

/// In a workload process: joins the cgroup and the processor given by [`Place::drive`], executes
/// this program anew, as a container's first process does, and gives the arguments behind them;
/// `None` where this is the bench program itself.
///
/// # Panics
/// The cgroup is gone.
#[must_use]
pub fn driven() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("drive") => {}
        Some("driven") => return Some(arguments.collect()),
        _ => return None,
    }
    let cgroup = PathBuf::from(arguments.next().unwrap_or_default());
    std::fs::write(cgroup.join("cgroup.procs"), "0").expect("the cgroup can be joined");
    let cpu = arguments.next().and_then(|cpu| cpu.parse().ok()).expect("a processor");
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a processor of this machine");
    nix::sched::sched_setaffinity(nix::unistd::Pid::this(), &set).expect("the processor is there");
    let own = std::env::current_exe().expect("a process has a path");
    let failed = Command::new(own).arg("driven").args(arguments).exec();
    panic!("the workload cannot execute itself: {failed}");
}

/// A directory beside the programs under test, so that it is on a disk and not in memory.
fn on_disk() -> tempfile::TempDir {
    let own = std::env::current_exe().expect("a process has a path");
    let directory = own.parent().expect("a program is in a directory");
    tempfile::Builder::new().prefix("bench-").tempdir_in(directory).expect("a directory on disk")
}
