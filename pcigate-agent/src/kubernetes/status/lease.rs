//! The Lease that says who sums: taken where nobody has it, or where its holder has not renewed it
//! for as long as it says, by this machine's own clock.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

/// In the namespace of the agent's own pod.
pub(super) const NAME: &str = "pcigate-status";
/// What another's lease may last at most, whatever it says.
const LASTS_MAX: Duration = Duration::from_secs(600);

pub(super) struct Lease {
    api: Api<v1::Lease>,
    me: String,
    lasts: Duration,
    /// As it was when it was last seen to be another's, and since when.
    seen: Option<(Option<String>, Instant)>,
}

impl Lease {
    pub(super) fn new(client: Client, me: String, renew: Duration) -> Self {
        Self { api: Api::default_namespaced(client), me, lasts: renew * 4, seen: None }
    }

    /// Whether it is ours from now on, until it has lasted.
    pub(super) async fn hold(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = self.ours(v1::Lease::default(), 0);
            let made = self.api.create(&PostParams::default(), &lease).await;
            return unless_another(made);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder == self.me {
            return self.replace(self.ours(lease, transitions)).await;
        }
        let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or_default());
        let lasts = Duration::from_secs(lasts.unwrap_or_default()).min(LASTS_MAX);
        let version = lease.metadata.resource_version.clone();
        match &self.seen {
            _ if holder.is_empty() => {}
            Some((seen, since)) if *seen == version && since.elapsed() >= lasts => {}
            Some((seen, _)) if *seen == version => return Ok(false),
            _ => {
                self.seen = Some((version, Instant::now()));
                return Ok(false);
            }
        }
        self.replace(self.ours(lease, transitions.saturating_add(1))).await
    }

    /// The server refuses it where somebody else wrote since.
    async fn replace(&mut self, lease: v1::Lease) -> Result<bool, kube::Error> {
        self.seen = None;
        unless_another(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn ours(&self, lease: v1::Lease, transitions: i32) -> v1::Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let before = lease.spec.unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.me);
        let spec = v1::LeaseSpec {
            holder_identity: Some(self.me.clone()),
            // A second at least: the field has whole ones.
            lease_duration_seconds: i32::try_from(self.lasts.as_secs().max(1)).ok(),
            acquire_time: if is_ours { before.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(transitions),
            ..v1::LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..lease.metadata };
        v1::Lease { metadata, spec: Some(spec) }
    }
}

/// A conflict is another who was faster.
fn unless_another(made: Result<v1::Lease, kube::Error>) -> Result<bool, kube::Error> {
    match made {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(of)) if of.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
