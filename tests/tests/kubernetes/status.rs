//! What agents tell of documents at the API server, several at once, also when it fails.

use std::time::Duration;

use pcigate_agent::kubernetes::{
    Connection,
    status::{DocumentState, NodeState, Pace, State, Telling},
};
use pcigate_policy::yaml;
use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, Gone},
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const POLICIES: &str = "/apis/pcigate.dev/v1alpha1/namespaces/payments/agentpolicies";
const COVERAGE: &str = "/apis/pcigate.dev/v1alpha1/nodecoverages";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/pcigate-status";
const PACE: Pace = Pace {
    settle: Duration::from_millis(10),
    heartbeat: Duration::from_secs(60),
    renew: Duration::from_millis(100),
    look: Duration::from_millis(100),
    round: Duration::from_millis(50),
};

const AGENT_POLICIES: &str = include_str!("../../../deploy/crds/agentpolicies.yaml");
const NODES: &str = include_str!("../../../deploy/crds/nodecoverages.yaml");

struct Cluster {
    server: ApiServer,
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    _directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::start();
        for file in [AGENT_POLICIES, NODES] {
            let crd = yaml::read_one("crd", file).unwrap().to_json();
            server.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd);
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "payments"}});
        server.put("/api/v1/namespaces", namespace);
        server.put(
            POLICIES,
            json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": "bot"}, "spec": {"selector": {}}}),
        );
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = server.kubeconfig(directory.path(), ADMIN);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let connection = runtime.block_on(Connection::open(Some(&kubeconfig))).unwrap();
        Self { server, runtime, connection, _directory: directory }
    }

    fn node(&self, name: &str, state: State) -> Telling {
        let _inside = self.runtime.enter();
        let telling = Telling::begin(&self.connection, name, PACE);
        telling.tell(says(state, 1));
        telling
    }

    fn get(&self, path: &str) -> Value {
        self.server.object(path).unwrap_or_default()
    }

    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || {
            let status = self.get(&format!("{POLICIES}/bot"))["status"].clone();
            is(&status).then_some(status)
        })
    }

    fn leader(&self) -> String {
        let holder = &self.get(LEASE)["spec"]["holderIdentity"];
        holder.as_str().unwrap_or_default().to_owned()
    }
}

fn says(state: State, generation: i64) -> NodeState {
    let reason = if state == State::Enforced { "" } else { "a reason" };
    let bot = DocumentState {
        kind: "AgentPolicy",
        namespace: "payments".to_owned(),
        name: "bot".to_owned(),
        generation,
        hash: "0123456789abcdef".to_owned(),
        state,
        reason: reason.to_owned(),
        workloads: 3,
    };
    let missing = vec![("unix-sockets".to_owned(), "no BPF-LSM".to_owned())];
    NodeState { missing, documents: vec![bot] }
}

/// The schema of a kind's status.
fn schema(file: &str) -> Value {
    let crd = yaml::read_one("crd", file).unwrap().to_json();
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    crd.pointer(at).unwrap().clone()
}

/// An API server leaves out fields that the schema lacks, and refuses what does not agree with it.
fn agrees(schema: &Value, value: &Value, path: &str) {
    let most = |bound: &str| schema[bound].as_u64().unwrap_or(u64::MAX);
    let right = match (schema["type"].as_str().unwrap(), value) {
        ("object", Value::Object(fields)) => {
            for (name, value) in fields {
                agrees(&schema["properties"][name], value, &format!("{path}.{name}"));
            }
            let mut required = schema["required"].as_array().into_iter().flatten();
            required.all(|name| fields.contains_key(name.as_str().unwrap()))
        }
        ("array", Value::Array(items)) => {
            items.iter().for_each(|item| agrees(&schema["items"], item, &format!("{path}[]")));
            items.len() as u64 <= most("maxItems")
        }
        ("string", Value::String(text)) => {
            let words = schema["enum"].as_array();
            let length = text.chars().count() as u64;
            words.is_none_or(|words| words.contains(value))
                && length <= most("maxLength")
                && length >= schema["minLength"].as_u64().unwrap_or(0)
        }
        ("integer", Value::Number(number)) => number.as_i64().is_some_and(|number| number >= 0),
        _ => false,
    };
    assert!(right, "{path}: {value}");
}

