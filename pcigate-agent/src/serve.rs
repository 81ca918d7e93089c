//! `pcigate-agent serve`: the DaemonSet.

mod notes;
mod policies;
mod serving;
mod source;
mod stand_by;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use pcigate_agent::{
    admin::{Admin, Board},
    cgroup::{self, Cgroup},
    config::{self, Config},
    enforcer, exporter,
    handover::Survival,
    hooks::{Hooks, SOCKET},
    notify, preflight, privileges,
    running::{Agent, Plan, open_spool},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use notes::Notes;
use policies::Policies;
use serving::Serving;
use source::Source;

/// How often the pod list is looked at again, beside each time a cgroup is made; the cgroups are
/// looked at again every fourth time (`workloads/pods.rs`). A new cgroup is an unknown workload
/// until then, treated by `unknownWorkloads`; the OCI hook keeps a container from starting
/// meanwhile.
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
        print!("{}", config::DOCUMENTED);
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
    let root = checked_root(options, &config)?;
    let ends = [&mut terminate, &mut interrupt];
    if options.stand_by && !stand_by::wait(&pins(options, &root), ends).await? {
        return Ok(0);
    }
    // The agent it has waited for had the port.
    let board = Board::new();
    let _admin = config.admin.map(|address| Admin::start(address, board.clone()));
    let node = node_name(&config)?;
    let mut source = Source::open(&config, &node).await?;
    let found = source.find(&config, &root)?;
    let mut policies = Policies::open(&config, source.connection(), &node).await?;
    let mut plan = plan(options, &config, &policies, root.clone(), node)?;
    plan.source = source.coverage();
    plan.source.extend(policies.coverage());
    let agent = Agent::start(plan, &found)?;
    board.enforcing(agent.watched());
    let socket = config.state_dir.join(SOCKET);
    let mut hooks = Hooks::listen(&socket, &root)
        .with_context(|| format!("cannot listen at {} (stateDir)", socket.display()))?;
    let doorbell = agent.doorbell.rung();
    let (mut listed, mut written) = (source.changed(), policies.changed());
    privileges::give_up(&privileges::SERVE)?;
    println!("pcigate-agent ready: governing {}", root.path.display());
    tell(notify::READY);
    let mut scan = tokio::time::interval(SCAN_EVERY);
    let notes = Notes::new(board);
    let mut serving = Serving { agent, source, policies, notes, config, root };
    let mut expected = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => serving.reload(),
            _ = scan.tick() => {
                expected = false;
                serving.look();
            }
            // However many ring before it, there is one look.
            () = doorbell.notified(), if !expected => {
                expected = true;
                serving.source.rung();
                scan.reset_after(LOOK_WITHIN);
            }
            () = either(&mut listed, &mut written), if !expected => {
                expected = true;
                scan.reset_after(LOOK_WITHIN);
            }
            Some(question) = hooks.asked() => {
                hooks.wait(question);
                serving.source.rung();
                serving.look();
            }
        }
        hooks.answer(&serving.agent.governor);
    }
    stop(serving.agent, &serving.notes).await
}

async fn stop(agent: Agent, notes: &Notes) -> anyhow::Result<u8> {
    tell(notify::STOPPING);
    notes.board.stopping();
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

/// Until one of them rings.
async fn either(one: &mut watch::Receiver<()>, other: &mut watch::Receiver<()>) {
    tokio::select! {
        Ok(()) = one.changed() => {}
        Ok(()) = other.changed() => {}
        // Who rings them is there as long as the agent is.
        else => std::future::pending().await,
    }
}

/// The governed root, where the node can do what is needed to govern it.
fn checked_root(options: &Options, config: &Config) -> anyhow::Result<Cgroup> {
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

fn plan(
    options: &Options,
    config: &Config,
    policies: &Policies,
    root: Cgroup,
    node: String,
) -> anyhow::Result<Plan> {
    let directory = config.state_dir.join("spool");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {} (stateDir)", directory.display()))?;
    let spool = open_spool(&directory, options.set_aside_corrupt_spool)?;
    let (documents, policies_known) = policies.now();
    Ok(Plan {
        unknown: config.unknown_workloads,
        documents,
        policies_known,
        node,
        source: Vec::new(),
        cluster: policies.cluster(),
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

fn pins(options: &Options, root: &Cgroup) -> PathBuf {
    options.bpffs.join(enforcer::PINS).join(root.id.to_string())
}

fn tell(state: &str) {
    if let Err(error) = notify::tell(state) {
        tracing::error!("cannot tell the service manager {state} ({}): {error}", notify::SOCKET);
    }
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
    // By enrolment the certificate comes later, and is taken for this name only.
    let own = config.collector.as_ref().filter(|collector| collector.enroll.is_none());
    let own = own.map(|collector| exporter::node_name_of(&collector.tls_dir));
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
