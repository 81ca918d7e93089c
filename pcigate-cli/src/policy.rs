//! `pcigate policy`: the verbs about policy documents.

mod check;
mod explain;
mod files;

use clap::Subcommand;

use crate::failure::{Answer, Failure};

/// What is asked about policies.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Read documents and report every mistake with its place.
    Check(check::Options),
    /// What happens if this pod does that, and why.
    Explain(Box<explain::Options>),
}

/// Runs one of them.
pub fn run(verb: &Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Check(options) => check::run(options),
        Verb::Explain(options) => explain::run(options),
    }
}