#[test]
fn each_node_writes_its_own_object_and_one_of_them_sums() {
    let cluster = Cluster::new();
    let nodes = [
        cluster.node("node-1", State::Enforced),
        cluster.node("node-2", State::Enforced),
        cluster.node("node-3", State::NotEnforceable),
    ];
    let status = cluster.until("the sum", |status| {
        status["nodes"] == json!({"enforced": 2, "audited": 0, "notEnforceable": 1, "rejected": 0})
    });
    assert_eq!((&status["workloads"], &status["observedGeneration"]), (&json!(9), &json!(1)));
    assert_eq!(
        status["details"],
        json!([
        {"node": "node-3", "state": "notEnforceable", "reason": "a reason"}])
    );
    let own = cluster.get(&format!("{COVERAGE}/node-3"));
    agrees(&schema(NODES), &own["status"], "NodeCoverage");
    agrees(&schema(AGENT_POLICIES), &status, "AgentPolicy");
    assert_eq!(own["status"]["missing"][0]["name"], "unix-sockets");
    assert_eq!(own["status"]["documents"][0]["state"], "notEnforceable");
    nodes[2].tell(says(State::Enforced, 1));
    let status = cluster.until("all of them", |status| status["nodes"]["enforced"] == 3);
    let enforced = &status["conditions"][1];
    assert_eq!((&enforced["type"], &enforced["status"]), (&json!("Enforced"), &json!("True")));
    // Nothing changes, so nothing is written.
    let path = format!("PATCH {POLICIES}/bot/status");
    let (before, lease) = (cluster.server.count(&path), cluster.get(LEASE));
    wait::until("two renewals", || {
        (cluster.get(LEASE)["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"])
            .then_some(())
    });
    assert_eq!(cluster.server.count(&path), before);
}

#[test]
fn when_the_leader_is_gone_another_sums() {
    let cluster = Cluster::new();
    let mut nodes: Vec<(String, Telling)> = ["node-1", "node-2"]
        .map(|name| (name.to_owned(), cluster.node(name, State::Enforced)))
        .into();
    cluster.until("the sum", |status| status["nodes"]["enforced"] == 2);
    let leader = cluster.leader();
    nodes.retain(|(name, _)| *name != leader);
    assert_eq!(nodes.len(), 1);
    wait::until("another leader", || (cluster.leader() == nodes[0].0).then_some(()));
    nodes[0].1.tell(says(State::Audited, 1));
    cluster.until("its sum", |status| status["nodes"]["audited"] == 1);
}

#[test]
fn conflicts_throttling_errors_and_an_outage_delay_the_status_and_nothing_else() {
    let cluster = Cluster::new();
    let node = cluster.node("node-1", State::Enforced);
    cluster.until("the sum", |status| status["nodes"]["enforced"] == 1);
    cluster.server.throttle(5, 0);
    node.tell(says(State::Audited, 1));
    cluster.until("the sum after 429", |status| status["nodes"]["audited"] == 1);
    cluster.server.fail(5, 409);
    node.tell(says(State::Rejected, 1));
    let status = cluster.until("the sum after 409", |status| status["nodes"]["rejected"] == 1);
    let accepted = &status["conditions"][0];
    assert_eq!((&accepted["type"], &accepted["status"]), (&json!("Accepted"), &json!("False")));
    cluster.server.set_away(true);
    node.tell(says(State::Enforced, 2));
    cluster.server.set_away(false);
    cluster.server.compact(Gone::InStream);
    cluster.server.change(&format!("{POLICIES}/bot"), &json!({"spec": {"mode": "audit"}}));
    cluster.until("the sum of the new version", |status| {
        status["observedGeneration"] == 2 && status["nodes"]["enforced"] == 1
    });
    // Somebody deletes the node's object; it is made anew with the next change.
    cluster.server.remove(&format!("{COVERAGE}/node-1"));
    cluster.until("none", |status| status["nodes"]["enforced"] == 0);
    node.tell(says(State::Audited, 2));
    cluster.until("the sum of one made anew", |status| status["nodes"]["audited"] == 1);
}
