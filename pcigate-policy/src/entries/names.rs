//! All egress rules by name, as names and wildcards that each hold the folded answer of every rule
//! covering them: only the most specific one of a name has to be found.

use std::collections::BTreeMap;
use std::ops::Bound;

use pcigate_common::limits;
use pcigate_common::names::NameId;
use sha2::{Digest, Sha256};

use super::prefixes::{Claim, Folds, add, answers};
use super::{CompileError, Name};
use crate::document::Fqdn;
use crate::fold::Fold;
use crate::workload::PolicySet;

/// Key → what is said of exactly this name or wildcard.
type Named = BTreeMap<Vec<u8>, Vec<Claim>>;

pub(super) fn build(set: &PolicySet) -> Result<Vec<Name>, CompileError> {
    let mut named = Named::new();
    for (number, _, rule) in set.egress_rules() {
        for (fqdn, port) in set.named(rule) {
            let (mode, verdict) = (rule.mode, rule.verdict());
            let claim = Claim { mode, verdict, rule: number, port };
            named.entry(of_rule(fqdn)).or_default().push(claim);
        }
    }
    let too_many = |what, most| CompileError::EgressSize {
        policies: set.names(|policy| policy.egress.is_some()),
        what,
        most,
    };
    let mut names: Vec<Name> = Vec::with_capacity(named.len());
    let mut stack: Vec<(&[u8], Folds)> = Vec::new();
    let mut ports = 0;
    for (key, claims) in &named {
        while stack.last().is_some_and(|(covering, _)| !key.starts_with(covering)) {
            stack.pop();
        }
        let mut folds = match stack.last() {
            Some((_, folds)) => folds.clone(),
            None => Folds::from([((0, 0), Fold::default())]),
        };
        for claim in claims {
            add(&mut folds, *claim);
        }
        let own = answers(&folds, Fold::without_defaults);
        ports += own.len();
        names.push(Name { key: key.clone(), id: identify(&named, key), ports: own });
        stack.push((key, folds));
    }
    if names.len() > limits::NAMES_MAX as usize {
        return Err(too_many("names", limits::NAMES_MAX));
    }
    if ports > limits::PORTS_MAX as usize {
        return Err(too_many("ports of names", limits::PORTS_MAX));
    }
    Ok(names)
}

/// The name reversed, so that a wildcard's key is the beginning of the keys of all it covers: `*.`
/// ends with a dot, a name itself with a NUL.
fn of_rule(fqdn: &Fqdn) -> Vec<u8> {
    let end = if fqdn.below { b'.' } else { 0 };
    fqdn.name.bytes().rev().chain([end]).collect()
}

/// As [`of_rule`], of a name that has been resolved.
pub(super) fn of_name(name: &str) -> Vec<u8> {
    name.bytes().rev().map(|byte| byte.to_ascii_lowercase()).chain([0]).collect()
}

/// The same for the same name or wildcard with the same ones below it. What a workload has learned
/// by a wildcard must not count where another policy tells names below it apart: which of them it
/// was is not kept.
fn identify(named: &Named, key: &[u8]) -> NameId {
    let mut hasher = Sha256::new_with_prefix("pcigate name v1\n");
    let from = (Bound::Included(key.to_vec()), Bound::Unbounded);
    let below = named.range(from).map(|(key, _)| key).take_while(|other| other.starts_with(key));
    for key in below {
        hasher.update((key.len() as u64).to_be_bytes());
        hasher.update(key);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut id = NameId::default();
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}
