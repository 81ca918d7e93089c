//! The three agents of `deploy/examples` as commands of `pcigate-agent exec`: what each is refused,
//! and what it is let do. Addresses and places are this machine's; the rules are the files' own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::PoisonError,
};

use pcigate_tests::{
    postgres::{DATABASE, PASSWORD, SCRAM},
    site::{Site, output, succeed},
};

use crate::gated::{ONE, database};

/// What the examples say of the API server.
const API: &str = "to: [{cidr: 10.96.0.1/32}]\n        ports: [{port: 443}]";

/// An example's policy with some of its text replaced, each of which must be there.
fn example(site: &Site, name: &str, changes: &[(&str, &str)]) {
    let path = format!("{}/../deploy/examples/{name}/policy.yaml", env!("CARGO_MANIFEST_DIR"));
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} does not say `{from}` any more");
        text = text.replace(from, to);
    }
    site.write("policy.yaml", &text);
}

/// A command as the agent of an example, sending to the site's collector.
fn exec(site: &Site, namespace: &str, name: &str, command: &[&str]) -> Command {
    let mut agent = site.command("pcigate-agent");
    agent
        .args(["exec", "--policy", "policy.yaml", "--name", &format!("{namespace}/{name}-1")])
        .args(["--service-account", name, "--label", &format!("app={name}")])
        .args(["--collector", &site.url(), "--tls-dir", "tls/node", "--state-dir", "exec", "--"])
        .args(command);
    agent
}

/// The API server's place on this machine, and how a policy says that.
fn api() -> (TcpListener, SocketAddr, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let port = address.port();
    let rule = format!("to: [{{cidr: 127.0.0.1/32}}]\n        ports: [{{port: {port}}}]");
    (listener, address, rule)
}

/// Results of the probe's actions, in order.
fn results(said: &[u8]) -> Vec<String> {
    let said = String::from_utf8_lossy(said);
    let last = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
    said.lines().map(last).collect()
}

/// Refused by BPF-LSM, or killed before its first instruction.
fn is_refused(result: &str) -> bool {
    ["EPERM", "signal-9"].contains(&result)
}

#[test]
fn the_ci_bot_builds_and_rolls_out_and_what_was_dropped_elsewhere_does_not_run() {
    let mut site = Site::new();
    site.start_collector();
    let (_api, address, rule) = api();
    let workspace = site.path("workspace").display().to_string();
    fs::create_dir_all(&workspace).unwrap();
    for place in ["workspace/tests", "workspace/ssh", "dropped"] {
        fs::copy("/usr/bin/true", site.path(place)).unwrap();
    }
    let probe = format!("{workspace}/build");
    fs::copy(pcigate_tests::program("pcigate-probe"), &probe).unwrap();
    let ours = format!("{workspace}/**");
    example(&site, "ci-bot", &[(API, &rule), ("/workspace/**", &ours)]);
    let at = |name: &str| format!("exec:{}", site.path(name).display());
    let actions = [
        at("workspace/tests"),
        "exec:/usr/bin/true".to_owned(),
        format!("tcp:{address}"),
        at("dropped"),
        at("workspace/ssh"),
        "tcp:169.254.169.254:80".to_owned(),
        "tcp:127.0.0.1:22".to_owned(),
    ];
    let mut command = vec![probe.as_str()];
    command.extend(actions.iter().map(String::as_str));
    let told = results(&succeed(&mut exec(&site, "ci", "ci-bot", &command)).stdout);
    assert_eq!(told[..3], ["ok", "ok", "ok"], "{told:?}");
    assert!(told[3..5].iter().all(|result| is_refused(result)), "{told:?}");
    assert_eq!(told[5..], ["EPERM", "EPERM"], "{told:?}");
    let refused = site.records(&["--verdict", "deny"]);
    let by = |rule: &str| refused.iter().filter(|one| one["outcome"]["rule"] == rule).count();
    assert!(by("no-ways-out") >= 1 && by("default") >= 3, "{refused:#?}");
}

