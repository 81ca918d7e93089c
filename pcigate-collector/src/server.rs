//! Puts the collector together, starts it and stops it.

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use pcigate_proto::{
    coverage::State, evidence_server::EvidenceServer, ingest_server::IngestServer, tls,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming};

use crate::{
    config::Config,
    evidence::Evidence,
    index::{Index, RebuildError},
    indexer,
    ingest::Ingest,
    ledger::{Ledger, OpenError},
    records, retention,
    writer::{self, Job, WriteError, Writer},
};

/// Largest request taken, bytes: above a full batch (4 MiB), so that a batch that is somewhat too
/// large is refused with a sentence.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long streams may take to end when the collector stops.
const DRAIN: Duration = Duration::from_secs(10);
/// A connection that does not finish its TLS handshake by then is closed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent connection is probed this often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why the collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Ledger {
        /// Why.
        #[source]
        source: Box<OpenError>,
    },
    /// The cursors cannot be rebuilt.
    #[error("the ledger cannot be read")]
    Index {
        /// Why.
        #[source]
        source: Box<RebuildError>,
    },
    /// The TLS directory cannot be used.
    #[error("`tlsDir` cannot be used")]
    TlsDir {
        /// The file.
        #[source]
        source: tls::TlsDirError,
    },
    /// Certificate or key are not usable.
    #[error("the certificate in `tlsDir` cannot be used: cert.pem and key.pem must fit")]
    Tls {
        /// What tonic says.
        #[source]
        source: tonic::transport::Error,
    },
    /// The address cannot be bound.
    #[error("`listen: {address}` cannot be bound")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for the writer")]
    Thread {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The first record cannot be written.
    #[error("the start cannot be recorded")]
    Record {
        /// Why.
        #[source]
        source: WriteError,
    },
}

/// Why serving ended, or did not end orderly.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The server failed.
    #[error("serving failed")]
    Serve {
        /// What tonic says.
        #[source]
        source: tonic::transport::Error,
    },
    /// The stop cannot be recorded.
    #[error("the stop cannot be recorded")]
    Record {
        /// Why.
        #[source]
        source: WriteError,
    },
    /// A part of the program panicked.
    #[error("the {part} ended unexpectedly")]
    Panicked {
        /// Which part.
        part: &'static str,
    },
}

/// A running collector.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    writer: Writer,
    writer_thread: thread::JoinHandle<()>,
    indexing: JoinHandle<()>,
}

/// Starts a collector; it serves when this returns.
///
/// # Errors
/// The ledger, the TLS directory or the address cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let tls = tls_config(&config.tls_dir)?;
    let (stop, stopping) = watch::channel(false);
    let (state_dir, origin) = (config.state_dir.clone(), config.origin.clone());
    let opened = tokio::task::spawn_blocking(move || open(&state_dir, &origin)).await;
    let (ledger, index) = opened.map_err(|error| StartError::Thread { source: error.into() })??;
    let source = ledger.source();
    let (writer, writer_thread) = writer::start(ledger, index, config.state_dir.clone())
        .map_err(|source| StartError::Thread { source })?;
    let (indexer, indexing) = indexer::start(&config.state_dir, source.clone(), writer.durable());
    let bound = |source| StartError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(bound)?;
    let address = listener.local_addr().map_err(bound)?;
    let ingest = Ingest::new(writer.clone(), source.clone(), stopping.clone());
    let evidence = Evidence::new(writer.clone(), source, indexer.clone(), stopping.clone());
    retention::start(config.retention, writer.clone(), indexer, stopping.clone());
    let ingest = IngestServer::new(ingest).max_decoding_message_size(REQUEST_BYTES_MAX);
    let router = Server::builder()
        .tls_config(tls)
        .map_err(|source| StartError::Tls { source })?
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(ingest)
        .add_service(EvidenceServer::new(evidence));
    record(&writer, State::Start).await.map_err(|source| StartError::Record { source })?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut end = stopping;
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async move {
        // An error means that the sender is gone: stop as well.
        drop(end.wait_for(|stopping| *stopping).await);
    }));
    tracing::info!(%address, origin = config.origin, key = writer.verifier_key(), "ready");
    Ok(Running { address, stop, serving, writer, writer_thread, indexing })
}

impl Running {
    /// The address it listens on, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
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
        let recorded = record(&self.writer, State::Stop).await;
        // Not by dropping the handle: a stream that does not end may hold another.
        let ended = self.writer.ask(Job::Stop).await;
        let thread = self.writer_thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
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

fn tls_config(dir: &Path) -> Result<ServerTlsConfig, StartError> {
    let read = |file| tls::read(dir, file).map_err(|source| StartError::TlsDir { source });
    let identity = Identity::from_pem(read("cert.pem")?, read("key.pem")?);
    let ca = Certificate::from_pem(read("ca.pem")?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(ca).timeout(HANDSHAKE))
}

async fn record(writer: &Writer, state: State) -> Result<(), WriteError> {
    let record = records::coverage(writer.origin(), state);
    writer.ask(Job::Own(Box::new(record))).await.map(|_| ())
}

#[cfg(test)]
mod tests;
