//! Gated PostgreSQL connections: what a session of `pcigate-gateway` is given on this node.

use std::{
    collections::HashMap,
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use pcigate_gateway::{
    Client, Dial, Keys, Knowledge, Limits, Maskers, Password, Plan, Workload, serve, tls,
};
use pcigate_policy::document::{PasswordRef, SessionBudget, Target, TargetProtocol, TlsMode};
use pcigate_postgres::login::Secret;
use rand_core::{OsRng, RngCore};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    Accepted, Actor, Handler, Report,
    client_files::{ClientFiles, ClientFilesError},
    dial, no_protocol, records,
    session_records::Recording,
};
use crate::{causes::chain, governor::Gate, recorder::RecorderHandle};

/// How long the server may take to answer a connection.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// A client that is silent is asked that often whether it is there.
const KEEPALIVE_SECONDS: u32 = 30;
/// Entries on their way to the recorder; a session stands still while there is no room.
const ENTRIES_MAX: usize = 64;
/// Longest password file, bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Why no session can be made for a Target.
#[derive(Debug, thiserror::Error)]
enum PlanError {
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
    #[error("TLS towards Target {target} cannot be set up")]
    Tls {
        target: String,
        #[source]
        source: tls::TlsError,
    },
    #[error("{source}")]
    Clients {
        #[from]
        source: ClientFilesError,
    },
    #[error("masking for Target {target} cannot be set up")]
    Mask {
        target: String,
        #[source]
        source: pcigate_policy::mask::SettingsError,
    },
}

/// Speaks PostgreSQL with the clients of PostgreSQL Targets, and closes all others' connections.
/// `closed` may wait.
#[must_use]
pub fn handler(recorder: RecorderHandle, closed: Report) -> Handler {
    let other = no_protocol(closed);
    let mut request_secret = vec![0; 32];
    OsRng.fill_bytes(&mut request_secret);
    let shared = Arc::new(Shared {
        recorder,
        keys: Keys::new(super::IN_ALL_MAX),
        request_secret: Arc::new(Secret::new(request_secret)),
        knowledge: Mutex::default(),
    });
    Arc::new(move |accepted: Accepted| match accepted.gate.target.protocol {
        TargetProtocol::Postgres => Box::pin(session(accepted, Arc::clone(&shared))),
        _ => other(accepted),
    })
}

struct Shared {
    recorder: RecorderHandle,
    keys: Arc<Keys>,
    /// Requests for approval have other keys after a restart: they are asked for anew.
    request_secret: Arc<Secret>,
    /// By Target; what no session uses any more is made anew.
    knowledge: Mutex<HashMap<String, Arc<Knowledge>>>,
}

impl Shared {
    fn knowledge(&self, target: &Target) -> Arc<Knowledge> {
        let mut known = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, knowledge| Arc::strong_count(knowledge) > 1);
        Arc::clone(known.entry(target.canonical.clone()).or_default())
    }
}

async fn session(accepted: Accepted, shared: Arc<Shared>) {
    let Accepted { stream, original, actor, gate, network, _room } = accepted;
    let plan = {
        let (gate, shared) = (Arc::clone(&gate), Arc::clone(&shared));
        let scope = format!("{}/{}", actor.workload.cgroup_id, gate.target.name);
        let workload = workload(&actor);
        tokio::task::spawn_blocking(move || plan(&gate, &shared, scope, workload)).await
    };
    let plan = match plan {
        Ok(plan) => plan.map_err(|error| chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(why) => {
            tracing::error!("{why}");
            let draft = records::closed(&actor, &gate, original, &why);
            let recorder = shared.recorder.clone();
            // The connection is closed whether or not that is on disk; what is not is counted.
            let _ = tokio::task::spawn_blocking(move || recorder.record_durable(vec![draft])).await;
            return;
        }
    };
    let target = Arc::clone(&gate.target);
    let dial: Dial<TcpStream> = Box::new(move || {
        let (target, network) = (Arc::clone(&target), Arc::clone(&network));
        Box::pin(async move {
            let dialled = dial::dial(&target, &network, DIAL_WITHIN).await;
            dialled.map_err(|error| io::Error::other(chain(&error)))
        })
    });
    if let Err(error) = prepare(&stream) {
        tracing::warn!(%error, "a gated client that vanishes is noticed late, or answers are slow");
    }
    let (door, entries) = mpsc::channel(ENTRIES_MAX);
    let recording = Recording::new(actor, gate, shared.recorder.clone());
    let recorded = tokio::spawn(recording.run(entries));
    let (_revoke, end) = oneshot::channel();
    // The kernel has proven who the client is; the address says where it wanted to go.
    let client = Client { stream, address: format!("redirected from {original}"), end };
    if let Err(why) = serve(client, &plan, &dial, &shared.keys, &door).await {
        tracing::info!("a gated session ended: {why}");
    }
    drop(door);
    // What is left of its records; it ends when the last is handed over.
    let _ = recorded.await;
}

/// Answers go out at once, and a client that is gone is noticed while the server works.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    Ok(())
}

