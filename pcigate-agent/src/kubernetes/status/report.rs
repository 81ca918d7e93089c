//! The node's own NodeCoverage: written when it changes, and now and then to say that the agent is
//! there.

use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams, TypeMeta},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{NodeState, Pace, jitter, now};
use crate::{
    causes::chain,
    kubernetes::{
        backoff::Backoff,
        documents::{Custom, GROUP, resource},
    },
};

pub(super) const KIND: &str = "NodeCoverage";

/// Writes until it is dropped.
pub(super) async fn run(
    client: Client,
    node: String,
    mut latest: watch::Receiver<NodeState>,
    pace: Pace,
) {
    let api: Api<Custom> = Api::all_with(client, &resource(KIND));
    let mut backoff = Backoff::default();
    let mut told = String::new();
    // Nothing is said before there is something to say.
    if latest.changed().await.is_err() {
        return;
    }
    loop {
        sleep(pace.settle + jitter(pace.settle)).await;
        let mut status = latest.borrow_and_update().to_status();
        status["observedTime"] = json!(now());
        match write(&api, &node, &status).await {
            Ok(()) => {
                backoff.reset();
                told.clear();
                let again = Instant::now() + pace.heartbeat - jitter(pace.heartbeat / 4);
                tokio::select! {
                    changed = latest.changed() => if changed.is_err() { return },
                    () = sleep_until(again) => {}
                }
            }
            Err(error) => {
                let why = chain(&error);
                if why != told {
                    tracing::warn!("cannot write NodeCoverage {node}: {why}");
                    told = why;
                }
                sleep(backoff.next(random())).await;
            }
        }
    }
}

async fn write(api: &Api<Custom>, node: &str, status: &Value) -> Result<(), kube::Error> {
    let change = json!({"status": status});
    let (params, change) = (PatchParams::default(), Patch::Merge(&change));
    let patch = async || api.patch_status(node, &params, &change).await.map(drop);
    match patch().await {
        Err(kube::Error::Api(of)) if of.code == 404 => {}
        other => return other,
    }
    let (group, version) = GROUP;
    let object = Custom {
        types: Some(TypeMeta { api_version: format!("{group}/{version}"), kind: KIND.to_owned() }),
        metadata: ObjectMeta { name: Some(node.to_owned()), ..ObjectMeta::default() },
        spec: None,
        status: None,
    };
    api.create(&PostParams::default(), &object).await?;
    patch().await
}

pub(super) fn random() -> u8 {
    use rand_core::{OsRng, RngCore};
    OsRng.next_u32().to_le_bytes()[0]
}
