//! What goes wrong on demand.

/// How a watch from a forgotten resourceVersion is told so. Real servers do both: the watch cache
/// in the stream, etcd by the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// 200, then an ERROR event that holds a Status with code 410.
    #[default]
    InStream,
    /// HTTP 410.
    Status,
}

/// Requests remembered for [`super::ApiServer::count`].
const SEEN_MAX: usize = 100_000;

#[derive(Default)]
pub(super) struct Faults {
    /// Status, Retry-After in seconds, how many requests yet.
    next: Option<(u16, Option<u64>, usize)>,
    pub(super) gone: Gone,
    pub(super) seen: Vec<String>,
}

impl Faults {
    pub(super) fn throttle(&mut self, requests: usize, retry_after: u64) {
        self.next = Some((429, Some(retry_after), requests));
    }

    pub(super) fn fail(&mut self, requests: usize, status: u16) {
        self.next = Some((status, None, requests));
    }

    /// What this request is answered instead, if anything.
    pub(super) fn take(&mut self, request: String) -> Option<(u16, Option<u64>)> {
        if self.seen.len() < SEEN_MAX {
            self.seen.push(request);
        }
        let (status, retry_after, left) = self.next.as_mut()?;
        *left = left.checked_sub(1)?;
        Some((*status, *retry_after))
    }
}
