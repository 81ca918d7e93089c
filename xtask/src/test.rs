//! `cargo xtask test` and `ci`: every check and every test, one stage after the other, and a count.

mod plan;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::run;
use crate::setup;
use crate::tables::{self, Extent, Tables};
use crate::vm;
use plan::{Plan, Stage, Work};
pub use tally::Tally;

/// Run everything: format, tidy, lints, then all tests, kernel and system tests included.
///
/// Sets the machine up first. The last line is always `N passed, N failed`, where a failed check
/// counts as one failure. Kernel and system tests load programs into the kernel: they need root.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Run only what needs neither root nor the kernel programs; the summary says what did not run.
    #[arg(long)]
    no_root: bool,
}

/// What a change must pass: everything of `test`, and the licences and advisories of dependencies.
///
/// cargo-deny is used when it is installed (`cargo install cargo-deny`); otherwise the summary
/// says that it did not run.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct CiOptions {
    /// Run only what needs neither root nor the kernel programs; the summary says what did not run.
    #[arg(long)]
    no_root: bool,
}

/// Runs the tests.
pub fn main(options: &Options) -> Result<ExitCode> {
    Ok(all(options.no_root, false))
}

/// Runs the tests, and cargo-deny.
pub fn ci(options: &CiOptions) -> Result<ExitCode> {
    Ok(all(options.no_root, true))
}

/// What became of a stage.
struct Done {
    name: String,
    took: Duration,
    passed: u64,
    failed: u64,
}

fn all(no_root: bool, deny: bool) -> ExitCode {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut seen = Tables::default();
    let mut done = Vec::new();
    let plan = Plan::new(no_root, deny);
    let mut not_run = plan.not_run.clone();
    let mut stages = plan.stages.iter();
    for stage in stages.by_ref() {
        let outcome = perform(stage, no_root, &mut tally, &mut seen, &mut done);
        if outcome.is_err() && stage.needed_by_the_rest {
            break;
        }
    }
    match seen.stale(Extent::Whole) {
        Ok(stale) => tally.stale(&stale),
        Err(error) => tally.stale(&[format!("{error:#}")]),
    }
    let stopped = "a stage before it failed";
    not_run.extend(stages.map(|stage| format!("{}: {stopped}", stage.name)));
    summary(&tally, &done, &not_run, began.elapsed());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one stage and counts what came of it. A check is one failure when it fails, and no pass
/// when it succeeds: only tests are tests.
fn perform(
    stage: &Stage,
    no_root: bool,
    tally: &mut Tally,
    seen: &mut Tables,
    done: &mut Vec<Done>,
) -> Result<()> {
    println!("\n== {}", stage.name);
    if let Work::Vms(runs) = &stage.work {
        machines(runs, tally, seen, done);
        return Ok(());
    }
    let began = Instant::now();
    let (passed, failed) = (tally.passed, tally.failed);
    tally.begin(&stage.name);
    let outcome = match &stage.work {
        Work::Root => root_or_say_so(no_root),
        Work::Setup(scope) => setup::ensure(*scope),
        Work::Tidy => crate::tidy::check(),
        Work::Commands(commands) => {
            commands.iter().try_for_each(|command| run::run(&mut command(no_root)))
        }
        Work::Vms(_) => Ok(()),
        Work::Tests(command) => {
            let native = tables::native();
            run::watch(&mut command(no_root), |line| {
                tally.take(line);
                seen.take(&native, line);
            })
        }
    };
    tally.end(&outcome, failed);
    if let Err(error) = &outcome {
        println!("{}: {error:#}", stage.name);
    }
    let took = began.elapsed();
    let (passed, failed) = (tally.passed - passed, tally.failed - failed);
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("== {}: {word} in {:.1} s", stage.name, took.as_secs_f64());
    done.push(Done { name: stage.name.clone(), took, passed, failed });
    outcome
}

/// Virtual machines run side by side, and are a stage each.
fn machines(runs: &[vm::Run], tally: &mut Tally, seen: &mut Tables, done: &mut Vec<Done>) {
    for finished in vm::run_all(runs, &[], false) {
        let (passed, failed) = (tally.passed, tally.failed);
        finished.count(tally);
        finished.tell(seen);
        let (passed, failed) = (tally.passed - passed, tally.failed - failed);
        done.push(Done { name: finished.name, took: finished.took, passed, failed });
    }
}

fn root_or_say_so(no_root: bool) -> Result<()> {
    if no_root || run::is_root() {
        return Ok(());
    }
    bail!(
        "kernel and system tests need root: run `sudo -E env PATH=\"$PATH\" cargo xtask test`, \
         or `cargo xtask test --no-root` for the tests that need none"
    )
}

fn summary(tally: &Tally, done: &[Done], not_run: &[String], took: Duration) {
    println!("\n== summary");
    for stage in done {
        let word = if stage.failed == 0 { "ok" } else { "FAILED" };
        let counts = match (stage.passed, stage.failed) {
            (0, 0) => String::new(),
            (passed, failed) => format!("  {passed} passed, {failed} failed"),
        };
        println!("{word:>7} {:>7.1} s  {}{counts}", stage.took.as_secs_f64(), stage.name);
    }
    for what in not_run.iter().cloned().chain(tally.not_run()) {
        println!("not run  {what}");
    }
    if tally.ignored > 0 {
        println!("ignored  {} tests", tally.ignored);
    }
    for name in &tally.failed_names {
        println!("failed   {name}");
    }
    println!("all of it took {:.0} s", took.as_secs_f64());
}
