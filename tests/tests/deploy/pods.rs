//! The chart's pods from the built images in a real container runtime, governing other real pods.

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::mount::MsFlags;
use pcigate_agent::cgroup;
use pcigate_tests::{
    apiserver::{ApiServer, Subject, User},
    postgres::{DATABASE, PASSWORD, Postgres, SCRAM},
    site::{Mounted, Site, rest, succeed},
    wait,
};
use serde_json::{Value, json};

use crate::{
    chart::{object, objects, rendered},
    containerd::Containerd,
    image,
    kubelet::{Kubelet, NODE, Pod, bound_token},
};

/// What the governed pod and every sandbox run; of busybox and psql of this machine.
const CLIENT: &str = "localhost/pcigate-test/client:1";

const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

/// Makes the image, as `docker save` would.
fn client_image(directory: &Path) -> std::path::PathBuf {
    let root = directory.join("client");
    for inside in ["bin", "tmp", "proc", "dev", "sys", "etc"] {
        fs::create_dir_all(root.join(inside)).unwrap();
    }
    // A shell of its own file, because policies go by files.
    for name in ["busybox", "sh"] {
        fs::copy("/bin/busybox", root.join("bin").join(name)).unwrap();
    }
    for applet in ["nc", "sleep", "true", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let needed = succeed(Command::new("ldd").arg(PSQL));
    let needed = String::from_utf8(needed.stdout).unwrap();
    let mut copy = Command::new("cp");
    copy.args(["-L", "--parents", "-t"]).arg(&root).arg(PSQL);
    succeed(copy.args(needed.split_whitespace().filter(|word| word.starts_with('/'))));
    let layer = directory.join("layer.tar");
    let mut tar = Command::new("tar");
    succeed(tar.arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf"]).arg(&layer).arg("."));
    let sum = succeed(Command::new("sha256sum").arg(&layer));
    let sum = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [CLIENT],
                           "Layers": ["layer.tar"]}]);
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = directory.join("client.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    succeed(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(&archive).args(files));
    archive
}

/// A node: a runtime with the images, an API server, a place for what the chart has on nodes.
struct Node {
    site: Site,
    server: ApiServer,
    bpffs: Mounted,
    containerd: Containerd,
}

impl Node {
    fn new(name: &str, images: &[&str]) -> Self {
        let site = Site::new();
        let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::empty());
        let containerd = Containerd::start(name);
        for image in images {
            let archive = image::build(&site.path("images"), image);
            containerd.import(&archive, &format!("docker.io/pcigate/{image}:test"));
        }
        let client = client_image(&site.path("images"));
        containerd.import(&client, CLIENT);
        let server = ApiServer::start();
        for namespace in ["payments", "pcigate-system"] {
            let object = json!({"apiVersion": "v1", "kind": "Namespace",
                                "metadata": {"name": namespace}});
            server.put("/api/v1/namespaces", object);
        }
        let agent = User {
            name: "system:serviceaccount:pcigate-system:pcigate-agent".to_owned(),
            ..User::default()
        };
        server.add_user("token-of-the-agent", agent);
        Self { site, server, bpffs, containerd }
    }

    /// The chart for this node, with more values.
    fn chart(&self, collector: &Value, agent: &Value) -> Vec<Value> {
        let mount = cgroup::mount_point().unwrap();
        let at = |name: &str| self.site.path(name).display().to_string();
        fs::create_dir_all(self.site.path("securityfs")).unwrap();
        let mut values = json!({
            "image": {"tag": "test"},
            "collector": collector,
            "agent": {
                "cgroupRoot": format!("{}{}", mount.display(), self.containerd.pods()),
                "certificates": {"source": "directory", "hostPath": at("tls/node")},
                "admin": {"enabled": false},
                "customResources": false,
                "hostPaths": {"state": at("state"), "bpf": self.bpffs.path,
                              "securityfs": at("securityfs")},
            },
        });
        for (key, value) in agent.as_object().unwrap() {
            values["agent"][key] = value.clone();
        }
        objects(&rendered(&values.to_string()))
    }

    fn kubelet(&self, objects: &[Value]) -> Kubelet<'_> {
        Kubelet {
            containerd: &self.containerd,
            server: &self.server,
            objects: objects.to_vec(),
            token: "token-of-the-agent".to_owned(),
        }
    }

    /// Starts the agent as the DaemonSet says, and waits until it enforces.
    fn agent(&self, kubelet: &Kubelet<'_>) -> Pod {
        let pod = self.start_agent(kubelet, "pcigate-agent-1");
        kubelet.said(&pod, "pcigate-agent ready: governing ");
        pod
    }

    fn start_agent(&self, kubelet: &Kubelet<'_>, name: &str) -> Pod {
        // The kubelet makes it before any pod.
        let root = cgroup::mount_point().unwrap();
        let root = root.join(self.containerd.pods().trim_start_matches('/'));
        fs::create_dir_all(root).unwrap();
        let daemon_set = object(&kubelet.objects, "DaemonSet", "pcigate-agent");
        let template = &daemon_set["spec"]["template"];
        kubelet.run("pcigate-system", name, template)
    }
}

