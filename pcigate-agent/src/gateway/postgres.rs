//! Gated PostgreSQL connections: what a session of the gateway's process is given on this node.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use pcigate_gateway::Workload;
use pcigate_policy::document::{SessionBudget, Target, TargetProtocol};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{
    Accepted, Actor, Handler, Keeper, Live, Report, Supervisor, Timings,
    files::{Files, FilesError},
    no_protocol,
    session::Attended,
    session_records::Recording,
    wire::Terms,
};
use crate::{
    causes::chain,
    governor::{Gate, Governor},
    kubernetes::{Cluster, secrets::Secrets},
    recorder::RecorderHandle,
};

/// A client that is silent is asked that often whether it is there.
const KEEPALIVE_SECONDS: u32 = 30;
/// How long the sessions may take to end when the agent does.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take to be handed over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);

/// The sessions of this node.
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    supervisor: Supervisor,
    live: Arc<Live>,
    recorder: RecorderHandle,
    timings: Timings,
    closed: Report,
    /// Requests for approval have other keys after a restart: they are asked for anew.
    request_secret: Zeroizing<Vec<u8>>,
    cluster: Cluster,
}

impl Postgres {
    /// None yet. `closed` takes the records of connections that are closed, and may wait; `report`
    /// may not; `reviewer` says whose tokens are. Must run inside of a tokio runtime.
    #[must_use]
    pub fn new(
        keeper: Keeper,
        recorder: RecorderHandle,
        closed: Report,
        report: Report,
        cluster: Cluster,
    ) -> Self {
        let supervisor = Supervisor::new(keeper, report);
        let mut request_secret = Zeroizing::new(vec![0; 32]);
        OsRng.fill_bytes(&mut request_secret);
        let (live, timings) = (Live::new(), Timings::new());
        let shared =
            Shared { supervisor, live, recorder, timings, closed, request_secret, cluster };
        Self { shared: Arc::new(shared) }
    }

    /// The sessions under way.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.shared.live)
    }

    /// What statements have waited for.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.shared.timings.clone()
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
    let door = (shared.recorder.clone(), shared.timings.clone());
    let mut recording = Recording::new(actor.clone(), Arc::clone(&gate), original, door);
    if let Err(error) = prepare(&stream) {
        tracing::warn!(%error, "a gated client that vanishes is noticed late, or answers are slow");
    }
    let begun = Terms {
        // The kernel has proven who the client is; the address says where it wanted to go.
        client: format!("redirected from {original}"),
        scope: format!("{}/{}", actor.workload.cgroup_id, gate.target.name),
        workload: workload(&actor),
        request_secret: shared.request_secret.clone(),
        ..Terms::blank()
    };
    shared.cluster.secrets.ready(&gate.target).await;
    match hand_over(&stream, begun, &gate, &shared).await {
        Ok(session) => {
            drop(stream);
            let (workload, cluster) = (Arc::clone(&actor.workload), shared.cluster.clone());
            let attended = Attended { session, recording, gate, network, workload, cluster };
            attended.run(end).await;
        }
        Err(why) => {
            tracing::error!("a gated connection is closed: {why}");
            recording.broke_off(&why).await;
            // Not before that is on disk.
            drop(stream);
        }
    }
    drop(entered);
}

/// Hands a client's connection to the gateway's process. Why not, where that does not work.
async fn hand_over(
    stream: &TcpStream,
    begun: Terms,
    gate: &Arc<Gate>,
    shared: &Shared,
) -> Result<super::supervisor::Session, String> {
    let terms = {
        let (gate, secrets) = (Arc::clone(gate), shared.cluster.secrets.clone());
        tokio::task::spawn_blocking(move || terms(&gate, begun, &secrets)).await
    };
    let mut terms = terms.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    let running = shared.supervisor.running().await;
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

fn terms(gate: &Gate, mut terms: Terms, secrets: &Secrets) -> Result<Terms, FilesError> {
    let target = &gate.target;
    let files = Files::read(target, secrets)?;
    terms.authorities = files.authorities;
    terms.own = files.own;
    terms.client_tls = files.client_tls;
    terms.jwks = files.jwks;
    // What the database holds is remembered by Target; its text is of no use there.
    let canonical = hex::encode(Sha256::digest(target.canonical.as_bytes()));
    terms.target = Target { canonical, ..Target::clone(target) };
    terms.rules = gate.statements.clone();
    terms.budgets = budgets(gate);
    Ok(terms)
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
