//! Which namespace a destination belongs to: a Target that claims another namespace's could make
//! its gateway a confused deputy, or take the protection away.

use std::collections::BTreeMap;

use super::cidr::Cidr;
use super::names::{Fqdn, ObjectName, Place};
use super::target::{Endpoint, EndpointAt, Target};

/// All destinations claimed so far; of one prefix or name all claims are of one namespace.
#[derive(Default)]
pub(super) struct Claims {
    /// By port, family, first address and length.
    prefixes: BTreeMap<(u16, bool, u128, u8), Owner>,
    /// By port, labels from the last one on, each with a dot behind it, and whether the names below
    /// are meant.
    names: BTreeMap<(u16, String, bool), Owner>,
}

type Owner = (ObjectName, Place);

impl Claims {
    /// Takes in the endpoints of a Target.
    ///
    /// # Errors
    /// One belongs to another namespace; then none is taken in.
    pub(super) fn add(&mut self, target: &Target) -> Result<(), String> {
        for endpoint in &target.endpoints {
            let other = match &endpoint.at {
                EndpointAt::Cidr(cidr) => self.of_prefix(*cidr, endpoint.port, target),
                EndpointAt::Fqdn(fqdn) => self.of_name(fqdn, endpoint.port, target),
                // Of the Target's own namespace.
                EndpointAt::Service(_) => None,
            };
            if let Some((name, place)) = other {
                return Err(taken(endpoint, name, place));
            }
        }
        for endpoint in &target.endpoints {
            let owner = || (target.name.clone(), target.place.clone());
            match &endpoint.at {
                EndpointAt::Cidr(cidr) => {
                    let (first, bits) = cidr.mapped();
                    let key = (endpoint.port, cidr.is_v4(), first, bits);
                    self.prefixes.entry(key).or_insert_with(owner);
                }
                EndpointAt::Fqdn(fqdn) => {
                    let key = (endpoint.port, reversed(fqdn), fqdn.below);
                    self.names.entry(key).or_insert_with(owner);
                }
                EndpointAt::Service(_) => {}
            }
        }
        Ok(())
    }

    fn of_prefix(&self, cidr: Cidr, port: u16, target: &Target) -> Option<&Owner> {
        let (first, bits) = cidr.mapped();
        let host = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
        let inside = (port, cidr.is_v4(), first, 0)..=(port, cidr.is_v4(), first | host, u8::MAX);
        let inside = self.prefixes.range(inside).map(|(_, owner)| owner);
        let around = (0..bits).filter_map(|bits| {
            let host = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
            self.prefixes.get(&(port, cidr.is_v4(), first & !host, bits))
        });
        inside.chain(around).find(|owner| owner.0.namespace != target.name.namespace)
    }

    fn of_name(&self, fqdn: &Fqdn, port: u16, target: &Target) -> Option<&Owner> {
        let key = reversed(fqdn);
        let same = self.names.get(&(port, key.clone(), fqdn.below));
        let ends = key.match_indices('.').map(|(at, _)| at + 1);
        let above = ends
            .filter(|end| *end < key.len())
            .filter_map(|end| self.names.get(&(port, key.get(..end)?.to_owned(), true)));
        let from = (port, key.clone(), false);
        let below = self
            .names
            .range(from..)
            .take_while(|((of, name, _), _)| *of == port && name.starts_with(&key));
        let below = below
            .filter(|((_, name, _), _)| fqdn.below && name.len() > key.len())
            .map(|(_, owner)| owner);
        let all = same.into_iter().chain(above).chain(below);
        all.into_iter().find(|owner| owner.0.namespace != target.name.namespace)
    }
}

fn reversed(fqdn: &Fqdn) -> String {
    fqdn.name.rsplit('.').flat_map(|label| [label, "."]).collect()
}

fn taken(endpoint: &Endpoint, other: &ObjectName, place: &Place) -> String {
    let at = match &endpoint.at {
        EndpointAt::Cidr(cidr) => cidr.to_string(),
        at => at.to_string(),
    };
    format!(
        "{at} port {} overlaps Target {other} of another namespace ({place}); only one namespace \
         may protect a destination",
        endpoint.port
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::target::TargetProtocol;
    use super::*;

    fn target(namespace: &str, endpoints: Vec<Endpoint>) -> Target {
        let name = ObjectName { namespace: namespace.to_owned(), name: "t".to_owned() };
        let place = Place { file: "t".into(), line: 0 };
        let protocol = TargetProtocol::Postgres;
        Target {
            name,
            place,
            protocol,
            endpoints,
            upstream: super::super::target::Upstream::default(),
            credential: None,
            mask: super::super::masking::Masking::default(),
            columns: Vec::new(),
            client_tls: None,
            token: None,
            session_role: None,
            session: super::super::session::SessionBudget::default(),
            canonical: String::new(),
        }
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        let v4 = (0_u32..16, 24_u8..=32).prop_map(|(host, bits)| {
            let address = (0x0a00_0000 | host << 4) & (u32::MAX << (32 - u32::from(bits)));
            format!("{}/{bits}", std::net::Ipv4Addr::from_bits(address))
        });
        let v6 = prop_oneof![Just("::/0".to_owned()), Just("fd00::/8".to_owned())];
        let cidr = prop_oneof![4 => v4, 1 => v6].prop_map(|text| Cidr::parse(&text).unwrap());
        let label = prop_oneof![Just("a"), Just("b"), Just("ab")];
        let name = prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
        let fqdn = (name, any::<bool>()).prop_map(|(name, below)| Fqdn { name, below });
        let at = prop_oneof![cidr.prop_map(EndpointAt::Cidr), fqdn.prop_map(EndpointAt::Fqdn)];
        (at, 1_u16..3).prop_map(|(at, port)| Endpoint { at, port })
    }

    fn meet(a: &Endpoint, b: &Endpoint) -> bool {
        let both = match (&a.at, &b.at) {
            (EndpointAt::Cidr(a), EndpointAt::Cidr(b)) => a.overlaps(b),
            (EndpointAt::Fqdn(a), EndpointAt::Fqdn(b)) => match (a.below, b.below) {
                (false, _) => b.covers(&a.name),
                (true, false) => a.covers(&b.name),
                (true, true) => a.name == b.name || a.covers(&b.name) || b.covers(&a.name),
            },
            _ => false,
        };
        both && a.port == b.port
    }

    proptest! {
        #[test]
        fn a_claim_is_taken_in_unless_it_meets_one_of_another_namespace(
            claims in prop::collection::vec(
                (0_u8..3, prop::collection::vec(endpoint(), 1..4)), 1..8
            ),
        ) {
            let mut all = Claims::default();
            let mut held: Vec<(u8, Endpoint)> = Vec::new();
            for (namespace, endpoints) in claims {
                let meets = endpoints.iter().any(|new| {
                    held.iter().any(|(of, old)| *of != namespace && meet(old, new))
                });
                let added = all.add(&target(&namespace.to_string(), endpoints.clone()));
                prop_assert_eq!(added.is_err(), meets, "{:?} {:?}", added, held);
                if added.is_ok() {
                    held.extend(endpoints.into_iter().map(|endpoint| (namespace, endpoint)));
                }
            }
        }
    }
}
