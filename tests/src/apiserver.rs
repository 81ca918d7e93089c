//! A Kubernetes API server of the tests' own, in memory, over TLS: what a client may rely on by the
//! API's documentation, whoever the client is.
//!
//! What it does as a real one: discovery and OpenAPI v3 as far as kubectl asks, with the schemas
//! of CRDs; LIST with chunks of one moment, WATCH with every event type, both selectors, uid,
//! resourceVersion and generation, preconditions, the status subresource, every kind of patch,
//! CRDs that are served from then on, TokenReview, 401, 403, 404, 409, 410, 429.
//!
//! What it leaves out, so that no test believes in it: admission but for ServiceAccounts and
//! namespaces, validation of fields and schemas, finalizers and graceful deletion (a DELETE is at
//! once), controllers, protobuf, exec. Managers of apply own the whole object: a second one that
//! applies anything without force is in conflict.

mod auth;
mod discovery;
mod faults;
mod objects;
mod patch;
mod route;
mod selector;
mod server;
mod store;
mod watch;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch as signal;

pub use auth::{Subject, User};
pub use faults::Gone;

use crate::postgres::Keys;
use faults::Faults;
use store::Store;

/// The bearer token of somebody who may do everything.
pub const ADMIN: &str = "admin-of-the-tests";

/// What requests are answered from.
struct State {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    users: Mutex<auth::Users>,
    /// The resourceVersion of the newest event: wakes watches.
    newest: signal::Sender<u64>,
    /// Grows when all watches are to break.
    dropped: signal::Sender<u64>,
    /// Whether the server is unreachable; connections break when it becomes so.
    away: signal::Sender<bool>,
}

/// A running API server. It ends when this is dropped.
pub struct ApiServer {
    state: Arc<State>,
    address: SocketAddr,
    authority: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl ApiServer {
    /// Starts one on a free port of 127.0.0.1, with the namespaces default and kube-system.
    ///
    /// # Panics
    /// No port, no thread.
    #[must_use]
    pub fn start() -> Self {
        let keys = Keys::new("nobody");
        let state = Arc::new(State {
            store: Mutex::new(Store::new()),
            faults: Mutex::default(),
            users: Mutex::new(auth::Users::with_admin(ADMIN)),
            newest: signal::Sender::new(0),
            dropped: signal::Sender::new(0),
            away: signal::Sender::new(false),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let (address, serving) = runtime.block_on(server::bind(&keys, Arc::clone(&state)));
        runtime.spawn(serving);
        for name in ["default", "kube-system"] {
            let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace",
                                               "metadata": {"name": name}});
            state.lock_store().create_at("/api/v1/namespaces", namespace);
        }
        Self { state, address, authority: keys.authority, runtime: Some(runtime) }
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate to trust, as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Writes `kubeconfig` and the certificate it names into a directory.
    ///
    /// # Panics
    /// The directory is not writable.
    #[must_use]
    pub fn kubeconfig(&self, directory: &Path, token: &str) -> PathBuf {
        std::fs::write(directory.join("authority.pem"), &self.authority).expect("writable");
        let path = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             clusters: [{{name: test, cluster: {{server: \"{}\", certificate-authority: {}}}}}]\n\
             users: [{{name: test, user: {{token: {token}}}}}]\n",
            self.url(),
            directory.join("authority.pem").display(),
        );
        std::fs::write(&path, text).expect("writable");
        path
    }

    /// Creates an object under a collection's path (`/api/v1/namespaces/x/pods`), with the status
    /// it brings, as one whom no rule binds.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn put(&self, collection: &str, object: Value) -> Value {
        let made = self.state.lock_store().create_at(collection, object);
        self.state.tell();
        made
    }

    /// An object by its path, if it is there.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state.lock_store().object_at(path)
    }

    /// Deletes an object by its path, if it is there.
    pub fn remove(&self, path: &str) {
        self.state.lock_store().delete_at(path);
        self.state.tell();
    }

    /// Merges a change into an object, its status included.
    ///
    /// # Panics
    /// It is not there.
    pub fn change(&self, path: &str, change: &Value) {
        self.state.lock_store().merge_at(path, change);
        self.state.tell();
    }

    /// Adds somebody who may do everything but what is forbidden to them.
    pub fn add_user(&self, token: &str, user: User) {
        self.state.lock_users().add(token, user);
    }

    /// Somebody's token is worth nothing any more.
    pub fn remove_user(&self, token: &str) {
        self.state.lock_users().remove(token);
    }

    /// Refuses a verb on a resource (`pods`, or `*`) to a user, by name, from now on.
    pub fn forbid(&self, user: &str, verb: &str, resource: &str) {
        self.state.lock_users().forbid(user, verb, resource);
    }

    /// Answers the next requests with 429 and this Retry-After (seconds).
    pub fn throttle(&self, requests: usize, retry_after: u64) {
        self.state.lock_faults().throttle(requests, retry_after);
    }

    /// Answers the next requests with a status of the server's own trouble, such as 500.
    pub fn fail(&self, requests: usize, status: u16) {
        self.state.lock_faults().fail(requests, status);
    }

    /// Forgets all events there were: a WATCH from before is 410 Gone, told in this way.
    pub fn compact(&self, how: Gone) {
        self.state.lock_faults().gone = how;
        self.state.lock_store().compact();
        self.drop_watches();
    }

    /// Breaks all watches there are, in the middle of their stream.
    pub fn drop_watches(&self) {
        self.state.dropped.send_modify(|count| *count += 1);
    }

    /// Sends every watch that wants them a bookmark.
    pub fn bookmark(&self) {
        self.state.lock_store().bookmark();
        self.state.tell();
    }

    /// Breaks every connection and takes no request, or serves again.
    pub fn set_away(&self, away: bool) {
        self.state.away.send_replace(away);
    }

    /// How many requests were answered, by `VERB path` as sent (queries left out).
    #[must_use]
    pub fn count(&self, request: &str) -> usize {
        self.state.lock_faults().seen.iter().filter(|seen| *seen == request).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    fn lock_store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_users(&self) -> MutexGuard<'_, auth::Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches.
    fn tell(&self) {
        let newest = self.lock_store().newest();
        self.newest.send_replace(newest);
    }
}
