//! A governed cgroup of a test's own, with the real kernel programs attached to it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use pcigate_agent::{
    attribution::Attribution,
    btf::{self, Btf},
    cgroup,
    digests::Digests,
    draft::Draft,
    enforcer::{self, Doorbell, Enforcer, ExecRefusal, NameCounts, Options, Redirects},
    governor::Governor,
    offsets,
    pipeline::{self, Pipeline},
    recorder::RecorderHandle,
    sensor::{Batch, Sensor},
    workloads::Found,
};
use pcigate_common::{
    event::Event,
    limits,
    maps::{Ring, verdict},
    names::Count,
    settings::{Offsets, Settings},
};
use pcigate_policy::{document::Documents, workload::Identity};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How a governed cgroup is set up.
pub struct Setup {
    /// Policy documents in YAML.
    pub policy: String,
    /// Verdict for cgroups below the root that are no workload.
    pub unknown: u32,
    /// Bytes of each ring.
    pub ring: u32,
    /// Whether DNS answers over loopback teach names.
    pub loopback_teaches: bool,
    /// Sockets redirected to the gateway at a time.
    pub redirected: u32,
    /// A directory in bpffs that carries what goes from one agent to the next.
    pub pins: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: String::new(),
            unknown: verdict::DENY,
            ring: 1024 * 1024,
            loopback_teaches: false,
            redirected: limits::REDIRECTED_MAX,
            pins: None,
        }
    }
}

/// Programs attached to a cgroup of our own; all is gone when it is dropped.
pub struct Kernel {
    /// How execs are refused here.
    pub refusal: ExecRefusal,
    /// The kernel's tables.
    pub governor: Governor,
    /// The rings.
    pub sensor: Sensor,
    attribution: Attribution,
    batch: Batch,
    // Detached before the cgroup goes.
    enforcer: Enforcer,
    names: NameCounts,
    root: cgroup::Owned,
}

impl Kernel {
    /// Governs a fresh cgroup as pod `payments/billing-bot`.
    #[must_use]
    pub fn with_policy(policy: &str) -> Self {
        Self::start(&Setup { policy: policy.to_owned(), ..Setup::default() })
    }

    /// See [`Setup`].
    ///
    /// # Panics
    /// Anything does not work: the machine cannot run kernel tests.
    #[must_use]
    pub fn start(setup: &Setup) -> Self {
        let mut kernel = Self::ungoverned(setup);
        let root = kernel.root.cgroup.clone();
        kernel.govern(&root.path, "billing-bot");
        kernel
    }