#[test]
fn the_scaling_controller_reaches_the_api_server_and_starts_nothing_but_itself() {
    let mut site = Site::new();
    site.start_collector();
    let (_api, address, rule) = api();
    let probe = pcigate_tests::program("pcigate-probe").canonicalize().unwrap();
    let probe = probe.display().to_string();
    example(&site, "scaling-controller", &[(API, &rule), ("\"/scaler\"", &format!("\"{probe}\""))]);
    let api = format!("tcp:{address}");
    let command =
        [&probe, &api, "exec:/usr/bin/true", "udp:10.96.0.10:53", "tcp:169.254.169.254:80"];
    let agent = &mut exec(&site, "autoscaling", "scaling-controller", &command);
    let told = results(&succeed(agent).stdout);
    assert_eq!(told[0], "ok", "{told:?}");
    assert!(is_refused(&told[1]), "{told:?}");
    assert_eq!(told[2..], ["EPERM", "EPERM"], "{told:?}");
    // What it needed is what its policy says: the same comes out of the records.
    let mut suggest = site.pcigate(&["policy", "suggest", "-n", "autoscaling"]);
    suggest.args(["--service-account", "scaling-controller", "--mode", "enforce"]);
    let suggested = String::from_utf8(succeed(&mut suggest).stdout).unwrap();
    assert!(suggested.contains(&format!("paths: [\"{probe}\"]")), "{suggested}");
    assert!(suggested.contains("cidr: \"127.0.0.1/32\""), "{suggested}");
    assert!(suggested.contains(&format!("port: {}, protocol: TCP", address.port())), "{suggested}");
    for refused in ["/usr/bin/true", "10.96.0.10", "169.254"] {
        assert!(!suggested.contains(refused), "{refused}: {suggested}");
    }
    site.write("suggested.yaml", &suggested);
    let nothing = &mut site.pcigate(&["policy", "replay", "suggested.yaml"]);
    let said = String::from_utf8(succeed(nothing).stdout).unwrap();
    assert!(said.starts_with("nothing changes for "), "{said}");
}

const HELPER: &str = r#"
import errno, socket, subprocess, sys

def start(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode >= 0 else "refused"
    except PermissionError:
        return "refused"

def reach(address, port):
    try:
        socket.create_connection((address, port), 5).close()
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]

psql, place = sys.argv[1:]
print("shell", start("/bin/sh", "-c", "id").strip())
print("prompt", start("/usr/bin/python3", "-c", "print('mine')").strip())
print("paste", reach("203.0.113.9", 443))
for text in ["SELECT id, pan, cvv FROM cards", "SELECT item FROM orders",
             "INSERT INTO notes VALUES (7, 'sent')", "UPDATE orders SET item = 'free'",
             "DELETE FROM notes", "COPY cards TO STDOUT"]:
    print(text.split()[0], start(psql, "-XAtw", "-d", place, "-c", text).strip())
"#;

#[test]
fn the_ai_helper_has_no_shell_and_sees_masked_cards_through_the_gate_alone() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    postgres.sql(&format!("CREATE TABLE notes (id int, note text); GRANT ALL ON notes TO {SCRAM}"));
    let mut site = Site::new();
    site.start_collector();
    site.write("password", &format!("{PASSWORD}\n"));
    site.write("helper.py", HELPER);
    let psql = "/usr/lib/postgresql/15/bin/psql";
    let port = postgres.port();
    let upstream = "address: \"10.0.5.12:5432\"
    tls: {mode: verify-full, caFile: /etc/pcigate/orders-ca.pem, serverName: orders.support}";
    let here = format!("address: \"127.0.0.1:{port}\"\n    tls: {{mode: disable}}");
    let credential =
        format!("{{username: {SCRAM}, passwordFile: {}}}", site.path("password").display());
    let changes = [
        ("\"/app/**\"", &*format!("\"/app/**\", \"{psql}\"")),
        ("{cidr: 10.0.5.12/32, port: 5432}", &*format!("{{cidr: 127.0.0.1/32, port: {port}}}")),
        (upstream, &here),
        ("{username: helper_ro, passwordFile: /run/pcigate/orders-db}", &credential),
    ];
    example(&site, "ai-helper", &changes);
    let place = format!("host=127.0.0.1 port={port} dbname={DATABASE} user=nobody");
    let command = ["/usr/bin/python3", "helper.py", psql, &place];
    let done = output(&mut exec(&site, "support", "ai-helper", &command));
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    for line in [
        "shell refused",
        "prompt refused",
        "paste EPERM",
        "SELECT 1|411111******1111|",
        "SELECT tea",
        "INSERT INSERT 0 1",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}\n{errors}");
    }
    for statement in ["UPDATE", "DELETE", "COPY"] {
        let line = told.lines().find(|line| line.starts_with(statement)).unwrap_or_default();
        assert!(line.contains("pcigate: "), "{statement} is refused: {told}");
    }
    assert_eq!(postgres.sql("SELECT item FROM orders").trim(), "tea");
    let statements = site.records(&["--kind", "statement", "--namespace", "support"]);
    assert_eq!(statements.len(), 6, "each is on record: {statements:#?}");
    assert!(site.files_holding("4111111111111111").is_empty(), "no card number was written");
}
