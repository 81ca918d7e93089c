//! Who holds the Lease sums what all nodes say into the status of each document.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    DocumentState, NodeState, Pace, jitter,
    lease::Lease,
    now,
    report::{KIND, random},
    sum::{Sums, dated},
};
use crate::{
    causes::chain,
    kubernetes::{
        backoff::Backoff,
        documents::{Custom, resource},
        reflector::{self, Event, Follower},
    },
};

/// Statuses looked at in one round, and objects of nodes that are gone.
const WRITES_MAX: usize = 50;
const DELETIONS_MAX: usize = 10;

type Shared = Arc<Mutex<Sums>>;

/// Looks who holds the Lease, and sums while it is this one, until it is dropped.
pub(super) async fn run(
    client: Client,
    node: String,
    latest: watch::Receiver<NodeState>,
    pace: Pace,
) {
    let mut lease = Lease::new(client.clone(), node, pace.renew);
    let mut backoff = Backoff::default();
    // All agents of an installation start together.
    sleep(jitter(pace.renew)).await;
    loop {
        match lease.hold().await {
            Ok(true) => {
                backoff.reset();
                tracing::info!("this agent sums the status of policies and Targets");
                let mut leading = Leading::begin(&client);
                leading.lead(&mut lease, &latest, pace).await;
                tracing::info!("another agent sums the status of policies and Targets");
            }
            Ok(false) => {
                backoff.reset();
                sleep(pace.look + jitter(pace.look / 2)).await;
            }
            Err(error) => {
                tracing::debug!("cannot look at the Lease: {}", chain(&error));
                sleep(backoff.next(random()).max(pace.renew)).await;
            }
        }
    }
}

struct Leading {
    client: Client,
    sums: Shared,
    /// What was written or found there last, by document.
    written: BTreeMap<(&'static str, String, String), Value>,
    listed: watch::Receiver<bool>,
    _following: JoinSet<()>,
}

struct Following {
    sums: Shared,
    listed: watch::Sender<bool>,
}

impl Follower for Following {
    type Object = Custom;

    fn take(&self, event: Event, object: Custom) -> Option<String> {
        let name = object.metadata.name?;
        match event {
            Event::Deleted => lock(&self.sums).forget(&name),
            Event::Listed | Event::Changed => {
                lock(&self.sums).take(&name, object.status.as_ref());
            }
        }
        Some(name)
    }

    fn listed(&self, keys: &[String]) {
        lock(&self.sums).retain(keys);
        self.listed.send_replace(true);
    }

    fn heard(&self, _: Option<String>) {}
}

impl Leading {
    fn begin(client: &Client) -> Self {
        let sums = Shared::default();
        let (listed, is_listed) = watch::channel(false);
        let mut following = JoinSet::new();
        let api: Api<Custom> = Api::all_with(client.clone(), &resource(KIND));
        let follower = Following { sums: Arc::clone(&sums), listed };
        following.spawn(reflector::follow(api, reflector::config(""), follower));
        let written = BTreeMap::new();
        let client = client.clone();
        Self { client, sums, written, listed: is_listed, _following: following }
    }

    /// Until the Lease is another's, or cannot be renewed in time.
    async fn lead(&mut self, lease: &mut Lease, latest: &watch::Receiver<NodeState>, pace: Pace) {
        let mut renewed = Instant::now();
        loop {
            sleep(pace.round).await;
            if renewed.elapsed() >= pace.renew {
                match lease.hold().await {
                    Ok(true) => renewed = Instant::now(),
                    Ok(false) => return,
                    Err(error) if renewed.elapsed() >= pace.renew * 3 => {
                        tracing::warn!("the Lease cannot be renewed: {}", chain(&error));
                        return;
                    }
                    Err(_) => continue,
                }
            }
            // Sums of half of the nodes would tell of a change that is none.
            if !*self.listed.borrow() {
                continue;
            }
            let documents = latest.borrow().documents.clone();
            if let Err(error) = self.round(&documents).await {
                tracing::debug!("the status of a document is not written: {}", chain(&error));
            }
        }
    }

    async fn round(&mut self, documents: &[DocumentState]) -> Result<(), kube::Error> {
        let key = |of: &DocumentState| (of.kind, of.namespace.clone(), of.name.clone());
        let mut written = BTreeMap::new();
        let mut writes = 0;
        for of in documents {
            let status = lock(&self.sums).status(of, Timestamp::now());
            let before = self.written.remove(&key(of));
            if before.as_ref() == Some(&status) || writes >= WRITES_MAX {
                written.extend(before.map(|before| (key(of), before)));
                continue;
            }
            writes += 1;
            match self.write(of, status.clone()).await {
                Ok(true) => drop(written.insert(key(of), status)),
                Ok(false) => {}
                Err(error) => {
                    self.written.extend(written);
                    return Err(error);
                }
            }
        }
        self.written = written;
        self.delete_gone().await
    }

    /// Whether that is its status now; not where the object is another by now.
    async fn write(&self, of: &DocumentState, status: Value) -> Result<bool, kube::Error> {
        let (client, resource) = (self.client.clone(), resource(of.kind));
        let api: Api<Custom> = match of.namespace.as_str() {
            "" => Api::all_with(client, &resource),
            namespace => Api::namespaced_with(client, namespace, &resource),
        };
        let Some(object) = api.get_opt(&of.name).await? else { return Ok(false) };
        if object.metadata.generation != Some(of.generation) {
            return Ok(false);
        }
        let Some(status) = dated(status, object.status.as_ref(), &now()) else { return Ok(true) };
        let version = object.metadata.resource_version;
        let change = json!({"metadata": {"resourceVersion": version}, "status": status});
        let patch = Patch::Merge(&change);
        match api.patch_status(&of.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(true),
            // Somebody wrote meanwhile; the next round sees what.
            Err(kube::Error::Api(of)) if of.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn delete_gone(&self) -> Result<(), kube::Error> {
        let gone = lock(&self.sums).gone(Timestamp::now());
        let api: Api<Custom> = Api::all_with(self.client.clone(), &resource(KIND));
        for node in gone.iter().take(DELETIONS_MAX) {
            api.delete(node, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// A poisoned lock only means that the other task panicked between two complete changes.
fn lock(sums: &Shared) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}
