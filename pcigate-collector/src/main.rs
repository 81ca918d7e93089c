//! The program `pcigate-collector`: `serve`, `issue` and `reindex`.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pcigate_collector::{
    config,
    issue::{self, Holder, Order},
    reindex, server,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    let done = match Cli::parse().command {
        Command::Serve(Serve { print_config: true, .. }) => {
            say(config::DOCUMENTED.trim_end()).map_err(Into::into)
        }
        Command::Serve(Serve { config, .. }) => serve(&config.unwrap_or_default()),
        Command::Issue(args) => issue(args),
        Command::Reindex(Reindex { config }) => reindex(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be told when standard error is gone.
            drop(writeln!(std::io::stderr(), "pcigate-collector: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn issue(args: Issue) -> anyhow::Result<()> {
    let Issue { ca_dir, out, holder, trust_domain, days } = args;
    let order = Order { ca_dir, out, holder: holder.into_holder(), trust_domain, days };
    issue::issue(&order)?;
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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let config = config::load(config)?;
    let runtime = tokio::runtime::Runtime::new().context("no threads for serving")?;
    let served = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut running = server::start(config).await?;
        say(&format!("pcigate-collector ready on {}", running.address()))?;
        let asked = tokio::select! {
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            () = running.failed() => false,
        };
        tracing::info!("stopping");
        running.stop().await?;
        anyhow::ensure!(asked, "serving ended by itself; see the log");
        Ok(())
    });
    // A scan for a client that is gone must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
