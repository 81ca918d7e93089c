//! What names mean: as the server has confirmed it, and as requests on their way will have it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::request::RequestId;

/// PostgreSQL tells names of statements and portals apart by this many bytes (`NAMEDATALEN` - 1).
pub(super) const NAME_MAX: usize = 63;

/// The statements or the portals of a session.
pub(super) struct Names<V> {
    confirmed: HashMap<Bytes, Arc<V>>,
    /// The newest change of a name that the server has not answered yet.
    pending: HashMap<Bytes, Pending<V>>,
}

struct Pending<V> {
    by: RequestId,
    /// Requests of one batch fail together: behind a failed change nothing of it is done.
    batch: u64,
    value: Option<Arc<V>>,
}

/// What a name means to a request that is sent now.
pub(super) enum Found<'a, V> {
    Known(&'a Arc<V>),
    Absent,
    /// It depends on a request whose outcome is not known yet.
    Unsettled,
}

impl<V> Names<V> {
    pub(super) fn new() -> Self {
        Self { confirmed: HashMap::new(), pending: HashMap::new() }
    }

    pub(super) fn find(&self, name: &[u8], batch: u64) -> Found<'_, V> {
        let value = match self.pending.get(name) {
            Some(pending) if pending.batch != batch => return Found::Unsettled,
            Some(pending) => pending.value.as_ref(),
            None => self.confirmed.get(name),
        };
        value.map_or(Found::Absent, Found::Known)
    }

    /// The request on its way that changes the name last.
    pub(super) fn changed_by(&self, name: &[u8]) -> Option<RequestId> {
        self.pending.get(name).map(|pending| pending.by)
    }

    /// Whether one more name would be more than `limit`. Names on their way count twice where they
    /// replace others, which errs on the side of fewer.
    pub(super) fn is_full(&self, name: &[u8], limit: usize) -> bool {
        let known = self.confirmed.contains_key(name) || self.pending.contains_key(name);
        !known && self.confirmed.len() + self.pending.len() >= limit
    }

    /// A request that gives or takes the name is on its way.
    pub(super) fn change(
        &mut self,
        name: &Bytes,
        by: RequestId,
        batch: u64,
        value: Option<&Arc<V>>,
    ) {
        let pending = Pending { by, batch, value: value.cloned() };
        self.pending.insert(name.clone(), pending);
    }

    /// The server has done what the request asked for.
    pub(super) fn confirm(&mut self, name: &Bytes, by: RequestId, value: Option<Arc<V>>) {
        self.set(name, value);
        if self.changed_by(name) == Some(by) {
            self.pending.remove(name);
        }
    }

    /// The server has changed the name, whoever asked.
    pub(super) fn set(&mut self, name: &Bytes, value: Option<Arc<V>>) {
        match value {
            Some(value) => self.confirmed.insert(name.clone(), value),
            None => self.confirmed.remove(name),
        };
    }

    /// Forgets what is on its way, because some of it will not be done.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Keeps only those the server still has.
    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.confirmed.retain(|_, value| keep(value));
    }
}
