//! A node's certificate against collectors that issue the right one, a wrong one, or none, and a
//! clock that says it counts no longer.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pcigate_proto::{
    EnrollReply, EnrollRequest, Message as _, Record,
    enroll_server::{Enroll, EnrollServer},
    record::Event as Recorded,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::CertificateSigningRequestDer;
use tempfile::TempDir;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::*;
use crate::{
    recorder::{self, Recorder, lock},
    spool::{Limits, Spool},
};

const DEADLINE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

/// An authority, and a collector that issues what it is told to.
struct Collector {
    issuer: Issuer<'static, KeyPair>,
    /// Whom for, and from when until when as seen from now.
    names: Mutex<Result<(String, i64, i64), Status>>,
    asked: AtomicUsize,
}

struct Service(Arc<Collector>);

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn params(node: &str, begin: i64, end: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://pcigate/node/{node}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = |offset: i64| {
        let seconds = now.as_secs().checked_add_signed(offset).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (at(begin), at(end));
    params
}

#[tonic::async_trait]
impl Enroll for Service {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollReply>, Status> {
        let Self(collector) = self;
        collector.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.get_ref().token, "the.pods.token");
        let (node, begin, end) = collector.names.lock().unwrap().clone()?;
        let csr = CertificateSigningRequestDer::from(request.into_inner().csr);
        let asked = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let issued = params(&node, begin, end).signed_by(&asked.public_key, &collector.issuer);
        Ok(Response::new(EnrollReply { certificate: issued.unwrap().der().to_vec() }))
    }
}

/// An agent's half, and the collector it asks.
struct Node {
    dir: TempDir,
    spool: Arc<Mutex<Spool>>,
    recorder: Recorder,
    collector: Arc<Collector>,
    url: String,
}

impl Node {
    async fn new(issues: Result<(&str, i64, i64), Status>) -> Self {
        let dir = TempDir::new().unwrap();
        let (issuer, pem) = authority();
        fs::write(dir.path().join("ca.pem"), pem).unwrap();
        fs::write(dir.path().join("token"), "the.pods.token\n").unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let identity = Identity::from_pem(own.pem(), key.serialize_pem());
        let names = Mutex::new(issues.map(|(node, begin, end)| (node.to_owned(), begin, end)));
        let collector = Arc::new(Collector { issuer, names, asked: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let tls = ServerTlsConfig::new().identity(identity);
        let mut server = Server::builder().tls_config(tls).unwrap();
        let server = server.add_service(EnrollServer::new(Service(Arc::clone(&collector))));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let spool = Spool::open(&dir.path().join("spool"), Limits::default()).unwrap();
        let spool = Arc::new(Mutex::new(spool));
        let recorder = recorder::start(Arc::clone(&spool), "n1".to_owned()).unwrap();
        Self { dir, spool, recorder, collector, url }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Tls {
        let settings = Settings {
            url: self.url.clone(),
            token_file: self.path("token"),
            ca_file: self.path("ca.pem"),
            tls_dir: self.path("tls"),
            node: "n1".to_owned(),
        };
        start(settings, self.recorder.handle())
    }

    /// Puts a certificate where the agent keeps it.
    fn keep(&self, begin: i64, end: i64) {
        let key = KeyPair::generate().unwrap();
        let cert = params("n1", begin, end).signed_by(&key, &self.collector.issuer).unwrap();
        let ca = fs::read_to_string(self.path("ca.pem")).unwrap();
        let key = zeroize::Zeroizing::new(key.serialize_pem());
        Pair::new(ca, cert.pem(), key, "n1").unwrap().keep(&self.path("tls")).unwrap();
    }

    /// Messages of the Coverage records in the spool.
    fn told(&self) -> Vec<String> {
        let mut spool = lock(&self.spool);
        let records = spool.read(1, 1_000, 1 << 20).unwrap().records;
        let message = |bytes: Vec<u8>| match Record::decode(bytes.as_slice()).unwrap().event {
            Some(Recorded::Coverage(coverage)) => Some(coverage.message),
            _ => None,
        };
        records.into_iter().filter_map(message).collect()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("nothing came in time")
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never came true");
        tokio::task::yield_now().await;
    }
}

fn certificate(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("cert.pem")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_on_record_and_is_replaced_when_another_can_be_had() {
    let node = Node::new(Err(Status::unavailable("the API server does not answer"))).await;
    node.keep(-7_200, -3_600);
    let before = certificate(&node.path("tls"));
    let mut tls = node.start();
    until(|| node.told().iter().any(|told| told.contains("has expired"))).await;
    assert!(tls.current().is_ok(), "the collector judges by its own clock");
    assert_eq!(certificate(&node.path("tls")), before);
    *node.collector.names.lock().unwrap() = Ok(("n1".to_owned(), -300, 86_400));
    until(|| certificate(&node.path("tls")) != before).await;
    until(|| node.told().iter().any(|told| told.contains("is valid"))).await;
    assert_eq!(node.told().len(), 2, "each is told once: {:?}", node.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_node_is_not_taken_and_why_is_told() {
    let node = Node::new(Ok(("n2", -300, 86_400))).await;
    let mut tls = node.start();
    soon(tls.changed()).await;
    let Err(why) = tls.current() else { panic!("it is taken") };
    assert!(why.contains("it is for the node `n2`, and this one is `n1`"), "{why}");
    assert_eq!(certificate(&node.path("tls")), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_asks_for_nothing_and_is_on_record() {
    let node = Node::new(Ok(("n1", -300, 86_400))).await;
    let hour = i64::try_from(HOUR.as_secs()).unwrap();
    node.keep(hour, 24 * hour);
    let mut tls = node.start();
    until(|| node.told().iter().any(|told| told.contains("is not valid yet"))).await;
    assert!(tls.current().is_ok());
    // Another clock would not make it count sooner; the collector says if it does not take it.
    assert_eq!(node.collector.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_collector_refuses_is_asked_for_anew() {
    let node = Node::new(Ok(("n1", -300, 86_400))).await;
    node.keep(-300, 86_400);
    let before = certificate(&node.path("tls"));
    let mut tls = node.start();
    assert!(tls.current().is_ok());
    tls.is_refused();
    soon(tls.changed()).await;
    assert!(tls.current().is_ok());
    assert_ne!(certificate(&node.path("tls")), before);
    assert_eq!(node.collector.asked.load(Ordering::SeqCst), 1);
}
