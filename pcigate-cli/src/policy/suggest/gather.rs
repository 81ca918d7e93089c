//! What was seen, each thing once with how often and when. Everything is bounded: whoever floods
//! the records with different names gets a remark instead of a longer policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pcigate_policy::document::Fqdn;
use pcigate_policy::glob::Glob;
use pcigate_proto::record::Event;
use pcigate_proto::{Exec, Statement, Verdict};

use crate::policy::by_name::Names;
use crate::policy::observed::{Asked, Seen};
use crate::table::is_tricky;

/// Different programs, destinations, tables of one policy.
const THINGS_MAX: usize = 2048;
/// Names of pods that are counted.
const PODS_MAX: usize = 10_000;
/// Words that stand where masking took something out: no path and no table holds them.
const MASKS: [&str; 6] = ["[PAN]", "[SAD:", "[EXP]", "[SECRET]", "[MASKED]", "\u{fffd}"];

/// The effects there are, as documents and records name them.
const EFFECTS: [&str; 8] =
    ["read", "write", "ddl", "dcl", "bulkRead", "function", "session", "unknown"];

/// How often, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Of those, refused.
    pub refused: u64,
    /// Time of the first, nanoseconds since 1970.
    pub first: u64,
    /// Time of the last.
    pub last: u64,
}

/// Protocol, port.
pub type Service = (u8, u16);

/// What was done at a Target.
#[derive(Debug, Default)]
pub struct Gate {
    /// Sessions and statements.
    pub tally: Tally,
    /// By effect, the tables it was seen with.
    pub effects: BTreeMap<String, BTreeMap<String, Tally>>,
    /// Effects of statements with several effects and tables: which is of which is not recorded.
    pub mixed: BTreeSet<String>,
}

/// All of it.
pub struct Gathered {
    names: Names,
    include_refused: bool,
    /// ServiceAccounts.
    pub accounts: BTreeSet<String>,
    /// Pods.
    pub pods: BTreeSet<String>,
    /// Programs by resolved path.
    pub programs: BTreeMap<String, Tally>,
    /// Scripts, by the path they were called by: what runs is their interpreter.
    pub scripts: BTreeMap<String, Tally>,
    /// Addresses by service.
    pub addresses: BTreeMap<Service, BTreeMap<IpAddr, Tally>>,
    /// Names by service, and the rule or file that tells them.
    pub named: BTreeMap<Service, BTreeMap<String, (Tally, String)>>,
    gates: BTreeMap<String, Gate>,
    /// Why records are not in the policy: how many, and the last one's number.
    pub left: BTreeMap<&'static str, (u64, u64)>,
    things: usize,
}

impl Tally {
    fn add(&mut self, seen: &Seen<'_>) {
        self.first = if self.records == 0 { seen.time } else { self.first.min(seen.time) };
        self.last = self.last.max(seen.time);
        self.records += 1;
        self.refused += u64::from(!seen.happened);
    }
}

impl Gathered {
    /// Nothing yet.
    pub fn new(names: Names, include_refused: bool) -> Self {
        Self {
            names,
            include_refused,
            accounts: BTreeSet::new(),
            pods: BTreeSet::new(),
            programs: BTreeMap::new(),
            scripts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            named: BTreeMap::new(),
            gates: BTreeMap::new(),
            left: BTreeMap::new(),
            things: 0,
        }
    }

    /// Whether there is nothing to allow.
    pub fn is_empty(&self) -> bool {
        self.things == 0
    }

    /// Records that are not in the policy.
    pub fn left_out(&self) -> u64 {
        self.left.values().map(|(count, _)| count).sum()
    }

    /// What was done at which Targets, by `namespace/name`.
    pub fn gates(&self) -> impl Iterator<Item = (&String, &Gate)> {
        self.gates.iter()
    }

    /// Takes in a record.
    pub fn take(&mut self, seen: &Seen<'_>) {
        if !seen.happened && !self.include_refused {
            return self.leave("refused, or failed", seen);
        }
        if seen.by.1 == "pcigate/grant" {
            return self.leave("allowed by a grant with a deadline, which is not to last", seen);
        }
        if !seen.who.service_account.split('.').all(is_label) {
            return self.leave("no name of a ServiceAccount", seen);
        }
        let taken = match seen.event {
            Event::Exec(exec) => self.exec(exec, seen),
            Event::Egress(_) => self.egress(seen),
            Event::Session(session) => self.gate(&session.target, seen).map(|_| ()),
            Event::Statement(statement) => self.statement(statement, seen),
            _ => return,
        };
        match taken {
            Ok(()) => {
                self.accounts.insert(seen.who.service_account.clone());
                if self.pods.len() < PODS_MAX {
                    self.pods.insert(seen.who.pod.clone());
                }
            }
            Err(why) => self.leave(why, seen),
        }
    }

    fn leave(&mut self, why: &'static str, seen: &Seen<'_>) {
        let left = self.left.entry(why).or_default();
        *left = (left.0 + 1, seen.index);
    }

