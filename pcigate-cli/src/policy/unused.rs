//! `pcigate policy unused`: rules that nothing in the recorded period needed, so that access no
//! longer needed is taken away (PCI DSS 7.2.5: all application and system accounts).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::document::{Action, Documents, EgressEffect, Policy, StatementAction};
use pcigate_policy::rule::RuleRef;
use pcigate_policy::workload::PolicySet;
use pcigate_proto::record::Event;
use serde_json::json;

use super::by_name::Names;
use super::files;
use super::observed::{self, Asked, Seen};
use super::workloads::{Who, Workloads};
use crate::failure::{Answer, Failure, remark};
use crate::table::{lines, plain};
use crate::{Output, collector, time};

/// Workloads whose policies are remembered.
const SETS_MAX: usize = 10_000;

/// Which documents, over which records.
#[derive(Args, Debug)]
#[command(after_help = "A rule counts as used where a record names it or where it matches what \
    was recorded, also if another rule decided. What an ingress rule lets in is not recorded, so \
    nothing can be said of it. Exit code 1 if any rule that allows something was not used. Take a \
    period that holds what happens rarely: a month's end, a restore.")]
pub struct Options {
    /// The documents: files, or directories of such files.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Also rules that were used, and those that refuse.
    #[arg(long)]
    all: bool,
    /// How to write rules.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    observed: observed::Options,
}

/// Which rule: `namespace/name` of the policy and id; a statement's id is behind its rule's.
type Name = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Permits,
    Refuses,
    /// It lets packets in, of which there is no record.
    NotRecorded,
}

#[derive(Debug)]
struct Use {
    kind: Kind,
    what: &'static str,
    records: u64,
    last: u64,
}

struct Found {
    documents: Documents,
    names: Names,
    workloads: Workloads,
    sets: HashMap<Who, PolicySet>,
    rules: BTreeMap<Name, Use>,
}

/// Reads, matches, lists.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let (_, read) = files::documents(&options.paths)?;
    let documents = read.map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })?;
    let mut names = Names::default();
    names.learn(&documents);
    let rules = documents.policies().iter().flat_map(|policy| rules(policy)).collect();
    let workloads = options.observed.workloads()?;
    let mut found = Found { documents, names, workloads, sets: HashMap::new(), rules };
    let kinds = ["exec", "egress", "statement"];
    let (since, until) = options.observed.each(collector, &kinds, |seen| found.take(seen)).await?;
    found.report(options, (since, until))
}

/// Every rule of a policy, unused.
fn rules(policy: &Policy) -> Vec<(Name, Use)> {
    let name = policy.name.to_string();
    let mut all = Vec::new();
    let mut add = |id: String, kind, what| {
        all.push(((name.clone(), id), Use { kind, what, records: 0, last: 0 }));
    };
    let of = |action| if action == Action::Allow { Kind::Permits } else { Kind::Refuses };
    for rule in policy.exec.iter().flat_map(|section| &section.rules) {
        add(rule.id.clone(), of(rule.action), "exec");
    }
    for rule in policy.egress.iter().flat_map(|section| &section.rules) {
        match &rule.effect {
            EgressEffect::Direct { action, .. } => add(rule.id.clone(), of(*action), "egress"),
            EgressEffect::Gate { statements, .. } => {
                add(rule.id.clone(), Kind::Permits, "gate");
                for statement in statements {
                    let kind = match statement.action {
                        StatementAction::Deny => Kind::Refuses,
                        StatementAction::Allow | StatementAction::Ask => Kind::Permits,
                    };
                    add(format!("{}/{}", rule.id, statement.id), kind, "statement");
                }
            }
        }
    }
    for rule in policy.ingress.iter().flat_map(|section| &section.rules) {
        let kind = if rule.action == Action::Allow { Kind::NotRecorded } else { Kind::Refuses };
        add(rule.id.clone(), kind, "ingress");
    }
    all
}

