//! The plain HTTP port: `/metrics`, `/healthz`, `/readyz`. Read only, no evidence, no log in.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
    serve::Listener,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use crate::{
    guarded::Guarded,
    indexer::Indexer,
    metrics::{Metrics, gauge},
    writer::{QUEUE_REQUESTS, Writer},
};

/// Connections at a time; one more waits.
const CONNECTIONS_MAX: usize = 64;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages look at.
#[derive(Clone, Debug)]
pub struct Web {
    /// The writer, and through it the ledger and its disk.
    pub writer: Writer,
    /// The index, which may be behind.
    pub indexer: Indexer,
    /// Turns true when the collector stops.
    pub stopping: watch::Receiver<bool>,
}

/// Answers until the task is aborted.
///
/// # Errors
/// Never in practice: failed connections are left to their clients.
pub async fn serve(listener: TcpListener, web: Web) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(web);
    axum::serve(Limited { listener, places }, app).await
}

async fn metrics(State(web): State<Web>) -> impl IntoResponse {
    match web.text() {
        Ok(text) => Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Whether the process can still do its work at all; a "no" calls for a restart.
async fn healthz(State(web): State<Web>) -> (StatusCode, String) {
    if web.writer.is_alive() || *web.stopping.borrow() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "the writer has ended; see the log\n".to_owned())
    }
}

/// Whether it takes records now, one line per part.
async fn readyz(State(web): State<Web>) -> (StatusCode, String) {
    let index = web.index();
    let parts = tokio::task::spawn_blocking(move || web.readiness()).await.unwrap_or_default();
    let ready = !parts.is_empty() && parts.iter().all(|(_, state)| state.is_ok());
    let line = |(part, state): &(&str, Result<(), String>)| match state {
        Ok(()) => format!("{part}: ok\n"),
        Err(why) => format!("{part}: {why}\n"),
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text: String = parts.iter().map(line).collect();
    (status, text + &index)
}

impl Web {
    fn readiness(&self) -> Vec<(&'static str, Result<(), String>)> {
        let serving = match *self.stopping.borrow() {
            true => Err("the collector is stopping".to_owned()),
            false => Ok(()),
        };
        vec![("serving", serving), ("ledger", self.writer.storage().ready())]
    }

    /// How far the index is. For information: records are taken however far behind it is.
    fn index(&self) -> String {
        let size = self.writer.durable().borrow().size;
        match self.indexer.status() {
            Some(status) if status.indexed >= size => "index: ok\n".to_owned(),
            Some(status) => format!("index: {} of {size} leaves\n", status.indexed),
            None => "index: not open\n".to_owned(),
        }
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let metrics: &Metrics = self.writer.metrics();
        metrics.ledger_leaves.set(gauge(self.writer.durable().borrow().size));
        metrics.queue_requests.set(gauge(self.writer.queued() as u64));
        metrics.queue_limit.set(gauge(QUEUE_REQUESTS as u64));
        let index = self.indexer.status().unwrap_or_default();
        metrics.index_leaves.set(gauge(index.indexed));
        metrics.index_files.set(gauge(index.files));
        metrics.index_bytes.set(gauge(index.bytes));
        self.writer.storage().measure();
        metrics.text()
    }
}

/// A listener that waits while there are enough connections.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Guarded<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // The places are never closed.
            if let Ok(place) = place {
                return (Guarded::new(stream, place, None), address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
