//! All egress rules as prefixes that each hold the folded answer of every rule covering them.
//!
//! Prefixes are visited so that each follows those that cover it; the covering ones form a stack,
//! and each takes over what the one below it on the stack says. IPv4 and IPv6 are two such visits,
//! because an IPv6 rule never speaks of IPv4, although the kernel keeps both in one trie.

use std::collections::BTreeMap;
use std::rc::Rc;

use pcigate_common::limits;
use pcigate_common::maps::{Decision, rule, verdict};

use super::{CompileError, Prefix};
use crate::decide::sources;
use crate::document::{Cidr, Mode, PortMatch};
use crate::fold::{Defaults, Fold};
use crate::workload::PolicySet;

/// What is said of a port of a prefix or a name, in which mode, and by which rule number.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub(super) mode: Mode,
    pub(super) verdict: u32,
    pub(super) rule: u32,
    pub(super) port: PortMatch,
}

/// (address, bits) → what is said of exactly this prefix.
type Named = BTreeMap<(u128, u8), Vec<Claim>>;
type Ports = Rc<Vec<(u8, u16, Decision)>>;
/// What covers each (protocol, port), including what covers it through wider keys.
pub(super) type Folds = BTreeMap<(u8, u16), Fold>;

/// The destinations of egress rules and of Targets.
pub(super) fn egress(set: &PolicySet) -> Result<Vec<Prefix>, CompileError> {
    let mut claims = Claims::default();
    for (number, _, rule) in set.egress_rules() {
        for (cidr, port) in set.destinations(rule) {
            claims
                .add(cidr, Claim { mode: rule.mode, verdict: rule.verdict(), rule: number, port });
        }
    }
    for (_, cidr, port) in set.protected() {
        let (mode, verdict) = (Mode::Enforce, verdict::DENY);
        claims.add(cidr, Claim { mode, verdict, rule: rule::TARGET, port });
    }
    let named = set.egress_rules().any(|(_, _, rule)| set.named(rule).next().is_some());
    claims.fold(set, set.egress_defaults(), named)
}

/// The sources of ingress rules.
pub(super) fn ingress(set: &PolicySet) -> Result<Vec<Prefix>, CompileError> {
    let mut claims = Claims::default();
    for (number, _, rule) in set.ingress_rules() {
        for (cidr, port) in sources(rule) {
            claims
                .add(cidr, Claim { mode: rule.mode, verdict: rule.verdict(), rule: number, port });
        }
    }
    claims.fold(set, set.ingress_defaults(), false)
}

/// What is said of prefixes, by family.
#[derive(Default)]
struct Claims {
    v4: Named,
    v6: Named,
}

impl Claims {
    fn add(&mut self, cidr: Cidr, claim: Claim) {
        let family = if cidr.is_v4() { &mut self.v4 } else { &mut self.v6 };
        family.entry(cidr.mapped()).or_default().push(claim);
    }

    fn fold(
        mut self,
        set: &PolicySet,
        defaults: Defaults,
        named: bool,
    ) -> Result<Vec<Prefix>, CompileError> {
        let mut out = Out { set, defaults, named, prefixes: Vec::new(), ports: 0 };
        let default: Ports = Rc::new(vec![(0, 0, out.defaults.decision())]);
        out.visit(self.v6, &default)?;
        // Where an IPv6 prefix covers the v4-mapped range, all of IPv4 needs an entry of its own.
        let root = Cidr::ALL_V4.mapped();
        let covered =
            |prefix: &Prefix| covers(u128::from_be_bytes(prefix.address), prefix.bits, root.0);
        if out.prefixes.iter().any(covered) {
            self.v4.entry(root).or_default();
            out.visit(self.v4, &Rc::new(Vec::new()))?;
        } else {
            out.visit(self.v4, &default)?;
        }
        Ok(out.prefixes)
    }
}

