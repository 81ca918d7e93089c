//! Puts the collector together, starts it and stops it.

mod error;

use std::{net::SocketAddr, path::Path, sync::Arc, thread, time::Duration};

use pcigate_proto::{
    coverage::State, evidence_server::EvidenceServer, ingest_server::IngestServer,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::transport::Server;

use crate::{
    certificates::{self, Certificates},
    config::Config,
    enroll::{self, Authority},
    evidence::Evidence,
    index::Index,
    indexer::{self, Indexer},
    ingest::Ingest,
    ledger::Ledger,
    listener::{self, Accept},
    records, restore, retention,
    web::{self, Web},
    writer::{self, Job, WriteError, Writer},
};
pub use error::{StartError, StopError};

/// Largest request taken, bytes: above a full batch (4 MiB), so that a batch that is somewhat too
/// large is refused with a sentence.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long streams may take to end when the collector stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Calls at a time on one connection; one more waits at the client.
const STREAMS_MAX: u32 = 128;
/// A silent connection is probed this often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A running collector.
pub struct Running {
    address: SocketAddr,
    web: Option<WebPort>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    certificates: Arc<Certificates>,
    writer: Writer,
    writer_thread: thread::JoinHandle<()>,
    enrolling: Option<enroll::Port>,
    indexing: JoinHandle<()>,
}

/// Starts a collector; it serves when this returns.
///
/// # Errors
/// The ledger, the TLS directory or the address cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let tls_dir = |source| StartError::Certificates { source: Box::new(source) };
    // Before a ledger is made for nothing.
    certificates::check(&config.tls_dir).map_err(tls_dir)?;
    let connections = listener::raise_file_limit();
    let (stop, stopping) = watch::channel(false);
    let (state_dir, origin) = (config.state_dir.clone(), config.origin.clone());
    let opened = tokio::task::spawn_blocking(move || open(&state_dir, &origin)).await;
    let (ledger, index) = opened.map_err(|error| StartError::Thread { source: error.into() })??;
    let source = ledger.source();
    let (writer, writer_thread) = writer::start(ledger, index, config.state_dir.clone())
        .map_err(|source| StartError::Thread { source })?;
    let (indexer, indexing) = indexer::start(&config.state_dir, source.clone(), writer.durable());
    let metrics = Arc::clone(writer.metrics());
    let authority = authority(&config)?;
    let of_nodes = authority.as_ref().map(|authority| authority.certificate().clone());
    let certificates = Certificates::load(&config.tls_dir, of_nodes, Arc::clone(&metrics));
    let certificates = Arc::new(certificates.map_err(tls_dir)?);
    let (listener, address) = bind("listen", config.listen).await?;
    let web = start_web(config.web_listen, &writer, &indexer, &stopping).await?;
    record(&writer, State::Start).await.map_err(|source| StartError::Record { source })?;
    note_restored(&writer, &config.state_dir).await?;
    let ingest = Ingest::new(writer.clone(), source.clone(), stopping.clone());
    let evidence = Evidence::new(writer.clone(), source, indexer.clone(), stopping.clone());
    retention::start(config.retention, writer.clone(), indexer, stopping.clone());
    let enrolling = match (&config.enroll, authority) {
        (Some(settings), Some(authority)) => {
            let bound = bind("enroll.listen", settings.listen).await?;
            let (writer, stopping) = (writer.clone(), stopping.clone());
            let certificates = Arc::clone(&certificates);
            let port = enroll::start(settings, authority, bound, certificates, writer, stopping);
            Some(port.await.map_err(|source| StartError::Kubernetes { source })?)
        }
        _ => None,
    };
    let ingest = IngestServer::new(ingest).max_decoding_message_size(REQUEST_BYTES_MAX);
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .add_service(ingest)
        .add_service(EvidenceServer::new(evidence));
    let accept = Accept {
        listener,
        certificates: Arc::clone(&certificates),
        open: false,
        connections,
        metrics,
        stopping: stopping.clone(),
    };
    let mut end = stopping.clone();
    let serving = router.serve_with_incoming_shutdown(listener::incoming(accept), async move {
        // An error means that the sender is gone: stop as well.
        drop(end.wait_for(|stopping| *stopping).await);
    });
    let serving = tokio::spawn(serving);
    tokio::spawn(Arc::clone(&certificates).watch(stopping));
    tracing::info!(%address, origin = config.origin, key = writer.verifier_key(), "ready");
    Ok(Running {
        address,
        web,
        stop,
        serving,
        certificates,
        writer,
        writer_thread,
        enrolling,
        indexing,
    })
}

