//! A running agent: its parts started in order, and stopped in the other.
//!
//! `exec` and `serve` differ in what they govern and how long; this is what they share.

mod parts;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use pcigate_common::{maps::verdict, settings::Settings};
use pcigate_policy::document::Documents;

use crate::{
    admin::Watched,
    attribution::Attribution,
    btf::{self, Btf},
    causes::chain,
    cgroup::Cgroup,
    config::{Collector, UnknownWorkloads},
    coverage::{self, Confinement},
    digests::Digests,
    draft::{Capability, CapabilityState, CoverageState},
    enforcer::{Doorbell, Enforcer, ExecRefusal, Options},
    exporter::{self, Exporter, Undrained},
    gateway::{Gateway, Keeper, ListenError, Postgres},
    governor::Governor,
    handover::{Claim, Handover, Kept, Reader, Report, Survival},
    kubernetes::Cluster,
    memory, offsets,
    pipeline::{self, Pipeline},
    recorder::{self, NotRecorded, Recorder},
    sensor::Sensor,
    spool::{self, Limits, Spool, SpoolError},
    workloads::Found,
};
use parts::{start_digests, start_exporter, start_gateway};

const STARTED: &str = "the agent enforces";

/// What an agent is to do.
pub struct Plan {
    /// The governed root.
    pub root: Cgroup,
    /// What becomes of cgroups below it that no workload is known for.
    pub unknown: UnknownWorkloads,
    /// The policies.
    pub documents: Documents,
    /// Whether these are all there are; otherwise everything is refused.
    pub policies_known: bool,
    /// Name of the node in records: the certificate's where there is one.
    pub node: String,
    /// Where records are kept until they are sent.
    pub spool: Spool,
    /// Directory for the ledger's key and last checkpoint.
    pub witness_dir: PathBuf,
    /// Where records are sent.
    pub collector: Option<Collector>,
    /// What outlives the agent; `None` for `exec`, whose command ends with it.
    pub survival: Option<Survival>,
    /// What the source of workloads can and cannot tell, for Coverage records.
    pub source: Vec<Capability>,
    /// What sessions need of the API server.
    pub cluster: Cluster,
}

