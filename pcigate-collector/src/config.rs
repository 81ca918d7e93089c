//! The collector's configuration file: every key, its default, and what is not available yet.

mod enroll;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::logging::{Format, Log};
use pcigate_policy::yaml::{self, Fields, Mistakes, shown};

use crate::retention::Retention;
pub use enroll::{AUDIENCE, Enroll};

/// A documented file with every key; the output of `serve --print-config`.
pub const DOCUMENTED: &str = "\
# pcigate-collector, all keys. Those not marked `required` show their default.

# Where nodes and people connect (gRPC over mutual TLS). Port 0 takes a free port.
listen: 0.0.0.0:7443

# Where the ledger and its key live. One collector per directory.
#   ledger/checkpoint, ledger/tile/…   the log (C2SP tlog-tiles)
#   ledger.key, ledger.vkey            its signing key (secret) and verifier key (give to everyone)
#   index/                             derived; can be deleted
stateDir: /var/lib/pcigate

# Directory with ca.pem, cert.pem and key.pem (`pcigate-collector issue --server HOST` makes it).
tlsDir: /etc/pcigate/tls

# Required. The name of the log for ever; part of its key and of every checkpoint.
origin: ledger.example.com/pci

# Where the ledger is kept. `local` is the disk below stateDir; `s3` is not available yet.
store: {kind: local}

# For how many days the records of a class (kind) can be queried; a class that is not named: for
# ever. What is older leaves the index, hour by hour, and a deletion record says so; the ledger
# keeps every leaf (`pcigate record N --proof` still shows it). PCI DSS 10.5.1 asks for 12 months
# of audit log, three of them at hand: exec, egress, query, lost, gap, coverage, conflict and
# enrollment need 365d or more, the helpers fork, exit and received 90d or more, deletion is always
# kept.
# Example: {fork: 90d, exit: 90d, exec: 400d}
retention: {}

# Plain HTTP with /metrics, /healthz and /readyz: no log in, and metrics tell the names of nodes, so
# keep it to this machine or to a network of your own. `off` for none.
webListen: 127.0.0.1:7080

# Log lines on standard error. format: text or json; level: error, warn, info, debug or trace (the
# environment variable RUST_LOG overrides it).
log: {format: text, level: info}

# Certificates of nodes for agents in Kubernetes: an agent shows the token of its pod, the API
# server says whose it is (TokenReview), and the certificate is for the node the pod runs on. They
# count for nodes only; their authority is made in stateDir/enroll, which its key never leaves.
# Default: none.
# enroll:
#   # Where agents ask, without a certificate of their own (gRPC over TLS).
#   listen: 0.0.0.0:7444
#   # Required. NAMESPACE/NAME of the agents' ServiceAccount.
#   serviceAccount: pcigate/pcigate-agent
#   # Whom the tokens must be for.
#   audience: pcigate-collector
#   # How long a certificate lasts, 10m to 90d; agents renew it after two thirds.
#   lifetime: 24h
#   # Trust domain of the SPIFFE ids.
#   trustDomain: pcigate
#   # Outside of a pod: how to reach the API server. Default: the pod's own ServiceAccount.
#   kubeconfig: /etc/pcigate/kubeconfig

# Not available yet, and refused when set: oidc.
";

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `listen`: gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// `stateDir`.
    pub state_dir: PathBuf,
    /// `tlsDir`.
    pub tls_dir: PathBuf,
    /// `origin`: name of the log.
    pub origin: String,
    /// `webListen`: metrics and health over plain HTTP; `None` for none.
    pub web_listen: Option<SocketAddr>,
    /// `log`.
    pub log: Log,
    /// `retention`.
    pub retention: Retention,
    /// `enroll`; `None` for none.
    pub enroll: Option<Enroll>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path} (`serve --print-config` shows one)")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// All mistakes in it.
    #[error("{mistakes}")]
    Mistakes {
        /// One per line when shown.
        mistakes: Mistakes,
    },
}

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, or all its mistakes.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
    parse(&name, &text).map_err(|mistakes| ConfigError::Mistakes { mistakes })
}

