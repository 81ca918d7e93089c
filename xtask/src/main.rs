//! Every chore of the project: `cargo xtask CHORE`. One file per chore; nothing here is shipped.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to its terminal")]

mod bench;
mod corpus;
mod crash;
mod demo;
mod image;
mod run;
mod setup;
mod tables;
mod test;
mod tidy;
mod verifier;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The chores of pcigate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Setup(setup::Options),
    Crash(crash::Options),
    Demo(demo::Options),
    Bench(bench::Options),
    Test(test::Options),
    Ci(test::CiOptions),
    Tidy(tidy::Options),
    Verifier(verifier::Options),
    Vm(vm::Options),
    Corpus(corpus::Options),
    Image(image::Options),
}

fn main() -> ExitCode {
    perform(&Cli::parse().chore).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn perform(chore: &Chore) -> Result<ExitCode> {
    match chore {
        Chore::Setup(options) => setup::main(options),
        Chore::Crash(options) => crash::main(options),
        Chore::Demo(options) => demo::main(options),
        Chore::Bench(options) => bench::main(options),
        Chore::Test(options) => test::main(options),
        Chore::Ci(options) => test::ci(options),
        Chore::Tidy(options) => tidy::main(options),
        Chore::Verifier(options) => verifier::main(options),
        Chore::Vm(options) => vm::main(options),
        Chore::Corpus(options) => corpus::main(options),
        Chore::Image(options) => image::main(options),
    }
}