    /// Attached, but no workload is known yet.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn ungoverned(setup: &Setup) -> Self {
        crate::need_root();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let root = cgroup::create(&name).expect("a cgroup can be made");
        Self::attached(root, setup)
    }

    /// As when an agent follows another: programs and maps of its own, then the old ones go.
    #[must_use]
    pub fn replaced(self, setup: &Setup) -> Self {
        let Self { root, enforcer: before, .. } = self;
        let path = root.cgroup.path.clone();
        let mut kernel = Self::attached(root, setup);
        kernel.govern(&path, "billing-bot");
        kernel.governor.inherit_names();
        drop(before);
        kernel
    }

    fn attached(root: cgroup::Owned, setup: &Setup) -> Self {
        let settings = Settings {
            root_cgroup: root.cgroup.id,
            root_level: root.cgroup.level,
            unknown_verdict: setup.unknown,
            loopback_teaches: u32::from(setup.loopback_teaches),
            reserved: 0,
        };
        let mut options = Options::new(offsets(), settings);
        options.events_ring = setup.ring;
        options.verdicts_ring = setup.ring;
        options.redirected = setup.redirected;
        let pins = setup.pins.as_deref();
        let before = pins.map(|pins| enforcer::generations(pins).expect("pins can be listed"));
        options.maps_of = before.as_ref().and_then(|before| before.last().cloned());
        let mut enforcer = Enforcer::load(&options).unwrap_or_else(|error| chain(&error));
        if let (Some(pins), Some(before)) = (pins, before) {
            let generation = enforcer.begin_generation(pins, &before);
            generation.unwrap_or_else(|error| chain(&error));
        }
        let tables = enforcer.take_tables().expect("tables");
        let documents = Documents::read(&[("policy.yaml", &setup.policy)])
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let mut governor = Governor::new(documents, tables);
        governor.protect_targets().unwrap_or_else(|error| chain(&error));
        let names = enforcer.take_name_counts().expect("counters of names");
        let sensor = Sensor::new(enforcer.take_rings().expect("rings"));
        let refusal = enforcer.attach(&root.cgroup.path).unwrap_or_else(|error| chain(&error));
        let attribution = Attribution::new(governor.directory());
        let batch = Batch::default();
        Self { refusal, governor, sensor, attribution, batch, enforcer, names, root }
    }

    /// The loaded programs.
    #[must_use]
    pub fn enforcer(&self) -> &Enforcer {
        &self.enforcer
    }

    /// What became of DNS messages so far.
    #[must_use]
    pub fn names(&self, count: Count) -> u64 {
        self.names.get(count)
    }

    /// The maps the gateway and the kernel know of each other by. Once.
    ///
    /// # Panics
    /// Called twice.
    pub fn redirects(&mut self) -> Redirects {
        self.enforcer.take_redirects().expect("the maps are there")
    }

    /// Listens for new cgroups from now on. Once.
    ///
    /// # Panics
    /// Called twice.
    pub fn doorbell(&mut self) -> Doorbell {
        self.enforcer.take_doorbell().expect("the ring is there")
    }

    /// The governed root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root.cgroup.path
    }

    /// Governs a cgroup as pod `payments/POD`, label `app: POD`, ServiceAccount POD.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn govern(&mut self, path: &Path, pod: &str) {
        let cgroup = cgroup::open(path).expect("the cgroup is there");
        let identity = Identity {
            namespace: "payments".into(),
            pod: pod.into(),
            pod_uid: "1a2b3c4d-0000-4000-8000-1234567890ab".into(),
            service_account: pod.into(),
            labels: [("app".to_owned(), pod.to_owned())].into(),
            namespace_labels: [("kubernetes.io/metadata.name".into(), "payments".into())].into(),
        };
        let path = path.display().to_string();
        let found = Found::new(cgroup.id, &path, Arc::new(identity), None);
        self.governor.govern(&found).unwrap_or_else(|error| chain(&error));
    }

    /// Runs the probe in the governed root; the result of each action.
    pub fn probe(&self, actions: &[&str]) -> Vec<String> {
        self.probe_in(self.root(), actions)
    }

    /// Runs the probe in a cgroup.
    ///
    /// # Panics
    /// The probe itself does not work.
    pub fn probe_in(&self, cgroup: &Path, actions: &[&str]) -> Vec<String> {
        self.probe_with(&[], cgroup, actions)
    }

    /// Runs the probe in a cgroup, with options of its own before.
    ///
    /// # Panics
    /// The probe itself does not work.
    pub fn probe_with(&self, options: &[&str], cgroup: &Path, actions: &[&str]) -> Vec<String> {
        let output = Command::new(crate::program("pcigate-probe"))
            .args(options)
            .arg("--cgroup")
            .arg(cgroup)
            .args(actions)
            .stdin(Stdio::null())
            .output()
            .expect("the probe runs");
        let text = String::from_utf8(output.stdout).expect("the probe speaks UTF-8");
        let results: Vec<String> = text
            .lines()
            .map(|line| line.rsplit_once(' ').map_or(line, |(_, result)| result).to_owned())
            .collect();
        assert_eq!(results.len(), actions.len(), "the probe was cut short: {text}");
        results
    }

    /// Begins to read digests, as the agent does.
    ///
    /// # Panics
    /// No thread can be made.
    #[must_use]
    pub fn read_digests(&mut self) -> Digests {
        let (wanted, files) = (self.governor.wanted(), self.governor.files());
        let digests = Digests::start(self.root().to_owned(), wanted, files, Duration::ZERO);
        let digests = digests.expect("a thread");
        self.attribution.name_unknown_digests(digests.handle());
        digests
    }

    /// A probe in the governed root that waits until it is killed.
    ///
    /// # Panics
    /// The probe does not start.
    #[must_use]
    pub fn probe_waiting(&self) -> Child {
        Command::new(crate::program("pcigate-probe"))
            .arg("--cgroup")
            .arg(self.root())
            .arg("read-line")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the probe starts")
    }

    /// Everything that is in the rings, as drafts of records.
    pub fn drafts(&mut self) -> Vec<Draft> {
        self.sensor.drain(&mut self.batch, usize::MAX);
        assert_eq!(self.batch.undecodable(), [], "the kernel sent what is no record");
        self.batch.events().map(|event| self.attribution.draft(&event)).collect()
    }

    /// Calls `look` for every event in the rings.
    pub fn events(&mut self, mut look: impl FnMut(&Event<'_>)) {
        self.sensor.drain(&mut self.batch, usize::MAX);
        self.batch.events().for_each(|event| look(&event));
    }

    /// Lost records so far, over both rings, since the last call.
    ///
    /// # Panics
    /// The counters cannot be read.
    pub fn lost(&mut self) -> Vec<(Ring, u64)> {
        self.sensor.take_lost().expect("loss counters")
    }
}

/// A [`Kernel`] whose events are recorded by the agent's own thread.
pub struct Recording {
    pipeline: Pipeline,
    // Detached before the cgroup goes.
    _enforcer: Enforcer,
    _governor: Governor,
    _root: cgroup::Owned,
}

impl Kernel {
    /// Reads the rings from now on as the agent does.
    ///
    /// # Panics
    /// No thread can be made.
    #[must_use]
    pub fn record(self, recorder: RecorderHandle) -> Recording {
        let Self { governor, sensor, attribution, enforcer, root, .. } = self;
        let pipeline = pipeline::start(sensor, attribution, recorder).expect("a thread");
        Recording { pipeline, _enforcer: enforcer, _governor: governor, _root: root }
    }
}

impl Recording {
    /// Reads what is left, and ends everything.
    pub fn stop(self) {
        self.pipeline.stop();
    }
}

/// The same for every test of a process, and slow to find without optimisation.
fn offsets() -> Offsets {
    static OFFSETS: LazyLock<Offsets> = LazyLock::new(|| {
        let btf = Btf::read(Path::new(btf::VMLINUX)).expect("the kernel has BTF");
        offsets::find(&btf).expect("offsets")
    });
    *OFFSETS
}

/// Ends the test with an error and all of its causes.
fn chain(error: &dyn std::error::Error) -> ! {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str("\n  because: ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    panic!("{text}");
}