struct Out<'a> {
    set: &'a PolicySet,
    defaults: Defaults,
    /// Whether the answers of names join those of addresses.
    named: bool,
    prefixes: Vec<Prefix>,
    ports: usize,
}

/// A prefix that may cover those to come.
struct Frame {
    address: u128,
    bits: u8,
    folds: Folds,
    /// What the kernel answers here: this prefix's or, where it is the same, a covering one's.
    ports: Ports,
}

impl Out<'_> {
    /// Adds the prefixes of one family; `outside` is what the kernel answers around them.
    fn visit(&mut self, named: Named, outside: &Ports) -> Result<(), CompileError> {
        let mut stack: Vec<Frame> = Vec::new();
        for ((address, bits), claims) in named {
            while stack.last().is_some_and(|frame| !covers(frame.address, frame.bits, address)) {
                stack.pop();
            }
            let mut folds = match stack.last() {
                Some(frame) => frame.folds.clone(),
                None => Folds::from([((0, 0), Fold::default())]),
            };
            for claim in claims {
                add(&mut folds, claim);
            }
            let around = stack.last().map_or(outside, |frame| &frame.ports);
            let mut ports = Rc::new(answers(&folds, |fold| self.decision(fold)));
            if ports == *around {
                ports = Rc::clone(around);
            } else {
                self.push(address, bits, &ports)?;
            }
            stack.push(Frame { address, bits, folds, ports });
        }
        Ok(())
    }

    fn decision(&self, fold: &Fold) -> Decision {
        if self.named { fold.before_names(&self.defaults) } else { fold.decision(&self.defaults) }
    }

    fn push(&mut self, address: u128, bits: u8, ports: &Ports) -> Result<(), CompileError> {
        let address = address.to_be_bytes();
        self.prefixes.push(Prefix { address, bits, ports: ports.as_ref().clone() });
        self.ports += ports.len();
        let too_many = |what, most| CompileError::EgressSize {
            policies: self.set.names(|policy| policy.egress.is_some() || policy.ingress.is_some()),
            what,
            most,
        };
        if self.prefixes.len() > limits::PREFIXES_MAX as usize {
            return Err(too_many("prefixes", limits::PREFIXES_MAX));
        }
        if self.ports > limits::PORTS_MAX as usize {
            return Err(too_many("ports of prefixes", limits::PORTS_MAX));
        }
        Ok(())
    }
}

/// The entries of one block, leaving out what a wider key answers the same.
pub(super) fn answers(
    folds: &Folds,
    decision: impl Fn(&Fold) -> Decision,
) -> Vec<(u8, u16, Decision)> {
    let answer = |key: (u8, u16)| folds.get(&key).map(&decision);
    let wider = |(protocol, port): (u8, u16)| match (protocol, port) {
        (0, _) => None,
        (_, 0) => answer((0, 0)),
        _ => answer((protocol, 0)).or_else(|| answer((0, 0))),
    };
    let own = |(key, fold): (&(u8, u16), &Fold)| {
        let decision = decision(fold);
        (wider(*key) != Some(decision)).then_some((key.0, key.1, decision))
    };
    folds.iter().filter_map(own).collect()
}

/// Adds a claim at its key and at every narrower one. A new key starts from what the next wider one
/// says, so that each key holds everything that covers it.
pub(super) fn add(folds: &mut Folds, claim: Claim) {
    let port = claim.port;
    let key = (port.protocol, port.port);
    if !folds.contains_key(&key) {
        let wider = folds.get(&(port.protocol, 0)).or_else(|| folds.get(&(0, 0)));
        let start = wider.copied().unwrap_or_default();
        folds.insert(key, start);
    }
    for (&(protocol, number), fold) in folds.iter_mut() {
        if (protocol, number) == key || port.covers(protocol, number) {
            fold.add(claim.mode, claim.verdict, claim.rule);
        }
    }
}

fn covers(address: u128, bits: u8, other: u128) -> bool {
    (address ^ other).leading_zeros() >= u32::from(bits)
}
