//! The command `pcigate`: reads the arguments, runs one verb, turns its answer into an exit code.
//!
//! Exit codes: 0 ok; 1 the answer is "no", or something was found; 2 usage or bad input; 3 the
//! collector cannot be reached or does not answer.

mod collector;
mod failure;
mod key;
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

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::failure::{Answer, Failure};

/// Ask for evidence, verify it, check policies, mask text.
#[derive(Parser)]
#[command(name = "pcigate", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ok, 1 the answer is \"no\" or something was found, \
    2 usage or bad input, 3 the collector cannot be reached.")]
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
    /// Check policies, or ask them what would happen.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Take card data out of files or stdin, or tell where it is in them.
    Mask(mask::Options),
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
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(answer) => ExitCode::from(answer.exit_code()),
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
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
    }
}
