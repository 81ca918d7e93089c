//! `enroll` of the configuration: certificates of nodes for agents in Kubernetes.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use pcigate_policy::yaml::{Fields, shown};

use super::address;

/// Default of `enroll.audience`, which is also the agent's.
pub const AUDIENCE: &str = "pcigate-collector";
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Shorter ones are renewed all the time, longer ones outlive what they prove.
const LIFETIMES: std::ops::RangeInclusive<u64> = 600..=90 * DAY;

/// `enroll`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enroll {
    /// `enroll.listen`.
    pub listen: SocketAddr,
    /// `enroll.kubeconfig`; `None`: by the ServiceAccount of the collector's own pod.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the agents' ServiceAccount.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// `enroll.audience`: whom tokens must be for.
    pub audience: String,
    /// `enroll.lifetime` of certificates.
    pub lifetime: Duration,
    /// `enroll.trustDomain` of their SPIFFE ids.
    pub trust_domain: String,
}

impl Enroll {
    /// Reads the field `enroll`, where it is.
    pub(super) fn read(top: &mut Fields<'_, '_>) -> Option<Self> {
        let mut fields = top.fields("enroll")?;
        let listen = fields.parsed("listen", address);
        let kubeconfig = fields.parsed("kubeconfig", super::directory);
        let account = fields.required_parsed("serviceAccount", account);
        let audience = fields.parsed("audience", audience);
        let lifetime = fields.parsed("lifetime", lifetime);
        let trust_domain = fields.parsed("trustDomain", trust_domain);
        fields.finish();
        let (namespace, service_account) = account?;
        Some(Self {
            listen: listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 7444))),
            kubeconfig,
            namespace,
            service_account,
            audience: audience.unwrap_or_else(|| AUDIENCE.to_owned()),
            lifetime: lifetime.unwrap_or(Duration::from_secs(DAY)),
            trust_domain: trust_domain.unwrap_or_else(|| "pcigate".to_owned()),
        })
    }
}

/// `NAMESPACE/NAME`, each as Kubernetes wants it.
fn account(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        (1..=253).contains(&name.len()) && name.bytes().all(byte)
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("{} is not NAMESPACE/NAME of a ServiceAccount", shown(text))),
    }
}

fn audience(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic();
    if (1..=253).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{} cannot be an audience; use letters without white space", shown(text)))
}

/// `90m`, `24h`, `7d`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let units = [("m", 60), ("h", HOUR), ("d", DAY)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok())?.and_then(|n| n.checked_mul(*seconds))
    });
    match seconds {
        Some(seconds) if LIFETIMES.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{} is not a time from 10m to 90d, for example 24h", shown(text))),
    }
}

fn trust_domain(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if (1..=253).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    let rule = "use lower-case letters, digits, `.`, `-` and `_`";
    Err(format!("{} cannot be a trust domain; {rule}", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn enroll(text: &str) -> Result<Enroll, String> {
        let text = format!("origin: o\nenroll: {text}\n");
        let config = parse("c.yaml", &text).map_err(|mistakes| mistakes.to_string())?;
        Ok(config.enroll.expect("it is set"))
    }

    #[test]
    fn a_service_account_is_enough_and_the_rest_has_the_documented_defaults() {
        let least = enroll("{serviceAccount: pcigate/agent}").unwrap();
        let shown = "{listen: 0.0.0.0:7444, serviceAccount: pcigate/agent, lifetime: 24h, \
                     audience: pcigate-collector, trustDomain: pcigate}";
        assert_eq!(least, enroll(shown).unwrap());
        assert_eq!(
            (least.namespace.as_str(), least.service_account.as_str()),
            ("pcigate", "agent")
        );
        for line in [
            "listen: 0.0.0.0:7444",
            "lifetime: 24h",
            "audience: pcigate-collector",
            "trustDomain: pcigate",
            "serviceAccount: ",
            "kubeconfig: ",
        ] {
            assert!(crate::config::DOCUMENTED.contains(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, wanted) in [
            ("{}", "enroll.serviceAccount"),
            ("{serviceAccount: agent}", "`agent` is not NAMESPACE/NAME"),
            ("{serviceAccount: a/b/c}", "is not NAMESPACE/NAME"),
            ("{serviceAccount: a/b, lifetime: 9m}", "`9m` is not a time from 10m to 90d"),
            ("{serviceAccount: a/b, lifetime: 91d}", "enroll.lifetime: `91d`"),
            ("{serviceAccount: a/b, lifetime: 24x}", "enroll.lifetime: `24x`"),
            ("{serviceAccount: a/b, audience: a b}", "enroll.audience: `a b`"),
            ("{serviceAccount: a/b, trustDomain: A/b}", "enroll.trustDomain: `A/b`"),
            ("{serviceAccount: a/b, token: x}", "enroll.token: unknown field"),
        ] {
            let said = enroll(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
