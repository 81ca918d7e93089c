//! `cargo xtask crash`: crashes agent and collector again and again and looks at what is left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::run;

/// Crash agent and collector at random storage calls, and look at what is left.
///
/// The programs run on a disk of ours (FUSE) that fails, and loses what was not synced. They are
/// killed or robbed of power at a random storage call, round after round. It ends at the first
/// promise that is broken: an acknowledged record lost, a record twice in an answer, a number used
/// twice, a ledger that does not verify. Needs root. A thousand rounds take some ten minutes.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// How many rounds.
    #[arg(long, default_value_t = 1000)]
    rounds: u64,
    /// Repeat the plan of a run that printed this seed (threads still interleave as they like).
    #[arg(long)]
    seed: Option<u64>,
    /// Only one kind of round: collector, spool or agent.
    #[arg(long)]
    only: Option<String>,
    /// Keep the disk of a failed world in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Builds the programs and runs the rounds.
pub fn main(options: &Options) -> Result<ExitCode> {
    if !run::is_root() {
        bail!("the crash rounds mount a file system and need root: `sudo cargo xtask crash`");
    }
    crate::setup::ensure(crate::setup::Scope::All)?;
    run::run(&mut run::programs())?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = run::root().join(target).join("debug/pcigate-crash");
    let rounds = options.rounds.to_string();
    let mut crash = run::command(program, ["--rounds", &rounds]);
    if let Some(seed) = options.seed {
        crash.arg("--seed").arg(seed.to_string());
    }
    if let Some(only) = &options.only {
        crash.arg("--only").arg(only);
    }
    if let Some(keep) = &options.keep {
        crash.arg("--keep").arg(std::path::absolute(keep)?);
    }
    run::run(&mut crash)?;
    Ok(ExitCode::SUCCESS)
}
