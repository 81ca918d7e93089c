//! What the API server knows, through the user's own `kubectl`: it has their login, their context
//! and their proxies, and the crate `kube` stays in the agent. It is run as a child process, reads
//! only, and its answers are foreign: bounded, and shown as plain text.

pub mod documents;
pub mod status;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use clap::Args;
use serde_json::Value;

use crate::failure::Failure;
use crate::table::plain;

/// Bytes of an answer: ten thousand policies, or the NodeCoverage of 5,000 nodes.
const ANSWER_MAX: u64 = 256 << 20;
/// Bytes kept of what kubectl says on standard error.
const ERROR_MAX: u64 = 4 << 10;
/// How long the API server may take, as kubectl writes it.
const WITHIN: &str = "60s";
/// The group of our documents.
const GROUP: &str = "pcigate.dev";

/// Which cluster, and which kubectl.
#[derive(Args, Debug)]
#[group(id = "kubernetes")]
#[command(next_help_heading = "Kubernetes")]
pub struct Options {
    /// The kubectl to ask the API server with: it is run as you, with your login.
    #[arg(long, value_name = "PROGRAM", env = "PCIGATE_KUBECTL", default_value = "kubectl")]
    #[arg(hide_env_values = true)]
    kubectl: PathBuf,
    /// The kubeconfig; default: kubectl's own.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; default: the current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Options {
    /// The objects of a `kubectl get` (resources, names, selectors).
    pub fn get(&self, what: &[&str]) -> Result<Vec<Value>, Failure> {
        let answer = self.json(what)?;
        match answer.get("items") {
            Some(Value::Array(items)) => Ok(items.clone()),
            _ => Ok(vec![answer]),
        }
    }

    fn json(&self, what: &[&str]) -> Result<Value, Failure> {
        let text = self.run(&[&["get", "-o", "json"], what].concat())?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::because(format!("what `{}` writes is no JSON", self.shown(what)), error)
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--request-timeout").arg(WITHIN);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        command.args(arguments).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| {
            let program = self.kubectl.display();
            let sentence = format!(
                "cannot run {program}, which asks the API server: install kubectl, or name it with \
                 --kubectl"
            );
            Failure::because(sentence, error)
        })?;
        // Both have to be read at once, or the child may wait for the one that is not.
        let errors = child.stderr.take().map(|stream| thread::spawn(|| read(stream, ERROR_MAX)));
        let answer = child.stdout.take().map(|stream| read(stream, ANSWER_MAX + 1));
        let answer = answer.unwrap_or_default();
        if answer.len() as u64 > ANSWER_MAX {
            // It would write for ever.
            let _ = child.kill();
        }
        let status = child.wait();
        let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if answer.len() as u64 > ANSWER_MAX {
            let shown = self.shown(arguments);
            return Err(Failure::input(format!(
                "`{shown}` answers with more than {ANSWER_MAX} bytes: name a namespace"
            )));
        }
        if status.is_ok_and(|status| status.success()) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        let said = String::from_utf8_lossy(&errors);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(Failure::Unreachable {
            sentence: format!("`{}` failed: {}", self.shown(arguments), plain(&said.join("; "))),
            cause: None,
        })
    }

    fn shown(&self, arguments: &[&str]) -> String {
        plain(&format!("{} {}", self.kubectl.display(), arguments.join(" ")))
    }
}

fn read(stream: impl Read, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before a failure is judged by its end: it is no JSON then.
    let _ = stream.take(most).read_to_end(&mut bytes);
    bytes
}

/// The text at a place of an object; empty where there is none.
pub fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
