//! `pcigate policy replay`: new documents over what was recorded. Each exec and egress record is
//! decided anew, by the same function the nodes' tables are proven equal to.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::decide::Answer as Decided;
use pcigate_policy::document::Documents;
use pcigate_policy::rule::verdict_name;
use pcigate_policy::workload::PolicySet;
use pcigate_proto::{Verdict, record::Event};
use serde_json::json;

use super::by_name::Names;
use super::observed::{self, Asked, Seen};
use super::workloads::{Who, Workloads};
use super::{destination, files};
use crate::failure::{Answer, Failure, remark};
use crate::table::{Tone, coloured, lines, plain, wants_colour};
use crate::{Output, collector};

/// Groups that are told apart; more are counted together.
const GROUPS_MAX: usize = 10_000;
/// Workloads whose policies are remembered.
const SETS_MAX: usize = 10_000;
/// Numbers of records shown of a group.
const EXAMPLES: usize = 3;

/// Which documents, over which records.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 1 if anything that happened would be refused. Statements of \
    gated sessions are not decided anew: that takes the database's own catalog; a gate rule that \
    goes or comes shows at the connection. Paths and arguments in records are masked, and digests \
    are not in them: a rule by `sha256` counts as on a node that has not read the file yet.")]
pub struct Options {
    /// The new documents: files, or directories of such files.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// The documents that were in force, for the names behind rules by name.
    #[arg(long, value_name = "FILE|DIR")]
    before: Vec<PathBuf>,
    /// A file as /etc/hosts with the names of addresses.
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// Decide as if nothing were in audit mode.
    #[arg(long)]
    as_enforced: bool,
    /// Also what does not change.
    #[arg(long)]
    all: bool,
    /// How to write groups.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    observed: observed::Options,
}

/// What of a group is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// Namespace and ServiceAccount.
    who: (String, String),
    kind: &'static str,
    what: String,
    before: &'static str,
    after: &'static str,
    rule: String,
}

#[derive(Default)]
struct Count {
    records: u64,
    examples: Vec<u64>,
}

struct Replayed {
    documents: Documents,
    names: Names,
    workloads: Workloads,
    as_enforced: bool,
    sets: HashMap<Who, PolicySet>,
    groups: BTreeMap<Group, Count>,
    asked: u64,
    more: u64,
    without_labels: u64,
}

/// Reads, decides anew, compares.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let documents = read(&options.paths)?;
    let mut names = Names::default();
    names.learn(&documents);
    if !options.before.is_empty() {
        names.learn(&read(&options.before)?);
    }
    options.hosts.iter().try_for_each(|path| names.read_hosts(path))?;
    let mut replayed = Replayed {
        documents,
        names,
        workloads: options.observed.workloads()?,
        as_enforced: options.as_enforced,
        sets: HashMap::new(),
        groups: BTreeMap::new(),
        asked: 0,
        more: 0,
        without_labels: 0,
    };
    options.observed.each(collector, &["exec", "egress"], |seen| replayed.take(seen)).await?;
    replayed.report(options)
}

fn read(paths: &[PathBuf]) -> Result<Documents, Failure> {
    let (_, read) = files::documents(paths)?;
    read.map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })
}

