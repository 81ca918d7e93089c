//! The command `pcigate`: reads the arguments, runs one verb, turns its answer into an exit code.
//!
//! Exit codes: 0 ok; 1 the answer is "no", or something was found; 2 usage or bad input; 3 the
//! collector or the API server cannot be reached or does not answer.

mod collector;
mod failure;
mod key;
mod kubernetes;
mod manuals;
mod mask;
mod policy;
mod record;
mod record_view;
mod records;
mod row;
mod session;
mod sessions;
mod sql;
mod table;
mod time;
mod verify;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod samples;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::failure::{Answer, Failure};

/// The name by which kubectl finds us.
const PLUGIN: &str = "kubectl-pcigate";

/// Ask for evidence, verify it, check policies, mask text.
#[derive(Parser)]
#[command(name = "pcigate", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ok, 1 the answer is \"no\" or something was found, \
    2 usage or bad input, 3 the collector or the API server cannot be reached.")]
struct Arguments {
    #[command(flatten)]
    collector: collector::Options,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List records: who did what, when, and what was decided.
    Records(Box<records::Options>),
    /// Ask one SELECT over the records.
    Sql(sql::Options),
    /// Show one record in full, with --proof that it is in the ledger.
    Record(record::Options),
    /// List gated sessions: who, with what, how much was allowed, refused and masked.
    Sessions(Box<sessions::Options>),
    /// Show or replay one gated session.
    #[command(subcommand)]
    Session(session::Verb),
    /// Check a whole ledger: every leaf, the tree and the signed checkpoint.
    Verify(verify::Options),
    /// What each node enforces, as the API server knows it.
    Status(kubernetes::status::Options),
    /// What nodes make of each policy and Target of the API server.
    Policies(kubernetes::status::PolicyOptions),
    /// Check policies, or ask them what would happen.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Take card data out of files or stdin, or tell where it is in them.
    Mask(mask::Options),
    /// Write a completion script for a shell.
    Completions(manuals::Completions),
    /// Write manual pages.
    Manuals(manuals::Manuals),
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: one JSON object per line.
    Json,
}

fn main() -> ExitCode {
    let command = named(Arguments::command(), std::env::args_os().next().as_deref());
    let arguments = match Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match run(&arguments) {
        Ok(answer) => ExitCode::from(answer.exit_code()),
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command under the name it was called by: kubectl runs `kubectl-pcigate` for
/// `kubectl pcigate`, and people see that in usage texts.
fn named(command: Command, called: Option<&OsStr>) -> Command {
    let called = called.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    match called {
        Some(name) if name.starts_with(PLUGIN) => command.name(PLUGIN).bin_name("kubectl pcigate"),
        _ => command,
    }
}

fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let collector = &arguments.collector;
    match &arguments.verb {
        Verb::Records(options) => collector::wait_for(records::run(collector, options)),
        Verb::Sql(options) => collector::wait_for(sql::run(collector, options)),
        Verb::Record(options) => collector::wait_for(record::run(collector, options)),
        Verb::Sessions(options) => collector::wait_for(sessions::run(collector, options)),
        Verb::Session(verb) => collector::wait_for(session::run(collector, verb)),
        Verb::Verify(options) => verify::run(collector, options),
        Verb::Policy(verb) => policy::run(collector, verb),
        Verb::Mask(options) => mask::run(options),
        Verb::Status(options) => kubernetes::status::run(options),
        Verb::Policies(options) => kubernetes::status::policies(options),
        Verb::Completions(options) => manuals::completions(Arguments::command(), options),
        Verb::Manuals(options) => manuals::manuals(Arguments::command(), options),
    }
}