/// Reads the text of a configuration file; `file` is its name in messages.
///
/// # Errors
/// All mistakes, with their lines.
pub fn parse(file: &str, text: &str) -> Result<Config, Mistakes> {
    let root = yaml::read_one(file, text)?;
    let mut mistakes = Mistakes::default();
    let mut top = Fields::of(&root, "", &mut mistakes);
    let listen = top.parsed("listen", address);
    let state_dir = top.parsed("stateDir", directory);
    let tls_dir = top.parsed("tlsDir", directory);
    let origin = top.required_parsed("origin", log_name);
    store(&mut top);
    let web_listen = top.parsed("webListen", web_address);
    let log = log(&mut top);
    let retention = Retention::read(&mut top);
    let enroll = Enroll::read(&mut top);
    refuse(&mut top, "oidc");
    top.finish();
    mistakes.into_result(Config {
        listen: listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 7443))),
        state_dir: state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/pcigate")),
        tls_dir: tls_dir.unwrap_or_else(|| PathBuf::from("/etc/pcigate/tls")),
        origin: origin.unwrap_or_default(),
        web_listen: web_listen.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 7080)))),
        log,
        retention,
        enroll,
    })
}

fn log(top: &mut Fields<'_, '_>) -> Log {
    let mut log = Log::default();
    let Some(mut fields) = top.fields("log") else { return log };
    if let Some(format) = fields.one_of("format", &[("text", Format::Text), ("json", Format::Json)])
    {
        log.format = format;
    }
    let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
    if let Some(level) = fields.one_of("level", &levels) {
        log.level = level;
    }
    fields.finish();
    log
}

fn store(top: &mut Fields<'_, '_>) {
    let Some(mut store) = top.fields("store") else { return };
    if store.required_one_of("kind", &[("local", true), ("s3", false)]) == Some(false) {
        store.mistake("kind", "`s3` is not available yet; remove it or use `local`");
        return;
    }
    store.finish();
}

fn refuse(top: &mut Fields<'_, '_>, name: &'static str) {
    if top.has(name) {
        top.mistake(name, "not available yet; remove it");
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| format!("{} is not ADDRESS:PORT, for example 0.0.0.0:7443", shown(text));
    text.parse().map_err(wrong)
}

fn web_address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" | "off" => Ok(None),
        text => address(text).map(Some).map_err(|wrong| format!("{wrong}, or `off`")),
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty; give the path of a directory".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

fn log_name(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if text.is_empty() || text.chars().any(bad) {
        let rule = "a non-empty name without white space, control characters or `+`";
        return Err(format!("{} cannot name a log; use {rule}", shown(text)));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_configuration_is_accepted_and_shows_the_defaults() {
        let shown = parse("x", DOCUMENTED).unwrap();
        let defaults = parse("x", "origin: ledger.example.com/pci").unwrap();
        assert_eq!(shown, defaults);
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let text = "listen: here\nwebListen: on\nretention: {months: 13}\noidc: {}\n\
                    store: {kind: s3, bucket: b}\norigin: a b\nunknown: 1\nlog: {format: xml}\n";
        let mistakes = parse("collector.yaml", text).unwrap_err().to_string();
        for wanted in [
            "collector.yaml:1: listen: `here` is not ADDRESS:PORT",
            "collector.yaml:2: webListen: `on` is not ADDRESS:PORT",
            "collector.yaml:8: log.format:",
            "collector.yaml:3: retention.months: unknown field",
            "collector.yaml:4: oidc: not available yet; remove it",
            "collector.yaml:5: store.kind: `s3` is not available yet",
            "collector.yaml:6: origin: `a b` cannot name a log",
            "collector.yaml:7: unknown: unknown field",
        ] {
            assert!(mistakes.contains(wanted), "{wanted}\n{mistakes}");
        }
    }

    #[test]
    fn the_web_port_and_the_log_can_be_set() {
        let parsed = |text: &str| parse("x", &format!("origin: o\n{text}")).unwrap();
        assert_eq!(parsed("webListen: off").web_listen, None);
        assert_eq!(parsed("webListen: \"\"").web_listen, None);
        assert_eq!(parsed("webListen: 0.0.0.0:0").web_listen.unwrap().port(), 0);
        let log = Log { format: Format::Json, level: "debug" };
        assert_eq!(parsed("log: {format: json, level: debug}").log, log);
    }

    #[test]
    fn a_configuration_without_origin_is_refused() {
        let mistakes = parse("collector.yaml", "listen: 127.0.0.1:0\n").unwrap_err();
        assert!(mistakes.to_string().contains("origin"), "{mistakes}");
    }
}