    fn exec(&mut self, exec: &Exec, seen: &Seen<'_>) -> Result<(), &'static str> {
        if exec.path_unresolved {
            return Err("the path could not be resolved");
        }
        literal_path(&exec.path)?;
        tally(&mut self.programs, &mut self.things, exec.path.clone())?.add(seen);
        // The kernel puts a script behind its interpreter's arguments; a link it does not.
        let is_script = exec.args.iter().skip(1).any(|arg| *arg == exec.invoked);
        if is_script && literal_path(&exec.invoked).is_ok() {
            tally(&mut self.scripts, &mut self.things, exec.invoked.clone())?.add(seen);
        }
        Ok(())
    }

    fn egress(&mut self, seen: &Seen<'_>) -> Result<(), &'static str> {
        let Some(Asked::Egress { address, protocol, port }) = Asked::of(seen.event) else {
            return Err("no rule can name the destination");
        };
        if ![6, 17, 132].contains(&protocol) || port == 0 {
            return Err("no rule can name the protocol, or there is no port");
        }
        if seen.verdict == Verdict::Gate {
            // The session's own records say which Target it is.
            return Ok(());
        }
        let (policy, rule) = seen.by;
        let by_rule: Vec<String> =
            self.names.of_rule(seen.by).iter().map(Fqdn::to_string).collect();
        let by_host: Vec<String> = self.names.of_host(address).map(str::to_owned).collect();
        let from = match (by_rule.is_empty(), by_host.is_empty()) {
            // Records do not say which of its names it was.
            (false, true) => Some((by_rule, format!("rule {rule} of {policy} let it through"))),
            (_, false) => Some((by_host, "from the file of hosts".to_owned())),
            (true, true) => None,
        };
        let service = (protocol, port);
        let Some((names, from)) = from else {
            let all = self.addresses.entry(service).or_default();
            tally(all, &mut self.things, address)?.add(seen);
            return Ok(());
        };
        let all = self.named.entry(service).or_default();
        for name in names {
            if !all.contains_key(&name) {
                room(&mut self.things)?;
            }
            all.entry(name).or_insert_with(|| (Tally::default(), from.clone())).0.add(seen);
        }
        Ok(())
    }

    fn gate(&mut self, target: &str, seen: &Seen<'_>) -> Result<&mut Gate, &'static str> {
        let own = target.split_once('/').filter(|(of, _)| *of == seen.who.namespace);
        if !own.is_some_and(|(_, name)| is_label(name)) {
            return Err("a Target of another namespace: a ClusterAgentPolicy can gate it");
        }
        if !self.gates.contains_key(target) {
            room(&mut self.things)?;
        }
        let gate = self.gates.entry(target.to_owned()).or_default();
        gate.tally.add(seen);
        Ok(gate)
    }

    fn statement(&mut self, statement: &Statement, seen: &Seen<'_>) -> Result<(), &'static str> {
        let known = |effect: &String| EFFECTS.contains(&effect.as_str());
        if !statement.effects.iter().all(known)
            || !statement.tables.iter().all(|table| is_table(table))
        {
            return Err("an effect or the name of a table that no rule can hold");
        }
        let mut things = self.things;
        let several = statement.effects.len() > 1 && statement.tables.len() > 1;
        let gate = self.gate(&statement.target, seen)?;
        for effect in &statement.effects {
            if several {
                gate.mixed.insert(effect.clone());
            }
            let tables = gate.effects.entry(effect.clone()).or_default();
            if statement.tables.is_empty() {
                tally(tables, &mut things, String::new())?.add(seen);
            }
            for table in &statement.tables {
                tally(tables, &mut things, table.clone())?.add(seen);
            }
        }
        self.things = things.max(self.things);
        Ok(())
    }
}

/// An RFC 1123 label.
fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    (1..=63).contains(&text.len()) && ends && text.bytes().all(fits)
}

/// `table`, `schema.table` or `database.schema.table` as rules write it: nothing in quotes.
fn is_table(text: &str) -> bool {
    let is_name = |part: &str| {
        let fits = |letter: char| letter.is_alphanumeric() || "_$-".contains(letter);
        !part.is_empty() && part.chars().all(fits)
    };
    !is_masked(text) && text.split('.').count() <= 3 && text.split('.').all(is_name)
}

const TOO_MANY: &str = "more different things than a policy should hold";

fn room(things: &mut usize) -> Result<(), &'static str> {
    if *things >= THINGS_MAX {
        return Err(TOO_MANY);
    }
    *things += 1;
    Ok(())
}

fn tally<'m, K: Ord>(
    all: &'m mut BTreeMap<K, Tally>,
    things: &mut usize,
    key: K,
) -> Result<&'m mut Tally, &'static str> {
    if !all.contains_key(&key) {
        room(things)?;
    }
    Ok(all.entry(key).or_default())
}

/// Whether a path can stand in a rule and means itself alone.
fn literal_path(path: &str) -> Result<(), &'static str> {
    let means_itself = !path.contains(['*', '?']) && !path.contains(is_tricky);
    if is_masked(path) || !means_itself || Glob::parse(path).is_err() {
        return Err("the path is masked, or holds what a rule cannot");
    }
    Ok(())
}

fn is_masked(text: &str) -> bool {
    MASKS.iter().any(|mask| text.contains(mask))
}
