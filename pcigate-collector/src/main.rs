//! The program `pcigate-collector`: `serve`, `issue`, `backup`, `restore`, `fsck`, `reindex`.

mod maintenance;

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pcigate_collector::{
    config::{self, Config},
    issue::{self, Holder, Order},
    logging, reindex, server,
};
use pcigate_policy::mask::one_line;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bytes of a fault's words.
const FAULT_BYTES_MAX: usize = 400;
/// Exit code when a second signal cut the orderly end short.
const SECOND_SIGNAL: i32 = 130;

#[derive(Parser)]
#[command(name = "pcigate-collector", version, about = "Keeps the evidence of pcigate")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take records from nodes, keep the ledger, answer people
    Serve(Serve),
    /// Make the TLS directory of a server, a node or a person
    Issue(Issue),
    /// Copy the ledger to a directory, or bring an older copy up to date; also while serving
    Backup(maintenance::Backup),
    /// Put a backup into a state directory that has no ledger
    Restore(maintenance::Restore),
    /// Check a ledger, its records and its cursors; also while serving
    Fsck(maintenance::Fsck),
    /// Build the index anew from the ledger; the collector must be stopped
    Reindex(Reindex),
}

#[derive(Args)]
struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Print a configuration with every key and its default, and exit
    #[arg(long)]
    print_config: bool,
}

#[derive(Args)]
struct Reindex {
    /// The configuration file of the collector
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct Issue {
    /// Directory of the certificate authority; made on first use. Keep it off the collector
    #[arg(long, value_name = "DIR")]
    ca_dir: PathBuf,
    /// The TLS directory to make: ca.pem, cert.pem, key.pem
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    holder: HolderArgs,
    /// Trust domain in the SPIFFE id of nodes and people
    #[arg(long, default_value = "pcigate", value_name = "NAME")]
    trust_domain: String,
    /// Days until the certificate expires
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Leave a TLS directory alone that is good for another third of its time; replace it otherwise
    #[arg(long)]
    renew: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct HolderArgs {
    /// For a collector: its DNS names and IP addresses
    #[arg(long, num_args = 1.., value_name = "HOST")]
    server: Vec<String>,
    /// For the agent of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// For this person
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
}

impl HolderArgs {
    fn into_holder(self) -> Holder {
        match (self.node, self.person) {
            (Some(node), _) => Holder::Node(node),
            (_, Some(person)) => Holder::Person(person),
            _ => Holder::Server(self.server),
        }
    }
}

fn main() -> ExitCode {
    // What is said of a fault may quote what was being read.
    std::panic::set_hook(Box::new(|fault| {
        let fault = one_line(&fault.to_string(), FAULT_BYTES_MAX);
        drop(writeln!(std::io::stderr(), "pcigate-collector: {fault}"));
    }));
    let done: anyhow::Result<ExitCode> = match Cli::parse().command {
        Command::Serve(Serve { print_config: true, .. }) => {
            say(config::DOCUMENTED.trim_end()).map_err(Into::into).map(|()| ExitCode::SUCCESS)
        }
        Command::Serve(Serve { config, .. }) => {
            serve(&config.unwrap_or_default()).map(|()| ExitCode::SUCCESS)
        }
        Command::Issue(args) => issue(args).map(|()| ExitCode::SUCCESS),
        Command::Backup(args) => maintenance::backup(&args).map(|()| ExitCode::SUCCESS),
        Command::Restore(args) => maintenance::restore(&args).map(|()| ExitCode::SUCCESS),
        Command::Fsck(args) => Ok(maintenance::fsck(&args)),
        Command::Reindex(Reindex { config }) => reindex(&config).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn complain(error: &anyhow::Error) {
    // Nothing is left to be told when standard error is gone.
    drop(writeln!(std::io::stderr(), "pcigate-collector: {error:#}"));
}

fn issue(args: Issue) -> anyhow::Result<()> {
    let Issue { ca_dir, out, holder, trust_domain, days, renew } = args;
    let order = Order { ca_dir, out, holder: holder.into_holder(), trust_domain, days };
    if !renew {
        issue::issue(&order)?;
    } else if !issue::renew(&order)? {
        say(&format!("{} is good for longer", order.out.display()))?;
        return Ok(());
    }
    say(&format!("issued {}", order.out.display()))?;
    Ok(())
}

/// Progress is for people who wait: at most a line a second, beside the answer.
fn reindex(config: &std::path::Path) -> anyhow::Result<()> {
    let config = config::load(config)?;
    let mut said = Instant::now();
    let size = reindex::run(&config, |done, all| {
        if said.elapsed() >= Duration::from_secs(1) {
            let percent = done * 100 / all.max(1);
            // The work goes on when nobody watches.
            drop(writeln!(std::io::stderr(), "reindex: {done} of {all} leaves ({percent} %)"));
            said = Instant::now();
        }
    })?;
    say(&format!("reindexed {size} leaves"))?;
    Ok(())
}

fn serve(config: &std::path::Path) -> anyhow::Result<()> {
    let config = config::load(config)?;
    logging::start(&config.log);
    let runtime = tokio::runtime::Runtime::new().context("no threads for serving")?;
    let served = runtime.block_on(run(config));
    // A scan for a client that is gone must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut reload = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut running = tokio::select! {
        started = server::start(config) => started?,
        () = signals.end() => anyhow::bail!("asked to stop before the collector was ready"),
    };
    say(&format!("pcigate-collector ready on {}", running.address()))?;
    if let Some(enroll) = running.enroll_address() {
        drop(say(&format!("agents enrol at {enroll}")));
    }
    if let Some(web) = running.web_address() {
        // Who waited for the first line may have gone since.
        drop(say(&format!("metrics and health on http://{web}")));
    }
    let asked = loop {
        tokio::select! {
            () = signals.end() => break true,
            _ = reload.recv() => running.reload().await,
            () = running.failed() => break false,
        }
    };
    tracing::info!("stopping: no more batches are taken, what is queued is committed");
    tokio::select! {
        stopped = running.stop() => stopped?,
        () = signals.end() => {
            tracing::warn!("asked a second time: ending at once; what was not acknowledged is lost \
                            here and sent again by its node");
            std::process::exit(SECOND_SIGNAL);
        }
    }
    anyhow::ensure!(asked, "serving ended by itself; see the log");
    tracing::info!("stopped");
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
        })
    }

    /// Waits for one that asks for the end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
