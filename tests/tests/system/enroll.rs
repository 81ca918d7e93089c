//! Certificates of nodes by enrolment: a collector that asks an API server whose a token is, agents
//! that come with theirs, and everybody else.

use std::{fs, path::Path};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::cgroup;
use pcigate_proto::{EnrollRequest, QueryRequest, enroll_client, evidence_client, tls};
use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, Subject, User},
    site::{Mounted, Running, Site, start},
    wait,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

const AUDIENCE: &str = "pcigate-collector";
const ACCOUNT: &str = "system:serviceaccount:pcigate:agent";

/// A collector that enrols, and the API server it asks.
struct Gate {
    site: Site,
    server: ApiServer,
    runtime: tokio::runtime::Runtime,
}

impl Gate {
    fn new() -> Self {
        let (mut site, server) = (Site::new(), ApiServer::start());
        let kubeconfig = server.kubeconfig(&site.path(""), ADMIN);
        site.configure(&format!(
            "enroll: {{listen: \"127.0.0.1:0\", serviceAccount: pcigate/agent, kubeconfig: {}}}\n",
            kubeconfig.display()
        ));
        site.start_collector();
        Self { site, server, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    /// A token of an agent's pod on a node.
    fn token(&self, token: &str, node: &str) {
        self.user(token, |user| {
            user.pod = Some(Subject {
                name: format!("agent-on-{node}"),
                uid: format!("uid-on-{node}"),
                node: node.to_owned(),
            });
        });
    }

    fn user(&self, token: &str, change: impl FnOnce(&mut User)) {
        let mut user = User {
            name: ACCOUNT.to_owned(),
            uid: "account".to_owned(),
            pod: None,
            audiences: vec![AUDIENCE.to_owned()],
        };
        change(&mut user);
        self.server.add_user(token, user);
    }

    async fn connect(&self, address: &str, identity: Option<Identity>) -> Result<Channel, String> {
        let ca = Certificate::from_pem(tls::read(&self.site.path("tls/node"), "ca.pem").unwrap());
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap();
        endpoint.connect().await.map_err(|error| error.to_string())
    }

    /// Asks for a certificate with a request and a token.
    fn ask(&self, csr: Vec<u8>, token: &str) -> Result<Vec<u8>, Status> {
        self.runtime.block_on(async {
            let channel = self.connect(self.site.enroll(), None).await.unwrap();
            let request = EnrollRequest { csr, token: token.to_owned() };
            let answer = enroll_client::EnrollClient::new(channel).enroll(request).await;
            answer.map(|answer| answer.into_inner().certificate)
        })
    }

    /// What the Evidence service says to a client with this certificate.
    fn query(&self, cert: &str, key: &str) -> Result<(), String> {
        self.runtime.block_on(async {
            let address = self.site.url().replace("https://", "");
            let channel = self.connect(&address, Some(Identity::from_pem(cert, key))).await?;
            let mut client = evidence_client::EvidenceClient::new(channel);
            let answer = client.query(QueryRequest::default()).await;
            answer.map(drop).map_err(|status| format!("{:?} {}", status.code(), status.message()))
        })
    }

    /// The enrolments on record, as (result, event).
    fn enrollments(&self) -> Vec<(String, Value)> {
        let records = self.site.records(&["--kind", "enrollment", "--limit", "1000"]);
        let told = |record: Value| {
            let result = record.pointer("/outcome/result").unwrap().as_str().unwrap().to_owned();
            (result, record["enrollment"].clone())
        };
        records.into_iter().map(told).collect()
    }
}

fn request(key: &KeyPair, names: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_certificate_is_for_the_node_of_the_pod_whatever_is_asked_for_and_may_only_ingest() {
    let gate = Gate::new();
    gate.token("token-of-node-1", "node-1");
    let key = KeyPair::generate().unwrap();
    let greedy = ["spiffe://pcigate/person/eve", "spiffe://pcigate/node/node-2"];
    let der = gate.ask(request(&key, &greedy), "token-of-node-1").unwrap();
    let dir = gate.site.path("tls/enrolled");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("cert.pem"), pem(&der)).unwrap();
    assert_eq!(pcigate_agent::exporter::node_name_of(&dir).unwrap(), "node-1");
    let refused = gate.query(&pem(&der), &key.serialize_pem()).unwrap_err();
    assert!(refused.contains("only a person's certificate may read evidence"), "{refused}");
    let told = gate.enrollments();
    let [(result, event)] = told.as_slice() else { panic!("{told:?}") };
    let text = |field: &str| event[field].as_str().unwrap().to_owned();
    assert_eq!(result, "success");
    assert_eq!([text("node"), text("pod")], ["node-1", "agent-on-node-1"]);
    assert_eq!([text("service_account"), text("namespace")], ["agent", "pcigate"]);
    assert_eq!(text("pod_uid"), "uid-on-node-1");
    assert!(!text("serial").is_empty() && !text("certificate_sha256").is_empty(), "{event}");
    // The node is the one of the token, not of who brings it or what was asked.
    gate.token("token-of-node-2", "node-2");
    let der = gate.ask(request(&key, &["spiffe://pcigate/node/node-1"]), "token-of-node-2");
    fs::write(dir.join("cert.pem"), pem(&der.unwrap())).unwrap();
    assert_eq!(pcigate_agent::exporter::node_name_of(&dir).unwrap(), "node-2");
    for token in ["token-of-node-1", "token-of-node-2"] {
        assert_eq!(gate.site.files_holding(token), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn a_token_that_is_not_a_living_agents_gets_nothing_and_the_refusal_is_on_record() {
    let gate = Gate::new();
    let key = KeyPair::generate().unwrap();
    let csr = || request(&key, &[]);
    let pod = || {
        let (name, uid) = ("pod".to_owned(), "uid".to_owned());
        Some(Subject { name, uid, node: "node-1".to_owned() })
    };
    gate.user("other-audience", |user| {
        (user.pod, user.audiences) = (pod(), vec!["vault".to_owned()]);
    });
    gate.user("api-server", |user| (user.pod, user.audiences) = (pod(), Vec::new()));
    gate.user("other-account", |user| {
        (user.pod, user.name) = (pod(), "system:serviceaccount:payments:agent".to_owned());
    });
    gate.user("unbound", |_| {});
    gate.user("hostile-node", |user| {
        user.pod = pod().map(|pod| Subject { node: "x/../../person/eve".to_owned(), ..pod });
    });
    gate.token("expired", "node-1");
    gate.ask(csr(), "expired").unwrap();
    gate.server.remove_user("expired");
    let mut forged = csr();
    *forged.last_mut().unwrap() ^= 1;
    gate.token("good", "node-1");
    for (csr, token, why) in [
        (csr(), "other-audience", "does not authenticate"),
        (csr(), "api-server", "does not authenticate"),
        (csr(), "other-account", "not of the agents' ServiceAccount"),
        (csr(), "unbound", "bound to no pod"),
        (csr(), "hostile-node", "names no node"),
        (csr(), "expired", "does not authenticate"),
        (csr(), "nobody", "does not authenticate"),
        (csr(), "", "has no token"),
        (forged, "good", "no PKCS#10 request signed by the key"),
        (Vec::new(), "good", "no PKCS#10 request"),
    ] {
        let refused = gate.ask(csr, token).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{token}: {refused}");
        assert!(refused.message().contains(why), "{token}: {refused}");
        let told = gate.enrollments();
        let (result, event) = told.last().unwrap();
        assert_eq!(result, "refused", "{token}");
        assert!(event["reason"].as_str().unwrap().contains(why), "{token}: {event}");
        assert_eq!(event["serial"], "", "{token}");
    }
    let told = gate.enrollments();
    assert_eq!(told.len(), 11);
    let of_other = told.iter().find(|(_, event)| event["namespace"] == "payments");
    assert!(of_other.is_some(), "whose the token was is on record: {told:?}");
    for token in ["other-audience", "other-account", "hostile-node"] {
        assert_eq!(gate.site.files_holding(token), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn while_the_api_server_cannot_say_whose_a_token_is_nobody_gets_a_certificate() {
    let gate = Gate::new();
    gate.token("token", "node-1");
    let key = KeyPair::generate().unwrap();
    gate.server.set_away(true);
    let later = gate.ask(request(&key, &[]), "token").unwrap_err();
    assert_eq!(later.code(), Code::Unavailable, "{later}");
    gate.server.set_away(false);
    gate.server.fail(1, 500);
    let later = gate.ask(request(&key, &[]), "token").unwrap_err();
    assert_eq!(later.code(), Code::Unavailable, "{later}");
    gate.ask(request(&key, &[]), "token").unwrap();
    gate.server.forbid("admin", "create", "tokenreviews");
    let later = gate.ask(request(&key, &[]), "token").unwrap_err();
    assert!(later.message().contains("system:auth-delegator"), "{later}");
    let told = gate.enrollments();
    let failed = told.iter().filter(|(result, _)| result == "failed");
    assert_eq!(failed.count(), 1, "one record a minute stands for all: {told:?}");
}

#[test]
fn one_who_asks_all_the_time_is_turned_away_and_counted() {
    let gate = Gate::new();
    gate.token("token", "node-1");
    let key = KeyPair::generate().unwrap();
    let answers: Vec<_> = (0..40).map(|_| gate.ask(request(&key, &[]), "token")).collect();
    let issued = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(issued, 12, "certificates of one node in an hour");
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    assert_eq!(gate.server.count("POST /apis/authentication.k8s.io/v1/tokenreviews"), 30);
    let (_, metrics) = gate.site.web("/metrics");
    for line in ["{result=\"issued\"} 12", "{result=\"turned_away\"} 28"] {
        assert!(metrics.contains(&format!("enrollments_total{line}")), "{line}\n{metrics}");
    }
}

#[test]
fn who_steals_the_key_of_enrolment_can_be_a_node_and_no_person() {
    let gate = Gate::new();
    let read = |file: &str| fs::read_to_string(gate.site.path("enroll").join(file)).unwrap();
    let mode = |file: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(gate.site.path(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("enroll"), mode("enroll/ca-key.pem")), (0o700, 0o600));
    let stolen = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), stolen).unwrap();
    let key = KeyPair::generate().unwrap();
    let forge = |name: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&key, &issuer).unwrap().pem()
    };
    let of_node = gate.query(&forge("spiffe://pcigate/node/node-1"), &key.serialize_pem());
    assert!(of_node.unwrap_err().contains("only a person's certificate"));
    let of_person = gate.query(&forge("spiffe://pcigate/person/eve"), &key.serialize_pem());
    let of_person = of_person.unwrap_err();
    assert!(!of_person.contains("PermissionDenied"), "no handshake: {of_person}");
    // One of the authority of people, by the same way.
    let read = |file| String::from_utf8(tls::read(&gate.site.path("tls/person"), file).unwrap());
    gate.query(&read("cert.pem").unwrap(), &read("key.pem").unwrap()).unwrap();
}

#[test]
fn without_a_certificate_there_is_enrolment_and_nothing_else() {
    let gate = Gate::new();
    gate.token("token", "node-1");
    let evidence = gate.runtime.block_on(async {
        let channel = gate.connect(gate.site.enroll(), None).await.unwrap();
        let mut client = evidence_client::EvidenceClient::new(channel);
        client.query(QueryRequest::default()).await.unwrap_err()
    });
    assert_eq!(evidence.code(), Code::Unimplemented, "{evidence}");
    let main = gate.site.url().replace("https://", "");
    let refused = gate.runtime.block_on(async {
        let channel = gate.connect(&main, None).await?;
        let csr = request(&KeyPair::generate().unwrap(), &[]);
        let request = EnrollRequest { csr, token: "token".to_owned() };
        let answer = enroll_client::EnrollClient::new(channel).enroll(request).await;
        answer.map(drop).map_err(|status| status.to_string())
    });
    let refused = refused.unwrap_err();
    assert!(!refused.contains("Unimplemented"), "it came through the handshake: {refused}");
    assert!(gate.enrollments().is_empty());
}

/// A node whose agent has no certificate.
struct Node {
    gate: Gate,
    root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    fn new(name: &str) -> Self {
        let gate = Gate::new();
        let root = cgroup::create(&format!("enroll-{name}-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &gate.site.path("bpffs"), "", MsFlags::empty());
        fs::create_dir_all(gate.site.path("policies")).unwrap();
        fs::copy(gate.site.path("policy.yaml"), gate.site.path("policies/p.yaml")).unwrap();
        gate.site.write("pods.yaml", &Site::pod_list());
        gate.site.write("token", "token-of-node-1\n");
        gate.token("token-of-node-1", "node-1");
        Self { gate, root, _bpffs: bpffs }
    }

    fn serve(&self) -> Running {
        let site = &self.gate.site;
        let at = |name: &str| site.path(name).display().to_string();
        site.write(
            "agent.yaml",
            &format!(
                "nodeName: node-1\ncgroupRoot: {}\nstateDir: {}\npolicies: [{}]\n\
                 workloads: {{source: file, file: {}}}\n\
                 collector:\n  url: \"{}\"\n  tlsDir: {}\n  enroll: {{url: \"https://{}\", \
                 tokenFile: {}, caFile: {}}}\n",
                self.root.cgroup.path.display(),
                at("agent"),
                at("policies"),
                at("pods.yaml"),
                site.url(),
                at("agent/tls"),
                site.enroll(),
                at("token"),
                at("tls/node/ca.pem"),
            ),
        );
        let mut agent = site.command("pcigate-agent");
        agent.args(["serve", "--config", "agent.yaml"]).arg("--bpffs").arg(site.path("bpffs"));
        let (running, line) = start(&mut agent);
        assert!(line.starts_with("pcigate-agent ready: governing "), "{line}");
        running
    }

    /// Refused execs in an unknown cgroup, one record each or more.
    fn load(&self, times: usize) {
        let stranger = self.root.cgroup.path.join("stranger");
        fs::create_dir_all(&stranger).unwrap();
        for _ in 0..times {
            let mut probe = std::process::Command::new(pcigate_tests::program("pcigate-probe"));
            probe.arg("--cgroup").arg(&stranger).arg("tcp:127.0.0.1:9");
            probe.output().unwrap();
        }
    }

    /// The numbers of this node's records at the collector.
    fn numbers(&self) -> Vec<u64> {
        let node = ["--node", "node-1", "--limit", "1000000"];
        let records = self.gate.site.records(&node);
        let of_node = records.iter().filter(|record| record["origin"]["node"] == "node-1");
        let mut numbers: Vec<u64> =
            of_node.map(|record| record["origin"]["seq"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn certificate(&self) -> Vec<u8> {
        let path = self.gate.site.path("agent/tls/cert.pem");
        let pem = fs::read(&path).unwrap_or_default();
        CertificateDer::from_pem_slice(&pem).map(|der| der.to_vec()).unwrap_or_default()
    }
}

fn is_whole(numbers: &[u64]) -> bool {
    numbers.iter().copied().eq(1..=numbers.last().copied().unwrap_or_default())
}

#[test]
fn an_agent_without_a_certificate_enrols_and_its_records_arrive() {
    let node = Node::new("first");
    node.gate.server.set_away(true);
    let agent = node.serve();
    node.load(3);
    assert!(node.numbers().is_empty(), "it enforces and keeps its records meanwhile");
    node.gate.server.set_away(false);
    wait::until("records of the enrolled node", || (node.numbers().len() > 3).then_some(()));
    let first = node.certificate();
    agent.end(Signal::SIGTERM);
    // What it has is used by the next, which asks for nothing.
    node.gate.server.set_away(true);
    let before = node.numbers().len();
    let agent = node.serve();
    wait::until("records by the kept certificate", || {
        (node.numbers().len() > before).then_some(())
    });
    assert_eq!(node.certificate(), first);
    agent.end(Signal::SIGTERM);
    assert!(is_whole(&node.numbers()));
    let key = node.gate.site.path("agent/tls/key.pem");
    assert!(fs::metadata(&key).unwrap().len() > 0 && mode(&key) == 0o600);
    assert!(node.gate.site.files_holding("token-of-node-1") == [node.gate.site.path("token")]);
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_whose_certificate_counts_no_longer_gets_another_and_loses_no_record() {
    let mut node = Node::new("rotation");
    let agent = node.serve();
    node.load(3);
    wait::until("records", || (node.numbers().len() > 3).then_some(()));
    let before = node.certificate();
    // The authority of enrolment is lost, and with it all that it has issued.
    node.gate.site.stop_collector(Signal::SIGTERM);
    fs::remove_dir_all(node.gate.site.path("enroll")).unwrap();
    let listen = node.gate.site.enroll().to_owned();
    let kubeconfig = node.gate.site.path("kubeconfig");
    node.gate.site.configure(&format!(
        "enroll: {{listen: \"{listen}\", serviceAccount: pcigate/agent, kubeconfig: {}}}\n",
        kubeconfig.display()
    ));
    node.load(3);
    node.gate.site.start_collector();
    let sent = node.numbers().len();
    wait::until("another certificate", || {
        node.load(1);
        (node.certificate() != before).then_some(())
    });
    wait::until("records by it", || (node.numbers().len() > sent + 3).then_some(()));
    agent.end(Signal::SIGTERM);
    let numbers = node.numbers();
    assert!(is_whole(&numbers), "{numbers:?}");
    assert_eq!(node.gate.site.records(&["--kind", "gap"]), [] as [Value; 0]);
    let told = node.gate.enrollments();
    assert_eq!(told.iter().filter(|(result, _)| result == "success").count(), 2, "{told:?}");
}
