//! Secrets of Targets against the API server of the tests: read by name, exchanged, taken away.

use std::time::Duration;

use pcigate_agent::kubernetes::{Connection, secrets::Secrets};
use pcigate_policy::document::{Document, ObjectName, SecretKey, Target};
use pcigate_tests::{
    apiserver::{ApiServer, User},
    wait,
};
use serde_json::json;
use tempfile::TempDir;

const COLLECTION: &str = "/api/v1/namespaces/payments/secrets";
const AGENT: &str = "system:serviceaccount:pcigate:agent";

struct Cluster {
    server: ApiServer,
    runtime: tokio::runtime::Runtime,
    secrets: Secrets,
    target: Target,
    _directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::start();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "payments"}});
        server.put("/api/v1/namespaces", namespace);
        let user = User { name: AGENT.to_owned(), ..User::default() };
        server.add_user("token-of-agent", user);
        for verb in ["list", "watch"] {
            server.forbid(AGENT, verb, "secrets");
        }
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = server.kubeconfig(directory.path(), "token-of-agent");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let secrets = runtime.block_on(async {
            let connection = Connection::open(Some(&kubeconfig)).await.unwrap();
            Secrets::follow(&connection, Duration::from_millis(50))
        });
        Self { server, runtime, secrets, target: target(), _directory: directory }
    }

    /// `cGFzcw==` is `pass`.
    fn put(&self, base64: &str) {
        let data = json!({"password": base64, "unasked": "c2VjcmV0"});
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
                            "metadata": {"name": "db"}, "data": data});
        self.server.put(COLLECTION, secret);
    }

    fn change(&self, base64: &str) {
        let change = json!({"data": {"password": base64}});
        self.server.change(&format!("{COLLECTION}/db"), &change);
    }

    fn value(&self, key: &str) -> Result<Vec<u8>, String> {
        let key = SecretKey { name: "db".to_owned(), key: key.to_owned() };
        let value = self.secrets.value("payments", &key);
        value.map(|value| value.to_vec()).map_err(|error| error.to_string())
    }

    fn ready(&self) {
        self.runtime.block_on(self.secrets.ready(&self.target));
    }

    fn until(&self, what: &str, is: impl Fn(&Result<Vec<u8>, String>) -> bool) {
        wait::until(what, || is(&self.value("password")).then_some(()));
    }
}

fn target() -> Target {
    let spec = json!({"protocol": "postgres", "endpoints": [{"cidr": "10.0.0.5/32", "port": 1}],
                      "upstream": {"address": "db:1", "tls": {"mode": "require"}},
                      "credential": {"username": "u",
                                     "secretRef": {"name": "db", "key": "password"}}});
    let name = ObjectName { namespace: "payments".to_owned(), name: "db".to_owned() };
    let Document::Target(target) = Document::of_resource("Target", &name, &spec).unwrap() else {
        panic!("no Target")
    };
    Target::clone(&target)
}

#[test]
fn a_value_is_read_by_name_and_its_exchange_is_seen() {
    let cluster = Cluster::new();
    cluster.put("cGFzcw==");
    assert!(cluster.value("password").unwrap_err().contains("has not answered yet"));
    cluster.ready();
    assert_eq!(cluster.value("password").unwrap(), b"pass");
    assert!(cluster.value("unasked").unwrap_err().contains("has no key `unasked`"));
    cluster.change("b3RoZXI=");
    cluster.until("the other password", |value| value.as_deref() == Ok(b"other"));
    assert_eq!(cluster.server.count("GET /api/v1/secrets"), 0, "never all of them");
    assert_eq!(cluster.server.count(&format!("GET {COLLECTION}")), 0);
    assert!(cluster.secrets.troubles().is_empty());
}

#[test]
fn what_is_taken_away_is_gone_and_an_outage_takes_nothing_away() {
    let cluster = Cluster::new();
    cluster.ready();
    let said = cluster.value("password").unwrap_err();
    assert!(said.contains("Secret payments/db is not known") && said.contains("404"), "{said}");
    assert_eq!(cluster.secrets.troubles()[0].0, "payments/db");
    cluster.put("cGFzcw==");
    cluster.until("the Secret", Result::is_ok);
    let asked = || cluster.server.count(&format!("GET {COLLECTION}/db"));
    cluster.server.fail(3, 500);
    let before = asked();
    wait::until("requests that fail", || (asked() >= before + 4).then_some(()));
    assert_eq!(cluster.value("password").unwrap(), b"pass");
    cluster.server.set_away(true);
    assert_eq!(cluster.value("password").unwrap(), b"pass");
    cluster.server.set_away(false);
    cluster.server.forbid(AGENT, "get", "secrets");
    cluster.until("the refusal", Result::is_err);
    assert!(cluster.value("password").unwrap_err().contains("403"));
}

#[test]
fn what_no_target_names_any_more_is_forgotten() {
    let cluster = Cluster::new();
    cluster.put("cGFzcw==");
    cluster.secrets.want([&cluster.target]);
    cluster.until("the Secret", Result::is_ok);
    cluster.secrets.want([]);
    assert!(cluster.value("password").is_err());
    let none = Secrets::none();
    cluster.runtime.block_on(none.ready(&cluster.target));
    let key = SecretKey { name: "db".to_owned(), key: "password".to_owned() };
    assert!(none.value("payments", &key).unwrap_err().to_string().contains("asks no API server"));
}
