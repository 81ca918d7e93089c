//! `pcigate status` and `pcigate policies`: what nodes say they enforce (NodeCoverage), and what
//! becomes of each document.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GROUP, Options as Kubernetes, documents, text};
use crate::failure::{Answer, Failure, remark};
use crate::table::{Tone, beginning, coloured, lines, plain, wants_colour};
use crate::{Output, time};

/// An agent says every five minutes that it is there.
const SILENT_SECONDS: i64 = 15 * 60;
/// Characters of a reason in a table.
const REASON_SHOWN: usize = 80;
/// Rows of trouble in the table.
const TROUBLES_SHOWN: usize = 50;

/// Of which nodes.
#[derive(Args, Debug)]
#[command(after_help = "Asks the API server with your own kubectl and your login; the right to \
    list nodecoverages.pcigate.dev is enough, nodes are compared where you may list them. Exit \
    code 1 if a node has no agent, says nothing for 15 minutes, or does not use a document.")]
pub struct Options {
    /// Only this node.
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Nothing shortened, and what each node cannot do.
    #[arg(long)]
    wide: bool,
    /// How to write nodes.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    kubernetes: Kubernetes,
}

/// Of which documents.
#[derive(Args, Debug)]
#[command(
    after_help = "Asks the API server with your own kubectl and your login. Exit code 1 if a \
    node does not use a document, or not wholly."
)]
pub struct PolicyOptions {
    /// Only documents of this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Nothing shortened.
    #[arg(long)]
    wide: bool,
    /// How to write documents.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    kubernetes: Kubernetes,
}

/// What a node makes of its documents.
#[derive(Debug, Default)]
struct Node {
    version: String,
    seen: String,
    /// No agent has ever said anything.
    absent: bool,
    silent: bool,
    enforced: u64,
    audited: u64,
    not_enforceable: u64,
    rejected: u64,
    omitted: u64,
    missing: Vec<(String, String)>,
    /// Document, state, reason.
    troubles: Vec<[String; 3]>,
}

