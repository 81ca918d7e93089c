//! `cargo xtask bench`: runs the bench programs, judges their figures, and writes
//! docs/performance.md from what was measured.

mod document;
mod machine;
mod report;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{run, setup};
use machine::Machine;
use report::Run;

/// A bench program, in the order of the document.
struct Bench {
    name: &'static str,
    /// It loads kernel programs.
    needs_root: bool,
}

const BENCHES: [Bench; 11] = [
    Bench { name: "exec", needs_root: true },
    Bench { name: "connect", needs_root: true },
    Bench { name: "ring", needs_root: true },
    Bench { name: "deny-flood", needs_root: true },
    Bench { name: "ingest", needs_root: false },
    Bench { name: "verify", needs_root: false },
    Bench { name: "memory", needs_root: true },
    Bench { name: "pods", needs_root: true },
    Bench { name: "query", needs_root: false },
    Bench { name: "mask", needs_root: false },
    Bench { name: "postgres", needs_root: true },
];

/// The benches, and the programs that they start.
const PACKAGES: [&str; 5] =
    ["pcigate-agent", "pcigate-collector", "pcigate-cli", "pcigate-policy", "pcigate-tests"];
/// How they are built: see `[profile.measure]` in Cargo.toml.
const PROFILE: &str = "measure";

/// Measure, and compare with the budgets.
///
/// Rounds of what is compared alternate; figures are medians with the least and the greatest of the
/// rounds. Whatever a bench makes (cgroups, ledgers) is gone afterwards.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
A quiet machine: whatever else runs is in the figures. docs/performance/NAME.json holds the last \
run that was kept, docs/performance.md is made from those."
)]
pub struct Options {
    /// What to measure: exec, connect, ring, deny-flood, ingest, verify, memory, pods, query,
    /// mask, postgres; or all of it.
    #[arg(value_name = "NAME", default_value = "all")]
    names: Vec<String>,
    /// Print one JSON object a bench instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds of each bench, in place of its own number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: Option<u64>,
    /// Records of a ledger, for the benches that make one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Few and short rounds: shows that the benches work, not how fast anything is.
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// For mask: measure its peers written in Python as well; brought from PyPI into target/peers.
    #[arg(long)]
    peers: bool,
    /// Keep what was measured, and write docs/performance.md anew.
    #[arg(long)]
    write: bool,
    /// Measure nothing; write docs/performance.md anew from the runs and remarks that are kept.
    #[arg(long, conflicts_with_all = ["write", "quick", "json"])]
    render: bool,
}

/// Builds, measures, reports; fails when a bench fails, not when a budget is missed.
pub fn main(options: &Options) -> Result<ExitCode> {
    if options.render {
        write_document()?;
        return Ok(ExitCode::SUCCESS);
    }
    let benches = chosen(&options.names)?;
    if let Some(bench) = benches.iter().find(|bench| bench.needs_root && !run::is_root()) {
        bail!("the bench `{}` loads kernel programs and needs root: run it with sudo", bench.name);
    }
    setup::ensure(setup::Scope::Kernel)?;
    if benches.iter().any(|bench| bench.name == "postgres") {
        setup::ensure_postgres()?;
        if let Err(error) = setup::pgbouncer::ensure() {
            eprintln!("nothing will be compared with pgbouncer: {error:#}");
        }
    }
    build(&benches, options.json)?;
    let machine = Machine::here()?;
    let mut failed = Vec::new();
    for bench in &benches {
        let began = Instant::now();
        match measure(bench, options, &machine) {
            Ok(run) => {
                show(&run, options.json)?;
                if options.write {
                    store(&run)?;
                }
                eprintln!("== {}: {:.0} s", bench.name, began.elapsed().as_secs_f64());
            }
            Err(error) => {
                eprintln!("== {}: {error:#}", bench.name);
                failed.push(bench.name);
            }
        }
    }
    if options.write {
        write_document()?;
    }
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Bench>> {
    if names.iter().any(|name| name == "all") {
        return Ok(BENCHES.iter().collect());
    }
    let find = |name: &String| {
        let known = || BENCHES.map(|bench| bench.name).join(", ");
        let found = BENCHES.iter().find(|bench| bench.name == *name);
        found.with_context(|| format!("there is no bench `{name}`: use {}, or all", known()))
    };
    names.iter().map(find).collect()
}

/// Cargo's words for one selection of packages, always the same: another one would combine other
/// features of the dependencies, and compile all of them again.
fn selection(subcommand: &str) -> impl Iterator<Item = &str> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    [subcommand, "--profile", PROFILE].into_iter().chain(packages)
}

fn build(benches: &[&Bench], quietly: bool) -> Result<()> {
    let names = benches.iter().flat_map(|bench| ["--bench", bench.name]);
    let mut cargo = run::cargo(selection("build").chain(["--bins"]).chain(names));
    if quietly {
        // Standard output is for the JSON; cargo itself talks on the other.
        ensure!(cargo.status()?.success(), "`{}` failed", run::shown(&cargo));
        return Ok(());
    }
    run::run(&mut cargo)
}

fn measure(bench: &Bench, options: &Options, machine: &Machine) -> Result<Run> {
    let mut command = run::cargo(selection("bench").chain(["--bench", bench.name, "--"]));
    if options.quick {
        command.arg("--quick");
    }
    if options.peers {
        command.arg("--peers");
    }
    for (name, value) in [("--rounds", options.rounds), ("--records", options.records)] {
        if let Some(value) = value {
            command.args([name, &value.to_string()]);
        }
    }
    let output = run::read(&mut command)?;
    Run::from_lines(bench.name, machine.clone(), options.quick, &output)
}

#[expect(clippy::print_stdout, reason = "the result of the chore")]
fn show(run: &Run, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(run)?);
    } else {
        println!("\n{}", document::table(run));
    }
    Ok(())
}

/// Where runs are kept.
fn directory() -> PathBuf {
    run::root().join("docs/performance")
}

fn store(run: &Run) -> Result<()> {
    let path = directory().join(format!("{}.json", run.bench));
    fs::create_dir_all(directory()).with_context(|| directory().display().to_string())?;
    let text = serde_json::to_string_pretty(run)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn write_document() -> Result<()> {
    let path = run::root().join("docs/performance.md");
    fs::write(&path, rendered()?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// The document as the stored runs and remarks make it.
fn rendered() -> Result<String> {
    let mut parts = Vec::new();
    for bench in &BENCHES {
        let path = directory().join(format!("{}.json", bench.name));
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let run: Run = serde_json::from_str(&text).with_context(|| {
            format!("{} is no stored run: measure again with --write", path.display())
        })?;
        // What people have to say about the figures; most need no word.
        let remark = fs::read_to_string(path.with_extension("md")).unwrap_or_default();
        parts.push((run, remark));
    }
    let gains = fs::read_to_string(directory().join("gains.md")).unwrap_or_default();
    Ok(document::render(&parts, &gains))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_stored_runs_say() {
        let written = fs::read_to_string(run::root().join("docs/performance.md")).unwrap();
        let remedy = "docs/performance.md was changed by hand: run `cargo xtask bench --render`";
        assert!(written == rendered().unwrap(), "{remedy}");
    }

    #[test]
    fn a_bench_nobody_knows_is_refused_with_the_names_of_all() {
        let error = chosen(&["exek".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("`exek`: use exec, connect,"), "{error}");
        assert_eq!(chosen(&["all".to_owned()]).unwrap().len(), BENCHES.len());
    }
}
