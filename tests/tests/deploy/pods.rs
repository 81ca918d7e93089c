//! The chart's pods from the built images in a real container runtime, governing other real pods.

use std::{fs, net::TcpListener, path::Path, process::Command};

use nix::mount::MsFlags;
use pcigate_agent::cgroup;
use pcigate_tests::{
    apiserver::{ApiServer, User},
    site::{Mounted, Site, succeed},
    wait,
};
use serde_json::{Value, json};

use crate::{
    chart::{object, objects, rendered},
    containerd::Containerd,
    image,
    kubelet::{Kubelet, NODE, Pod},
};

/// What the governed pod and every sandbox run; of busybox and psql of this machine.
const CLIENT: &str = "localhost/pcigate-test/client:1";

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

    /// The chart for this node, with these policies.
    fn chart(&self, policies: &Value) -> Vec<Value> {
        let mount = cgroup::mount_point().unwrap();
        let at = |name: &str| self.site.path(name).display().to_string();
        fs::create_dir_all(self.site.path("securityfs")).unwrap();
        let values = json!({
            "image": {"tag": "test"},
            "collector": {"enabled": false, "url": self.site.url()},
            "agent": {
                "cgroupRoot": format!("{}{}", mount.display(), self.containerd.pods()),
                "certificates": {"hostPath": at("tls/node")},
                "hostPaths": {"state": at("state"), "bpf": self.bpffs.path,
                              "securityfs": at("securityfs")},
                "policies": policies,
            },
        });
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
      - {{id: metrics, action: allow, to: [{{cidr: {node}/32}}], ports: [{{port: {port}, protocol: TCP}}]}}
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

#[test]
fn the_daemonsets_pod_governs_another_pod_and_its_records_are_at_the_collector() {
    let mut node = Node::new("chart", &["pcigate-agent"]);
    node.site.start_collector();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let closed = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let address = node.containerd.node_address();
    let objects = node.chart(&policy(&address, port(&open)));
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

    let found = |kind: &str, rule: &str, verdict: &str| {
        wait::until(&format!("the {kind} record of rule {rule}"), || {
            let records = node.site.records(&["--kind", kind, "--limit", "10000"]);
            records.into_iter().find(|record| {
                record["outcome"]["rule"] == rule && record["outcome"]["verdict"] == verdict
            })
        })
    };
    for (kind, rule, verdict) in [
        ("exec", "no-shells", "deny"),
        ("egress", "default", "deny"),
        ("egress", "metrics", "allow"),
    ] {
        let record = found(kind, rule, verdict);
        let workload = &record["subject"]["workload"];
        assert_eq!(workload["pod"], "billing-bot", "{record}");
        assert_eq!(workload["namespace"], "payments", "{record}");
        assert_eq!(workload["service_account"], "billing-bot", "{record}");
        assert_eq!(workload["container"], "bot", "{record}");
        assert_eq!(record["origin"]["node"], NODE, "{record}");
    }
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
}
