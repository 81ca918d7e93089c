//! Keeps what follows equal to a collection of the API server: a list, then a watch from there on,
//! and the list anew where the server has forgotten what happened since.

use std::{fmt::Debug, pin::pin, time::Instant};

use kube::{
    Api, Resource,
    runtime::{watcher, watcher::Event as Watched},
};
use pcigate_policy::mask::one_line;
use rand_core::{OsRng, RngCore};
use serde::de::DeserializeOwned;
use tokio_stream::StreamExt;

use super::backoff::Backoff;
use crate::causes::chain;

/// Objects a chunk of a list: of objects as large as etcd holds them, it has 75 MiB.
const CHUNK: u32 = 50;
/// Failures in a row behind which all is listed anew: one is a watch that broke, and goes on from
/// where it was.
const LISTED_ANEW: u32 = 2;
/// Bytes of what is told of a failure: the server's words are among it.
const WHY_MAX: usize = 300;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Listed,
    Changed,
    Deleted,
}

/// Whether the API server tells what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answering {
    /// It does.
    Yes,
    /// Not yet since the agent started.
    NotYet,
    /// Not since then; what was known last is in force.
    Away {
        /// Since when.
        since: Instant,
        /// The last trouble.
        why: String,
    },
}

/// What of a collection works.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) listed: bool,
    /// When the server last answered.
    pub(super) heard: Option<Instant>,
    /// Since when, the last one, and how many in a row.
    trouble: Option<(Instant, String, u32)>,
}

/// What takes in a collection.
pub(super) trait Follower: Send + 'static {
    /// What the collection holds.
    type Object;

    /// Something happened to an object; its key, where it is used.
    fn take(&self, event: Event, object: Self::Object) -> Option<String>;

    /// A list is complete: what it does not hold is gone.
    fn listed(&self, keys: &[String]);

    /// The server answers, or does not.
    fn heard(&self, trouble: Option<String>);
}

/// The objects of a collection as they are read.
pub(super) trait Watchable:
    Resource + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<O: Resource + Clone + Debug + DeserializeOwned + Send + 'static> Watchable for O {}

/// How a collection is asked for; `fields` selects among its objects.
pub(super) fn config(fields: &str) -> watcher::Config {
    let config = watcher::Config::default().page_size(CHUNK);
    if fields.is_empty() { config } else { config.fields(fields) }
}

/// Follows a collection until it is dropped.
pub(super) async fn follow<O: Watchable>(
    api: Api<O>,
    config: watcher::Config,
    follower: impl Follower<Object = O>,
) {
    let mut backoff = Backoff::default();
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        let mut listing = Vec::new();
        // It ends by itself never.
        while let Some(event) = events.next().await {
            match event {
                // It is about to list, whether or not the server lets it.
                Ok(Watched::Init) => listing.clear(),
                Ok(event) => {
                    take(event, &mut listing, &follower);
                    follower.heard(None);
                    backoff.reset();
                }
                Err(error) => {
                    follower.heard(Some(one_line(&chain(&error), WHY_MAX)));
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

fn take<O>(event: Watched<O>, listing: &mut Vec<String>, follower: &impl Follower<Object = O>) {
    match event {
        Watched::Init => {}
        Watched::InitApply(object) => listing.extend(follower.take(Event::Listed, object)),
        Watched::InitDone => follower.listed(listing),
        Watched::Apply(object) => drop(follower.take(Event::Changed, object)),
        Watched::Delete(object) => drop(follower.take(Event::Deleted, object)),
    }
}

impl Health {
    /// The API server answers, or does not. One failure is a watch that broke; a second one in a
    /// row is an outage.
    pub(super) fn heard(&mut self, trouble: Option<String>) {
        let Some(why) = trouble else {
            (self.heard, self.trouble) = (Some(Instant::now()), None);
            return;
        };
        let before = self.trouble.as_ref().map(|(since, _, count)| (*since, *count));
        let (since, count) = before.unwrap_or_else(|| (Instant::now(), 0));
        self.trouble = Some((since, why, count.saturating_add(1)));
    }

    /// How it goes with all of these together.
    pub(super) fn of(all: &[Self]) -> Answering {
        let outages = all.iter().filter_map(|health| health.trouble.clone());
        let outages = outages.filter(|(.., count)| *count > 1);
        match outages.min_by_key(|(since, ..)| *since) {
            Some((since, why, _)) => Answering::Away { since, why },
            None if all.iter().all(|health| health.listed) => Answering::Yes,
            None => Answering::NotYet,
        }
    }
}
