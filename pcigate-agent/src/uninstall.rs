//! `pcigate-agent uninstall`: remove every pin of every version.

use std::path::PathBuf;

use anyhow::Context;
use pcigate_agent::{enforcer, preflight};

#[derive(clap::Args)]
#[command(after_help = "\
Removes the links, maps and programs of every agent and every version, which ends what they \
enforce. Stop the agents first: a running one keeps its tracepoints and LSM programs attached.")]
pub struct Options {
    /// Where bpffs is mounted.
    #[arg(long, value_name = "DIR", default_value = preflight::BPFFS)]
    bpffs: PathBuf,
}

/// Removes the pins of every governed root.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let directory = options.bpffs.join(enforcer::PINS);
    if !directory.exists() {
        println!("nothing is pinned below {}", directory.display());
        return Ok(0);
    }
    let pinned = enforcer::pinned(&options.bpffs);
    for root in pinned.with_context(|| format!("cannot list {}", directory.display()))? {
        if root.is_read {
            println!("an agent still runs with {}: stop it", root.directory.display());
        }
        for generation in &root.generations {
            println!("{generation}");
        }
        let removed = enforcer::remove_pins(&root.directory)
            .with_context(|| format!("cannot remove {}", root.directory.display()))?;
        println!("removed {removed} pins in {}", root.directory.display());
    }
    std::fs::remove_dir(&directory)
        .with_context(|| format!("cannot remove {}", directory.display()))?;
    Ok(0)
}