fn plan(
    gate: &Gate,
    shared: &Shared,
    scope: String,
    workload: Workload,
) -> Result<Plan, PlanError> {
    let target = Arc::clone(&gate.target);
    let files = ClientFiles::read(&target)?;
    let name = || target.name.to_string();
    let masker =
        Maskers::of(&target).map_err(|source| PlanError::Mask { target: name(), source })?;
    Ok(Plan {
        rules: gate.statements.clone(),
        password: password(&target),
        upstream_tls: upstream_tls(&target)?,
        client_tls: files.tls(&target)?,
        tokens: files.tokens(&target)?,
        workload,
        request_secret: Some(Arc::clone(&shared.request_secret)),
        databases: Vec::new(),
        scope,
        masker,
        knowledge: shared.knowledge(&target),
        limits: Limits::default(),
        budgets: budgets(gate),
        target,
    })
}

/// Who connects; a pod by its UID, anything else by where it runs.
fn workload(actor: &Actor) -> Workload {
    let of = &actor.workload;
    let [namespace, pod, uid, account] =
        [&of.namespace, &of.pod, &of.pod_uid, &of.service_account].map(|name| name.as_str());
    let id = match uid {
        "" => format!("{namespace}/{pod} {}", of.cgroup_path.as_str()),
        uid => uid.to_owned(),
    };
    let service_account = (!account.is_empty()).then(|| format!("{namespace}/{account}"));
    Workload { id, service_account }
}

/// What a session may use, with the names of who says so.
fn budgets(gate: &Gate) -> Vec<(String, SessionBudget)> {
    let rule = format!("rule {}", gate.rule.id.as_str());
    let target = format!("Target {}", gate.target.name);
    vec![(rule, gate.session.clone()), (target, gate.target.session.clone())]
}

fn upstream_tls(target: &Target) -> Result<Option<Arc<rustls::ClientConfig>>, PlanError> {
    let name = || target.name.to_string();
    let failed = |source| PlanError::Tls { target: name(), source };
    match target.upstream.tls {
        TlsMode::Disable => Ok(None),
        TlsMode::Require => tls::encrypt_only().map(Some).map_err(failed),
        TlsMode::VerifyFull => {
            let path = target.upstream.ca_file.clone();
            let path = path.ok_or_else(|| PlanError::NoAuthorities { target: name() })?;
            let authorities = fs::read(&path).map_err(|source| PlanError::Authorities {
                target: name(),
                path,
                source,
            })?;
            tls::verify_full(&authorities).map(Some).map_err(failed)
        }
    }
}

/// Read for each login, so that a rotated password counts at once.
fn password(target: &Target) -> Password {
    let name = target.name.to_string();
    let place = target.credential.as_ref().map(|credential| credential.password.clone());
    Box::new(move || match place.as_ref()? {
        PasswordRef::File(path) => match read_secret(path) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::error!(%error, path, target = name, "the passwordFile cannot be read");
                None
            }
        },
        PasswordRef::Secret { .. } => {
            tracing::error!(target = name, "secretRef is not read yet: use passwordFile");
            None
        }
    })
}

/// The content without the line end that editors leave.
fn read_secret(path: &str) -> io::Result<Secret> {
    if fs::metadata(path)?.len() > PASSWORD_BYTES_MAX {
        return Err(io::Error::other("longer than a password: 4096 bytes at most"));
    }
    let mut bytes = fs::read(path)?;
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}
