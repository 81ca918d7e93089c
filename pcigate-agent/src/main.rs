//! `pcigate-agent`: the node agent's command line.

mod doctor;
mod exec;
mod oci_hook;
mod serve;
mod uninstall;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use pcigate_agent::{
    gateway::{keeper, process},
    sandbox,
};
use pcigate_policy::mask::one_line;
use tracing_subscriber::EnvFilter;

/// What is logged where PCIGATE_LOG says nothing. That the API server does not answer is said once
/// by us, not for each attempt.
const LOG: &str = "warn,kube_client=off,kube_runtime=off";

/// Makes PCI DSS controls unavoidable for the pods of a node.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Govern the pods of this node: the DaemonSet.
    Serve(serve::Options),
    /// Govern one command and its children on this machine.
    Exec(exec::Options),
    /// Tell what this node can and cannot enforce.
    Doctor(doctor::Options),
    /// Let a container start only when the agent governs it: a hook of the container runtime.
    OciHook(oci_hook::Options),
    /// Remove every pin, which ends what outlived the agent.
    Uninstall(uninstall::Options),
    #[command(name = sandbox::OUTER, hide = true)]
    SandboxOuter(sandbox::Plan),
    #[command(name = sandbox::INIT, hide = true)]
    SandboxInit(sandbox::Plan),
    #[command(name = keeper::VERB, hide = true)]
    GatewayKeeper,
    #[command(name = process::VERB, hide = true)]
    GatewayProcess,
}

/// Usage, configuration or the node is wrong; the command has not run.
const CANNOT: u8 = 125;

/// Bytes of a fault's words.
const FAULT_BYTES_MAX: usize = 400;

fn main() -> ExitCode {
    // What is said of a fault may quote what was being read.
    std::panic::set_hook(Box::new(|fault| {
        let fault = one_line(&fault.to_string(), FAULT_BYTES_MAX);
        drop(writeln!(std::io::stderr(), "pcigate-agent: {fault}"));
    }));
    let cli = Cli::parse();
    let result = match cli.verb {
        // The stages of the sandbox stay single-threaded and silent.
        Verb::SandboxOuter(plan) => sandbox::outer(&plan).map_err(anyhow::Error::from),
        Verb::SandboxInit(plan) => sandbox::init(&plan).map_err(anyhow::Error::from),
        // Single-threaded and silent, too.
        Verb::GatewayKeeper => keeper::inside::run().map(|()| 0).map_err(anyhow::Error::from),
        Verb::GatewayProcess => logged(|| Ok(process::run().map(|()| 0)?)),
        Verb::Serve(options) => logged(|| serve::run(&options)),
        Verb::Exec(options) => logged(|| exec::run(options)),
        Verb::Doctor(options) => logged(|| doctor::run(&options)),
        Verb::OciHook(options) => logged(|| oci_hook::run(&options)),
        Verb::Uninstall(options) => logged(|| uninstall::run(&options)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(CANNOT)
        }
    }
}

fn logged(run: impl FnOnce() -> anyhow::Result<u8>) -> anyhow::Result<u8> {
    let filter = EnvFilter::try_from_env("PCIGATE_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    run()
}

/// Lines shown of a cause: the kernel explains a refused program in up to 200,000.
const CAUSE_LINES_MAX: usize = 30;

/// The end of a text, where it is long: the verifier says why in its last lines.
fn end_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(CAUSE_LINES_MAX) {
        None | Some(0) => text.to_owned(),
        Some(more) => {
            let end = lines.get(more..).unwrap_or_default().join("\n");
            format!("({more} lines left out)\n{end}")
        }
    }
}

/// One sentence, then what is behind it.
#[expect(clippy::print_stderr, reason = "the error message of a command")]
fn complain(error: &anyhow::Error) {
    eprintln!("pcigate-agent: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {}", end_of(&cause.to_string()));
    }
}
