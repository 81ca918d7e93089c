//! `cargo xtask corpus`: writes labelled card data and look-alikes, made from a seed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::run;

/// Write a labelled corpus of card data and look-alikes, to judge any detector by.
///
/// Writes cards.ndjson (every brand in every spelling), sensitive.ndjson (tracks, codes, PIN
/// blocks, expiry dates) and look-alikes.ndjson to DIR: one JSON object a line with class, text (or
/// hex, where the bytes are not UTF-8), and labels (start, end, kind, brand, spelling, secret; the
/// offsets are bytes). The same seed gives the same bytes. The numbers are random, and pass for
/// real ones: do not commit them.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Any number; another one makes another corpus.
    #[arg(long)]
    pub seed: u64,
    /// Where to write; made when it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Lines of each brand in each spelling.
    #[arg(long, default_value_t = 5)]
    pub each: u32,
    /// Write also clean.log and dense.log of so many megabytes each, to measure speed with.
    #[arg(long, default_value_t = 0)]
    pub megabytes: u32,
}

/// Writes the files.
pub fn main(options: &Options) -> Result<ExitCode> {
    write(options)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the program of `tests/corpus`, which alone knows how a corpus is made.
pub fn write(options: &Options) -> Result<()> {
    let out = std::path::absolute(&options.out)?;
    let mut command = run::cargo(["run", "-q", "--release", "-p", "pcigate-corpus", "--"]);
    command.args(["--seed", &options.seed.to_string()]).arg("--out").arg(out);
    command.args(["--each", &options.each.to_string()]);
    command.args(["--megabytes", &options.megabytes.to_string()]);
    run::run(&mut command)
}
