//! `pcigate-agent exec`: govern one command and its children on this machine.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::{Pid, getpgrp, tcsetpgrp},
};
use pcigate_agent::{
    cgroup,
    config::{Collector, DEFAULT_TLS_DIR, UnknownWorkloads},
    exporter,
    kubernetes::Cluster,
    policies, preflight, privileges,
    running::{Agent, End, Plan, open_spool},
    sandbox,
    spool::{Spool, SpoolError},
    workloads::Found,
};
use pcigate_policy::workload::Identity;
use pcigate_proto::{Verdict, spiffe};
use tokio::signal::unix::{SignalKind, signal};

/// Runs of `exec` at the same time, each with a spool of its own.
const SPOOLS_MAX: u32 = 64;
/// How long records may take to the collector after the command has ended.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long the command may take to end after it was asked to.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Always writable for the command.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Not writable for the command even where it starts there.
const SYSTEM: [&str; 11] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"];

#[derive(clap::Args)]
#[command(after_help = "\
The command runs as the workload named, in a cgroup and a pid namespace of its own, without the \
capabilities to leave them, and is governed from its first instruction. It sees the machine's \
files \
but may write only to its working directory (unless a system directory), /tmp, /var/tmp and \
--writable. Without --policy it is \
only recorded. Its exit code is the command's; 125: it has not been started; 128+N: signal N \
(137 also where policy refuses the command itself).

Example:
  pcigate-agent exec --policy billing-bot.yaml --name payments/billing-bot \\
      --service-account billing-bot --label app=billing-bot -- ./bot --once")]
pub struct Options {
    /// Policy file, or directory of policy files; may be given again.
    #[arg(long = "policy", value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
    /// The workload's namespace and pod name.
    #[arg(long, value_name = "NAMESPACE/POD", default_value = "local/exec", value_parser = pod)]
    name: (String, String),
    /// The workload's ServiceAccount.
    #[arg(long, value_name = "NAME", default_value = "default")]
    service_account: String,
    /// A label of the workload; may be given again.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Send records to this collector; without, they stay in the spool.
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// Directory with ca.pem, cert.pem and key.pem of this node.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_TLS_DIR)]
    tls_dir: PathBuf,
    /// A directory the command may write to besides its working directory, /tmp and /var/tmp; may
    /// be
    /// given again.
    #[arg(long, value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Directory for the spool.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/pcigate/exec")]
    state_dir: PathBuf,
    /// Keep what can be read of damaged spool segments, set the files aside, and report the rest as
    /// a gap.
    #[arg(long)]
    set_aside_corrupt_spool: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn pod(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => {
            Ok((namespace.to_owned(), pod.to_owned()))
        }
        _ => Err("write NAMESPACE/POD, such as payments/billing-bot".into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as app=billing-bot")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command; its exit code.
pub fn run(options: Options) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(govern(options))
}

async fn govern(options: Options) -> anyhow::Result<u8> {
    let documents = policies::read(&options.policies)?;
    if let Some(obstacle) = preflight::obstacle() {
        bail!(obstacle);
    }
    cgroup::sweep("exec");
    let node = node_name(&options)?;
    let state_dir = options.state_dir.join(&node);
    let (spool, directory) = first_free_spool(&state_dir, options.set_aside_corrupt_spool)?;
    // Before anything else that would have to be undone: signals only end the command from here on.
    let mut signals = Signals::new()?;
    let cgroup = cgroup::create(&format!("exec-{}", std::process::id()))?;
    let found = workload(&options, &cgroup.cgroup);
    if !options.policies.is_empty() && documents.select(&found.identity).policies().is_empty() {
        let (namespace, pod) = &options.name;
        bail!(
            "no policy selects {namespace}/{pod} (ServiceAccount {}), so nothing would be refused: \
             give --name, --service-account and --label as the policy's selector has them, or \
             leave \
             --policy out",
            options.service_account
        );
    }
    let sandbox = sandbox_plan(&options, &cgroup.cgroup)?;
    let plan = Plan {
        root: cgroup.cgroup.clone(),
        unknown: UnknownWorkloads::Deny,
        documents,
        node,
        spool,
        witness_dir: directory.join("witness"),
        collector: options.collector.map(|url| Collector::new(url, options.tls_dir)),
        survival: None,
        source: Vec::new(),
        policies_known: true,
        cluster: Cluster::none(),
    };
    let agent = Agent::start(plan, &[found])?;
    let ran = match sandbox::command(&sandbox).spawn() {
        Ok(mut child) => match privileges::give_up(&privileges::EXEC) {
            Ok(()) => {
                let _foreground = Foreground::give_to(&child);
                wait(child, &cgroup.cgroup.path, &mut signals).await
            }
            Err(error) => child.kill().map_err(Into::into).and(Err(error.into())),
        },
        Err(error) => Err(error).context("cannot start the sandbox"),
    };
    // What the command left running is not governed by anybody after this.
    cgroup::remove(&cgroup.cgroup.path).context("cannot end what the command left running")?;
    let end = agent.stop("the command has ended", SEND_WITHIN).await?;
    let status = ran?;
    summarise(&end, &directory);
    Ok(sandbox::code(status))
}

/// What the command may write to: its working directory, the temporary ones, and what was named.
fn sandbox_plan(options: &Options, cgroup: &cgroup::Cgroup) -> anyhow::Result<sandbox::Plan> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
    };
    let directory = std::env::current_dir().context("the working directory is gone")?;
    let mut writable: Vec<PathBuf> =
        TEMPORARY.iter().map(PathBuf::from).filter(|path| path.is_dir()).collect();
    if !SYSTEM.iter().any(|system| directory.starts_with(system)) && directory != Path::new("/") {
        writable.push(directory.clone());
    }
    for path in &options.writable {
        let path = absolute(path)?;
        ensure!(path.is_dir(), "--writable {} is not a directory", path.display());
        writable.push(path);
    }
    let mut hide = vec![PathBuf::from("/var/lib/pcigate")];
    hide.extend([absolute(&options.state_dir)?, absolute(&options.tls_dir)?]);
    let mut protect: Vec<PathBuf> =
        options.policies.iter().map(absolute).collect::<Result<_, _>>()?;
    protect.extend(std::env::current_exe());
    let (cgroup, command) = (cgroup.path.clone(), options.command.clone());
    Ok(sandbox::Plan { cgroup, directory, hide, writable, protect, command })
}

