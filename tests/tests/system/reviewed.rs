//! A pod proves itself to a gated database by its ServiceAccount token, which the API server
//! reviews: its own counts, nobody else's does.

use std::{path::Path, process::Command, sync::PoisonError};

use nix::sys::signal::Signal;
use pcigate_tests::{
    apiserver::{Subject, User},
    issuer::Issuer,
    postgres::{PASSWORD, Postgres},
    site::output,
    wait,
};

use crate::{gated, kubernetes::Node};

const REVIEWS: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const AUDIENCE: &str = "cards-db";
const ACCOUNT: &str = "system:serviceaccount:payments:billing-bot";

/// What psql says that runs in a cgroup and brings a password.
fn psql(node: &Node, cgroup: &Path, port: u16, password: &str) -> String {
    let mut command = Command::new("/bin/sh");
    let script = "echo 0 > \"$0/cgroup.procs\" || exit
        exec psql -wXAt -d \"$1\" -c 'SELECT item FROM orders'";
    command.args(["-c", script]).arg(cgroup).arg(gated::place(port));
    command.env("PGSSLMODE", "verify-full").env("PGPASSWORD", password);
    command.env("PGSSLROOTCERT", node.site.path("database.pem"));
    let run = output(&mut command);
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

/// What keeps a pod's network there, as the runtime's own container does.
struct Pause(std::process::Child);

impl Pause {
    fn start(cgroup: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = "echo 0 > \"$0/cgroup.procs\" && exec sleep 1000";
        Self(command.args(["-c", script]).arg(cgroup).spawn().unwrap())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The UID in the path of a pod's container.
fn uid(cgroup: &Path) -> String {
    let slice = cgroup.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let uid = slice.trim_start_matches("kubepods-burstable-pod").trim_end_matches(".slice");
    uid.replace('_', "-")
}

/// Makes a token known to the API server.
fn bind(node: &Node, token: &str, account: &str, uid: &str) {
    let (name, node_name) = (format!("pod-{uid}"), "node-1".to_owned());
    let user = User {
        name: account.to_owned(),
        uid: "account".to_owned(),
        pod: (!uid.is_empty()).then(|| Subject { name, uid: uid.to_owned(), node: node_name }),
        audiences: vec![AUDIENCE.to_owned()],
    };
    node.server.add_user(token, user);
}

/// A node whose database lets in who brings a token that the API server knows.
fn node(postgres: &Postgres) -> Node {
    let mut node = Node::new("reviewed");
    let file = |name: &str, text: &str| {
        node.site.write(name, text);
        node.site.path(name).display().to_string()
    };
    let (certificate, key) = (&postgres.keys.server, &postgres.keys.server_key);
    let (certificate, key) = (file("server.pem", certificate), file("server.key", key));
    file("database.pem", &postgres.keys.authority);
    file("password", &format!("{}\n", PASSWORD));
    let target = format!(
        "  clientTls: {{certFile: {certificate}, keyFile: {key}, required: true}}
  token: {{required: true, audience: {AUDIENCE}, tokenReview: true}}"
    );
    let policy = gated::policy(&node.site, postgres.port(), "", &target);
    node.site.write("policies/billing-bot.yaml", &policy);
    node.site.start_collector();
    node
}

#[test]
fn a_pods_own_token_lets_it_in_and_another_pods_is_refused_and_recorded_as_a_mismatch() {
    let _one = gated::ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = gated::database();
    let node = node(&postgres);
    let agent = node.serve();
    let pod = node.pod();
    let (uid, port, issuer) = (uid(&pod), postgres.port(), Issuer::new());
    let token = |seconds| issuer.token(ACCOUNT, AUDIENCE, seconds);
    let own = token(300);
    bind(&node, &own, ACCOUNT, &uid);
    let ask = |password: &str| psql(&node, &pod, port, password);
    let let_in = || (ask(&own) == "tea\n").then_some(());
    wait::until("the pod to be let in", let_in);
    // An unknown workload may start nothing, so not before.
    let _pause = Pause::start(&pod);
    wait::until("the pod to be let in", let_in);
    let reviews = node.server.count(REVIEWS);
    assert_eq!(ask(&own), "tea\n");
    assert_eq!(node.server.count(REVIEWS), reviews, "what was said holds for a while");

    let (stolen, other, unbound, unknown) = (token(301), token(302), token(303), token(304));
    bind(&node, &stolen, ACCOUNT, "another-pods-uid");
    bind(&node, &other, "system:serviceaccount:payments:other", &uid);
    bind(&node, &unbound, ACCOUNT, "");
    for (password, why) in [
        (&stolen, "the token is of another pod (pod-another-pods-uid) than the one that connects"),
        (&other, "the token is of another ServiceAccount than the pod's"),
        (&unbound, "the token is bound to no pod"),
        (&unknown, "the API server does not authenticate the token"),
    ] {
        let told = ask(password);
        assert!(told.contains("FATAL") && told.contains(why), "{why}: {told}");
        let mismatch = wait::until(why, || {
            let refused = node.site.records(&["--kind", "attempt", "--limit", "1000"]);
            refused.into_iter().find(|record| record.to_string().contains(why))
        });
        assert_eq!(mismatch["outcome"]["result"], "refused", "{mismatch}");
        assert_eq!(mismatch["subject"]["workload"]["pod_uid"], uid.as_str(), "who brought it");
    }
    let reviews = node.server.count(REVIEWS);
    for (password, why) in [
        ("hunter2", "the password is no token"),
        (issuer.token(ACCOUNT, "vault", 300).as_str(), "the token is for another audience"),
    ] {
        let told = ask(password);
        assert!(told.contains("FATAL") && told.contains(why), "{why}: {told}");
    }
    assert_eq!(node.server.count(REVIEWS), reviews, "what is not for us is shown to nobody");

    let later = token(305);
    bind(&node, &later, ACCOUNT, &uid);
    node.server.forbid("admin", "create", "tokenreviews");
    let told = ask(&later);
    assert!(told.contains("`create` on tokenreviews"), "{told}");
    node.server.set_away(true);
    let told = ask(&later);
    assert!(told.contains("the API server does not answer"), "{told}");
    agent.end(Signal::SIGTERM);

    let sessions = node.site.records(&["--kind", "session", "--limit", "1000"]);
    let began = sessions.iter().filter(|one| one["session"]["phase"] == "started");
    let subjects: Vec<_> = began.map(|one| one["session"]["token_subject"].as_str()).collect();
    assert!(subjects.len() >= 2 && subjects.iter().all(|of| *of == Some(ACCOUNT)), "{subjects:?}");
    assert!(sessions.iter().any(|one| one["session"]["token_issuer"] == "TokenReview"));
    for secret in [&own, &stolen, &other, &unknown] {
        let signature = secret.rsplit('.').next().unwrap();
        assert_eq!(node.site.files_holding(signature), [] as [std::path::PathBuf; 0]);
    }
}
