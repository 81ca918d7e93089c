//! What made a pod: the controller it names, and what made that in turn, which is asked for once
//! per ReplicaSet and Job (their metadata only). Deployments and CronJobs stand behind no other.

use k8s_openapi::{
    api::{apps::v1::ReplicaSet, batch::v1::Job},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, Resource, ResourceExt};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt::Debug, time::Duration};

use super::{Bell, Shared, lock, objects::check};
use crate::kubernetes::backoff::Backoff;

/// Between two requests: 250 pods that come at once are 250 requests in 13 s, and a restart of all
/// agents is no burst.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest kind, bytes.
const KIND_BYTES_MAX: usize = 63;

/// A controller, and what is known of the one that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Owner {
    api_version: String,
    kind: String,
    name: String,
    pub(super) uid: String,
    /// The API server was asked, or need not be.
    settled: bool,
    /// Kind and name of what made it.
    made_by: Option<(String, String)>,
}

/// Which controllers are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ReplicaSet,
    Job,
}

/// A controller the API server is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    kind: Kind,
    namespace: String,
    name: String,
    uid: String,
}

impl Owner {
    /// The controller among an object's owners; at most one may be, by the API.
    pub(super) fn of(owners: Vec<OwnerReference>) -> Option<Self> {
        let OwnerReference { api_version, kind, name, uid, .. } =
            owners.into_iter().find(|owner| owner.controller == Some(true))?;
        let is_kind = |kind: &str| {
            (1..=KIND_BYTES_MAX).contains(&kind.len())
                && kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let valid = is_kind(&kind) && check("name", &name).is_ok() && check("uid", &uid).is_ok();
        let settled = kind_of(&api_version, &kind).is_none();
        let api_version = if settled { String::new() } else { api_version };
        valid.then_some(Self { api_version, kind, name, uid, settled, made_by: None })
    }

    /// Takes over what is known of the same controller.
    pub(super) fn learn<'a>(&mut self, mut known: impl Iterator<Item = &'a Self>) {
        if let Some(known) = known.find(|known| known.uid == self.uid && known.settled) {
            self.found(known.made_by.clone());
        }
    }

    /// What made it was found, or that nothing did.
    pub(super) fn found(&mut self, made_by: Option<(String, String)>) {
        (self.settled, self.made_by) = (true, made_by);
    }

    /// Kind and name of the topmost that is known.
    pub(super) fn top(&self) -> (String, String) {
        self.made_by.clone().unwrap_or_else(|| (self.kind.clone(), self.name.clone()))
    }

    /// What is to be asked.
    pub(super) fn wanted(&self, namespace: &str) -> Option<Wanted> {
        let kind = kind_of(&self.api_version, &self.kind).filter(|_| !self.settled)?;
        let (namespace, name) = (namespace.to_owned(), self.name.clone());
        Some(Wanted { kind, namespace, name, uid: self.uid.clone() })
    }
}

fn kind_of(api_version: &str, kind: &str) -> Option<Kind> {
    match (api_version, kind) {
        ("apps/v1", "ReplicaSet") => Some(Kind::ReplicaSet),
        ("batch/v1", "Job") => Some(Kind::Job),
        _ => None,
    }
}

/// Asks about controllers as pods of them become known, until it is dropped.
pub(super) async fn run(client: Client, store: Shared, changed: Bell) {
    let mut news = changed.subscribe();
    let mut backoff = Backoff::default();
    let mut told = false;
    loop {
        let wanted = lock(&store).wanted_owner();
        let Some(wanted) = wanted else {
            // The other end is held by the watching tasks.
            let _ = news.changed().await;
            continue;
        };
        let asked = match wanted.kind {
            Kind::ReplicaSet => ask::<ReplicaSet>(&client, &wanted).await,
            Kind::Job => ask::<Job>(&client, &wanted).await,
        };
        match asked {
            Ok(made_by) => {
                backoff.reset();
                lock(&store).owner_found(&wanted.uid, made_by.as_ref());
                changed.send_replace(());
                tokio::time::sleep(PAUSE).await;
            }
            Err(Unanswered::Forbidden) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        "the agent may not get replicasets (apps) and jobs (batch): records name \
                         these, and not the Deployment or CronJob behind them"
                    );
                }
                lock(&store).owner_found(&wanted.uid, None);
                tokio::time::sleep(PAUSE).await;
            }
            Err(Unanswered::Later) => {
                let random = OsRng.next_u32().to_le_bytes()[0];
                tokio::time::sleep(backoff.next(random)).await;
            }
        }
    }
}

enum Unanswered {
    Forbidden,
    Later,
}

/// What made a controller; nothing where it is not there any more, or another of its name is.
async fn ask<K>(client: &Client, wanted: &Wanted) -> Result<Option<(String, String)>, Unanswered>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), &wanted.namespace);
    match api.get_metadata_opt(&wanted.name).await {
        Ok(Some(object)) if object.uid().as_deref() == Some(&wanted.uid) => {
            let owners = object.metadata.owner_references.unwrap_or_default();
            Ok(Owner::of(owners).map(|owner| (owner.kind, owner.name)))
        }
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            Err(Unanswered::Forbidden)
        }
        Err(_) => Err(Unanswered::Later),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(api_version: &str, kind: &str, name: &str) -> OwnerReference {
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: format!("uid-of-{}", name.len()),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    #[test]
    fn only_replica_sets_and_jobs_are_asked_about_and_only_once() {
        let mut owner = Owner::of(vec![reference("apps/v1", "ReplicaSet", "web-6d5f")]).unwrap();
        assert_eq!(owner.top(), ("ReplicaSet".into(), "web-6d5f".into()));
        assert_eq!(owner.wanted("x").unwrap().kind, Kind::ReplicaSet);
        let mut second = owner.clone();
        owner.found(Some(("Deployment".into(), "web".into())));
        assert_eq!((owner.top(), owner.wanted("x")), (("Deployment".into(), "web".into()), None));
        second.learn([&owner].into_iter());
        assert_eq!((second.top().0.as_str(), second.wanted("x")), ("Deployment", None));
        for (version, kind) in [("apps/v1", "DaemonSet"), ("evil/v1", "ReplicaSet"), ("v1", "Node")]
        {
            let owner = Owner::of(vec![reference(version, kind, "y")]).unwrap();
            assert_eq!((owner.wanted("x"), owner.top().0.as_str()), (None, kind));
        }
    }

    #[test]
    fn an_owner_that_is_no_controller_or_has_a_hostile_name_made_nothing() {
        let mut bystander = reference("apps/v1", "ReplicaSet", "web");
        bystander.controller = None;
        let hostile = reference("apps/v1", "ReplicaSet", "../../secrets/x");
        let kind = reference("apps/v1", "Replica Set\n", "x");
        for owner in [bystander, hostile, kind] {
            assert_eq!(Owner::of(vec![owner]), None);
        }
    }
}
