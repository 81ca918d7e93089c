//! `/etc/pcigate/agent.yaml`: one file, one struct. Unknown keys are refused, all mistakes are
//! reported at once, and what this version cannot do is refused rather than ignored.

use std::path::{Path, PathBuf};

use pcigate_policy::yaml::{self, Fields, Mistakes, shown};
use pcigate_proto::spiffe;
use tonic::transport::Uri;

use crate::workloads::exempt::{Exempt, SYSTEM_NAMESPACE};

/// Where the installation puts the configuration.
pub const DEFAULT_PATH: &str = "/etc/pcigate/agent.yaml";
/// FHS: state of programs that must survive a reboot.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/pcigate";
/// Beside the configuration, where the installation mounts it read-only.
pub const DEFAULT_POLICY_DIR: &str = "/etc/pcigate/policies";
/// Beside the configuration, where the installation mounts the node's certificate.
pub const DEFAULT_TLS_DIR: &str = "/etc/pcigate/tls";

/// The configuration of `pcigate-agent serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this node. `None`: the name in its certificate, or else the host's.
    pub node_name: Option<String>,
    /// Directory of the cgroup that holds all governed pods. `None`: found below the cgroup2 mount.
    pub cgroup_root: Option<PathBuf>,
    /// Directory for the spool and the witness files.
    pub state_dir: PathBuf,
    /// Policy files, and directories of them.
    pub policies: Vec<PathBuf>,
    /// Where workloads are learned from.
    pub workloads: Workloads,
    /// Where records are sent. `None`: they stay in the spool.
    pub collector: Option<Collector>,
    /// What becomes of cgroups below the root that no workload is known for.
    pub unknown_workloads: UnknownWorkloads,
    /// Workloads no policy governs.
    pub exempt: Exempt,
}

/// Where workloads are learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workloads {
    /// A `v1.PodList` with cgroup paths, read anew when it changes.
    File(PathBuf),
    /// The API server's pods of this node.
    Kubernetes {
        /// `None`: by the ServiceAccount of the agent's own pod.
        kubeconfig: Option<PathBuf>,
    },
}

/// Where records are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Directory with `ca.pem`, `cert.pem`, `key.pem`.
    pub tls_dir: PathBuf,
}

