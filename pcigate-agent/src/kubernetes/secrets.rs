//! The Secrets that Targets name, of the Targets' own namespaces: read by name, and only those of
//! Targets that a workload of this node is let through to. Kept in memory only, in pieces that are
//! overwritten when they go; nothing of them is ever told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1;
use kube::{Api, Client};
use pcigate_policy::{
    document::{SecretKey, Target},
    mask::one_line,
};
use rand_core::{OsRng, RngCore};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use zeroize::{Zeroize, Zeroizing};

use super::{backoff::Backoff, connection::Connection};
use crate::causes::chain;

/// How often `serve` reads a Secret again.
pub const READ_EVERY: Duration = Duration::from_secs(60);
/// How long a session waits for what was not read yet.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Secrets read for all Targets of a node.
const SECRETS_MAX: usize = 1024;
/// Bytes of what is told of a failure.
const WHY_MAX: usize = 300;

/// What Targets name. Cheap to clone; reading ends with the last one.
#[derive(Clone, Default)]
pub struct Secrets {
    shared: Option<Arc<Shared>>,
    _reading: Option<Arc<JoinSet<()>>>,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Secrets are read from the API server, which this agent does not ask.
    #[error(
        "Secret {secret} cannot be read: this agent asks no API server; name a file, or set \
         workloads.source to kubernetes"
    )]
    NoServer {
        /// `namespace/name`.
        secret: String,
    },
    /// It was not read.
    #[error("Secret {secret} is not known: {why}")]
    NotRead {
        /// `namespace/name`.
        secret: String,
        /// Why.
        why: String,
    },
    /// It lacks the key.
    #[error("Secret {secret} has no key `{key}`: add it, or correct the Target")]
    NoKey {
        /// `namespace/name`.
        secret: String,
        /// The key.
        key: String,
    },
}

struct Shared {
    held: Mutex<BTreeMap<Name, Held>>,
    /// Something else is wanted; something was read.
    wanted: watch::Sender<()>,
    read: watch::Sender<()>,
}

/// Namespace and name.
type Name = (String, String);
type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

#[derive(Default)]
struct Held {
    keys: BTreeSet<String>,
    /// `None`: not tried yet. A failure of the server leaves what was.
    values: Option<Result<Values, String>>,
    /// When it is read again; `None`: at once.
    due: Option<Instant>,
    backoff: Backoff,
}

impl Secrets {
    /// Where there is no API server: every Secret is missing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Begins to read, and reads again about so often ([`READ_EVERY`]). Must run inside of a tokio
    /// runtime.
    #[must_use]
    pub fn follow(connection: &Connection, every: Duration) -> Self {
        let (wanted, read) = (watch::Sender::new(()), watch::Sender::new(()));
        let shared = Arc::new(Shared { held: Mutex::default(), wanted, read });
        let mut reading = JoinSet::new();
        reading.spawn(keep_reading(Arc::clone(&shared), connection.client.clone(), every));
        Self { shared: Some(shared), _reading: Some(Arc::new(reading)) }
    }

