//! `cargo xtask demo`: the whole line on real kernel events, from nothing to a verified answer.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

/// Run the whole line for real: agent, collector, a governed workload, and the evidence of it.
#[derive(clap::Args)]
pub struct Options {
    /// Leave all data in DIR (the ledger in DIR/ledger, its verifier key in DIR/ledger.vkey).
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Shows the product at work, and leaves nothing behind but what `--keep` asks for.
pub fn main(options: &Options) -> Result<ExitCode> {
    match &options.keep {
        Some(keep) => bail!("the demo is not built yet, so nothing was kept in {}", keep.display()),
        None => bail!("the demo is not built yet; run `cargo xtask test` instead"),
    }
}
