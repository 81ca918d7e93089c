//! Certificates of nodes for agents in Kubernetes, against the token of the asking pod.
//!
//! It has an address of its own, because who asks has no certificate yet: the other services go on
//! asking every client for one during the handshake. Whose the token is says the API server; the
//! node is the one it names for the pod, whatever the request asks for. Every certificate is on
//! disk as a record before it is given out; so is every refusal, but for those counted together.

mod authority;
mod limits;
mod review;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pcigate_proto::{
    EnrollReply, EnrollRequest, Enrollment, Outcome, Record, Result as Ended, enroll_server,
    record::Event,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tonic::{Request, Response, Status, transport::Server};

use crate::{
    certificates::Certificates,
    config,
    listener::{self, Accept},
    occasionally::Occasionally,
    records,
    writer::{Job, Writer},
};
use authority::{Asked, Issued};
use limits::Limits;
use review::{Bearer, Refusal, Reviewer, Wanted};

pub use authority::{Authority, AuthorityError, CsrError};
pub use review::ConnectError;

/// Connections at a time; one more is closed at once.
const CONNECTIONS_MAX: usize = 512;
/// Largest request, bytes.
const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Largest token, bytes. Those of Kubernetes have one or two thousand.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Reviews at a time: what the API server may have to do at once because of us.
const REVIEWS_MAX: usize = 32;
/// How often one address may ask. A node asks once in most of a certificate's life, and more often
/// only while it is refused.
const PER_ADDRESS: (Duration, u32, usize) = (Duration::from_secs(60), 30, 4_096);
/// How many certificates one node may have: a stolen token fills no ledger.
const PER_NODE: (Duration, u32, usize) = (Duration::from_secs(3_600), 12, 16_384);
/// A silent connection is probed this often.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long one may be there, and then how long its last call may take: who asks for nothing keeps
/// nobody out.
const CONNECTION_AGE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
struct Enroll(Arc<Shared>);

struct Shared {
    writer: Writer,
    authority: Authority,
    reviewer: Reviewer,
    reviews: Semaphore,
    addresses: Mutex<Limits<IpAddr>>,
    nodes: Mutex<Limits<String>>,
    /// What happens too often for a record each.
    turned_away: Mutex<Occasionally>,
    unavailable: Mutex<Occasionally>,
}

/// The address while it is open.
pub struct Port {
    /// Where it is, with the real port.
    pub address: SocketAddr,
    /// Ends when the collector stops.
    pub serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Opens the address of enrolment.
///
/// # Errors
/// The way to the API server is not known. That nobody answers is no error.
pub async fn start(
    settings: &config::Enroll,
    authority: Authority,
    (listener, address): (TcpListener, SocketAddr),
    certificates: Arc<Certificates>,
    writer: Writer,
    stopping: watch::Receiver<bool>,
) -> Result<Port, ConnectError> {
    let wanted = Wanted {
        namespace: settings.namespace.clone(),
        service_account: settings.service_account.clone(),
        audience: settings.audience.clone(),
    };
    let reviewer = Reviewer::new(settings.kubeconfig.as_deref(), wanted).await?;
    let metrics = Arc::clone(writer.metrics());
    let service = Enroll(Arc::new(Shared {
        writer,
        authority,
        reviewer,
        reviews: Semaphore::new(REVIEWS_MAX),
        addresses: Mutex::new(Limits::new(PER_ADDRESS)),
        nodes: Mutex::new(Limits::new(PER_NODE)),
        turned_away: Mutex::default(),
        unavailable: Mutex::default(),
    }));
    let service = enroll_server::EnrollServer::new(service);
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(CONNECTION_AGE)
        .max_concurrent_streams(Some(4))
        .add_service(service.max_decoding_message_size(REQUEST_BYTES_MAX));
    let accept = Accept {
        listener,
        certificates,
        open: true,
        connections: CONNECTIONS_MAX,
        metrics,
        stopping: stopping.clone(),
    };
    let mut end = stopping;
    let serving = router.serve_with_incoming_shutdown(listener::incoming(accept), async move {
        // An error means that the sender is gone: stop as well.
        drop(end.wait_for(|stopping| *stopping).await);
    });
    Ok(Port { address, serving: tokio::spawn(serving) })
}

#[tonic::async_trait]
impl enroll_server::Enroll for Enroll {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollReply>, Status> {
        let peer = request.remote_addr().map(|address| address.ip().to_canonical());
        let peer = peer.ok_or_else(|| Status::internal("the connection has no address"))?;
        self.0.enroll(peer, request.into_inner()).await.map(Response::new)
    }
}

impl Shared {
    async fn enroll(&self, peer: IpAddr, request: EnrollRequest) -> Result<EnrollReply, Status> {
        let EnrollRequest { csr, token } = request;
        let admitted = lock(&self.addresses).admit(peer, Instant::now());
        let turn = self.reviews.try_acquire();
        let (true, Ok(_turn)) = (admitted, turn) else {
            return Err(self.turn_away(peer, "too many ask for certificates").await);
        };
        let asked = Asked::read(&csr);
        let asked = match (asked, token.len()) {
            (Ok(asked), 1..=TOKEN_BYTES_MAX) => asked,
            (Ok(_), _) => {
                let why = "the request has no token, or one that is too large";
                return Err(self.refuse(peer, Bearer::default(), why).await);
            }
            (Err(error), _) => {
                return Err(self.refuse(peer, Bearer::default(), &error.to_string()).await);
            }
        };
        let bearer = match self.reviewer.review(token).await {
            Ok(bearer) => bearer,
            Err(Refusal::Token(bearer, why)) => {
                return Err(self.refuse(peer, *bearer, why).await);
            }
            Err(Refusal::Away(why)) => return Err(self.away(peer, &why).await),
        };
        if !lock(&self.nodes).admit(bearer.node.clone(), Instant::now()) {
            return Err(self.turn_away(peer, "this node had many certificates already").await);
        }
        match self.authority.issue(&asked, &bearer.node) {
            Ok(issued) => self.give(peer, bearer, issued).await,
            Err(error) => Err(self.refuse(peer, bearer, &error.to_string()).await),
        }
    }