/// The terminal belongs to the command's process group until this is dropped, so that Ctrl-C
/// reaches
/// the command and not the agent.
struct Foreground;

impl Foreground {
    /// `None` where there is no terminal.
    fn give_to(child: &Child) -> Option<Self> {
        let group = Pid::from_raw(i32::try_from(child.id()).ok()?);
        Self::set(group).then_some(Self)
    }

    fn set(group: Pid) -> bool {
        // The kernel stops a background process that takes the terminal, unless it blocks this.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let blocked = stop.thread_block().is_ok();
        std::io::stdin().is_terminal() && blocked && tcsetpgrp(std::io::stdin(), group).is_ok()
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        Self::set(getpgrp());
    }
}

fn workload(options: &Options, cgroup: &cgroup::Cgroup) -> Found {
    let (namespace, pod) = options.name.clone();
    let name_label = ("kubernetes.io/metadata.name".to_owned(), namespace.clone());
    let identity = Identity {
        namespace,
        pod,
        pod_uid: String::new(),
        service_account: options.service_account.clone(),
        labels: options.labels.iter().cloned().collect(),
        namespace_labels: BTreeMap::from([name_label]),
    };
    let name = cgroup.path.file_name().unwrap_or_default().to_string_lossy();
    Found::new(cgroup.id, &name, Arc::new(identity), None)
}

/// The first spool that no other run holds. What an earlier run could not send is sent by this one.
fn first_free_spool(state_dir: &Path, set_aside: bool) -> anyhow::Result<(Spool, PathBuf)> {
    for number in 0..SPOOLS_MAX {
        let directory = state_dir.join(number.to_string());
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {} (--state-dir)", directory.display()))?;
        match open_spool(&directory.join("spool"), set_aside) {
            Ok(spool) => return Ok((spool, directory)),
            Err(SpoolError::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{SPOOLS_MAX} commands run at the same time: give this one a --state-dir of its own")
}

/// The certificate's name wherever there is one, so that a later run may send what this one leaves.
fn node_name(options: &Options) -> anyhow::Result<String> {
    if options.collector.is_some() || options.tls_dir.join("cert.pem").exists() {
        return Ok(exporter::node_name_of(&options.tls_dir)?);
    }
    Ok(host_name())
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if spiffe::is_name(name) { name.to_owned() } else { "localhost".to_owned() }
}

/// Signals that end a command. The agent itself outlives it, to record the end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hang_up.recv() => Signal::SIGHUP,
        }
    }
}

/// Waits for the sandbox. A signal is passed on to what runs in it; what does not end then is
/// killed. A Ctrl-C at a terminal reaches the command without us, and may mean something to it.
async fn wait(
    mut child: Child,
    cgroup: &Path,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let mut deadline = None;
    loop {
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = &mut ended => {
                let status = status.context("the thread that waits for the sandbox")?;
                return status.context("waiting for the sandbox");
            }
            signal = signals.next() => {
                if signal != Signal::SIGINT || !std::io::stdin().is_terminal() {
                    pass_on(cgroup, signal);
                    deadline = Some(tokio::time::Instant::now() + END_WITHIN);
                }
            }
            () = expired => {
                pass_on(cgroup, Signal::SIGKILL);
                deadline = None;
            }
        }
    }
}

/// Sends a signal to every process of the cgroup. Pid 1 of the sandbox takes only SIGKILL.
fn pass_on(cgroup: &Path, signal: Signal) {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[expect(clippy::print_stderr, reason = "the summary is part of the command's output")]
fn summarise(end: &End, directory: &Path) {
    let counters = &end.recorded;
    let by = |wanted| -> u64 {
        let of = counters.by_verdict.iter().filter(|((_, verdict), _)| *verdict == wanted);
        of.map(|(_, count)| count).sum()
    };
    let (gated, refused) = (by(Verdict::Gate), by(Verdict::Deny) + by(Verdict::Ask));
    let masked: u64 = counters.masked.values().sum();
    let lost: u64 = counters.lost.values().sum();
    eprintln!(
        "pcigate: {} records: {} allowed, {gated} gated, {refused} refused, {} without a verdict; \
         {masked} masked, {lost} lost",
        counters.recorded,
        by(Verdict::Allow),
        by(Verdict::Unspecified),
    );
    if let Some(error) = end.unwritten {
        eprintln!("pcigate: the last records are lost: {error}");
    }
    match (&end.sent, &end.undrained) {
        (None, _) => eprintln!("pcigate: kept in {}", directory.display()),
        (Some(_), Some(undrained)) => eprintln!("pcigate: {undrained}"),
        (Some(sent), None) => {
            eprintln!("pcigate: sent, {} refused by the collector", sent.refused_records)
        }
    }
}