/// The parts.
pub struct Agent {
    /// Keeps the kernel's tables.
    pub governor: Governor,
    /// How execs are refused.
    pub refusal: ExecRefusal,
    /// Rings when a cgroup is made.
    pub doorbell: Doorbell,
    /// What the source of workloads can and cannot tell, for Coverage records.
    pub source: Vec<Capability>,
    confinement: Confinement,
    enforcer: Enforcer,
    digests: Digests,
    pipeline: Pipeline,
    recorder: Recorder,
    exporter: Option<Exporter>,
    kept: Option<Kept>,
    gateway: Gateway,
    postgres: Postgres,
    spool: Arc<Mutex<Spool>>,
    root: PathBuf,
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
        // First: it inherits nothing, and ends with this thread, which starts the agent.
        let keeper = Keeper::start()?;
        let settings = settings(&plan);
        let claim = plan.survival.map(Claim::take).transpose()?;
        let mut enforcer = load(settings, claim.as_ref())?;
        let handover = claim.map(|claim| Handover::begin(claim, &mut enforcer, &plan.spool));
        let mut handover = handover.transpose()?;
        let mut governor = Governor::new(plan.documents, enforcer.take_tables()?);
        governor.set_known(plan.policies_known);
        let redirects = enforcer.take_redirects()?;
        if let Some(handover) = &handover {
            governor.keep_names(handover.names());
        }
        if let Some(error) = governor.apply(found).into_iter().next() {
            return Err(error.into());
        }
        let spool = Arc::new(Mutex::new(plan.spool));
        let books = handover.as_ref().map(Handover::books);
        let recorder = recorder::start_with(Arc::clone(&spool), plan.node.clone(), books);
        let recorder = recorder.context("the recorder")?;
        let exporter =
            start_exporter(plan.collector, plan.node, plan.witness_dir, &spool, &recorder)?;
        let sensor = Sensor::new(enforcer.take_rings()?);
        let mut attribution = Attribution::new(governor.directory());
        let digests = start_digests(&plan.root, handover.is_none(), &governor)?;
        attribution.name_unknown_digests(digests.handle());
        let handle = recorder.handle();
        // Before, so that nobody is cut off from what it has resolved; and after, for answers that
        // came meanwhile.
        governor.inherit_names();
        let refusal = match &mut handover {
            None => enforcer.attach(&plan.root.path)?,
            Some(handover) => handover.take_over(&mut enforcer, &plan.root.path, &handle)?,
        };
        governor.inherit_names();
        let mut reader = Reader::new(sensor, attribution);
        let (confinement, kept, report) = match handover {
            None => (Confinement::Sandbox, None, Report::default()),
            Some(handover) => {
                let (kept, report) = handover.finish(&handle, &mut reader)?;
                (Confinement::Runtime { pinned: true }, Some(kept), report)
            }
        };
        // From here on no program of an earlier agent runs.
        let speaking = (handle.clone(), plan.cluster);
        let (gateway, postgres) = start_gateway(keeper, redirects, &governor, speaking);
        let pipeline = pipeline::start(reader.sensor, reader.attribution, handle)?;
        let mut agent = Self {
            gateway,
            postgres,
            spool,
            root: plan.root.path,
            governor,
            refusal,
            doorbell: enforcer.take_doorbell()?,
            source: plan.source,
            confinement,
            enforcer,
            digests,
            pipeline,
            recorder,
            exporter,
            kept,
        };
        agent.started(report)?;
        agent.begin_gateway();
        Ok(agent)
    }

    fn started(&self, report: Report) -> anyhow::Result<()> {
        let message = if report.message.is_empty() { STARTED } else { &report.message };
        self.record(CoverageState::Start, message, report.capability)
    }

    fn begin_gateway(&mut self) {
        for error in self.follow_networks() {
            tracing::error!("{}", chain(&error));
        }
    }

    /// Makes the gateway listen where gated workloads are now: a command of `exec` will be where
    /// its agent is. What it cannot listen in is refused. Sessions that the policies of now would
    /// not let in end.
    pub fn follow_networks(&mut self) -> Vec<ListenError> {
        self.postgres.recheck(&self.governor);
        let gated = self.governor.gated();
        if self.kept.is_some() {
            return self.gateway.follow(&self.root, gated);
        }
        let listens = !self.gateway.networks().is_empty();
        if gated.is_empty() || listens {
            return Vec::new();
        }
        self.gateway.listen_here().err().into_iter().collect()
    }

    /// Tells the next agent that this one was alive until now.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn beat(&self) -> std::io::Result<()> {
        self.kept.as_ref().map_or(Ok(()), Kept::beat)
    }

    /// Puts a Coverage record on disk: what is enforced now, and what is not.
    ///
    /// # Errors
    /// The spool takes nothing any more.
    pub fn record_coverage(&self, state: CoverageState, message: &str) -> anyhow::Result<()> {
        self.record(state, message, None)
    }

    /// Everything this node can and cannot do now.
    #[must_use]
    pub fn capabilities(&self, more: Option<Capability>) -> Vec<Capability> {
        let mut capabilities = coverage::capabilities(&self.refusal, self.confinement);
        capabilities.extend(more);
        capabilities.extend(self.source.iter().cloned());
        capabilities.extend(coverage::of_exempt(self.governor.exempt()));
        capabilities.extend(coverage::of_rules(&self.governor.unenforceable()));
        capabilities
    }

    /// Its parts, for others to look at.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched {
            recorder: self.recorder.handle(),
            spool: Arc::clone(&self.spool),
            exporter: self.exporter.as_ref().map(Exporter::progress),
            pipeline: self.pipeline.beat(),
            live: self.postgres.live(),
            timings: self.postgres.timings(),
        }
    }

    /// Network namespaces the gateway listens in.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.gateway.networks().len()
    }

    /// What this node cannot enforce, whatever the policies say: name and reason.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, String)> {
        let all = coverage::capabilities(&self.refusal, self.confinement);
        let missing = all.into_iter().filter(|of| of.state == CapabilityState::NotEnforceableHere);
        missing.map(|of| (of.name.to_owned(), of.reason.as_str().to_owned())).collect()
    }

    fn record(
        &self,
        state: CoverageState,
        message: &str,
        more: Option<Capability>,
    ) -> anyhow::Result<()> {
        let draft = coverage::draft(state, message, self.capabilities(more));
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
        let Self { pipeline, recorder, exporter, enforcer, digests, kept, .. } = self;
        let Self { gateway, postgres, .. } = self;
        drop(gateway);
        postgres.stop().await;
        let counters = recorder.handle();
        let stopped = tokio::task::spawn_blocking(move || {
            pipeline.stop();
            drop(digests);
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
        // Whoever comes next may claim the pins from here on.
        drop(kept);
        Ok(End { recorded: counters.counters(), sent, undrained, unwritten })
    }
}

/// Begins to read digests. A command that shares this machine's root starts at once, so what its
/// rules name is read before.
fn settings(plan: &Plan) -> Settings {
    Settings {
        root_cgroup: plan.root.id,
        root_level: plan.root.level,
        unknown_verdict: match plan.unknown {
            UnknownWorkloads::Deny => verdict::DENY,
            UnknownWorkloads::AllowAndCount => verdict::ALLOW,
        },
        ..Settings::default()
    }
}

/// With the maps of the agent before, where they are laid out as ours.
fn load(settings: Settings, claim: Option<&Claim>) -> anyhow::Result<Enforcer> {
    let offsets = Btf::read(btf::VMLINUX.as_ref()).and_then(|btf| offsets::find(&btf))?;
    let mut options = Options::new(offsets, settings);
    options.maps_of = claim.map(Claim::newest).transpose()?.flatten();
    Ok(Enforcer::load(&options)?)
}