/// Posture towards cgroups that no workload is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownWorkloads {
    /// Refuse what they do; the default, because not knowing must not mean allowing.
    Deny,
    /// Let them, and record and count it.
    AllowAndCount,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: name the configuration with --config FILE", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file has mistakes, one per line.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or all its mistakes.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// Checks a text; `file` is its name in messages.
    ///
    /// # Errors
    /// All mistakes, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Mistakes> {
        let root = yaml::read_one(file, text)?;
        let mut mistakes = Mistakes::default();
        let mut top = Fields::of(&root, "", &mut mistakes);
        let node_name = top.parsed("nodeName", node_name);
        let cgroup_root = top.parsed("cgroupRoot", absolute);
        let state_dir = top.parsed("stateDir", absolute);
        let policies = policies(&mut top);
        let workloads = top.required_fields("workloads").and_then(workloads);
        let collector = top.fields("collector").and_then(collector);
        let unknown_workloads = top.one_of(
            "unknownWorkloads",
            &[
                ("deny", UnknownWorkloads::Deny),
                ("allow-and-count", UnknownWorkloads::AllowAndCount),
            ],
        );
        let exempt = top.fields("exempt").map(exempt);
        if matches!(workloads, Some(Workloads::Kubernetes { .. }))
            && node_name.is_none()
            && collector.is_none()
        {
            top.mistake("nodeName", "is required with source `kubernetes`: whose pods are wanted?");
        }
        refuse_what_is_missing(&mut top);
        top.finish();
        let config = Self {
            node_name,
            cgroup_root,
            state_dir: state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            policies,
            workloads: workloads.unwrap_or_else(|| Workloads::File(PathBuf::new())),
            collector,
            unknown_workloads: unknown_workloads.unwrap_or(UnknownWorkloads::Deny),
            exempt: exempt.unwrap_or_default(),
        };
        mistakes.into_result(config)
    }

    /// Every key with its default and meaning, as a file that can be used.
    #[must_use]
    pub fn documented() -> String {
        format!(
            "\
# pcigate-agent configuration. Keys with a leading `#` have no default value.

# Name of this node in its records, or $VARIABLE of the environment that holds it (in a pod, by the
# downward API: spec.nodeName). Default: the name in the node's certificate (they must be equal), or
# without a collector the host's name.
# nodeName: node-1

# Directory of the cgroup that holds all governed pods. Default: kubepods.slice or kubepods below
# the mount point of cgroup2.
# cgroupRoot: /sys/fs/cgroup/kubepods.slice

# Directory for the spool and the last checkpoint seen of the ledger. It must survive a reboot.
stateDir: {DEFAULT_STATE_DIR}

# Policy files, and directories of *.yaml files.
policies: [{DEFAULT_POLICY_DIR}]

# Where workloads are learned from. Required.
workloads:
  # file: a v1.PodList. kubernetes: the API server's pods of this node (nodeName).
  source: file
  # The file; required with source file.
  file: /etc/pcigate/workloads.yaml
  # With source kubernetes, outside of a pod: how to reach the API server. Default: by the
  # ServiceAccount of the agent's own pod.
  # kubeconfig: /etc/pcigate/kubeconfig

# Where records are sent. Default: nowhere; they stay in the spool until it is full.
collector:
  # https://HOST:PORT; HOST must be a name in the collector's certificate. Required.
  url: https://pcigate-collector:7443
  # Directory with ca.pem, cert.pem and key.pem of this node.
  tlsDir: {DEFAULT_TLS_DIR}

# What becomes of cgroups below cgroupRoot that no workload is known for: deny, or allow-and-count.
unknownWorkloads: deny

# Pods no policy governs, although they are below cgroupRoot. They are recorded, nothing is refused
# to them, and Coverage records list them by name and UID. The agent's own pod always is one.
exempt:
  # All pods of these namespaces.
  namespaces: [{SYSTEM_NAMESPACE}]
  # Pods by UID, also such that the list of workloads does not name.
  podUids: []

# What happens while the agent cannot decide: closed = refused. (open: not available yet.)
failMode: closed

# Address of /healthz, /readyz and /metrics. (Not available yet: leave it out.)
# admin:
#   listen: 127.0.0.1:9464
"
        )
    }
}

/// A name, or `$VARIABLE` of the environment: one file is for all nodes of a cluster, and the
/// downward API tells a pod its node in no other way.
fn node_name(text: &str) -> Result<String, String> {
    let Some(variable) = text.strip_prefix('$') else { return plain_node_name(text) };
    match std::env::var(variable) {
        Ok(name) => plain_node_name(&name),
        Err(_) => Err(format!(
            "{} is no variable of the agent's environment; set it (downward API: spec.nodeName), \
             or write the node's name",
            shown(text)
        )),
    }
}

fn plain_node_name(text: &str) -> Result<String, String> {
    if spiffe::is_name(text) {
        return Ok(text.to_owned());
    }
    let text = shown(text);
    Err(format!("{text} is not a node name: use 1 to 253 letters, digits, `.`, `-`, `_` or `@`"))
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{} is not an absolute path; begin it with `/`", shown(text)))
}

fn policies(top: &mut Fields<'_, '_>) -> Vec<PathBuf> {
    if top.is_empty_list("policies") {
        top.mistake(
            "policies",
            "is empty, so nothing would be governed; name a policy file or directory, or remove \
             the field for the default",
        );
    }
    if top.has("policies") {
        top.parsed_list("policies", absolute)
    } else {
        vec![DEFAULT_POLICY_DIR.into()]
    }
}

fn workloads(mut fields: Fields<'_, '_>) -> Option<Workloads> {
    let is_file = fields.required_one_of("source", &[("file", true), ("kubernetes", false)]);
    let file = fields.parsed("file", absolute);
    let kubeconfig = fields.parsed("kubeconfig", absolute);
    match is_file {
        Some(true) if !fields.has("file") => {
            fields.mistake("file", "is required with source `file`; name the file of workloads");
        }
        Some(true) if fields.has("kubeconfig") => {
            fields.mistake("kubeconfig", "is for source `kubernetes`; remove the field");
        }
        Some(false) if fields.has("file") => {
            fields.mistake("file", "is for source `file`; remove the field");
        }
        _ => {}
    }
    fields.finish();
    match is_file? {
        true => file.map(Workloads::File),
        false => Some(Workloads::Kubernetes { kubeconfig }),
    }
}

