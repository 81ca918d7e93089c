//! A suggested policy as YAML, each rule with a remark on where it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use super::gather::{Gate, Gathered, Service, Tally};
use super::{Mode, Options};
use crate::table::plain;
use crate::time;

/// What many programs may write to: a path there says little about what runs.
const WRITABLE: [&str; 6] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/home/", "/run/", "/root/"];
/// Effects that are of no table.
const TABLELESS: [&str; 1] = ["session"];

/// The whole document.
pub fn policy(gathered: &Gathered, options: &Options, period: (u64, u64)) -> String {
    let mut out = Yaml::default();
    head(&mut out, gathered, options, period);
    let account = gathered.accounts.first().map_or("workload", String::as_str);
    let name = options.name.clone().unwrap_or_else(|| id(account));
    let namespace = &options.observed.namespace;
    out.line(0, "apiVersion: pcigate.dev/v1alpha1");
    out.line(0, "kind: AgentPolicy");
    out.line(0, &format!("metadata: {{name: {}, namespace: {}}}", text(&name), text(namespace)));
    out.line(0, "spec:");
    let accounts: Vec<String> = gathered.accounts.iter().map(|name| text(name)).collect();
    let labels =
        options.select.iter().map(|(key, value)| format!("{}: {}", text(key), text(value)));
    let labels: Vec<String> = labels.collect();
    let labels = match labels.is_empty() {
        true => String::new(),
        false => format!("matchLabels: {{{}}}, ", labels.join(", ")),
    };
    let accounts = accounts.join(", ");
    out.line(1, &format!("selector: {{{labels}serviceAccountNames: [{accounts}]}}"));
    let mode = if options.mode == Mode::Audit { "audit" } else { "enforce" };
    out.line(1, &format!("mode: {mode}"));
    exec(&mut out, gathered, options.glob_from);
    egress(&mut out, gathered);
    out.text
}

fn head(out: &mut Yaml, gathered: &Gathered, options: &Options, (since, until): (u64, u64)) {
    let observed = &options.observed;
    let whose = format!("{}/{}", observed.namespace, observed.service_account);
    let at = |time| time::rfc3339(time, 0);
    out.remark(
        0,
        &format!("Suggested for {whose} from records of {} to {}:", at(since), at(until)),
    );
    let pods = counted(gathered.pods.len(), "pod", "pods");
    let accounts = counted(gathered.accounts.len(), "ServiceAccount", "ServiceAccounts");
    out.remark(0, &format!("{pods}, {accounts}. Review every rule, then run"));
    out.remark(0, "`pcigate policy check` and `pcigate policy replay` before it is enforced.");
    if gathered.accounts.contains("default") {
        let what = "The ServiceAccount `default` is every pod's that names none: give this \
                    workload one of its own.";
        out.remark(0, what);
    }
    for (why, (count, last)) in &gathered.left {
        out.remark(0, &format!("Left out: {count} records ({why}), such as number {last}."));
    }
}

fn exec(out: &mut Yaml, gathered: &Gathered, glob_from: usize) {
    if gathered.programs.is_empty() {
        return out.remark(1, "No program was recorded, so nothing is said of programs.");
    }
    out.line(1, "exec:");
    out.line(2, "defaultAction: deny");
    out.line(2, "rules:");
    let mut ids = Ids::default();
    for (directory, programs) in by_directory(&gathered.programs) {
        if glob_from > 0 && programs.len() >= glob_from && !is_writable(&directory) {
            let all = programs.iter().map(|(_, tally)| **tally).reduce(sum).unwrap_or_default();
            let many = programs.len();
            out.remark(3, &format!("{many} programs of this directory, {}: a pattern", seen(&all)));
            out.remark(3, "because they are so many (--glob-from 0 lists each).");
            let id = ids.of(&format!("exec-{directory}-all"));
            let path = text(&format!("{directory}/*"));
            out.line(3, &format!("- {{id: {id}, action: allow, paths: [{path}]}}"));
            continue;
        }
        for (path, tally) in programs {
            out.remark(3, &seen(tally));
            if is_writable(path) {
                let what = "Programs may write there: whatever stands at this path is allowed. Pin \
                            it by `sha256`, or put it into the image.";
                out.remark(3, what);
            }
            let id = ids.of(&format!("exec-{path}"));
            out.line(3, &format!("- {{id: {id}, action: allow, paths: [{}]}}", text(path)));
        }
    }
    for (path, tally) in &gathered.scripts {
        out.remark(3, &format!("A script, {}: with BPF-LSM it is decided by", seen(tally)));
        out.remark(3, "its own path, too.");
        let id = ids.of(&format!("script-{path}"));
        out.line(3, &format!("- {{id: {id}, action: allow, paths: [{}]}}", text(path)));
    }
}

