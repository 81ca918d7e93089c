//! The agent's own HTTP port: `/healthz`, `/readyz`, `/metrics`. It reads, changes nothing, and
//! tells of no pod, policy text or record by name.
//!
//! It is not part of enforcement: an agent whose port cannot be opened enforces all the same, and
//! tries again. What comes from outside is bounded: connections, their time, the size of a request;
//! one request a connection.

mod board;
mod metrics;
mod page;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

pub use board::{
    ApiServer, Board, Governed, Policies, Readings, SourceState, Watched, WorkloadCounts,
};

/// What clients may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections at a time; one more waits in the backlog.
    connections: usize,
    /// How long a request may take to come.
    head: Duration,
    /// How long a connection may last in all.
    whole: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 32, head: Duration::from_secs(5), whole: Duration::from_secs(10) };
/// Bytes of a request.
const REQUEST_MAX: usize = 8 << 10;
/// How long until a port that cannot be opened is tried again, and a connection accepted.
const AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_millis(10)];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The port, until this is dropped.
pub struct Admin {
    task: JoinHandle<()>,
}

impl Admin {
    /// Opens the port as soon as it can be. Must run inside of a tokio runtime.
    #[must_use]
    pub fn start(address: SocketAddr, board: Board) -> Self {
        Self { task: tokio::spawn(run(address, board)) }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(address: SocketAddr, board: Board) {
    let [later, _] = AGAIN;
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(
                        "cannot listen on {address} (admin.listen): {error}; the agent enforces \
                         without metrics and probes, and tries again"
                    );
                }
                sleep(later).await;
            }
        }
    };
    tracing::info!("metrics and health on http://{address}");
    serve(listener, board, BOUNDS).await;
}

async fn serve(listener: TcpListener, board: Board, bounds: Bounds) {
    let [_, soon] = AGAIN;
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        // They are never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    // Who is too slow finds the connection closed.
                    let _ = timeout(bounds.whole, answer(stream, board, bounds)).await;
                    drop(place);
                });
            }
            // No descriptor is left, or the client has gone again.
            Err(_) => sleep(soon).await,
        }
    }
}

async fn answer(stream: TcpStream, board: Board, bounds: Bounds) {
    let service = service_fn(move |request| {
        let board = board.clone();
        async move { Ok::<_, Infallible>(respond(&request, board).await) }
    });
    let mut connection = http1::Builder::new();
    let connection = connection
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(REQUEST_MAX)
        .keep_alive(false);
    // What goes wrong here is the client's.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: &Request<Incoming>, board: Board) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut no = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned());
        no.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return no;
    }
    let ask: fn(&Board) -> Response<Full<Bytes>> = match request.uri().path() {
        "/healthz" => |board| told(board.health(), StatusCode::INTERNAL_SERVER_ERROR),
        "/readyz" => |board| told(board.readiness(), StatusCode::SERVICE_UNAVAILABLE),
        "/metrics" => |board| match board.metrics() {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
        },
        _ => |_| {
            let text = "ask for /healthz, /readyz or /metrics\n".to_owned();
            response(StatusCode::NOT_FOUND, PLAIN, text)
        },
    };
    // Locks, and a record read from disk: not for a thread that serves sessions.
    let answered = spawn_blocking(move || ask(&board)).await;
    answered.unwrap_or_else(|_| {
        response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "see the agent's log\n".to_owned())
    })
}

fn told((well, text): (bool, String), otherwise: StatusCode) -> Response<Full<Bytes>> {
    response(if well { StatusCode::OK } else { otherwise }, PLAIN, text)
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
