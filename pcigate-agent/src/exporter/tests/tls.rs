//! What is wrong with certificates is told apart, because the remedies differ.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A TLS directory with a certificate for these names.
fn tls_dir(ca: &Ca, trusted: &Ca, names: &[SanType]) -> TempDir {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names.to_vec();
    let certificate = params.signed_by(&key, ca).unwrap();
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("ca.pem"), trusted.pem()).unwrap();
    std::fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    dir
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// The kind of trouble an agent with this TLS directory has with a collector called `name`.
async fn trouble_with(server_ca: &Ca, name: &str, agent_tls: &Path) -> Kind {
    let server_dir = tls_dir(server_ca, server_ca, &[dns(name)]);
    let read = |file| std::fs::read(server_dir.path().join(file)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("cert.pem"), read("key.pem")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = collector::Collector::start(Scenario::AcksAll).await;
    let service = pcigate_proto::ingest_server::IngestServer::new(inner);
    let server = Server::builder().tls_config(tls).unwrap().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let agent = Agent::new();
    let tls = Some(Tls::fixed(pcigate_proto::tls::client(agent_tls).unwrap()));
    let url = format!("https://localhost:{port}");
    let settings = Settings { url, tls, witness_dir: agent.witness_dir(), backoff: QUICK };
    let shared = Arc::new(Shared {
        witness: Mutex::new(Witness::load(&settings.witness_dir).unwrap()),
        settings,
        spool: Arc::clone(&agent.spool),
        recorder: agent.recorder.handle(),
        counters: Mutex::default(),
        acked: watch::channel(0).0,
        failures: Mutex::default(),
    });
    let mut tls = shared.settings.tls.clone();
    tokio::select! {
        trouble = session::run(&shared, &mut tls) => trouble.kind(),
        () = until(|| lock(&shared.counters).connected) => panic!("it connected"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_are_told_apart() {
    let (ca, stranger) = (ca(), ca());
    let node = [uri("spiffe://pcigate/node/n1")];
    let good = tls_dir(&ca, &ca, &node);
    assert_eq!(trouble_with(&ca, "other.example", good.path()).await, Kind::ServerName);
    let trusts_another = tls_dir(&ca, &stranger, &node);
    let kind = trouble_with(&ca, "localhost", trusts_another.path()).await;
    assert_eq!(kind, Kind::ServerCertificate);
    let of_another = tls_dir(&stranger, &ca, &node);
    assert_eq!(trouble_with(&ca, "localhost", of_another.path()).await, Kind::ClientCertificate);
}

#[test]
fn the_name_of_the_node_comes_from_its_certificate() {
    let ca = ca();
    let name = |names: &[SanType]| node_name_of(tls_dir(&ca, &ca, names).path());
    assert_eq!(name(&[uri("spiffe://pcigate/node/n1"), dns("n1")]).unwrap(), "n1");
    for (names, found) in [
        (vec![], "it has none"),
        (vec![uri("spiffe://pcigate/person/ana")], "it has `spiffe://pcigate/person/ana`"),
        (vec![uri("spiffe://p/node/a"), uri("spiffe://p/node/b")], "it has 2"),
    ] {
        let error = name(&names).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
}

#[test]
fn a_tls_directory_without_a_certificate_is_named() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(node_name_of(dir.path()), Err(IdentityError::Dir { .. })));
    std::fs::write(dir.path().join("cert.pem"), "nonsense").unwrap();
    let error = node_name_of(dir.path()).unwrap_err().to_string();
    assert!(error.contains("cert.pem does not hold a PEM certificate"), "{error}");
}

/// A collector over mTLS, and the directory of a node that it believes.
async fn over_tls(ca: &Ca, scenario: Scenario) -> (String, collector::Collector) {
    let server_dir = tls_dir(ca, ca, &[dns("localhost")]);
    let read = |file| std::fs::read(server_dir.path().join(file)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("cert.pem"), read("key.pem")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = collector::Collector::start(scenario).await;
    let service = pcigate_proto::ingest_server::IngestServer::new(inner.clone());
    let server = Server::builder().tls_config(tls).unwrap().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (format!("https://localhost:{port}"), inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_at_once_and_no_record_is_lost_or_sent_twice() {
    let ca = ca();
    let (url, collector) = over_tls(&ca, Scenario::AcksAll).await;
    let certificate = || {
        let dir = tls_dir(&ca, &ca, &[uri("spiffe://pcigate/node/n1")]);
        pcigate_proto::tls::client(dir.path()).unwrap()
    };
    let agent = Agent::new();
    let (tell, current) = watch::channel(Err("it is being asked for".to_owned()));
    let tls = Some(Tls::renewed(current, Arc::default(), tokio::task::JoinSet::new()));
    let settings = Settings { url, tls, witness_dir: agent.witness_dir(), backoff: QUICK };
    let exporter = start(settings, Arc::clone(&agent.spool), agent.recorder.handle()).unwrap();
    agent.record(500);
    until(|| exporter.counters().trouble.is_some_and(|why| why.contains("no certificate"))).await;
    drop(tell.send_replace(Ok(certificate())));
    until(|| exporter.counters().acked_seq >= 500).await;
    let connects = exporter.counters().connects;
    for renewed in 1..=3 {
        agent.record(2_000);
        drop(tell.send_replace(Ok(certificate())));
        until(|| exporter.counters().connects == connects + renewed).await;
    }
    agent.record(500);
    exporter.drain(DEADLINE).await.unwrap();
    let last = lock(&agent.spool).durable_seq();
    assert!(collector.records().keys().copied().eq(1..=last));
    assert_eq!(exporter.counters().sent_records, last, "each was sent once");
}