    /// The record first.
    async fn give(
        &self,
        peer: IpAddr,
        bearer: Bearer,
        issued: Issued,
    ) -> Result<EnrollReply, Status> {
        let node = bearer.node.clone();
        let Issued { der, serial, sha256, not_after_unix_nano } = issued;
        let told = Enrollment {
            serial: serial.clone(),
            certificate_sha256: sha256.to_vec(),
            not_after_unix_nano,
            ..told(peer, bearer)
        };
        self.record(Ended::Success, told).await?;
        self.count("issued");
        tracing::info!(node, serial, %peer, "issued the certificate of a node");
        Ok(EnrollReply { certificate: der })
    }

    async fn refuse(&self, peer: IpAddr, bearer: Bearer, why: &str) -> Status {
        self.count("refused");
        tracing::warn!(%peer, why, "refused a certificate");
        let told = Enrollment { reason: why.to_owned(), ..told(peer, bearer) };
        match self.record(Ended::Refused, told).await {
            Ok(()) => Status::permission_denied(format!("no certificate: {why}")),
            Err(status) => status,
        }
    }

    async fn away(&self, peer: IpAddr, why: &str) -> Status {
        self.count("unavailable");
        let times = lock(&self.unavailable).tell();
        self.tell_together(peer, Ended::Failed, why, times).await;
        Status::unavailable(format!("no certificate now: {why}; ask again later"))
    }

    async fn turn_away(&self, peer: IpAddr, why: &str) -> Status {
        self.count("turned_away");
        let times = lock(&self.turned_away).tell();
        self.tell_together(peer, Ended::Refused, why, times).await;
        Status::resource_exhausted(format!("{why}; ask again later"))
    }

    /// One record a minute stands for all of one sort.
    async fn tell_together(&self, peer: IpAddr, ended: Ended, why: &str, times: Option<u64>) {
        let Some(count) = times else { return };
        tracing::warn!(%peer, why, count, "no certificate was issued");
        let told = Enrollment { reason: why.to_owned(), count, ..told(peer, Bearer::default()) };
        // The asker is refused either way; what the ledger says of itself is in the log.
        drop(self.record(ended, told).await);
    }

    async fn record(&self, ended: Ended, told: Enrollment) -> Result<(), Status> {
        let record = records::own(self.writer.origin(), Event::Enrollment(told));
        let outcome = Outcome { result: ended.into(), ..Outcome::default() };
        let record = Record { outcome: Some(outcome), ..record };
        let done = self.writer.ask(Job::Own(Box::new(record))).await;
        done.map(|_| ()).map_err(|error| {
            tracing::error!(%error, "an enrolment cannot be recorded");
            Status::unavailable("the record cannot be written; ask again later")
        })
    }

    fn count(&self, result: &'static str) {
        self.writer.metrics().tls.enrollments.get_or_create(&[("result", result)]).inc();
    }
}

/// The API server's words on a token are foreign text as any other.
fn told(peer: IpAddr, bearer: Bearer) -> Enrollment {
    let Bearer { namespace, service_account, pod, pod_uid, node } = bearer;
    Enrollment {
        node: records::masked(&node),
        namespace: records::masked(&namespace),
        service_account: records::masked(&service_account),
        pod: records::masked(&pod),
        pod_uid: records::masked(&pod_uid),
        peer: peer.to_string(),
        count: 1,
        ..Enrollment::default()
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