/// The web port while it is open.
struct WebPort {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// The address it listens on, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of metrics and health, with the real port, where there is one.
    #[must_use]
    pub fn web_address(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(|web| web.address)
    }

    /// The address where agents enrol, with the real port, where there is one.
    #[must_use]
    pub fn enroll_address(&self) -> Option<SocketAddr> {
        self.enrolling.as_ref().map(|port| port.address)
    }

    /// Reads the files in `tlsDir` again, for connections from now on.
    pub async fn reload(&self) {
        let certificates = Arc::clone(&self.certificates);
        let reloaded = tokio::task::spawn_blocking(move || certificates.reload()).await;
        if matches!(reloaded, Ok(false)) {
            tracing::info!("asked to read `tlsDir` again: what was in use stays in use");
        }
    }

    /// Waits until serving ends by itself, which it should not.
    pub async fn failed(&mut self) {
        if let Err(error) = (&mut self.serving).await {
            tracing::error!(%error, "serving ended");
        }
    }

    /// Takes no more, ends all streams, commits what is queued, and closes the ledger.
    ///
    /// # Errors
    /// Something did not end orderly; the ledger is whole all the same.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.stop.send_replace(true);
        let served = if self.serving.is_finished() {
            Ok(Ok(Ok(())))
        } else {
            tokio::time::timeout(DRAIN, &mut self.serving).await
        };
        match served {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(source))) => return Err(StopError::Serve { source }),
            Ok(Err(_)) => return Err(StopError::Panicked { part: "server" }),
            Err(_) => {
                tracing::warn!(seconds = DRAIN.as_secs(), "connections did not end; closing them");
                self.serving.abort();
            }
        }
        if let Some(port) = self.enrolling {
            // An agent whose asking is cut off asks again.
            port.serving.abort();
        }
        let recorded = record(&self.writer, State::Stop).await;
        // Not by dropping the handle: a stream that does not end may hold another.
        let ended = self.writer.ask(Job::Stop).await;
        let thread = self.writer_thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if let Some(web) = self.web {
            // Until here it said that the collector stops.
            web.serving.abort();
        }
        if !matches!(joined, Ok(Ok(()))) {
            return Err(StopError::Panicked { part: "writer" });
        }
        // It ends with the writer, and is derived: what it could not do is in the log.
        drop(self.indexing.await);
        recorded.and(ended.map(|_| ())).map_err(|source| StopError::Record { source })
    }
}

fn open(state_dir: &Path, origin: &str) -> Result<(Ledger, Index), StartError> {
    let ledger = Ledger::open(state_dir, origin)
        .map_err(|source| StartError::Ledger { source: Box::new(source) })?;
    let index = Index::open(state_dir, &ledger.source(), ledger.durable())
        .map_err(|source| StartError::Index { source: Box::new(source) })?;
    Ok((ledger, index))
}

/// The authority of enrolment, where that is configured.
fn authority(config: &Config) -> Result<Option<Authority>, StartError> {
    let Some(settings) = &config.enroll else { return Ok(None) };
    let opened = Authority::open(&config.state_dir, &settings.trust_domain, settings.lifetime);
    opened.map(Some).map_err(|source| StartError::Authority { source })
}

async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn start_web(
    address: Option<SocketAddr>,
    writer: &Writer,
    indexer: &Indexer,
    stopping: &watch::Receiver<bool>,
) -> Result<Option<WebPort>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let (listener, address) = bind("webListen", address).await?;
    let web = Web { writer: writer.clone(), indexer: indexer.clone(), stopping: stopping.clone() };
    Ok(Some(WebPort { address, serving: tokio::spawn(web::serve(listener, web)) }))
}

/// Puts into the evidence that this ledger came out of a backup.
async fn note_restored(writer: &Writer, state_dir: &Path) -> Result<(), StartError> {
    let Some(message) = restore::marker(state_dir) else { return Ok(()) };
    tracing::warn!("{message}");
    let record = records::change(writer.origin(), &message);
    let done = writer.ask(Job::Own(Box::new(record))).await;
    done.map_err(|source| StartError::Record { source })?;
    restore::remove_marker(state_dir);
    Ok(())
}

async fn record(writer: &Writer, state: State) -> Result<(), WriteError> {
    let record = records::coverage(writer.origin(), state);
    writer.ask(Job::Own(Box::new(record))).await.map(|_| ())
}

#[cfg(test)]
mod tests;
