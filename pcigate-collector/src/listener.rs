//! Where connections come from: accepted, counted, through their TLS handshake, and not too many.

use std::{sync::Arc, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    certificates::Certificates,
    guarded::Guarded,
    metrics::{Held, Metrics},
    occasionally::Occasionally,
};

/// Most connections; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Most handshakes at a time; then accepting waits, and the system's backlog holds who comes.
const HANDSHAKES_MAX: usize = 1_024;
/// A connection that does not finish its TLS handshake by then is closed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections ready for the server and not yet taken by it.
const READY_MAX: usize = 64;
/// Files the collector needs for itself: ledger, queries, web.
const FILES_OWN: u64 = 512;
/// A wait after the system gave no connection, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection after its handshake.
pub type Connection = Guarded<TlsStream<TcpStream>>;

/// Raises the limit of open files as far as the system lets us; how many connections fit in it.
#[must_use]
pub fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
        let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        if raised { hard } else { soft }
    });
    let Ok(files) = limit else { return CONNECTIONS_MAX };
    let fits = usize::try_from(files.saturating_sub(FILES_OWN)).unwrap_or(usize::MAX).max(1);
    if fits < CONNECTIONS_MAX {
        tracing::warn!(
            files,
            connections = fits,
            "the system allows too few open files for {CONNECTIONS_MAX} connections: raise the \
             limit (ulimit -Hn, LimitNOFILE) where there are more nodes"
        );
    }
    fits.min(CONNECTIONS_MAX)
}

/// What accepting needs.
pub struct Accept {
    /// The bound socket.
    pub listener: TcpListener,
    /// What handshakes use.
    pub certificates: Arc<Certificates>,
    /// Clients have no certificate yet, and are asked for none.
    pub open: bool,
    /// Most connections.
    pub connections: usize,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Turns true when no more are to be taken.
    pub stopping: watch::Receiver<bool>,
}

/// Connections after their handshake, in the order in which they are ready.
pub fn incoming(accept: Accept) -> ReceiverStream<std::io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    tokio::spawn(run(accept, ready));
    ReceiverStream::new(connections)
}

type Ready = mpsc::Sender<std::io::Result<Connection>>;

async fn run(accept: Accept, ready: Ready) {
    let Accept { listener, certificates, open, connections, metrics, mut stopping } = accept;
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let places = Arc::new(Semaphore::new(connections));
    let (mut too_many, mut refused) = (Occasionally::default(), Occasionally::default());
    loop {
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(times) = refused.tell() {
                    tracing::error!(%error, times, "a connection cannot be accepted");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics.tls.connections_refused.inc();
            if let Some(times) = too_many.tell() {
                tracing::warn!(connections, times, "too many connections; new ones are closed");
            }
            continue;
        };
        let held = Held::new(&metrics.tls.connections);
        let start = Handshake { stream, place, held, _turn: handshake };
        let acceptor = TlsAcceptor::from(certificates.current(open));
        tokio::spawn(start.finish(acceptor, Arc::clone(&metrics), ready.clone()));
    }
}

struct Handshake {
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    held: Held,
    _turn: OwnedSemaphorePermit,
}

impl Handshake {
    async fn finish(self, acceptor: TlsAcceptor, metrics: Arc<Metrics>, ready: Ready) {
        let peer = self.stream.peer_addr().ok();
        // Acks are small and awaited. A socket that is gone shows in the handshake.
        drop(self.stream.set_nodelay(true));
        let done = timeout(HANDSHAKE, acceptor.accept(self.stream)).await;
        let result = match &done {
            Ok(Ok(_)) => "ok",
            Ok(Err(error)) => {
                tracing::debug!(?peer, %error, "a TLS handshake failed");
                "failed"
            }
            Err(_) => "timeout",
        };
        metrics.tls.handshakes.get_or_create(&[("result", result)]).inc();
        if let Ok(Ok(stream)) = done {
            // The server is gone when the collector stops; so is the connection then.
            drop(ready.send(Ok(Guarded::new(stream, self.place, Some(self.held)))).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::issue::{Holder, Order, issue};

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_counted_and_a_place_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let order = Order {
            ca_dir: dir.path().join("ca"),
            out: dir.path().join("server"),
            holder: Holder::Server(vec!["127.0.0.1".into()]),
            trust_domain: "pcigate".into(),
            days: 1,
        };
        issue(&order).unwrap();
        let metrics = Arc::new(Metrics::new());
        let certificates = Certificates::load(&order.out, None, Arc::clone(&metrics)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let mut ready = incoming(Accept {
            listener,
            certificates: Arc::new(certificates),
            open: false,
            connections: 1,
            metrics: Arc::clone(&metrics),
            stopping,
        });
        let first = TcpStream::connect(address).await.unwrap();
        // Until it stands in its handshake.
        while metrics.tls.connections.get() == 0 {
            tokio::task::yield_now().await;
        }
        let mut second = TcpStream::connect(address).await.unwrap();
        // Closed without a byte; as a reset where the system is quick.
        assert_eq!(second.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert_eq!(metrics.tls.connections_refused.get(), 1);
        drop(first);
        while metrics.tls.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
        let failed = metrics.tls.handshakes.get_or_create(&[("result", "failed")]).get();
        assert_eq!(failed, 1);
        let _third = TcpStream::connect(address).await.unwrap();
        while metrics.tls.connections.get() == 0 {
            tokio::task::yield_now().await;
        }
        stop.send_replace(true);
        drop(_third);
        assert!(ready.next().await.is_none(), "the end of accepting ends the stream");
    }
}