impl Replayed {
    fn take(&mut self, seen: &Seen<'_>) {
        let Some(asked) = Asked::of(seen.event) else { return };
        if !self.sets.contains_key(&seen.who) {
            if self.sets.len() >= SETS_MAX {
                self.sets.clear();
            }
            let (identity, known) = self.workloads.identity(&seen.who);
            self.without_labels += u64::from(!known);
            self.sets.insert(seen.who.clone(), self.documents.select(&identity));
        }
        let Some(set) = self.sets.get(&seen.who) else { return };
        let answer = self.decide(set, &asked, seen);
        let (after, rule) = match (&answer.audit, self.as_enforced) {
            (Some((verdict, rule)), true) => (*verdict, rule),
            _ => (answer.verdict, &answer.rule),
        };
        let group = Group {
            who: (seen.who.namespace.clone(), seen.who.service_account.clone()),
            kind: if matches!(seen.event, Event::Exec(_)) { "exec" } else { "egress" },
            what: what(&asked),
            before: before(seen),
            after: verdict_name(after),
            rule: match rule.policy_name() {
                policy if policy.is_empty() => rule.rule_id().to_owned(),
                policy => format!("{policy}/{}", rule.rule_id()),
            },
        };
        self.asked += 1;
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&group) {
            self.more += 1;
            return;
        }
        let count = self.groups.entry(group).or_default();
        count.records += 1;
        if count.examples.len() < EXAMPLES {
            count.examples.push(seen.index);
        }
    }

    /// Of several names it may have been resolved by, the strictest answer.
    fn decide(&self, set: &PolicySet, asked: &Asked<'_>, seen: &Seen<'_>) -> Decided {
        let Asked::Egress { address, .. } = asked else { return asked.decide(set, &[]) };
        let names = self.names.possible(*address, seen.by);
        let answers = names.iter().map(|name| asked.decide(set, &[name]));
        let strictest = answers.max_by_key(|answer| answer.verdict);
        strictest.unwrap_or_else(|| asked.decide(set, &[]))
    }

    fn report(&self, options: &Options) -> Result<Answer, Failure> {
        let mut changes: Vec<(&Group, &Count)> =
            self.groups.iter().filter(|(group, _)| options.all || group.changes()).collect();
        changes.sort_by_key(|(group, count)| (!group.closes(), std::cmp::Reverse(count.records)));
        let mut out = io::stdout().lock();
        match options.output {
            Output::Json => {
                for (group, count) in &changes {
                    writeln!(out, "{}", group.json(count))?;
                }
            }
            Output::Table if changes.is_empty() => {
                writeln!(out, "nothing changes for {} records", self.asked)?;
            }
            Output::Table => {
                for line in table(&changes) {
                    writeln!(out, "{line}")?;
                }
            }
        }
        out.flush()?;
        let sum = |is: fn(&Group) -> bool| -> u64 {
            let groups = self.groups.iter().filter(|(group, _)| is(group));
            groups.map(|(_, count)| count.records).sum()
        };
        let (closed, opened) = (sum(Group::closes), sum(Group::opens));
        remark(&format!(
            "{} records: {closed} happened and would be refused, {opened} were refused and would \
             happen",
            self.asked
        ));
        if self.more > 0 {
            let more = self.more;
            remark(&format!(
                "{more} more records are in none of these {GROUPS_MAX} groups: narrow the question \
                 down"
            ));
        }
        if self.without_labels > 0 {
            remark(&format!(
                "the labels of {} pods are not known, so policies that select by labels do not \
                 count for them: give --cluster, --pods FILE or \
                 --label K=V",
                self.without_labels
            ));
        }
        // What was not told apart may hold a refusal.
        Ok(if closed > 0 || self.more > 0 { Answer::No } else { Answer::Yes })
    }
}

impl Group {
    fn changes(&self) -> bool {
        self.before != self.after
    }

    fn closes(&self) -> bool {
        passes(self.before) && !passes(self.after)
    }

    fn opens(&self) -> bool {
        !passes(self.before) && passes(self.after)
    }

    fn json(&self, count: &Count) -> serde_json::Value {
        json!({"namespace": self.who.0, "service_account": self.who.1, "kind": self.kind,
               "what": self.what, "before": self.before, "after": self.after, "rule": self.rule,
               "records": count.records, "examples": count.examples})
    }
}

fn passes(verdict: &str) -> bool {
    matches!(verdict, "allow" | "gate")
}

/// What became of it: a refusal that did not take effect is one all the same.
fn before(seen: &Seen<'_>) -> &'static str {
    match seen.verdict {
        Verdict::Gate => "gate",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
        Verdict::Allow => "allow",
        Verdict::Unspecified if seen.happened => "allow",
        Verdict::Unspecified => "deny",
    }
}

fn what(asked: &Asked<'_>) -> String {
    match asked {
        Asked::Exec { path, invoked, .. } => {
            let name = path.map_or_else(|| "(not resolved)".into(), String::from_utf8_lossy);
            if invoked.is_empty() {
                name.into_owned()
            } else {
                format!("{name} as {}", String::from_utf8_lossy(invoked))
            }
        }
        Asked::Egress { address, protocol, port } => destination::shown(*address, *protocol, *port),
    }
}

fn table(changes: &[(&Group, &Count)]) -> Vec<String> {
    let head = ["RECORDS", "BEFORE", "AFTER", "RULE", "WORKLOAD", "WHAT", "SUCH AS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut tones = vec![Tone::Head];
    for (group, count) in changes {
        let examples: Vec<String> = count.examples.iter().map(u64::to_string).collect();
        rows.push(vec![
            count.records.to_string(),
            group.before.to_owned(),
            group.after.to_owned(),
            plain(&group.rule),
            plain(&format!("{}/{}", group.who.0, group.who.1)),
            plain(&format!("{} {}", group.kind, group.what)),
            examples.join(", "),
        ]);
        tones.push(if group.closes() {
            Tone::Refused
        } else if group.opens() {
            Tone::Warning
        } else {
            Tone::Plain
        });
    }
    let colour = wants_colour();
    let lines = lines(&rows, &[]);
    lines.iter().zip(tones).map(|(line, tone)| coloured(line, tone, colour)).collect()
}
