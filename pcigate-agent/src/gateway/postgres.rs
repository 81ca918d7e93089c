//! Gated PostgreSQL connections: what a session of the gateway's process is given on this node.

use std::{fs, io, os::fd::AsFd, sync::Arc, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use pcigate_policy::document::{PasswordRef, Target, TargetProtocol, TlsMode};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{
    Accepted, Actor, Handler, Keeper, Live, Report, Supervisor, no_protocol,
    session::Attended,
    session_records::Recording,
    wire::{Terms, terms::TERMS_MAX},
};
use crate::{
    causes::chain,
    governor::{Gate, Governor},
    recorder::RecorderHandle,
};

/// A client that is silent is asked that often whether it is there.
const KEEPALIVE_SECONDS: u32 = 30;
/// How long the sessions may take to end when the agent does.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take to be handed over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Longest password file, bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Why no session can be made for a Target.
#[derive(Debug, thiserror::Error)]
enum TermsError {
    #[error("cannot read {path} (Target {target}, upstream.tls.caFile)")]
    Authorities {
        target: String,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "Target {target} says no upstream.tls.caFile, so nobody can prove to be its server: add \
         the file with its authorities"
    )]
    NoAuthorities { target: String },
}

/// The sessions of this node.
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    supervisor: Supervisor,
    live: Arc<Live>,
    recorder: RecorderHandle,
    closed: Report,
}

impl Postgres {
    /// None yet. `closed` takes the records of connections that are closed, and may wait; `report`
    /// may not. Must run inside of a tokio runtime.
    #[must_use]
    pub fn new(keeper: Keeper, recorder: RecorderHandle, closed: Report, report: Report) -> Self {
        let supervisor = Supervisor::new(keeper, report);
        let shared = Shared { supervisor, live: Live::new(), recorder, closed };
        Self { shared: Arc::new(shared) }
    }

    /// Speaks PostgreSQL with the clients of PostgreSQL Targets, and closes all others'
    /// connections.
    #[must_use]
    pub fn handler(&self) -> Handler {
        let shared = Arc::clone(&self.shared);
        let other = no_protocol(Arc::clone(&shared.closed));
        Arc::new(move |accepted: Accepted| match accepted.gate.target.protocol {
            TargetProtocol::Postgres => Box::pin(session(accepted, Arc::clone(&shared))),
            _ => other(accepted),
        })
    }

    /// Ends the sessions that the policies of now would not let in, or not on the same terms.
    pub fn recheck(&self, governor: &Governor) {
        self.shared.live.recheck(|cgroup| governor.rules(cgroup));
    }

    /// Ends all sessions, so that each has its last record.
    pub async fn stop(self) {
        self.shared.live.end_all("the agent stops", END_WITHIN).await;
    }
}

async fn session(accepted: Accepted, shared: Arc<Shared>) {
    let Accepted { stream, original, actor, gate, network, _room } = accepted;
    let (entered, end) = shared.live.enter(actor.workload.cgroup_id, Arc::clone(&gate));
    let recorder = shared.recorder.clone();
    let mut recording = Recording::new(actor.clone(), Arc::clone(&gate), original, recorder);
    if let Err(error) = prepare(&stream) {
        tracing::warn!(%error, "a gated client that vanishes is noticed late, or answers are slow");
    }
    // The kernel has proven who the client is; the address says where it wanted to go.
    let client = format!("redirected from {original}");
    match hand_over(stream, client, &actor, &gate, &shared.supervisor).await {
        Ok(session) => {
            let attended = Attended { session, recording, gate, network };
            attended.run(end).await;
        }
        Err(why) => {
            tracing::error!("a gated connection is closed: {why}");
            recording.broke_off(&why).await;
        }
    }
    drop(entered);
}

/// Hands a client's connection to the gateway's process; the agent keeps none of it. Why not, where
/// that does not work: the connection is closed then.
async fn hand_over(
    stream: TcpStream,
    client: String,
    actor: &Actor,
    gate: &Arc<Gate>,
    supervisor: &Supervisor,
) -> Result<super::supervisor::Session, String> {
    let scope = format!("{}/{}", actor.workload.cgroup_id, gate.target.name);
    let terms = {
        let gate = Arc::clone(gate);
        tokio::task::spawn_blocking(move || terms(&gate, scope, client)).await
    };
    let mut terms = terms.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    let running = supervisor.running().await;
    let running = running.ok_or("the gateway's process does not run; connect again")?;
    let opening = running.open(&mut terms, stream.as_fd());
    let opened = tokio::time::timeout(HAND_OVER_WITHIN, opening).await;
    let opened = opened.map_err(|_| "the gateway's process takes no connection")?;
    opened.map_err(|error| format!("the gateway's process takes no connection: {error}"))
}

/// Answers go out at once, and a client that is gone is noticed while the server works.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    Ok(())
}

fn terms(gate: &Gate, scope: String, client: String) -> Result<Terms, TermsError> {
    let target = &gate.target;
    // What the database holds is remembered by Target; its text is of no use there.
    let canonical = hex::encode(Sha256::digest(target.canonical.as_bytes()));
    Ok(Terms {
        password: password(target),
        authorities: authorities(target)?,
        client,
        scope,
        target: Target { canonical, ..Target::clone(target) },
        rules: gate.statements.clone(),
        ..Terms::blank()
    })
}

/// PEM of those who may prove the server's name; empty where nobody has to.
fn authorities(target: &Target) -> Result<Vec<u8>, TermsError> {
    if target.upstream.tls != TlsMode::VerifyFull {
        return Ok(Vec::new());
    }
    let name = || target.name.to_string();
    let path = target.upstream.ca_file.clone();
    let path = path.ok_or_else(|| TermsError::NoAuthorities { target: name() })?;
    let most = u64::try_from(TERMS_MAX).unwrap_or(u64::MAX);
    let read = read_bounded(&path, most, "longer than authorities: 1 MiB at most");
    let read = read.map(|bytes| bytes.to_vec());
    read.map_err(|source| TermsError::Authorities { target: name(), path, source })
}

/// Read for each session, so that a rotated password counts at once.
fn password(target: &Target) -> Option<Zeroizing<Vec<u8>>> {
    let name = target.name.to_string();
    match &target.credential.as_ref()?.password {
        PasswordRef::File(path) => {
            let long = "longer than a password: 4096 bytes at most";
            match read_bounded(path, PASSWORD_BYTES_MAX, long) {
                Ok(secret) => Some(without_line_end(secret)),
                Err(error) => {
                    tracing::error!(%error, path, target = name, "the passwordFile cannot be read");
                    None
                }
            }
        }
        PasswordRef::Secret { .. } => {
            tracing::error!(target = name, "secretRef is not read yet: use passwordFile");
            None
        }
    }
}

/// All of a file, into memory that is overwritten when it goes.
fn read_bounded(path: &str, most: u64, too_long: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    use io::Read;
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::Error::other(too_long));
    }
    // One more than there is, so that it does not grow.
    let room = usize::try_from(length).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.max(64)));
    file.by_ref().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The content without the line end that editors leave.
fn without_line_end(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    while secret.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        secret.pop();
    }
    secret
}