impl Found {
    fn take(&mut self, seen: &Seen<'_>) {
        let (policy, rule) = seen.by;
        if let Event::Statement(statement) = seen.event {
            return self.statement(statement, policy, rule, seen.time);
        }
        let mut used = vec![(policy.to_owned(), rule.to_owned())];
        if let Some(asked) = Asked::of(seen.event) {
            if !self.sets.contains_key(&seen.who) {
                if self.sets.len() >= SETS_MAX {
                    self.sets.clear();
                }
                let (identity, _) = self.workloads.identity(&seen.who);
                self.sets.insert(seen.who.clone(), self.documents.select(&identity));
            }
            let names = match &asked {
                Asked::Egress { address, .. } => self.names.possible(*address, seen.by),
                Asked::Exec { .. } => Vec::new(),
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let considered = self.sets.get(&seen.who).map(|set| asked.decide(set, &names));
            for one in considered.into_iter().flat_map(|answer| answer.considered) {
                if let RuleRef::Written { policy, id } = one.rule {
                    used.push((policy.to_string(), id));
                }
            }
        }
        used.sort();
        used.dedup();
        used.iter().for_each(|name| self.mark(name, seen.time));
    }

    /// A statement names its own rule, not the gate's: each gate of the policy that has one of this
    /// name counts. Session records say the same of the gate itself.
    fn statement(
        &mut self,
        statement: &pcigate_proto::Statement,
        policy: &str,
        rule: &str,
        time: u64,
    ) {
        let gates = self.documents.policies().iter();
        let gates = gates.filter(|one| one.name.to_string() == policy);
        let gates = gates.flat_map(|one| one.egress.iter().flat_map(|section| &section.rules));
        let ids = gates.filter_map(|one| match &one.effect {
            EgressEffect::Gate { target, .. } if target.to_string() == statement.target => {
                Some(one.id.clone())
            }
            _ => None,
        });
        for id in ids.collect::<Vec<_>>() {
            self.mark(&(policy.to_owned(), id.clone()), time);
            self.mark(&(policy.to_owned(), format!("{id}/{rule}")), time);
        }
    }

    fn mark(&mut self, name: &Name, time: u64) {
        if let Some(rule) = self.rules.get_mut(name) {
            rule.records += 1;
            rule.last = rule.last.max(time);
        }
    }

    fn report(&self, options: &Options, period: (u64, u64)) -> Result<Answer, Failure> {
        let is_unused = |rule: &Use| rule.kind == Kind::Permits && rule.records == 0;
        let shown = self.rules.iter().filter(|(_, rule)| options.all || is_unused(rule));
        let mut out = io::stdout().lock();
        let mut rows =
            vec![["POLICY", "RULE", "IS", "RECORDS", "LAST"].map(str::to_owned).to_vec()];
        for ((policy, id), rule) in shown {
            let last = if rule.records == 0 { String::new() } else { time::rfc3339(rule.last, 0) };
            match options.output {
                Output::Json => {
                    let line = json!({"policy": policy, "rule": id, "is": rule.is(),
                                      "records": rule.records, "last": last});
                    writeln!(out, "{line}")?;
                }
                Output::Table => {
                    let records = rule.records.to_string();
                    rows.push(vec![plain(policy), plain(id), rule.is(), records, last]);
                }
            }
        }
        if rows.len() > 1 {
            for line in lines(&rows, &[]) {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        let unused = self.rules.values().filter(|rule| is_unused(rule)).count();
        let silent = self.rules.values().filter(|rule| rule.kind == Kind::NotRecorded).count();
        let (since, until) = period;
        remark(&format!(
            "{unused} of {} rules allow what nothing needed from {} to {}",
            self.rules.len(),
            time::rfc3339(since, 0),
            time::rfc3339(until, 0)
        ));
        if silent > 0 {
            remark(&format!("{silent} ingress rules let in what is not recorded: look yourself"));
        }
        Ok(if unused == 0 { Answer::Yes } else { Answer::No })
    }
}

impl Use {
    fn is(&self) -> String {
        let kind = match self.kind {
            Kind::Permits => "allows",
            Kind::Refuses => "refuses",
            Kind::NotRecorded => "allows, not recorded",
        };
        format!("{} {kind}", self.what)
    }
}
