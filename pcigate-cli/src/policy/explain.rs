//! `pcigate policy explain`: the answer to one request of one workload, and where it comes from.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::decide::{EgressRequest, ExecRequest};
use pcigate_policy::explain::{Request, explain};
use pcigate_policy::workload::Identity;

use super::files;
use crate::failure::{Answer, Failure};

/// Which documents, who asks, and what.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 0 if the request is allowed, 1 if it is refused. Policies in \
    audit mode refuse nothing; what they would have said is printed.")]
pub struct Options {
    /// Files of policy documents, or directories of such files.
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// The pod that asks.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = pod)]
    pod: (String, String),
    /// The pod's ServiceAccount.
    #[arg(long, value_name = "NAME", default_value = "default")]
    service_account: String,
    /// A label of the pod; may be given several times.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A label of the pod's namespace; may be given several times.
    #[arg(long = "namespace-label", value_name = "K=V", value_parser = label)]
    namespace_labels: Vec<(String, String)>,
    #[command(flatten)]
    request: Asked,
    /// The name the program is called by, where it differs from its path.
    #[arg(long, value_name = "NAME", requires = "exec", default_value = "")]
    #[arg(hide_default_value = true)]
    invoked: String,
}

/// What is asked: exactly one of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Asked {
    /// To execute this program: the absolute path of the resolved file.
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    exec: Option<String>,
    /// To reach this destination; TCP where no protocol is named.
    #[arg(long, value_name = "[tcp|udp|sctp:]ADDRESS|NAME:PORT", value_parser = destination)]
    connect: Option<Destination>,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    to: Host,
    protocol: u8,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// Reads, decides, explains.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let (_, read) = files::documents(&options.paths)?;
    let documents = read.map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })?;
    let (namespace, pod) = options.pod.clone();
    let identity = Identity {
        namespace,
        pod,
        pod_uid: String::new(),
        service_account: options.service_account.clone(),
        labels: options.labels.iter().cloned().collect(),
        namespace_labels: options.namespace_labels.iter().cloned().collect(),
    };
    let mut names = Vec::new();
    let request = match (&options.request.exec, &options.request.connect) {
        (Some(path), _) => Request::Exec(ExecRequest {
            path: Some(path.as_bytes()),
            invoked: options.invoked.as_bytes(),
            sha256: None,
        }),
        (None, Some(Destination { to, protocol, port })) => {
            let address = match to {
                Host::Address(address) => Some(*address),
                Host::Name(name) => {
                    names.push(name.as_str());
                    None
                }
            };
            let (protocol, port) = (*protocol, *port);
            Request::Egress(EgressRequest { address, names: &names, protocol, port })
        }
        (None, None) => return Err(Failure::input("nothing is asked: give --exec or --connect")),
    };
    let explanation = explain(&documents, &identity, &request);
    let mut out = io::stdout().lock();
    write!(out, "{explanation}")?;
    out.flush()?;
    Ok(if explanation.answer.decision.allows() { Answer::Yes } else { Answer::No })
}

fn pod(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("`{text}` is not a pod: write NAMESPACE/NAME")),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: write KEY=VALUE")),
    }
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not absolute: give the path of the file, as /usr/bin/curl"))
}

fn destination(text: &str) -> Result<Destination, String> {
    let (protocol, place) = match text.split_once(':') {
        Some(("tcp", place)) => (6, place),
        Some(("udp", place)) => (17, place),
        Some(("sctp", place)) => (132, place),
        _ => (6, text),
    };
    if let Ok(place) = place.parse::<SocketAddr>() {
        return Ok(Destination { to: Host::Address(place.ip()), protocol, port: place.port() });
    }
    let named = place.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse().ok()?;
        let name = name.strip_suffix('.').unwrap_or(name);
        is_name(name).then(|| Destination { to: Host::Name(name.to_owned()), protocol, port })
    });
    named.ok_or_else(|| {
        format!(
            "`{text}` is not a destination: write 10.0.0.5:5432, udp:10.0.0.5:53, [fd00::1]:443 or \
             api.example.com:443"
        )
    })
}

/// A host name, and no address that lacks something.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(fits) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_with_and_without_protocol() {
        for (text, address, protocol, port) in [
            ("10.0.0.5:5432", "10.0.0.5", 6, 5432),
            ("udp:10.0.0.5:53", "10.0.0.5", 17, 53),
            ("[fd00::1]:443", "fd00::1", 6, 443),
            ("sctp:[fd00::1]:1", "fd00::1", 132, 1),
        ] {
            let address = address.parse().expect("an address");
            let to = Host::Address(address);
            assert_eq!(destination(text), Ok(Destination { to, protocol, port }), "{text}");
        }
        let named = |text: &str| destination(text).map(|found| (found.to, found.protocol));
        let name = || Host::Name("db.payments".to_owned());
        assert_eq!(named("db.payments:5432"), Ok((name(), 6)));
        assert_eq!(named("udp:db.payments.:53"), Ok((name(), 17)));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in
            ["", "10.0.0.5", "icmp:10.0.0.5:1", "fd00::1:443", "10.0.0:1", "db.payments:", "a b:1"]
        {
            assert!(destination(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        assert!(pod("a").is_err() && pod("a/").is_err() && pod("a/b/c").is_err());
        assert!(label("=x").is_err() && label("x").is_err() && absolute("curl").is_err());
    }
}
