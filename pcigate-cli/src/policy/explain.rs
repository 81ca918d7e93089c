//! `pcigate policy explain`: the answer to one request of one workload, and where it comes from.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use pcigate_policy::decide::{EgressRequest, ExecRequest, IngressRequest};
use pcigate_policy::document::Documents;
use pcigate_policy::explain::{Request, explain};
use pcigate_policy::workload::Identity;

use super::destination::{Destination, Host, destination, source};
use super::files;
use crate::failure::{Answer, Failure};
use crate::kubernetes::{Options as Kubernetes, documents};

/// Which documents, who asks, and what.
#[derive(Args, Debug)]
#[command(after_help = "Exit code 0 if the request is allowed, 1 if it is refused. Policies in \
    audit mode refuse nothing; what they would have said is printed.")]
pub struct Options {
    /// pod/NAME: a pod of the cluster, as the API server knows it. Files of policy documents, or
    /// directories of such files; without any, the documents of the API server.
    #[arg(value_name = "pod/NAME|FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// The pod that asks, where it is none of the cluster.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = pod)]
    pod: Option<(String, String)>,
    /// The namespace of pod/NAME.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
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
    kubernetes: Kubernetes,
    #[command(flatten)]
    request: Asked,
    /// The name the program is called by, where it differs from its path.
    #[arg(long, value_name = "NAME", requires = "exec", default_value = "")]
    #[arg(hide_default_value = true)]
    invoked: String,
    /// An argument of the program, without argv[0]; may be given several times.
    #[arg(long = "arg", value_name = "ARG", requires = "exec", allow_hyphen_values = true)]
    args: Vec<String>,
    /// SHA-256 of the program; without it, its digest is not known.
    #[arg(long, value_name = "HEX", requires = "exec", value_parser = digest)]
    sha256: Option<[u8; 32]>,
}

/// What is asked: exactly one of the three.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Asked {
    /// To execute this program: the absolute path of the resolved file.
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    exec: Option<String>,
    /// To reach this destination; TCP where no protocol is named.
    #[arg(long, value_name = "[tcp|udp|sctp:]ADDRESS|NAME:PORT", value_parser = destination)]
    connect: Option<Destination>,
    /// To be reached from this address at its own port; TCP where no protocol is named.
    #[arg(long, value_name = "[tcp|udp|sctp:]SOURCE:PORT", value_parser = source)]
    accept: Option<IngressRequest>,
}

/// Reads, decides, explains.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let (documents, identity) = who(options)?;
    let mut names = Vec::new();
    let called = match (options.invoked.as_str(), &options.request.exec) {
        ("", Some(path)) => path,
        (invoked, _) => invoked,
    };
    let args = std::iter::once(called).chain(options.args.iter().map(String::as_str));
    let args: Vec<&[u8]> = args.map(str::as_bytes).collect();
    let asked = &options.request;
    let request = match (&asked.exec, &asked.connect, asked.accept) {
        (Some(path), _, _) => Request::Exec(ExecRequest {
            path: Some(path.as_bytes()),
            invoked: options.invoked.as_bytes(),
            sha256: options.sha256,
            args: Some(&args),
        }),
        (None, Some(Destination { to, protocol, port }), _) => {
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
        (None, None, Some(ingress)) => Request::Ingress(ingress),
        (None, None, None) => {
            return Err(Failure::input("nothing is asked: give --exec, --connect or --accept"));
        }
    };
    let explanation = explain(&documents, &identity, &request);
    let mut out = io::stdout().lock();
    write!(out, "{explanation}")?;
    out.flush()?;
    Ok(if explanation.answer.decision.allows() { Answer::Yes } else { Answer::No })
}

/// The documents, and who asks: of the cluster, or as the arguments say.
fn who(options: &Options) -> Result<(Documents, Identity), Failure> {
    let (pods, paths): (Vec<PathBuf>, Vec<PathBuf>) =
        options.paths.iter().cloned().partition(|path| path.starts_with("pod") && !path.exists());
    let names: Vec<&str> =
        pods.iter().filter_map(|pod| pod.to_str()?.strip_prefix("pod/")).collect();
    let identity = match (names.as_slice(), &options.pod) {
        ([name], None) => documents::pod(&options.kubernetes, &options.namespace, name)?,
        ([], Some((namespace, pod))) => Identity {
            namespace: namespace.clone(),
            pod: pod.clone(),
            pod_uid: String::new(),
            service_account: options.service_account.clone(),
            labels: options.labels.iter().cloned().collect(),
            namespace_labels: options.namespace_labels.iter().cloned().collect(),
        },
        _ => return Err(Failure::input("which pod asks? Give pod/NAME or --pod, one of both")),
    };
    if paths.is_empty() {
        return Ok((documents::documents(&options.kubernetes)?, identity));
    }
    let (_, read) = files::documents(&paths)?;
    let documents = read.map_err(|mistakes| {
        Failure::because("these documents cannot be used: correct every mistake", mistakes)
    })?;
    Ok((documents, identity))
}

pub fn pod(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("`{text}` is not a pod: write NAMESPACE/NAME")),
    }
}

pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: write KEY=VALUE")),
    }
}

pub fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| format!("`{text}` is not a SHA-256: give 64 hexadecimal digits"))?;
    Ok(digest)
}

pub fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not absolute: give the path of the file, as /usr/bin/curl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_else_is_refused_by_name() {
        assert!(pod("a").is_err() && pod("a/").is_err() && pod("a/b/c").is_err());
        assert!(label("=x").is_err() && label("x").is_err() && absolute("curl").is_err());
    }
}
