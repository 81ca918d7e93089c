//! `pcigate-agent serve`: the DaemonSet.

mod source;
mod stand_by;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use pcigate_agent::{
    causes::chain,
    cgroup::{self, Cgroup},
    config::{self, Config},
    draft::{Capability, CoverageState},
    enforcer, exporter,
    handover::Survival,
    hooks::{Hooks, SOCKET},
    notify, policies, preflight, privileges,
    running::{Agent, Plan, open_spool},
};
use pcigate_policy::document::Documents;
use tokio::signal::unix::{SignalKind, signal};

use source::Source;

/// How often the pod list and the cgroups are looked at again, beside each time a cgroup is made.
/// A new cgroup is an unknown workload until then, treated by `unknownWorkloads`; the OCI hook
/// keeps a container from starting meanwhile.
const SCAN_EVERY: Duration = Duration::from_millis(250);
/// How soon after a cgroup was made: a workload that makes cgroups must not keep the agent busy.
const LOOK_WITHIN: Duration = Duration::from_millis(5);
/// How long records may take to the collector when the agent stops; the rest stays in the spool.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// Where the kubelet keeps pods, by cgroup driver.
const POD_ROOTS: [&str; 2] = ["kubepods.slice", "kubepods"];

#[derive(clap::Args)]
#[command(after_help = "\
SIGHUP reads the policies again. SIGTERM stops the agent; what it has pinned goes on enforcing \
(`pcigate-agent uninstall` ends it).")]
pub struct Options {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Print every key with its default and meaning, and end.
    #[arg(long)]
    print_config: bool,
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = preflight::BPFFS)]
    bpffs: PathBuf,
    /// Keep what can be read of damaged spool segments, set the files aside, and report the rest as
    /// a gap.
    #[arg(long)]
    set_aside_corrupt_spool: bool,
    /// Where another agent enforces, wait until it ends instead of failing: in a cluster the next
    /// one has to start before, because a pod that no agent has told of may be refused everything.
    #[arg(long)]
    stand_by: bool,
}

/// Governs until it is told to stop.
#[expect(clippy::print_stdout, reason = "--print-config")]
pub fn run(options: &Options) -> anyhow::Result<u8> {
    if options.print_config {
        print!("{}", Config::documented());
        return Ok(0);
    }
    // Before there are threads.
    cgroup::enter_machines_namespace();
    let mut config = Config::read(&options.config)?;
    config.exempt = config.exempt.with_own_pod();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(serve(options, config))
}

#[expect(clippy::print_stdout, reason = "the one line that says it enforces")]
async fn serve(options: &Options, config: Config) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let documents = policies::read(&config.policies)?;
    let root = able(options, &config)?;
    let ends = [&mut terminate, &mut interrupt];
    if options.stand_by && !stand_by::wait(&pins(options, &root), ends).await? {
        return Ok(0);
    }
    let node = node_name(&config)?;
    let mut source = Source::open(&config, &node).await?;
    let found = source.find(&config, &root)?;
    let mut plan = plan(options, &config, documents, root.clone(), node)?;
    plan.source = source.coverage();
    let mut agent = Agent::start(plan, &found)?;
    let socket = config.state_dir.join(SOCKET);
    let mut hooks = Hooks::listen(&socket, &root)
        .with_context(|| format!("cannot listen at {} (stateDir)", socket.display()))?;
    let doorbell = agent.doorbell.rung();
    let mut listed = source.changed();
    privileges::give_up(&privileges::SERVE)?;
    println!("pcigate-agent ready: governing {}", root.path.display());
    tell(notify::READY);
    let mut scan = tokio::time::interval(SCAN_EVERY);
    let mut trouble = String::new();
    let mut expected = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                reload(&mut agent, &config);
                look(&mut agent, &mut source, &config, &root, &mut trouble);
            }
            _ = scan.tick() => {
                expected = false;
                look(&mut agent, &mut source, &config, &root, &mut trouble);
                if let Err(error) = agent.beat() {
                    tracing::warn!("cannot tell the next agent that this one lives: {error}");
                }
            }
            // However many ring before it, there is one look.
            () = doorbell.notified(), if !expected => {
                expected = true;
                source.rung();
                scan.reset_after(LOOK_WITHIN);
            }
            Ok(()) = listed.changed(), if !expected => {
                expected = true;
                scan.reset_after(LOOK_WITHIN);
            }
            Some(question) = hooks.asked() => {
                hooks.wait(question);
                source.rung();
                look(&mut agent, &mut source, &config, &root, &mut trouble);
            }
        }
        hooks.answer(&agent.governor);
    }
    stop(agent).await
}

async fn stop(agent: Agent) -> anyhow::Result<u8> {
    tell(notify::STOPPING);
    let end =
        agent.stop("the agent was told to stop; pinned enforcement goes on", SEND_WITHIN).await?;
    if let Some(undrained) = end.undrained {
        tracing::warn!("{undrained}");
    }
    match end.unwritten {
        Some(error) => Err(error).context("the last records are lost"),
        None => Ok(0),
    }
}

