//! `pcigate policy check`: every mistake with its place, or what the documents hold.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::document::Documents;
use pcigate_policy::entries::CompileError;

use super::files;
use crate::failure::{Answer, Failure};

/// Which documents.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 1 if there is any mistake. What a right document asks for and \
    nodes cannot enforce yet is listed and changes no exit code.")]
pub struct Options {
    /// Files of policy documents, or directories of such files.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
}

/// Reads and reports. Mistakes are the answer "no" and go to stdout.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let (count, read) = files::documents(&options.paths)?;
    let mut out = io::stdout().lock();
    let answer = match read {
        Ok(documents) => report(&mut out, count, &documents)?,
        Err(mistakes) => {
            writeln!(out, "{}", mistakes.to_string().trim_end())?;
            Answer::No
        }
    };
    out.flush()?;
    Ok(answer)
}

fn report(out: &mut impl Write, files: usize, documents: &Documents) -> io::Result<Answer> {
    let compiled = compile(documents);
    for error in &compiled.too_large {
        writeln!(out, "{error}")?;
    }
    if !compiled.too_large.is_empty() {
        return Ok(Answer::No);
    }
    let policies = documents.policies();
    let rules = policies.iter().map(|policy| {
        let exec = policy.exec.as_ref().map_or(0, |section| section.rules.len());
        let egress = policy.egress.as_ref().map_or(0, |section| section.rules.len());
        exec + egress + policy.ingress.as_ref().map_or(0, |section| section.rules.len())
    });
    writeln!(
        out,
        "ok: {}, {}, {}, {}",
        counted(files, "file", "files"),
        counted(policies.len(), "policy", "policies"),
        counted(rules.sum(), "rule", "rules"),
        counted(documents.targets().len(), "target", "targets"),
    )?;
    if !compiled.unenforceable.is_empty() {
        writeln!(out, "not enforceable here yet:")?;
    }
    for line in &compiled.unenforceable {
        writeln!(out, "  {line}")?;
    }
    Ok(Answer::Yes)
}

/// What nodes make of the documents.
#[derive(Default)]
struct Compiled {
    /// Policies that do not fit into the kernel.
    too_large: BTreeSet<String>,
    /// Rules that nodes cannot enforce, or not exactly.
    unenforceable: BTreeSet<String>,
}

/// Compiles, for each policy, the set of a workload it selects.
fn compile(documents: &Documents) -> Compiled {
    let mut compiled = Compiled::default();
    for policy in documents.policies() {
        let set = documents.select(&policy.sample_workload());
        match set.compile() {
            Ok(entries) => {
                let lines = entries.unenforceable.iter();
                let line = |one: &pcigate_policy::entries::Unenforceable| {
                    format!("rule {} of {}: {}", one.rule, one.policy, one.why)
                };
                compiled.unenforceable.extend(lines.map(line));
            }
            Err(error) => {
                let place = &policy.place;
                let text = |error: CompileError| format!("{}:{}: {error}", place.file, place.line);
                compiled.too_large.insert(text(error));
            }
        }
    }
    compiled
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
