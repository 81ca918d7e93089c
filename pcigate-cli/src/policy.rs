//! `pcigate policy`: the verbs about policy documents.

mod by_name;
mod cases;
mod check;
mod destination;
mod explain;
mod files;
mod observed;
mod replay;
mod suggest;
mod unused;
pub mod workloads;

use clap::Subcommand;

use crate::collector;
use crate::failure::{Answer, Failure};

/// What is asked about policies.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Read documents and report every mistake with its place.
    Check(check::Options),
    /// What happens if this pod does that, and why.
    Explain(Box<explain::Options>),
    /// Run cases: what is asked and what must be answered, from YAML files.
    Test(cases::Options),
    /// Propose the least policy that allows what was recorded of a workload.
    Suggest(Box<suggest::Options>),
    /// Ask new documents about what was recorded: what would change?
    Replay(Box<replay::Options>),
    /// List rules that nothing in the recorded period needed (PCI DSS 7.2.5).
    Unused(Box<unused::Options>),
}

/// Runs one of them.
pub fn run(collector: &collector::Options, verb: &Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Check(options) => check::run(options),
        Verb::Explain(options) => explain::run(options),
        Verb::Test(options) => cases::run(options),
        Verb::Suggest(options) => collector::wait_for(suggest::run(collector, options)),
        Verb::Replay(options) => collector::wait_for(replay::run(collector, options)),
        Verb::Unused(options) => collector::wait_for(unused::run(collector, options)),
    }
}
