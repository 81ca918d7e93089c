//! `pcigate-agent oci-hook`: run by the container runtime before a container's first instruction.
//!
//! It asks the running agent and waits: a container nobody knows does not start where
//! `unknownWorkloads` is `deny`.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use pcigate_agent::{
    config::{self, Config, UnknownWorkloads},
    hooks::{Answer, SOCKET},
};
use serde_json::Value;

/// A state is some hundred bytes; annotations may make it more.
const STATE_BYTES_MAX: u64 = 1024 * 1024;
/// The longest word is `governed`.
const ANSWER_BYTES_MAX: u64 = 64;
/// Annotations that name a pod's namespace: containerd's, and CRI-O's and the kubelet's.
const NAMESPACE: [&str; 2] = ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];

#[derive(clap::Args)]
#[command(after_help = "\
A createRuntime (or prestart) hook of the OCI runtime: reads the container's state on standard \
input. Ends with 0 when the container is governed or none of ours, and with 1 when it is not known \
in time and `unknownWorkloads` is `deny`; with `allow-and-count` it only warns.")]
pub struct Options {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// How long the agent may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    within: u64,
    /// A namespace whose pods start without being asked about, or the agent's own could not.
    #[arg(long, value_name = "NAMESPACE")]
    exempt_namespace: Vec<String>,
}

/// Asks, waits, and lets the container start or not.
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let config = Config::read(&options.config)?;
    let state = state(io::stdin())?;
    if state.namespace.is_some_and(|name| options.exempt_namespace.contains(&name)) {
        return Ok(0);
    }
    let socket = config.state_dir.join(SOCKET);
    let within = Duration::from_secs(options.within);
    let why = match ask(&socket, state.pid, within) {
        Ok(Answer::Governed | Answer::Outside) => return Ok(0),
        Ok(Answer::Refused) => "the agent does not see its process".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let id = state.id;
    match config.unknown_workloads {
        UnknownWorkloads::Deny => {
            tracing::error!("container {id} does not start (unknownWorkloads: deny): {why}");
            Ok(1)
        }
        UnknownWorkloads::AllowAndCount => {
            tracing::warn!("container {id} starts as an unknown workload: {why}");
            Ok(0)
        }
    }
}

/// What is needed of the runtime's state (OCI runtime specification, "State").
struct State {
    id: String,
    pid: u32,
    namespace: Option<String>,
}

fn state(input: impl Read) -> anyhow::Result<State> {
    let mut text = String::new();
    input.take(STATE_BYTES_MAX).read_to_string(&mut text).context("cannot read the state")?;
    let value: Value = serde_json::from_str(&text).context("the state on standard input")?;
    let pid = value.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
    let Some(pid) = pid.filter(|pid| *pid > 0) else {
        bail!("the state names no `pid`: run this as a createRuntime or prestart hook");
    };
    let id = value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let annotation = |name: &&str| value.get("annotations")?.get(*name)?.as_str();
    let namespace = NAMESPACE.iter().find_map(annotation).map(str::to_owned);
    Ok(State { id, pid, namespace })
}

fn ask(socket: &Path, pid: u32, within: Duration) -> anyhow::Result<Answer> {
    let deadline = Instant::now() + within;
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no agent listens at {}", socket.display()))?;
    stream.write_all(format!("govern {pid}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    let mut word = String::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut word);
    read.with_context(|| format!("the agent did not know it within {} s", within.as_secs()))?;
    let known = [Answer::Governed, Answer::Outside, Answer::Refused];
    known.into_iter().find(|answer| answer.word() == word).context("the agent gave no answer")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::state;

    #[test]
    fn the_state_of_a_container_names_its_process_and_its_pod_s_namespace() {
        let text = br#"{"ociVersion": "1.0.2", "id": "c1", "status": "created", "pid": 17,
            "bundle": "/b", "annotations": {"io.kubernetes.pod.namespace": "payments"}}"#;
        let read = state(&text[..]).unwrap();
        assert_eq!((read.id.as_str(), read.pid), ("c1", 17));
        assert_eq!(read.namespace.as_deref(), Some("payments"));
    }

    #[test]
    fn a_state_without_a_process_is_refused() {
        for wrong in ["{}", "{\"pid\": 0}", "{\"pid\": -1}", "[]", "", "{\"pid\": \"17\"}"] {
            assert!(state(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