    /// What these Targets name is wanted from now on, and nothing else.
    pub fn want<'a>(&self, targets: impl IntoIterator<Item = &'a Target>) {
        let Some(shared) = &self.shared else { return };
        let mut wanted: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
        for target in targets {
            add(&mut wanted, target);
        }
        let mut held = lock(shared);
        held.retain(|name, _| wanted.contains_key(name));
        let mut changed = false;
        for (name, keys) in wanted.into_iter().take(SECRETS_MAX) {
            changed |= of(&mut held, name, keys);
        }
        drop(held);
        if changed {
            shared.wanted.send_replace(());
        }
    }

    /// Waits until all that a Target names was tried, for a few seconds at most.
    pub async fn ready(&self, target: &Target) {
        let Some(shared) = &self.shared else { return };
        let mut wanted = BTreeMap::new();
        add(&mut wanted, target);
        let mut read = shared.read.subscribe();
        let mut changed = false;
        for (name, keys) in wanted.clone() {
            changed |= of(&mut lock(shared), name, keys);
        }
        if changed {
            shared.wanted.send_replace(());
        }
        let tried = || {
            let held = lock(shared);
            wanted.keys().all(|name| held.get(name).is_some_and(|held| held.values.is_some()))
        };
        let all = async {
            // The other end is as long there as this is.
            while !tried() && read.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(READY_WITHIN, all).await;
    }

    /// The value of a key, as it was read last.
    ///
    /// # Errors
    /// There is none.
    pub fn value(
        &self,
        namespace: &str,
        of: &SecretKey,
    ) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let secret = format!("{namespace}/{}", of.name);
        let Some(shared) = &self.shared else { return Err(SecretError::NoServer { secret }) };
        let held = lock(shared);
        let found = held.get(&(namespace.to_owned(), of.name.clone()));
        match found.and_then(|held| held.values.as_ref()) {
            None => {
                let why = "the API server has not answered yet".to_owned();
                Err(SecretError::NotRead { secret, why })
            }
            Some(Err(why)) => Err(SecretError::NotRead { secret, why: why.clone() }),
            Some(Ok(values)) => values
                .get(&of.key)
                .cloned()
                .ok_or_else(|| SecretError::NoKey { secret, key: of.key.clone() }),
        }
    }

    /// What of the wanted cannot be had, for the status: `namespace/name` and why.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let held = lock(shared);
        let all = held.iter().filter_map(|((namespace, name), held)| {
            let secret = format!("{namespace}/{name}");
            match held.values.as_ref()? {
                Err(why) => Some((secret, why.clone())),
                Ok(values) => {
                    let key = held.keys.iter().find(|key| !values.contains_key(*key))?;
                    Some((secret, format!("it has no key `{key}`")))
                }
            }
        });
        all.collect()
    }
}

fn add(wanted: &mut BTreeMap<Name, BTreeSet<String>>, target: &Target) {
    for SecretKey { name, key } in target.secret_keys() {
        wanted.entry((target.name.namespace.clone(), name)).or_default().insert(key);
    }
}

/// Whether it has to be read because of this.
fn of(held: &mut BTreeMap<Name, Held>, name: Name, keys: BTreeSet<String>) -> bool {
    if held.len() >= SECRETS_MAX && !held.contains_key(&name) {
        return false;
    }
    let one = held.entry(name).or_default();
    if keys.is_subset(&one.keys) && one.values.is_some() {
        return false;
    }
    one.keys.extend(keys);
    one.due = None;
    true
}

async fn keep_reading(shared: Arc<Shared>, client: Client, every: Duration) {
    let mut wanted = shared.wanted.subscribe();
    loop {
        let now = Instant::now();
        let due = lock(&shared)
            .iter()
            .filter(|(_, held)| held.due.is_none_or(|due| due <= now))
            .map(|(name, _)| name.clone())
            .next();
        if let Some(name) = due {
            let api: Api<v1::Secret> = Api::namespaced(client.clone(), &name.0);
            let answer = api.get(&name.1).await;
            if let Some(held) = lock(&shared).get_mut(&name) {
                held.take(answer, every);
            }
            shared.read.send_replace(());
            continue;
        }
        let next = lock(&shared).values().filter_map(|held| held.due).min();
        let next = next.unwrap_or_else(|| now + every);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Held {
    fn take(&mut self, answer: Result<v1::Secret, kube::Error>, every: Duration) {
        let random = OsRng.next_u32().to_le_bytes()[0];
        // A quarter earlier or not, so that 5,000 nodes do not ask together.
        let mut again = every - every.mul_f64(f64::from(random) / 1024.0);
        match answer {
            Ok(secret) => {
                self.backoff.reset();
                let mut values = Values::new();
                for (key, mut value) in secret.data.unwrap_or_default() {
                    if self.keys.contains(&key) {
                        values.insert(key, Zeroizing::new(value.0));
                    } else {
                        value.0.zeroize();
                    }
                }
                self.values = Some(Ok(values));
            }
            Err(error) => {
                again = self.backoff.next(random).min(again);
                let gone = matches!(&error, kube::Error::Api(of) if matches!(of.code, 403 | 404));
                // What was known last is good while nobody answers, not when it is taken away.
                if gone || !matches!(self.values, Some(Ok(_))) {
                    self.values = Some(Err(one_line(&words(&error), WHY_MAX)));
                }
            }
        }
        self.due = Some(Instant::now() + again);
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(of) => format!("the API server says {}: {}", of.code, of.message),
        error => chain(error),
    }
}

/// A poisoned lock only means that another thread panicked between two complete changes.
fn lock(shared: &Shared) -> MutexGuard<'_, BTreeMap<Name, Held>> {
    shared.held.lock().unwrap_or_else(PoisonError::into_inner)
}
