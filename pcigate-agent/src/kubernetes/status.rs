//! What the nodes make of policies and Targets, told where people look for it.
//!
//! Each agent writes its node's own `NodeCoverage` and nothing else, so that 5,000 nodes do not
//! write to one object. The one that holds the Lease `pcigate-status` sums these into the status
//! of each policy and Target. Status is told only: nothing is decided by it but which of two
//! claims to one destination was there first.

mod facts;
mod leader;
mod lease;
mod report;
mod sum;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

pub use facts::Facts;

use super::connection::Connection;

/// Documents named in one object; further ones are counted.
const DOCUMENTS_MAX: usize = 256;
/// Features named in one object.
const MISSING_MAX: usize = 64;
/// Bytes of a reason.
const REASON_MAX: usize = 600;

/// How often things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A change waits so long for others, and up to as long again.
    pub settle: Duration,
    /// An object that does not change is written anew.
    pub heartbeat: Duration,
    /// Who holds the lease renews it; four times that long it counts without.
    pub renew: Duration,
    /// The others look at it, and up to half as long again.
    pub look: Duration,
    /// The leader sums.
    pub round: Duration,
}

impl Pace {
    /// What `serve` keeps to. At 5,000 nodes: 17 writes and 33 looks a second.
    pub const SERVE: Self = Self {
        settle: Duration::from_secs(2),
        heartbeat: Duration::from_secs(300),
        renew: Duration::from_secs(30),
        look: Duration::from_secs(120),
        round: Duration::from_secs(10),
    };
}

/// What a node makes of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All of it is enforced.
    Enforced,
    /// What it refuses is only reported.
    Audited,
    /// A part of it cannot be enforced here.
    NotEnforceable,
    /// Its newest version is not used.
    Rejected,
}

/// A document and what the node makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentState {
    /// `AgentPolicy`, `ClusterAgentPolicy` or `Target`.
    pub kind: &'static str,
    /// Empty where it is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The newest that came.
    pub generation: i64,
    /// Of what is in force of it; empty: nothing.
    pub hash: String,
    /// What the node makes of it.
    pub state: State,
    /// Why, where it is not enforced.
    pub reason: String,
    /// Cgroups it selects.
    pub workloads: u64,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// What it cannot enforce: name and reason.
    pub missing: Vec<(String, String)>,
    /// What it makes of each document.
    pub documents: Vec<DocumentState>,
}

/// Tells the API server. It ends when this is dropped; the last words stay.
pub struct Telling {
    latest: watch::Sender<NodeState>,
    _tasks: JoinSet<()>,
}

impl Telling {
    /// Begins to tell of a node. Must run inside of a tokio runtime.
    #[must_use]
    pub fn begin(connection: &Connection, node: &str, pace: Pace) -> Self {
        let latest = watch::Sender::new(NodeState::default());
        let mut tasks = JoinSet::new();
        let (client, node) = (connection.client.clone(), node.to_owned());
        let receiver = latest.subscribe();
        tasks.spawn(report::run(client.clone(), node.clone(), receiver, pace));
        tasks.spawn(leader::run(client, node, latest.subscribe(), pace));
        Self { latest, _tasks: tasks }
    }

    /// What is to be told from now on.
    pub fn tell(&self, now: NodeState) {
        self.latest.send_if_modified(|latest| {
            let differs = *latest != now;
            *latest = now;
            differs
        });
    }
}

impl State {
    const ALL: [Self; 4] = [Self::Enforced, Self::Audited, Self::NotEnforceable, Self::Rejected];

    fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Audited => "audited",
            Self::NotEnforceable => "notEnforceable",
            Self::Rejected => "rejected",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl NodeState {
    /// The status of a NodeCoverage. What is not enforced comes first, where not all finds room.
    fn to_status(&self) -> Value {
        let mut documents: Vec<&DocumentState> = self.documents.iter().collect();
        documents.sort_by_key(|of| (of.state == State::Enforced, of.kind, &of.namespace, &of.name));
        let omitted = documents.len().saturating_sub(DOCUMENTS_MAX);
        let rejected = documents.iter().filter(|of| of.state == State::Rejected).count();
        let documents = documents.into_iter().take(DOCUMENTS_MAX).map(|of| {
            json!({"kind": of.kind, "namespace": of.namespace, "name": of.name,
                   "generation": of.generation, "hash": of.hash, "state": of.state.name(),
                   "reason": short(&of.reason), "workloads": of.workloads})
        });
        let missing = self.missing.iter().take(MISSING_MAX);
        let missing = missing.map(|(name, why)| json!({"name": name, "reason": short(why)}));
        json!({"agentVersion": env!("CARGO_PKG_VERSION"), "rejected": rejected,
               "missing": missing.collect::<Vec<_>>(), "documentsOmitted": omitted,
               "documents": documents.collect::<Vec<_>>()})
    }
}

fn short(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}

/// The time now as the API server writes it.
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Up to `most`, so that nodes do not do the same at the same time.
fn jitter(most: Duration) -> Duration {
    use rand_core::{OsRng, RngCore};
    most.mul_f64(f64::from(OsRng.next_u32()) / f64::from(u32::MAX))
}