fn policy(node: &str, port: u16) -> Value {
    json!({"billing-bot.yaml": format!("apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}, serviceAccountNames: [billing-bot]}}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {{id: no-shells, action: deny, paths: [\"/bin/sh\", \"/usr/bin/sh\"]}}
  egress:
    defaultAction: deny
    rules:
      - id: metrics
        action: allow
        to: [{{cidr: {node}/32}}]
        ports: [{{port: {port}, protocol: TCP}}]
")})
}

fn billing_bot() -> Value {
    json!({
        "metadata": {"labels": {"app": "billing-bot"}},
        "spec": {"serviceAccountName": "billing-bot",
                 "containers": [{"name": "bot", "image": CLIENT,
                                 "command": ["/bin/sleep", "1000000"]}]},
    })
}

/// Each with who it was.
fn its_records_are_there(site: &Site) {
    for (kind, rule, verdict) in [
        ("exec", "no-shells", "deny"),
        ("egress", "default", "deny"),
        ("egress", "metrics", "allow"),
    ] {
        let record = wait::until(&format!("the {kind} record of rule {rule}"), || {
            let records = site.records(&["--kind", kind, "--limit", "10000"]);
            records.into_iter().find(|record| {
                record["outcome"]["rule"] == rule && record["outcome"]["verdict"] == verdict
            })
        });
        let workload = &record["subject"]["workload"];
        assert_eq!(workload["pod"], "billing-bot", "{record}");
        assert_eq!(workload["namespace"], "payments", "{record}");
        assert_eq!(workload["service_account"], "billing-bot", "{record}");
        assert_eq!(workload["container"], "bot", "{record}");
        assert_eq!(record["origin"]["node"], NODE, "{record}");
    }
}

#[test]
fn the_daemonsets_pod_governs_another_pod_and_its_records_are_at_the_collector() {
    let mut node = Node::new("chart", &["pcigate-agent"]);
    node.site.start_collector();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let closed = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let address = node.containerd.node_address();
    let collector = json!({"enabled": false, "url": node.site.url()});
    let objects = node.chart(&collector, &json!({"policies": policy(&address, port(&open))}));
    let kubelet = node.kubelet(&objects);
    let agent = node.agent(&kubelet);

    let bot = kubelet.run("payments", "billing-bot", &billing_bot());
    // What runs before the kubelet has told of the container is the pod's, without its name.
    wait::until("the container's name", || {
        kubelet.exec(&bot, &["/bin/true"]);
        let records = node.site.records(&["--kind", "exec", "--limit", "10000"]);
        let named = |record: &Value| record["subject"]["workload"]["container"] == "bot";
        records.iter().any(named).then_some(())
    });
    let connect = |port: u16| {
        let port = port.to_string();
        kubelet.exec(&bot, &["/bin/nc", "-w", "5", &address, &port, "-e", "/bin/true"])
    };
    let allowed = connect(port(&open));
    assert_eq!(allowed.exit_code, 0, "{}", String::from_utf8_lossy(&allowed.stderr));
    let refused = connect(port(&closed));
    assert_ne!(refused.exit_code, 0, "nothing but the metrics may be reached");
    let shell = kubelet.exec(&bot, &["/bin/sh", "-c", "echo a shell"]);
    assert_ne!(shell.exit_code, 0);
    assert!(!String::from_utf8_lossy(&shell.stdout).contains("a shell"));
    let harmless = kubelet.exec(&bot, &["/bin/true"]);
    assert_eq!(harmless.exit_code, 0, "{}", String::from_utf8_lossy(&harmless.stderr));

    its_records_are_there(&node.site);
    // As the DaemonSet's rolling update does it: the next one starts, then the last one ends.
    let next = node.start_agent(&kubelet, "pcigate-agent-2");
    kubelet.said(&next, "pcigate-agent stands by");
    assert_ne!(connect(port(&closed)).exit_code, 0);
    kubelet.stop("pcigate-system", &agent);
    assert_ne!(connect(port(&closed)).exit_code, 0, "between the two");
    kubelet.said(&next, "pcigate-agent ready: governing ");
    assert_ne!(connect(port(&closed)).exit_code, 0);
    let another = kubelet.run("payments", "billing-bot-2", &billing_bot());
    let shell = kubelet.exec(&another, &["/bin/sh", "-c", "echo a shell"]);
    assert_ne!(shell.exit_code, 0, "the next one governs what is new");
    // Removal: what is pinned while the agent still runs, then the agent.
    let removed = kubelet.exec(&next, &["/usr/bin/pcigate-agent", "uninstall"]);
    assert_eq!(removed.exit_code, 0, "{}", String::from_utf8_lossy(&removed.stderr));
    kubelet.stop("pcigate-system", &next);
    assert_eq!(connect(port(&closed)).exit_code, 0, "nothing is left");
    let left = fs::read_dir(node.bpffs.path.join("pcigate")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is pinned");
}

const PAN: &str = "4111111111111111";

fn gated(node: &str, port: u16) -> Value {
    json!({"billing-bot.yaml": format!("apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}}}
  mode: enforce
  exec: {{defaultAction: allow}}
  egress:
    defaultAction: deny
    rules:
      - id: cards-db
        action: gate
        target: cards-db
        statements:
          - {{id: read, action: allow, effects: [read], tables: [public.cards]}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: cards-db, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: {node}/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\", tls: {{mode: disable}}}}
  credential: {{username: {SCRAM}, passwordFile: /run/pcigate/cards-db/password}}
  mask: {{default: truncate}}
  columns: [{{table: public.cards, column: pan, class: pan}}]
")})
}

/// As the administrator does it who installs: by the authority that the chart has made.
fn person_by_the_charts_authority(site: &Site, objects: &[Value]) {
    let authority = object(objects, "Secret", "pcigate-ca");
    fs::create_dir_all(site.path("authority")).unwrap();
    for file in ["ca.pem", "ca-key.pem"] {
        let text = STANDARD.decode(authority["data"][file].as_str().unwrap()).unwrap();
        fs::write(site.path("authority").join(file), text).unwrap();
    }
    fs::remove_dir_all(site.path("tls/person")).unwrap();
    site.issue("authority", ["--person", "ana"], "tls/person");
}

fn is_ready(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
    rest(&mut stream).contains(" 200 ").then_some(())
}

#[test]
fn the_statefulsets_pod_keeps_what_a_pod_asked_a_gated_database_through_the_daemonsets() {
    let node = Node::new("gated", &["pcigate-agent", "pcigate-collector"]);
    let postgres = Postgres::start("");
    postgres.sql(&format!(
        "CREATE TABLE cards (id int PRIMARY KEY, pan text);
         INSERT INTO cards VALUES (1, '{PAN}'); GRANT ALL ON cards TO {SCRAM};"
    ));
    let address = node.containerd.node_address();
    // The first pod's.
    let host = node.containerd.first_address();
    let url = format!("https://{host}:7443");
    let collector = json!({"origin": "example.com/deploy", "names": [host], "url": url});
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let agent = json!({"policies": gated(&address, postgres.port()),
                       "certificates": {"source": "enroll"},
                       "admin": {"enabled": true, "port": port},
                       "files": [{"name": "cards-db", "secretName": "cards-db-login"}]});
    let mut objects = node.chart(&collector, &agent);
    objects.push(json!({"kind": "Secret", "metadata": {"name": "cards-db-login"},
                        "data": {"password": STANDARD.encode(PASSWORD)}}));
    let kubelet = node.kubelet(&objects);
    let set = object(&objects, "StatefulSet", "pcigate-collector");
    let mut template = set["spec"]["template"].clone();
    // The volume of the claim.
    let claimed = json!({"name": "state", "emptyDir": {}});
    template["spec"]["volumes"].as_array_mut().unwrap().push(claimed);
    let pod = kubelet.run("pcigate-system", "pcigate-collector-0", &template);
    kubelet.said(&pod, "pcigate-collector ready on ");

    person_by_the_charts_authority(&node.site, &objects);
    let token = User {
        name: "system:serviceaccount:pcigate-system:pcigate-agent".to_owned(),
        uid: "account".to_owned(),
        pod: Some(Subject { name: "a".to_owned(), uid: "u".to_owned(), node: NODE.to_owned() }),
        audiences: vec!["pcigate-collector".to_owned()],
    };
    node.server.add_user(&bound_token("pcigate-collector"), token);
    node.agent(&kubelet);
    wait::until("readiness, as the kubelet asks for it", || is_ready(port));
    let bot = kubelet.run("payments", "billing-bot", &billing_bot());
    let place = format!("host={address} port={} dbname={DATABASE} user=nobody", postgres.port());
    let ask = |sql: &str| {
        let answer = kubelet.exec(&bot, &[PSQL, "-X", "-At", "-d", &place, "-c", sql]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (answer.exit_code, text(&answer.stdout) + &text(&answer.stderr))
    };
    let (code, said) = ask("SELECT id, pan FROM cards");
    assert_eq!((code, said.as_str()), (0, "1|411111******1111\n"), "{}", kubelet.log(&bot));
    let (code, said) = ask("DELETE FROM cards");
    assert!(code == 1 && said.contains("pcigate"), "{code}: {said}");
    assert_eq!(postgres.sql("SELECT count(*) FROM cards").trim(), "1");

    let statements = wait::until("the statements at the collector", || {
        let mut pcigate = node.site.command("pcigate");
        pcigate.args(["records", "--output", "json", "--kind", "statement"]);
        pcigate.env("PCIGATE_COLLECTOR", &url).env("PCIGATE_TLS_DIR", "tls/person");
        let said = String::from_utf8(succeed(&mut pcigate).stdout).unwrap();
        (said.lines().count() == 2).then_some(said)
    });
    for (line, verdict) in statements.lines().zip(["allow", "deny"]) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["subject"]["workload"]["pod"], "billing-bot", "{record}");
        assert_eq!(record["subject"]["workload"]["service_account"], "billing-bot", "{record}");
        assert_eq!(record["outcome"]["verdict"], verdict, "{record}");
        assert_eq!(record["process"]["executable"], PSQL, "{record}");
    }
    assert!(!statements.contains(PAN), "{statements}");
}
