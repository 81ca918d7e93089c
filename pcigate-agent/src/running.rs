//! A running agent: its parts started in order, and stopped in the other.
//!
//! `exec` and `serve` differ in what they govern and how long; this is what they share.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use pcigate_common::{maps::verdict, settings::Settings};
use pcigate_policy::document::Documents;

use crate::{
    attribution::Attribution,
    btf::{self, Btf},
    cgroup::Cgroup,
    config::{Collector, UnknownWorkloads},
    coverage::{self, Confinement},
    draft::CoverageState,
    enforcer::{Doorbell, Enforcer, ExecRefusal, Options},
    exporter::{self, Exporter, Undrained},
    governor::Governor,
    memory, offsets,
    pipeline::{self, Pipeline},
    recorder::{self, NotRecorded, Recorder},
    sensor::Sensor,
    spool::{self, Limits, Spool, SpoolError},
    workloads::Found,
};

const STARTED: &str = "the agent enforces";
/// The kernel went on refusing, but nobody read its rings.
const TAKEN_OVER: &str = "the agent enforces; what an earlier agent had pinned enforced until now, \
     and events since that agent's last record were not recorded";

/// What an agent is to do.
pub struct Plan {
    /// The governed root.
    pub root: Cgroup,
    /// What becomes of cgroups below it that no workload is known for.
    pub unknown: UnknownWorkloads,
    /// The policies.
    pub documents: Documents,
    /// Name of the node in records: the certificate's where there is one.
    pub node: String,
    /// Where records are kept until they are sent.
    pub spool: Spool,
    /// Directory for the ledger's key and last checkpoint.
    pub witness_dir: PathBuf,
    /// Where records are sent.
    pub collector: Option<Collector>,
    /// Directory in bpffs to pin the links in; `None` for `exec`, whose command ends with it.
    pub pins: Option<PathBuf>,
}

/// The parts.
pub struct Agent {
    /// Keeps the kernel's tables.
    pub governor: Governor,
    /// How execs are refused.
    pub refusal: ExecRefusal,
    /// Rings when a cgroup is made.
    pub doorbell: Doorbell,
    confinement: Confinement,
    enforcer: Enforcer,
    pipeline: Pipeline,
    recorder: Recorder,
    exporter: Option<Exporter>,
}

/// Opens the spool in `directory`; with `set_aside`, after saving what can be read of damaged
/// segments.
///
/// # Errors
/// See [`SpoolError`].
pub fn open_spool(directory: &Path, set_aside: bool) -> Result<Spool, SpoolError> {
    if set_aside && directory.exists() {
        for damaged in spool::set_aside_corrupt(directory)? {
            tracing::warn!("{damaged}");
        }
    }
    Spool::open(directory, Limits::default())
}

/// How it went.
pub struct End {
    /// What was recorded.
    pub recorded: recorder::Counters,
    /// What was sent; `None` without a collector.
    pub sent: Option<exporter::Counters>,
    /// What is still in the spool although there is a collector.
    pub undrained: Option<Undrained>,
    /// Why the last records are not on disk; they are counted lost then.
    pub unwritten: Option<NotRecorded>,
}

impl Agent {
    /// Starts enforcing and recording. Must run inside of a tokio runtime.
    ///
    /// # Errors
    /// The first part that does not start, with the remedy. Nothing stays attached then.
    pub fn start(plan: Plan, found: &[Found]) -> anyhow::Result<Self> {
        memory::give_back_early();
        let settings = Settings {
            root_cgroup: plan.root.id,
            root_level: plan.root.level,
            unknown_verdict: match plan.unknown {
                UnknownWorkloads::Deny => verdict::DENY,
                UnknownWorkloads::AllowAndCount => verdict::ALLOW,
            },
        };
        let offsets = Btf::read(btf::VMLINUX.as_ref()).and_then(|btf| offsets::find(&btf))?;
        let mut enforcer = Enforcer::load(&Options::new(offsets, settings))?;
        let mut governor = Governor::new(plan.documents, enforcer.take_tables()?);
        if let Some(error) = governor.apply(found).into_iter().next() {
            return Err(error.into());
        }
        let spool = Arc::new(Mutex::new(plan.spool));
        let recorder = recorder::start(Arc::clone(&spool), plan.node).context("the recorder")?;
        let exporter = match plan.collector {
            None => None,
            Some(collector) => {
                let settings = exporter::Settings {
                    tls: Some(pcigate_proto::tls::client(&collector.tls_dir)?),
                    url: collector.url,
                    witness_dir: plan.witness_dir,
                    backoff: exporter::Backoff::default(),
                };
                Some(exporter::start(settings, spool, recorder.handle())?)
            }
        };
        let sensor = Sensor::new(enforcer.take_rings()?);
        let attribution = Attribution::new(governor.directory());
        let refusal = enforcer.attach(&plan.root.path)?;
        let (confinement, message) = match &plan.pins {
            None => (Confinement::Sandbox, STARTED),
            Some(directory) => {
                let taken_over = enforcer.pin(directory)?;
                let message = if taken_over { TAKEN_OVER } else { STARTED };
                (Confinement::Runtime { pinned: true }, message)
            }
        };
        let pipeline = pipeline::start(sensor, attribution, recorder.handle())?;
        let doorbell = enforcer.take_doorbell()?;
        let agent = Self {
            governor,
            refusal,
            doorbell,
            confinement,
            enforcer,
            pipeline,
            recorder,
            exporter,
        };
        agent.record_coverage(CoverageState::Start, message)?;
        Ok(agent)
    }

    /// Puts a Coverage record on disk: what is enforced now, and what is not.
    ///
    /// # Errors
    /// The spool takes nothing any more.
    pub fn record_coverage(&self, state: CoverageState, message: &str) -> anyhow::Result<()> {
        let mut capabilities = coverage::capabilities(&self.refusal, self.confinement);
        capabilities.extend(coverage::of_rules(&self.governor.unenforceable()));
        let draft = coverage::draft(state, message, capabilities);
        self.recorder.handle().record_durable(vec![draft]).context("a Coverage record")?;
        Ok(())
    }

    /// Reads what the kernel still has, records the end, sends for at most `patience`. Unless
    /// pinned, enforcement ends.
    ///
    /// # Errors
    /// The recorder did not end well.
    pub async fn stop(self, message: &str, patience: Duration) -> anyhow::Result<End> {
        let capabilities = coverage::capabilities(&self.refusal, self.confinement);
        let last = coverage::draft(CoverageState::Stop, message, capabilities);
        let Self { pipeline, recorder, exporter, enforcer, .. } = self;
        let counters = recorder.handle();
        let stopped = tokio::task::spawn_blocking(move || {
            pipeline.stop();
            drop(enforcer);
            let written = recorder.handle().record_durable(vec![last]);
            recorder.stop().and(written)
        });
        let unwritten = stopped.await.context("stopping the recorder")?.err();
        let (mut sent, mut undrained) = (None, None);
        if let Some(exporter) = exporter {
            undrained = exporter.drain(patience).await.err();
            sent = Some(exporter.counters());
            exporter.stop().await;
        }
        Ok(End { recorded: counters.counters(), sent, undrained, unwritten })
    }
}