fn collector(mut fields: Fields<'_, '_>) -> Option<Collector> {
    let url = fields.required_parsed("url", url);
    let tls_dir = fields.parsed("tlsDir", absolute);
    fields.finish();
    let tls_dir = tls_dir.unwrap_or_else(|| DEFAULT_TLS_DIR.into());
    url.map(|url| Collector { url, tls_dir })
}

fn exempt(mut fields: Fields<'_, '_>) -> Exempt {
    let mut exempt = Exempt::default();
    if fields.has("namespaces") {
        exempt.namespaces = fields.parsed_list("namespaces", namespace).into_iter().collect();
    }
    exempt.pod_uids = fields.parsed_list("podUids", pod_uid).into_iter().collect();
    fields.finish();
    exempt
}

/// RFC 1123, as Kubernetes wants it.
fn namespace(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = text.as_bytes().first().zip(text.as_bytes().last());
    let valid = edges.is_some_and(|(first, last)| plain(*first) && plain(*last))
        && text.len() <= 63
        && text.bytes().all(|b| plain(b) || b == b'-');
    if valid {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not a namespace: use lower-case letters, digits and `-`", shown(text)))
}

fn pod_uid(text: &str) -> Result<String, String> {
    let is_uid = text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_uid {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not a pod's UID: copy it from metadata.uid", shown(text)))
}

fn url(text: &str) -> Result<String, String> {
    let wrong = |why: &str| {
        Err(format!("{} {why}; write https://HOST:7443 (HOST as in its certificate)", shown(text)))
    };
    let Ok(uri) = text.parse::<Uri>() else { return wrong("is not a URL") };
    if uri.scheme_str() != Some("https") {
        return wrong("is not an https URL, and records are sent over TLS only");
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return wrong("must not hold a user or password");
    }
    if uri.port_u16().is_none() {
        return wrong("lacks a port");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return wrong("has a path or a query");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Keys that are promised but do nothing yet: a value other than what happens anyway is refused.
fn refuse_what_is_missing(top: &mut Fields<'_, '_>) {
    top.parsed("failMode", |text| match text {
        "open" => {
            Err("`open` is not available yet; use `closed`, which is what happens".to_owned())
        }
        _ => yaml_choice(text, "closed"),
    });
    if top.has("admin") {
        top.mistake("admin", "is not available yet: there is no admin listener; remove the field");
    }
}

/// The one word that is allowed.
fn yaml_choice(text: &str, allowed: &str) -> Result<(), String> {
    if text == allowed {
        Ok(())
    } else {
        Err(format!("{} is not known; use `{allowed}`", shown(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        Config::parse("agent.yaml", text).unwrap_err().to_string()
    }

    const LEAST: &str = "workloads: {source: file, file: /w.yaml}\n";

    #[test]
    fn the_documented_configuration_is_one() {
        let config = Config::parse("documented", &Config::documented()).unwrap();
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
        assert_eq!(config.policies, [Path::new(DEFAULT_POLICY_DIR)]);
        let collector = config.collector.unwrap();
        assert_eq!(collector.tls_dir, Path::new(DEFAULT_TLS_DIR));
        assert_eq!(config.unknown_workloads, UnknownWorkloads::Deny);
    }

    #[test]
    fn every_key_is_documented() {
        for place in [
            "",
            "workloads: {source: file, file: /w, ",
            "collector: {url: 'https://c:1', ",
            "exempt: {",
        ] {
            let close = if place.is_empty() { "" } else { "}" };
            let text = mistakes(&format!("{place}zzz: 1{close}\n"));
            let line = text.lines().find(|line| line.contains("known fields: ")).unwrap();
            let (_, known) = line.split_once("known fields: ").unwrap();
            for key in known.split(", ") {
                let documented = Config::documented();
                assert!(documented.contains(&format!("{key}:")), "{key} is not documented");
            }
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = Config::parse("least", LEAST).unwrap();
        let documented = Config::parse("documented", &Config::documented()).unwrap();
        let workloads = documented.workloads.clone();
        assert_eq!(
            Config { workloads, collector: documented.collector.clone(), ..config },
            documented
        );
    }

    #[test]
    fn the_node_s_name_may_be_in_a_variable_of_the_environment() {
        // Cargo sets it for tests.
        let config = Config::parse("x", &format!("nodeName: $CARGO_PKG_NAME\n{LEAST}")).unwrap();
        assert_eq!(config.node_name.as_deref(), Some("pcigate-agent"));
        let said = mistakes(&format!("nodeName: $PCIGATE_NOT_SET\n{LEAST}"));
        assert!(said.contains("`$PCIGATE_NOT_SET` is no variable"), "{said}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = mistakes(
            "nodeName: 'a b'\nstateDir: var\npolicies: []\nworkloads: {source: file}\n\
             collector: {url: 'http://c:1', tlsDir: tls}\nunknownWorkloads: allow\nnodename: x\n",
        );
        assert_eq!(text.lines().count(), 8, "{text}");
        for (line, field) in [
            (1, "nodeName"),
            (2, "stateDir"),
            (3, "policies"),
            (4, "workloads.file"),
            (5, "collector.url"),
            (5, "collector.tlsDir"),
            (6, "unknownWorkloads"),
            (7, "nodename"),
        ] {
            assert!(text.contains(&format!("agent.yaml:{line}: {field}: ")), "{field}: {text}");
        }
    }

    #[test]
    fn who_is_exempt_is_the_system_namespace_unless_something_else_is_said() {
        let exempt = |more: &str| Config::parse("agent.yaml", &format!("{LEAST}{more}"));
        assert!(exempt("").unwrap().exempt.covers("kube-system", ""));
        let none = exempt("exempt: {namespaces: []}\n").unwrap().exempt;
        assert_eq!(none.namespaces.len() + none.pod_uids.len(), 0);
        let text = mistakes(
            "workloads: {source: file, file: /w}\nexempt: {namespaces: [A], podUids: [x]}\n",
        );
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn the_source_kubernetes_wants_to_know_the_node_and_no_file() {
        let read = |text: &str| Config::parse("agent.yaml", text).map(|config| config.workloads);
        let found = read("nodeName: n\nworkloads: {source: kubernetes, kubeconfig: /k}\n").unwrap();
        assert_eq!(found, Workloads::Kubernetes { kubeconfig: Some("/k".into()) });
        let found = read("collector: {url: 'https://c:1'}\nworkloads: {source: kubernetes}\n");
        assert_eq!(found.unwrap(), Workloads::Kubernetes { kubeconfig: None }, "the certificate");
        let text = mistakes("workloads: {source: kubernetes, file: /w}\n");
        assert!(text.contains("nodeName: is required with source `kubernetes`"), "{text}");
        assert!(text.contains("workloads.file: is for source `file`"), "{text}");
        let text = mistakes("workloads: {source: file, file: /w, kubeconfig: /k}\n");
        assert!(text.contains("workloads.kubeconfig: is for source `kubernetes`"), "{text}");
    }

    #[test]
    fn what_is_not_available_yet_is_refused_and_says_so() {
        let text = mistakes(
            "workloads: {source: file, file: /w}\nfailMode: open\nadmin: {listen: 'x:1'}\n",
        );
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.contains("not available yet")), "{text}");
    }

    #[test]
    fn a_collector_url_is_https_with_a_host_and_a_port_and_nothing_else() {
        let with = |url: &str| {
            let text = format!("{LEAST}collector: {{url: '{url}'}}\n");
            Config::parse("agent.yaml", &text).map(|config| config.collector.unwrap().url)
        };
        assert_eq!(with("https://c.example:7443/").unwrap(), "https://c.example:7443");
        assert_eq!(with("https://[::1]:7443").unwrap(), "https://[::1]:7443");
        for url in ["c:7443", "https://c", "https://u:p@c:1", "https://c:1/x", "https://c:1?x", ""]
        {
            assert!(with(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::read(Path::new("/nonexistent/agent.yaml")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/agent.yaml"));
    }
}