fn egress(out: &mut Yaml, gathered: &Gathered) {
    let gated = gathered.gates().next().is_some();
    if gathered.addresses.is_empty() && gathered.named.is_empty() && !gated {
        out.line(1, "egress:");
        out.remark(2, "No destination was recorded.");
        return out.line(2, "defaultAction: deny");
    }
    out.line(1, "egress:");
    out.line(2, "defaultAction: deny");
    out.line(2, "rules:");
    let mut ids = Ids::default();
    for (service, addresses) in &gathered.addresses {
        direct(out, &mut ids, *service, addresses);
    }
    for (service, names) in &gathered.named {
        by_name(out, &mut ids, *service, names);
    }
    for (target, gate) in gathered.gates() {
        gate_rule(out, &mut ids, target, gate);
    }
}

fn direct(out: &mut Yaml, ids: &mut Ids, service: Service, addresses: &BTreeMap<IpAddr, Tally>) {
    let all = addresses.values().copied().reduce(sum).unwrap_or_default();
    out.remark(3, &format!("{}, {}", counted(addresses.len(), "address", "addresses"), seen(&all)));
    if addresses.len() > 16 {
        out.remark(3, "So many addresses are often one name: a rule by `fqdn` would last longer.");
    }
    let (protocol, port) = service;
    let id = ids.of(&format!("{}-{port}", name_of(protocol)));
    out.line(3, &format!("- id: {id}"));
    out.line(4, "action: allow");
    out.line(4, "to:");
    for (address, tally) in addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let cidr = text(&format!("{address}/{bits}"));
        out.line(5, &format!("- {{cidr: {cidr}}}  # {}", seen(tally)));
    }
    ports(out, service);
}

fn by_name(
    out: &mut Yaml,
    ids: &mut Ids,
    service: Service,
    names: &BTreeMap<String, (Tally, String)>,
) {
    out.remark(3, "Names: the records hold addresses, so this is what stands behind them.");
    let (protocol, port) = service;
    let id = ids.of(&format!("{}-{port}-names", name_of(protocol)));
    out.line(3, &format!("- id: {id}"));
    out.line(4, "action: allow");
    out.line(4, "to:");
    for (name, (tally, from)) in names {
        let remark = plain(&format!("{}; {from}", seen(tally)));
        out.line(5, &format!("- {{fqdn: {}}}  # {remark}", text(name)));
    }
    ports(out, service);
}

fn ports(out: &mut Yaml, (protocol, port): Service) {
    let protocol = name_of(protocol).to_ascii_uppercase();
    out.line(4, &format!("ports: [{{port: {port}, protocol: {protocol}}}]"));
}

