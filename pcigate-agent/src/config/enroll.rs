//! `collector.enroll`: how the node comes to its certificate in Kubernetes.

use std::path::PathBuf;

use pcigate_policy::yaml::Fields;
use tonic::transport::Uri;

use super::{absolute, url};

/// Where the installation projects the token.
pub const DEFAULT_TOKEN_FILE: &str = "/var/run/secrets/pcigate/token";
/// Where it mounts the authority of the collector's certificate.
pub const DEFAULT_CA_FILE: &str = "/etc/pcigate/ca/ca.pem";
/// The collector's port of enrolment.
const PORT: u16 = 7444;

/// `collector.enroll`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enroll {
    /// `https://HOST:PORT` of the collector's `enroll.listen`.
    pub url: String,
    /// The token of the agent's own pod.
    pub token_file: PathBuf,
    /// The authority of the collector's certificate.
    pub ca_file: PathBuf,
}

impl Enroll {
    /// Reads the field; `collector` is the URL beside it, where that is one.
    pub(super) fn read(mut fields: Fields<'_, '_>, collector: Option<&str>) -> Option<Self> {
        let own = fields.parsed("url", url);
        let token_file = fields.parsed("tokenFile", absolute);
        let ca_file = fields.parsed("caFile", absolute);
        fields.finish();
        Some(Self {
            url: own.or_else(|| beside(collector?))?,
            token_file: token_file.unwrap_or_else(|| DEFAULT_TOKEN_FILE.into()),
            ca_file: ca_file.unwrap_or_else(|| DEFAULT_CA_FILE.into()),
        })
    }
}

/// The same host, at the port of enrolment.
fn beside(collector: &str) -> Option<String> {
    let collector: Uri = collector.parse().ok()?;
    Some(format!("https://{}:{PORT}", collector.host()?))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    fn read(more: &str) -> Result<Enroll, String> {
        let text = format!(
            "nodeName: n1\nworkloads: {{source: file, file: /w}}\n\
             collector: {{url: 'https://[fd00::1]:7443', enroll: {{{more}}}}}\n"
        );
        let config = Config::parse("agent.yaml", &text).map_err(|mistakes| mistakes.to_string())?;
        Ok(config.collector.unwrap().enroll.unwrap())
    }

    #[test]
    fn nothing_needs_to_be_said_where_the_installation_is_the_usual_one() {
        let usual = read("").unwrap();
        assert_eq!(usual.url, "https://[fd00::1]:7444");
        assert_eq!(usual.token_file, PathBuf::from(DEFAULT_TOKEN_FILE));
        let all = "url: 'https://c:1', tokenFile: /t, caFile: /c";
        let expected =
            Enroll { url: "https://c:1".into(), token_file: "/t".into(), ca_file: "/c".into() };
        assert_eq!(read(all).unwrap(), expected);
        let documented = super::super::DOCUMENTED;
        for key in ["enroll:", "tokenFile:", "caFile:", "url: https://pcigate-collector:7444"] {
            assert!(
                documented.contains(&format!("#   {key}")) || documented.contains(key),
                "{key}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (more, wanted) in [
            ("url: 'http://c:1'", "collector.enroll.url"),
            ("tokenFile: token", "collector.enroll.tokenFile"),
            ("token: abc", "collector.enroll.token: unknown field"),
        ] {
            let said = read(more).unwrap_err();
            assert!(said.contains(wanted), "{more}: {said}");
        }
        let text =
            "workloads: {source: file, file: /w}\ncollector: {url: 'https://c:1', enroll: {}}\n";
        let said = Config::parse("agent.yaml", text).unwrap_err().to_string();
        assert!(said.contains("nodeName") && said.contains("collector.enroll"), "{said}");
    }
}
