//! The names behind a recorded destination. Records hold addresses: which name a workload had
//! resolved is known only through the rule by name that let it through, or a file of hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use pcigate_policy::document::{Documents, EgressEffect, EgressRule, EndpointAt, Fqdn, Peer};

use crate::failure::Failure;

/// Names that are tried for one destination.
const NAMES_MAX: usize = 64;

/// What is known of names.
#[derive(Default)]
pub struct Names {
    /// By `namespace/name` of the policy and id of the rule.
    rules: BTreeMap<(String, String), Vec<Fqdn>>,
    hosts: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Names {
    /// The names in the rules of documents.
    pub fn learn(&mut self, documents: &Documents) {
        for policy in documents.policies() {
            let rules = policy.egress.iter().flat_map(|section| &section.rules);
            for rule in rules {
                let names = of_rule(documents, rule);
                if !names.is_empty() {
                    self.rules.insert((policy.name.to_string(), rule.id.clone()), names);
                }
            }
        }
    }

    /// Reads a file in the form of /etc/hosts: an address and its names a line.
    pub fn read_hosts(&mut self, path: &Path) -> Result<(), Failure> {
        let text = fs::read_to_string(path).map_err(|error| {
            let sentence = format!("cannot read {}: give a file as /etc/hosts", path.display());
            Failure::because(sentence, error)
        })?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(address) = words.next() else { continue };
            let address: IpAddr = address.parse().map_err(|_| {
                let place = path.display();
                Failure::input(format!(
                    "{place}:{number}: `{}` is no address: write ADDRESS NAME",
                    crate::table::plain(address)
                ))
            })?;
            let names: Vec<String> = words.map(str::to_ascii_lowercase).collect();
            if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
                return Err(Failure::input(format!(
                    "{}:{number}: `{}` is no host name: write ADDRESS NAME",
                    path.display(),
                    crate::table::plain(wrong)
                )));
            }
            self.hosts.entry(address).or_default().extend(names);
        }
        Ok(())
    }

    /// The names of the rule that let a destination through.
    pub fn of_rule(&self, (policy, rule): (&str, &str)) -> &[Fqdn] {
        let key = (policy.to_owned(), rule.to_owned());
        self.rules.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The names of an address in the file of hosts.
    pub fn of_host(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.hosts.get(&address).into_iter().flatten().map(String::as_str)
    }

    /// Names by which a destination may have been resolved; of `*.x.org` some name below stands for
    /// all of them.
    pub fn possible(&self, address: IpAddr, by: (&str, &str)) -> Vec<String> {
        let written = self.of_rule(by).iter().map(|fqdn| match fqdn.below {
            true => format!("any.{}", fqdn.name),
            false => fqdn.name.clone(),
        });
        written.chain(self.of_host(address).map(str::to_owned)).take(NAMES_MAX).collect()
    }
}

/// A name that a rule can hold.
fn is_name(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let part = |part: &str| {
        let ends = !part.starts_with(['-', '_']) && !part.ends_with(['-', '_']);
        (1..=63).contains(&part.len()) && ends && part.bytes().all(fits)
    };
    text.len() < 250 && text.split('.').all(part) && text.parse::<IpAddr>().is_err()
}

fn of_rule(documents: &Documents, rule: &EgressRule) -> Vec<Fqdn> {
    match &rule.effect {
        EgressEffect::Direct { to, .. } => {
            let fqdn = |peer: &Peer| match peer {
                Peer::Fqdn(fqdn) => Some(fqdn.clone()),
                Peer::Cidr(_) => None,
            };
            to.iter().filter_map(fqdn).collect()
        }
        EgressEffect::Gate { target, .. } => {
            let endpoints = documents.targets().get(target).into_iter().flat_map(|t| &t.endpoints);
            let fqdn = |at: &EndpointAt| match at {
                EndpointAt::Fqdn(fqdn) => Some(fqdn.clone()),
                EndpointAt::Cidr(_) | EndpointAt::Service(_) => None,
            };
            endpoints.filter_map(|endpoint| fqdn(&endpoint.at)).collect()
        }
    }
}
