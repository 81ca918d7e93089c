//! The crash rounds as a program; `cargo xtask crash` builds and runs it.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use pcigate_tests::crash::{self, Kind};

/// Crashes agent and collector again and again and looks at what is left.
#[derive(Parser)]
struct Options {
    /// How many rounds
    #[arg(long, default_value_t = 1000)]
    rounds: u64,
    /// Repeat the plan of a run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Worlds at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only rounds of this kind: collector, spool, agent
    #[arg(long, value_parser = kind)]
    only: Option<Kind>,
    /// Keep the disk of a failed world in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "collector" => Ok(Kind::Collector),
        "spool" => Ok(Kind::Spool),
        "agent" => Ok(Kind::Agent),
        _ => Err("write collector, spool or agent".into()),
    }
}

fn main() -> ExitCode {
    let Options { rounds, seed, jobs, only, keep } = Options::parse();
    let seed = seed.unwrap_or_else(crash::random_seed);
    println!("{rounds} rounds, seed {seed}");
    let begun = Instant::now();
    let step = if std::io::stdout().is_terminal() { 5 } else { 50 };
    let progress = |done: u64| {
        if done.is_multiple_of(step) {
            println!("{done} of {rounds} rounds, {:.0} s", begun.elapsed().as_secs_f64());
            // A closed terminal does not end the run.
            let _ = std::io::stdout().flush();
        }
    };
    let summary = crash::run(&crash::Options { rounds, seed, jobs, only, keep }, progress);
    for (kind, count) in &summary.rounds {
        println!("{count:>6} rounds of {kind:?}");
    }
    for (fault, count) in &summary.faults {
        println!("{count:>6} {fault}");
    }
    for broken in &summary.broken {
        println!("\nBROKEN: {broken}");
    }
    println!("{:.0} s; seed {seed}", begun.elapsed().as_secs_f64());
    if summary.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