fn plan(
    options: &Options,
    config: &Config,
    documents: Documents,
    root: Cgroup,
    node: String,
) -> anyhow::Result<Plan> {
    let directory = config.state_dir.join("spool");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {} (stateDir)", directory.display()))?;
    let spool = open_spool(&directory, options.set_aside_corrupt_spool)?;
    Ok(Plan {
        unknown: config.unknown_workloads,
        documents,
        node,
        source: Vec::new(),
        spool,
        witness_dir: config.state_dir.join("witness"),
        collector: config.collector.clone(),
        survival: Some(Survival {
            pins: pins(options, &root),
            root: root.id,
            state_dir: config.state_dir.clone(),
        }),
        root,
    })
}

/// The root to govern, where this node can do it.
fn able(options: &Options, config: &Config) -> anyhow::Result<Cgroup> {
    if let Some(obstacle) = preflight::obstacle() {
        bail!(obstacle);
    }
    let root = governed_root(config.cgroup_root.as_deref())?;
    let bpffs = preflight::bpffs(&options.bpffs);
    if bpffs.state != preflight::State::Ok {
        bail!("{}: {}", bpffs.detail, bpffs.remedy);
    }
    Ok(root)
}

fn pins(options: &Options, root: &Cgroup) -> PathBuf {
    options.bpffs.join(enforcer::PINS).join(root.id.to_string())
}

fn tell(state: &str) {
    if let Err(error) = notify::tell(state) {
        tracing::error!("cannot tell the service manager {state} ({}): {error}", notify::SOCKET);
    }
}

/// Makes the kernel govern what is there now. A source that fails leaves what was; the same trouble
/// is told once.
fn look(
    agent: &mut Agent,
    source: &mut Source,
    config: &Config,
    root: &Cgroup,
    trouble: &mut String,
) {
    let exempt = agent.governor.exempt().clone();
    let now = match source.find(config, root) {
        Ok(found) => {
            let errors = agent.governor.apply(&found);
            let unheard = agent.follow_networks();
            let errors = errors.iter().map(|error| chain(error));
            let errors = errors.chain(unheard.iter().map(|error| chain(error)));
            errors.collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("{error:#}"),
    };
    end_grants(agent);
    if now != *trouble {
        if now.is_empty() {
            tracing::info!("the workloads are governed again");
        } else {
            tracing::error!("{now}");
        }
        *trouble = now;
    }
    if exempt != *agent.governor.exempt() {
        tell_coverage(agent, "other workloads are exempt than before");
    }
    follow_source(agent, source.coverage());
}

/// Records what the source of workloads can and cannot tell, when that has changed.
fn follow_source(agent: &mut Agent, now: Vec<Capability>) {
    let said = |rows: &[Capability]| {
        rows.iter().map(|row| (row.name, row.reason.as_str().to_owned())).collect::<Vec<_>>()
    };
    if said(&now) != said(&agent.source) {
        agent.source = now;
        tell_coverage(agent, "what is known of workloads has changed");
    }
}

fn tell_coverage(agent: &Agent, message: &str) {
    if let Err(error) = agent.record_coverage(CoverageState::Change, message) {
        tracing::error!("{error:#}");
    }
}

/// Closes the connections of grants that are over; the kernel has stopped them already.
fn end_grants(agent: &mut Agent) {
    match agent.governor.end_expired_grants() {
        Ok(ended) => ended.iter().for_each(|ended| match &ended.closed {
            Ok(closed) => tracing::info!("grant {} is over: {closed} closed", ended.grant.id),
            Err(error) => tracing::warn!("grant {} is over: {}", ended.grant.id, chain(error)),
        }),
        Err(error) => tracing::error!("{}", chain(&error)),
    }
}

/// Reads the policies again; wrong ones change nothing.
fn reload(agent: &mut Agent, config: &Config) {
    let message = match policies::read(&config.policies) {
        Ok(documents) => {
            agent.governor.replace(documents);
            "the policies were read again".to_owned()
        }
        Err(error) => {
            tracing::error!("the policies stay as they were: {error}");
            "policies with mistakes were refused; those before stay in force".to_owned()
        }
    };
    tell_coverage(agent, &message);
}

fn governed_root(configured: Option<&Path>) -> anyhow::Result<Cgroup> {
    if let Some(path) = configured {
        return Ok(cgroup::open(path)?);
    }
    let mount = cgroup::mount_point()?;
    let roots = POD_ROOTS.map(|name| mount.join(name));
    match roots.iter().find(|path| path.is_dir()) {
        Some(path) => Ok(cgroup::open(path)?),
        None => bail!(
            "no kubepods cgroup below {}: set cgroupRoot to the cgroup that holds the pods",
            mount.display()
        ),
    }
}

/// The certificate's name; a configured one must be the same, or the collector would refuse.
fn node_name(config: &Config) -> anyhow::Result<String> {
    let own = config.collector.as_ref().map(|collector| exporter::node_name_of(&collector.tls_dir));
    match (own.transpose()?, &config.node_name) {
        (Some(own), Some(configured)) if own != *configured => bail!(
            "nodeName is `{configured}`, but the certificate is for node `{own}`: make them equal \
             or leave nodeName out"
        ),
        (Some(own), _) => Ok(own),
        (None, Some(configured)) => Ok(configured.clone()),
        (None, None) => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
            Ok(name.trim().to_owned())
        }
    }
}
