//! Keeps the store equal to a collection of the API server: a list, then a watch from there on, and
//! the list anew where the server has forgotten what happened since.

use std::pin::pin;

use k8s_openapi::api::core::v1;
use kube::{
    Api, Client,
    api::ApiResource,
    runtime::{watcher, watcher::Event as Watched},
};
use pcigate_policy::mask::one_line;
use rand_core::{OsRng, RngCore};
use tokio_stream::StreamExt;

use super::{
    Bell, Shared,
    backoff::Backoff,
    lock,
    objects::Object,
    store::{Collection, Event},
};
use crate::causes::chain;

/// Objects a chunk of a list: of objects as large as etcd holds them, it has 75 MiB.
const CHUNK: u32 = 50;
/// Failures in a row behind which all is listed anew: one is a watch that broke, and goes on from
/// where it was.
const LISTED_ANEW: u32 = 2;
/// Bytes of what is told of a failure: the server's words are among it.
const WHY_MAX: usize = 300;

/// Follows one collection.
pub(super) struct Reflector {
    collection: Collection,
    api: Api<Object>,
    config: watcher::Config,
}

impl Reflector {
    /// The pods of a node.
    pub(super) fn pods(client: Client, node: &str) -> Self {
        let api = Api::all_with(client, &ApiResource::erase::<v1::Pod>(&()));
        let config = watcher::Config::default().page_size(CHUNK);
        let config = config.fields(&format!("spec.nodeName={node}"));
        Self { collection: Collection::Pods, api, config }
    }

    /// All namespaces: a pod on this node may be of any.
    pub(super) fn namespaces(client: Client) -> Self {
        let api = Api::all_with(client, &ApiResource::erase::<v1::Namespace>(&()));
        let config = watcher::Config::default().page_size(CHUNK);
        Self { collection: Collection::Namespaces, api, config }
    }

    /// Follows until it is dropped.
    pub(super) async fn run(self, store: Shared, changed: Bell) {
        let mut backoff = Backoff::default();
        loop {
            let mut events = pin!(watcher(self.api.clone(), self.config.clone()));
            let mut listing = Vec::new();
            // It ends by itself never.
            while let Some(event) = events.next().await {
                match event {
                    // It is about to list, whether or not the server lets it.
                    Ok(Watched::Init) => listing.clear(),
                    Ok(event) => {
                        self.take(event, &mut listing, &store);
                        changed.send_replace(());
                        backoff.reset();
                    }
                    Err(error) => {
                        let why = one_line(&chain(&error), WHY_MAX);
                        lock(&store).trouble(self.collection, why);
                        changed.send_replace(());
                        let random = OsRng.next_u32().to_le_bytes()[0];
                        tokio::time::sleep(backoff.next(random)).await;
                        if backoff.failures() >= LISTED_ANEW {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn take(&self, event: Watched<Object>, listing: &mut Vec<String>, store: &Shared) {
        let mut store = lock(store);
        match event {
            Watched::Init => return,
            Watched::InitApply(object) => {
                listing.extend(store.take(self.collection, Event::Listed, object));
            }
            Watched::InitDone => store.listed(self.collection, listing),
            Watched::Apply(object) => {
                store.take(self.collection, Event::Changed, object);
            }
            Watched::Delete(object) => {
                store.take(self.collection, Event::Deleted, object);
            }
        }
        store.answered(self.collection);
    }
}