/// Asks and prints nodes.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let coverages = options.kubernetes.get(&[&format!("nodecoverages.{GROUP}")])?;
    let now = i64::try_from(time::now() / 1_000_000_000).unwrap_or(i64::MAX);
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for object in &coverages {
        nodes.insert(text(object, "/metadata/name").to_owned(), node(object, now));
    }
    match options.kubernetes.get(&["nodes"]) {
        Ok(known) => {
            for object in &known {
                let name = text(object, "/metadata/name").to_owned();
                nodes.entry(name).or_insert_with(|| Node { absent: true, ..Node::default() });
            }
        }
        Err(_) => remark("nodes cannot be listed: one without an agent would not show"),
    }
    if let Some(only) = &options.node {
        nodes.retain(|name, _| name == only);
        if nodes.is_empty() {
            return Err(Failure::input(format!(
                "there is no node `{}`: `pcigate status` lists them",
                plain(only)
            )));
        }
    }
    let mut out = io::stdout().lock();
    match options.output {
        Output::Json => {
            for (name, node) in &nodes {
                writeln!(out, "{}", node.json(name))?;
            }
        }
        Output::Table => {
            for line in table(&nodes) {
                writeln!(out, "{line}")?;
            }
            for line in details(&nodes, options.wide) {
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()?;
    if nodes.is_empty() {
        remark("no node says that it enforces anything: is the agent installed?");
    }
    let well = !nodes.is_empty() && nodes.values().all(Node::is_well);
    Ok(if well { Answer::Yes } else { Answer::No })
}

fn node(object: &Value, now: i64) -> Node {
    let mut node = Node {
        version: text(object, "/status/agentVersion").to_owned(),
        seen: text(object, "/status/observedTime").to_owned(),
        omitted: number(object, "/status/documentsOmitted"),
        ..Node::default()
    };
    let seen: Option<Timestamp> = node.seen.parse().ok();
    node.silent = seen.is_none_or(|seen| now - seen.as_second() > SILENT_SECONDS);
    for one in list(object, "/status/missing") {
        node.missing.push((text(one, "/name").to_owned(), text(one, "/reason").to_owned()));
    }
    for one in list(object, "/status/documents") {
        let state = text(one, "/state");
        let count = match state {
            "enforced" => &mut node.enforced,
            "audited" => &mut node.audited,
            "notEnforceable" => &mut node.not_enforceable,
            // What is not known is no promise.
            _ => &mut node.rejected,
        };
        *count += 1;
        if !matches!(state, "enforced" | "audited") {
            let name = name(text(one, "/kind"), text(one, "/namespace"), text(one, "/name"));
            node.troubles.push([name, state.to_owned(), text(one, "/reason").to_owned()]);
        }
    }
    node
}

impl Node {
    fn is_well(&self) -> bool {
        !self.absent && !self.silent && self.not_enforceable + self.rejected == 0
    }

    fn state(&self) -> &'static str {
        match self {
            Self { absent: true, .. } => "no agent",
            Self { silent: true, .. } => "silent",
            node if node.is_well() => "enforces",
            _ => "not all",
        }
    }

    fn json(&self, name: &str) -> Value {
        let missing = self.missing.iter();
        let missing = missing.map(|(name, reason)| json!({"name": name, "reason": reason}));
        let troubles = self.troubles.iter();
        let troubles =
            troubles.map(|[of, is, reason]| json!({"document": of, "state": is, "reason": reason}));
        json!({"node": name, "state": self.state(), "agent_version": self.version,
               "observed_time": self.seen, "enforced": self.enforced, "audited": self.audited,
               "not_enforceable": self.not_enforceable, "rejected": self.rejected,
               "documents_omitted": self.omitted, "missing": missing.collect::<Vec<_>>(),
               "documents": troubles.collect::<Vec<_>>()})
    }
}

fn table(nodes: &BTreeMap<String, Node>) -> Vec<String> {
    let head = [
        "NODE",
        "STATE",
        "ENFORCED",
        "AUDITED",
        "NOT WHOLLY",
        "REJECTED",
        "MISSING",
        "SEEN",
        "AGENT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut tones = vec![Tone::Head];
    for (name, node) in nodes {
        rows.push(vec![
            plain(name),
            node.state().to_owned(),
            node.enforced.to_string(),
            node.audited.to_string(),
            node.not_enforceable.to_string(),
            node.rejected.to_string(),
            node.missing.len().to_string(),
            plain(&node.seen),
            plain(&node.version),
        ]);
        tones.push(match node {
            node if node.is_well() => Tone::Plain,
            node if node.absent || node.silent => Tone::Refused,
            _ => Tone::Warning,
        });
    }
    coloured_lines(&rows, &tones)
}

/// Trouble by document, then what nodes cannot do: each once, with how many nodes it is of.
fn details(nodes: &BTreeMap<String, Node>, wide: bool) -> Vec<String> {
    let mut troubles: BTreeMap<&[String; 3], u64> = BTreeMap::new();
    let mut missing: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for node in nodes.values() {
        node.troubles.iter().for_each(|trouble| *troubles.entry(trouble).or_default() += 1);
        for (name, reason) in &node.missing {
            *missing.entry((name, reason)).or_default() += 1;
        }
    }
    let mut all = Vec::new();
    if !troubles.is_empty() {
        let mut rows = vec![["NODES", "DOCUMENT", "IS", "WHY"].map(str::to_owned).to_vec()];
        for ([document, state, reason], count) in troubles.iter().take(TROUBLES_SHOWN) {
            rows.push(vec![
                count.to_string(),
                plain(document),
                plain(state),
                reason_shown(reason, wide),
            ]);
        }
        all.push(String::new());
        all.extend(lines(&rows, &[]));
        if let Some(more) = troubles.len().checked_sub(TROUBLES_SHOWN + 1) {
            all.push(format!("and {} more", more + 1));
        }
    }
    if wide && !missing.is_empty() {
        let mut rows = vec![["NODES", "CANNOT", "WHY"].map(str::to_owned).to_vec()];
        for ((name, reason), count) in &missing {
            rows.push(vec![count.to_string(), plain(name), reason_shown(reason, true)]);
        }
        all.push(String::new());
        all.extend(lines(&rows, &[]));
    }
    all
}

/// Asks and prints documents.
pub fn policies(options: &PolicyOptions) -> Result<Answer, Failure> {
    let objects = documents::objects(&options.kubernetes, options.namespace.as_deref())?;
    let mut out = io::stdout().lock();
    let head = ["DOCUMENT", "MODE", "ACCEPTED", "ENFORCED", "NODES", "NOT ON", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut tones = vec![Tone::Head];
    let mut well = true;
    for object in &objects {
        let name = name(
            text(object, "/kind"),
            text(object, "/metadata/namespace"),
            text(object, "/metadata/name"),
        );
        let ours = |name: &str| number(object, &format!("/status/nodes/{name}"));
        let good = ours("enforced") + ours("audited");
        let bad = ours("notEnforceable") + ours("rejected");
        let (accepted, why_not) = condition(object, "Accepted");
        let (enforced, why) = condition(object, "Enforced");
        let is_well = accepted == "True" && enforced == "True" && bad == 0;
        well &= is_well;
        let why = if accepted == "True" { why } else { why_not };
        let why = if is_well { "" } else { why };
        if options.output == Output::Json {
            let line = json!({"document": name, "mode": text(object, "/spec/mode"),
                "accepted": accepted, "enforced": enforced, "nodes": good, "nodes_not": bad,
                "why": why});
            writeln!(out, "{line}")?;
        }
        rows.push(vec![
            plain(&name),
            plain(text(object, "/spec/mode")),
            plain(accepted),
            plain(enforced),
            good.to_string(),
            bad.to_string(),
            reason_shown(why, options.wide),
        ]);
        tones.push(match (accepted, is_well) {
            (_, true) => Tone::Plain,
            ("True", _) => Tone::Warning,
            _ => Tone::Refused,
        });
    }
    if options.output == Output::Table {
        for line in coloured_lines(&rows, &tones) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    if objects.is_empty() {
        remark("there is no AgentPolicy, ClusterAgentPolicy or Target");
    }
    Ok(if well { Answer::Yes } else { Answer::No })
}

/// A condition's status and message. One of an older generation speaks of another text.
fn condition<'v>(object: &'v Value, kind: &str) -> (&'v str, &'v str) {
    let found = list(object, "/status/conditions").find(|one| text(one, "/type") == kind);
    let Some(found) = found else { return ("-", "no node has said anything yet") };
    let generation = number(object, "/metadata/generation");
    if number(found, "/observedGeneration") < generation {
        return ("Unknown", "the newest version has not been seen by the nodes yet");
    }
    (text(found, "/status"), text(found, "/message"))
}

fn name(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'v>(object: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn reason_shown(reason: &str, wide: bool) -> String {
    let reason = plain(reason);
    if wide { reason } else { beginning(&reason, REASON_SHOWN) }
}

fn coloured_lines(rows: &[Vec<String>], tones: &[Tone]) -> Vec<String> {
    let colour = wants_colour();
    lines(rows, &[]).iter().zip(tones).map(|(line, tone)| coloured(line, *tone, colour)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(state: &str) -> Value {
        json!({"metadata": {"name": "n1"}, "status": {
            "agentVersion": "0.1.0", "observedTime": "2026-11-23T10:00:00Z",
            "documents": [{"kind": "Target", "namespace": "a", "name": "b", "state": state,
                           "reason": "why\u{1b}[2J"}],
            "missing": [{"name": "egress-services", "reason": "not yet"}]}})
    }

    #[test]
    fn a_node_is_well_only_while_it_says_so_and_enforces_everything() {
        let at: Timestamp = "2026-11-23T10:10:00Z".parse().expect("a time");
        let state =
            |state: &str, later: i64| node(&coverage(state), at.as_second() + later).state();
        assert_eq!(state("enforced", 0), "enforces");
        assert_eq!(state("audited", 0), "enforces");
        assert_eq!(state("notEnforceable", 0), "not all");
        assert_eq!(state("rejected", 0), "not all");
        assert_eq!(state("something new", 0), "not all");
        assert_eq!(state("enforced", SILENT_SECONDS), "silent");
        assert_eq!(node(&json!({}), 0).state(), "silent");
        let nodes = BTreeMap::from([("n1".to_owned(), node(&coverage("rejected"), 0))]);
        let shown = [table(&nodes), details(&nodes, true)].concat().join("\n");
        assert!(shown.contains("Target a/b") && shown.contains("egress-services"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn a_condition_of_an_older_version_says_nothing_of_the_newest() {
        let object = |generation: u64| {
            json!({"metadata": {"generation": generation}, "status": {"conditions": [
                {"type": "Accepted", "status": "True", "observedGeneration": 2, "message": "m"}]}})
        };
        assert_eq!(condition(&object(2), "Accepted"), ("True", "m"));
        assert_eq!(condition(&object(3), "Accepted").0, "Unknown");
        assert_eq!(condition(&object(2), "Enforced").0, "-");
    }
}
