//! The keys by which clients cancel statements: ours towards the client, the server's behind them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use pcigate_postgres::startup::{CancelRequest, Packet};
use rand_core::{OsRng, RngCore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The keys of all open sessions; shared by all of a gateway. Bounded.
pub struct Keys {
    most: usize,
    open: Mutex<HashMap<u32, Key>>,
}

struct Key {
    secret: Bytes,
    scope: String,
    upstream: CancelRequest,
}

/// A session's own key; forgotten when this is dropped.
pub(crate) struct Held {
    keys: Arc<Keys>,
    pub process: u32,
    pub secret: Bytes,
}

impl Keys {
    /// Keys of at most so many sessions: one more session is refused.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u32, Key>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key of `length` bytes; nothing when there are too many sessions.
    pub(crate) fn hold(
        self: &Arc<Self>,
        scope: &str,
        upstream: CancelRequest,
        length: usize,
    ) -> Option<Held> {
        let mut secret = vec![0; length];
        OsRng.fill_bytes(&mut secret);
        let secret = Bytes::from(secret);
        let mut open = self.open();
        if open.len() >= self.most {
            return None;
        }
        // Positive as a process number of the server; free after a few tries at most.
        let process = std::iter::repeat_with(|| OsRng.next_u32() & 0x7fff_ffff)
            .find(|process| *process != 0 && !open.contains_key(process))?;
        let scope = scope.to_owned();
        open.insert(process, Key { secret: secret.clone(), scope, upstream });
        Some(Held { keys: Arc::clone(self), process, secret })
    }

    /// What to send upstream for a client's CancelRequest, if its key is that of an open session of
    /// the same scope.
    #[must_use]
    pub fn upstream(&self, scope: &str, asked: &CancelRequest) -> Option<CancelRequest> {
        let open = self.open();
        let key = open.get(&asked.process)?;
        // In constant time: the key is all that is asked for.
        let same = key.secret.len() == asked.key.len()
            && key.secret.iter().zip(&asked.key).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
        (same && key.scope == scope).then(|| key.upstream.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keys.open().remove(&self.process);
    }
}

/// Sends a CancelRequest on a fresh connection, and waits until the server has closed it: then the
/// signal is on its way. In the clear, as libpq before 17 does: the key is good for nothing else.
pub(crate) async fn send<U: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut U,
    request: CancelRequest,
) -> std::io::Result<()> {
    let mut packet = BytesMut::new();
    if Packet::Cancel(request).encode(&mut packet).is_ok() {
        stream.write_all(&packet).await?;
        stream.flush().await?;
        let mut end = [0; 64];
        while stream.read(&mut end).await? > 0 {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(process: u32) -> CancelRequest {
        CancelRequest { process, key: Bytes::from_static(b"abcd") }
    }

    #[test]
    fn a_key_opens_its_own_session_in_its_own_scope_while_it_is_open() {
        let keys = Keys::new(2);
        let held = keys.hold("bot/db", upstream(7), 4).unwrap();
        let asked = CancelRequest { process: held.process, key: held.secret.clone() };
        assert!(keys.upstream("bot/db", &asked) == Some(upstream(7)));
        assert!(keys.upstream("other/db", &asked).is_none());
        let mut wrong = asked.key.to_vec();
        wrong[0] ^= 1;
        let wrong = CancelRequest { process: asked.process, key: wrong.into() };
        assert!(keys.upstream("bot/db", &wrong).is_none());
        drop(held);
        assert!(keys.upstream("bot/db", &asked).is_none());
    }

    #[test]
    fn one_session_too_many_gets_no_key() {
        let keys = Keys::new(1);
        let held = keys.hold("a", upstream(1), 4);
        assert!(keys.hold("a", upstream(2), 4).is_none());
        drop(held);
        assert!(keys.hold("a", upstream(2), 32).is_some());
    }
}
