//! One GET to the API server at a time, each over a connection of its own, with a limit for
//! everything: time, size of a list, size of a line of a watch.
//!
//! Why not the crate `kube`: ARCHITECTURE.md, *Decisions*.

use std::{io, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{ConnectError, Connection};

/// How long connecting, with TLS, may take; and then a request's first byte.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Largest body of a list.
pub(super) const BODY_MAX: usize = 32 << 20;
/// Longest line of a watch: etcd holds objects of 1.5 MiB, which escapes can make longer.
pub(super) const LINE_MAX: usize = 16 << 20;
/// What an error's body may say.
const MESSAGE_MAX: usize = 64 << 10;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The connection's settings.
    #[error(transparent)]
    Settings(#[from] ConnectError),
    /// No connection.
    #[error("the API server at {host}:{port} cannot be reached")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    /// The exchange broke.
    #[error("the connection to the API server broke")]
    Broken(#[source] hyper::Error),
    /// Nothing in time.
    #[error("the API server does not answer")]
    Silent,
    /// It does not want to.
    #[error("the API server answers {status}: {message}")]
    Refused { status: StatusCode, message: String, retry_after: Option<Duration> },
    /// More than fits.
    #[error("an answer of the API server is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// Not what a request is answered with.
    #[error("an answer of the API server cannot be read ({what})")]
    Unreadable { what: String },
    /// The resourceVersion is too old: list anew.
    #[error("the API server has forgotten what happened since (410 Gone)")]
    Gone,
}

/// Asks.
#[derive(Clone)]
pub(super) struct Client {
    connection: Connection,
}

impl Client {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The answer to a GET, if it is 200.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, RequestError> {
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.send(path)).await;
        let answer = sent.map_err(|_| RequestError::Silent)??;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(RequestError::Gone),
            status => {
                let retry_after = answer.headers().get(header::RETRY_AFTER);
                let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
                let body = tokio::time::timeout(ANSWER_WITHIN, body(answer, MESSAGE_MAX)).await;
                let body = body.ok().and_then(Result::ok).unwrap_or_default();
                let message = super::reflector::message(&body);
                let retry_after = seconds.map(Duration::from_secs);
                Err(RequestError::Refused { status, message, retry_after })
            }
        }
    }

    async fn send(&self, path: &str) -> Result<Response<Incoming>, RequestError> {
        let stream = self.connect().await?;
        let token = self.connection.token()?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(RequestError::Broken)?;
        // Ends with the answer's body, or when nobody wants that any more.
        tokio::spawn(connection);
        let mut request = Request::get(format!("{}{path}", self.connection.prefix))
            .header(header::HOST, self.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("pcigate-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            let value = header::HeaderValue::from_str(&format!("Bearer {}", token.as_str()));
            let mut value = value.map_err(|_| ConnectError::Pem { what: "the token" })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|_| RequestError::Unreadable { what: path.to_owned() })?;
        sender.send_request(request).await.map_err(RequestError::Broken)
    }

    fn authority(&self) -> String {
        let Connection { host, port, .. } = &self.connection;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, RequestError> {
        let Connection { host, port, server_name, .. } = &self.connection;
        let failed = |source| RequestError::Connect { host: host.clone(), port: *port, source };
        let name = ServerName::try_from(server_name.clone());
        let name = name.map_err(|error| failed(io::Error::other(error)))?;
        let tls = TlsConnector::from(self.connection.tls()?);
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stay_honest(&stream)?;
            tls.connect(name, stream).await
        };
        let connected = tokio::time::timeout(CONNECT_WITHIN, connect).await;
        connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))).map_err(failed)
    }
}

/// A watch may be silent for minutes; a peer that is gone is noticed within half of one.
fn stay_honest(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

/// A whole body.
pub(super) async fn body(
    answer: Response<Incoming>,
    limit: usize,
) -> Result<Vec<u8>, RequestError> {
    let mut incoming = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut incoming, ANSWER_WITHIN).await? {
        if bytes.len() + data.len() > limit {
            return Err(RequestError::TooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The lines of a body, one by one.
pub(super) struct Lines {
    incoming: Incoming,
    read: Vec<u8>,
    /// Where the search for the end of the line goes on.
    searched: usize,
    within: Duration,
}

impl Lines {
    /// Of an answer whose next bytes come within a time.
    pub(super) fn of(answer: Response<Incoming>, within: Duration) -> Self {
        Self { incoming: answer.into_body(), read: Vec::new(), searched: 0, within }
    }

    /// The next line; `None` at the end. What comes before a break in the middle is no line.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        loop {
            let rest = self.read.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let after = self.read.split_off(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.read, after)));
            }
            self.searched = self.read.len();
            let Some(data) = next(&mut self.incoming, self.within).await? else { return Ok(None) };
            if self.read.len() + data.len() > LINE_MAX {
                return Err(RequestError::TooLarge { limit: LINE_MAX });
            }
            self.read.extend_from_slice(&data);
        }
    }
}

async fn next(incoming: &mut Incoming, within: Duration) -> Result<Option<Bytes>, RequestError> {
    loop {
        let frame = tokio::time::timeout(within, incoming.frame()).await;
        match frame.map_err(|_| RequestError::Silent)? {
            None => return Ok(None),
            Some(Err(error)) => return Err(RequestError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
