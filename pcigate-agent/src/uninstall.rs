//! `pcigate-agent uninstall`: remove every pin.

use std::path::PathBuf;

use anyhow::Context;
use pcigate_agent::{enforcer, preflight};

#[derive(clap::Args)]
#[command(after_help = "Stop the agents first: a running one keeps what it has attached.")]
pub struct Options {
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = preflight::BPFFS)]
    bpffs: PathBuf,
}

/// Removes the pins of every governed root.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let directory = options.bpffs.join("pcigate");
    if !directory.exists() {
        println!("nothing is pinned below {}", directory.display());
        return Ok(0);
    }
    let entries = std::fs::read_dir(&directory);
    for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        enforcer::remove_pins(&path)
            .with_context(|| format!("cannot remove {}", path.display()))?;
        println!("removed {}", path.display());
    }
    std::fs::remove_dir(&directory)?;
    Ok(0)
}