fn gate_rule(out: &mut Yaml, ids: &mut Ids, target: &str, gate: &Gate) {
    let name = target.rsplit('/').next().unwrap_or(target);
    out.remark(3, &format!("Gated, {}", seen(&gate.tally)));
    out.line(3, &format!("- id: {}", ids.of(&format!("gate-{name}"))));
    out.line(4, "action: gate");
    out.line(4, &format!("target: {}", text(name)));
    let mut inner = Ids::default();
    let mut rows = Yaml::default();
    for (effect, tables) in &gate.effects {
        let all = tables.values().copied().reduce(sum).unwrap_or_default();
        if effect == "unknown" {
            rows.remark(5, &format!("Not suggested: {} statements that", all.records));
            rows.remark(5, "nobody can tell the effects of.");
            continue;
        }
        if effect == "function" {
            rows.remark(5, &format!("Not suggested: {} statements call functions,", all.records));
            rows.remark(5, "which records do not name. Write a rule with `functions` for them.");
            continue;
        }
        rows.remark(5, &seen(&all));
        if gate.mixed.contains(effect) {
            rows.remark(5, "Of statements with several effects the records do not say which table");
            rows.remark(5, "was written: take out what is only read.");
        }
        let named: Vec<String> =
            tables.keys().filter(|table| !table.is_empty()).map(|table| text(table)).collect();
        let tables = match named.is_empty() || TABLELESS.contains(&effect.as_str()) {
            true => String::new(),
            false => format!(", tables: [{}]", named.join(", ")),
        };
        let id = inner.of(effect);
        let effect = text(effect);
        rows.line(5, &format!("- {{id: {id}, action: allow, effects: [{effect}]{tables}}}"));
    }
    let any = rows.text.lines().any(|line| line.trim_start().starts_with('-'));
    if any {
        out.line(4, "statements:");
        out.text += &rows.text;
    } else {
        out.remark(4, "No statement was recorded: nothing is allowed there yet.");
        out.line(4, "statements: [{id: nothing, action: deny, effects: [unknown]}]");
    }
}

fn by_directory(programs: &BTreeMap<String, Tally>) -> Vec<(String, Vec<(&String, &Tally)>)> {
    let mut all: BTreeMap<String, Vec<(&String, &Tally)>> = BTreeMap::new();
    for (path, tally) in programs {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        all.entry(directory.to_owned()).or_default().push((path, tally));
    }
    all.into_iter().collect()
}

fn is_writable(path: &str) -> bool {
    let path = format!("{}/", path.trim_end_matches('/'));
    WRITABLE.iter().any(|place| path.starts_with(place))
}

fn sum(a: Tally, b: Tally) -> Tally {
    Tally {
        records: a.records + b.records,
        refused: a.refused + b.refused,
        first: a.first.min(b.first),
        last: a.last.max(b.last),
    }
}

fn seen(tally: &Tally) -> String {
    let at = |time| time::rfc3339(time, 0);
    let times = if tally.records == 1 { "time" } else { "times" };
    let refused = match tally.refused {
        0 => String::new(),
        refused => format!(", {refused} of them REFUSED"),
    };
    format!("{} {times}{refused}, {} to {}", tally.records, at(tally.first), at(tally.last))
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn name_of(protocol: u8) -> &'static str {
    match protocol {
        17 => "udp",
        132 => "sctp",
        _ => "tcp",
    }
}

/// Text in YAML: a JSON string is one.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word of a-z, 0-9 and `-`.
fn id(text: &str) -> String {
    let letter = |letter: char| {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' }
    };
    let all: String = text.chars().map(letter).collect();
    let parts: Vec<&str> = all.split('-').filter(|part| !part.is_empty()).collect();
    let joined: String = parts.join("-").chars().take(48).collect();
    let joined = joined.trim_end_matches('-').to_owned();
    if joined.is_empty() { "rule".to_owned() } else { joined }
}

/// Ids of rules, each once.
#[derive(Default)]
struct Ids {
    used: BTreeSet<String>,
}

impl Ids {
    fn of(&mut self, words: &str) -> String {
        let base = id(words);
        let numbered = (2_u32..).map(|number| format!("{base}-{number}"));
        let mut all = std::iter::once(base.clone()).chain(numbered);
        let free = all.find(|id| !self.used.contains(id)).unwrap_or(base);
        self.used.insert(free.clone());
        free
    }
}

/// Lines with their indentation.
#[derive(Default)]
struct Yaml {
    text: String,
}

impl Yaml {
    fn line(&mut self, depth: usize, line: &str) {
        // Into memory.
        let _ = writeln!(self.text, "{:1$}{line}", "", depth * 2);
    }

    fn remark(&mut self, depth: usize, remark: &str) {
        self.line(depth, &format!("# {}", plain(remark)));
    }
}
