//! `pcigate policy suggest`: the least policy that allows what was recorded of a workload, as YAML
//! for people to review. What was refused is not in it unless that is asked for; what a grant with
//! a deadline let through, never.

mod gather;
mod write;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pcigate_policy::document::Documents;

use super::by_name::Names;
use super::explain::label;
use super::{files, observed};
use crate::collector;
use crate::failure::{Answer, Failure, remark};
use gather::Gathered;

/// Of whom, and how.
#[derive(Args, Debug)]
#[command(after_help = "The policy is written to standard output, in audit mode: review every \
    rule, then `pcigate policy check`, `pcigate policy replay`, and enforce it. Take a period that \
    holds what happens rarely. Exit code 1 if nothing was recorded to make a policy of.")]
pub struct Options {
    /// Name of the policy. Default: the ServiceAccount's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A label the policy selects by, besides the ServiceAccounts that were seen; may be given
    /// several times.
    #[arg(long = "select", value_name = "K=V", value_parser = label)]
    select: Vec<(String, String)>,
    /// The mode of the policy.
    #[arg(long, value_enum, default_value = "audit")]
    mode: Mode,
    /// The documents in force: their names stand in place of addresses that rules by name let
    /// through, and their Targets are known to the check of what is suggested.
    #[arg(long, value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
    /// A file as /etc/hosts with the names of addresses.
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// From so many programs of one directory on, allow the directory: 0 = never.
    #[arg(long, value_name = "N", default_value_t = 32)]
    glob_from: usize,
    /// Also allow what was refused.
    #[arg(long)]
    include_refused: bool,
    #[command(flatten)]
    observed: observed::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Refuse nothing, record what would be refused.
    Audit,
    /// Refuse.
    Enforce,
}

/// Asks, gathers, writes.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    if options.observed.namespace.is_empty() {
        return Err(Failure::input(
            "whose policy is it? Give --namespace, and --service-account or --pod",
        ));
    }
    let mut names = Names::default();
    let given = documents(&options.policies)?;
    if let Some((_, documents)) = &given {
        names.learn(documents);
    }
    options.hosts.iter().try_for_each(|path| names.read_hosts(path))?;
    let mut gathered = Gathered::new(names, options.include_refused);
    let kinds = ["exec", "egress", "session", "statement"];
    let period = options.observed.each(collector, &kinds, |seen| gathered.take(seen)).await?;
    if gathered.is_empty() {
        remark(&format!(
            "nothing was recorded to make a policy of ({} records were left out): take a longer \
             period, or look with `pcigate records`",
            gathered.left_out()
        ));
        return Ok(Answer::No);
    }
    let text = write::policy(&gathered, options, period);
    check(&text, given.map(|(texts, _)| texts).unwrap_or_default(), &gathered)?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Answer::Yes)
}

type Texts = Vec<(String, String)>;

fn documents(paths: &[PathBuf]) -> Result<Option<(Texts, Documents)>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    let texts = files::texts(paths)?;
    let documents = Documents::read(&texts).map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })?;
    Ok(Some((texts, documents)))
}

/// What is suggested must be a document; a Target it gates has to be among those given.
fn check(text: &str, mut texts: Texts, gathered: &Gathered) -> Result<(), Failure> {
    if texts.is_empty() && gathered.gates().next().is_some() {
        remark(
            "the policy names Targets: check it together with their documents (--policies here \
             does)",
        );
        return Ok(());
    }
    texts.push(("suggestion".to_owned(), text.to_owned()));
    // The suggestion may be a new version of a policy that is among them.
    let is_wrong =
        |line: &str| line.starts_with("suggestion:") && !line.contains(" is given twice, ");
    let wrong = |mistakes: pcigate_policy::yaml::Mistakes| {
        let of_it = mistakes.to_string();
        let of_it: Vec<&str> = of_it.lines().filter(|line| is_wrong(line)).collect();
        (!of_it.is_empty()).then(|| {
            Failure::input(format!(
                "what would be suggested is no document that can be used ({}); narrow the records \
                 down and write the policy by hand",
                of_it.join("; ")
            ))
        })
    };
    Documents::read(&texts).err().and_then(wrong).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
