//! A containerd of a test's own: root, state, socket, networks and cgroups are the test's, and all
//! of it goes when it is dropped, by the names and pids that are its own.

use std::{
    cell::RefCell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pcigate_agent::cgroup;
use pcigate_tests::{site::succeed, wait};

use crate::cri::{self, Client, Empty, SandboxId};

/// Each has a network of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);
const PLUGINS: &str = "/usr/lib/cni";

/// A running containerd.
pub struct Containerd {
    directory: tempfile::TempDir,
    child: Child,
    client: Option<Client>,
    /// Pods to be stopped at the end.
    sandboxes: RefCell<Vec<String>>,
    /// Below the root of every hierarchy: holds the cgroups of all pods.
    parent: String,
    /// First three numbers of the pods' network; the node is .1 there.
    network: String,
}

impl Containerd {
    /// One that answers; `name` is in the names of its cgroups.
    pub fn start(name: &str) -> Self {
        pcigate_tests::need_root();
        for needed in ["/usr/bin/containerd", "/usr/lib/cni/ptp", "/usr/sbin/runc"] {
            assert!(Path::new(needed).exists(), "{needed} is missing: run `cargo xtask setup`");
        }
        // Sockets' names are short.
        let directory = tempfile::Builder::new().prefix("pcg").tempdir_in("/tmp").unwrap();
        let pid = std::process::id();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let network = format!("10.{}.{}", 100 + number % 100, pid % 256);
        configure(directory.path(), &network, &format!("pcigate-{pid}-{number}"));
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(directory.path().join("config.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let parent = format!("/pcigate-test-{name}-{pid}");
        let sandboxes = RefCell::default();
        let mut own = Self { directory, child, client: None, sandboxes, parent, network };
        let socket = own.socket();
        let ready = |client: &Client| {
            client.call::<_, cri::Images>("ImageService/ListImages", Empty {}).is_ok()
        };
        own.client = Some(wait::until("containerd", || Client::connect(&socket).filter(ready)));
        own
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// A path of the test's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The cgroup that the kubelet would call `kubepods`.
    pub fn pods(&self) -> String {
        format!("{}/kubepods", self.parent)
    }

    /// Address of the node as pods see it.
    pub fn node_address(&self) -> String {
        format!("{}.1", self.network)
    }

    /// Address of the first pod that is not on the node's network.
    pub fn first_address(&self) -> String {
        format!("{}.2", self.network)
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// Takes an image archive; it can be used when this returns.
    pub fn import(&self, archive: &Path, name: &str) {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.socket()).args(["-n", "k8s.io", "images", "import"]);
        succeed(ctr.arg("--snapshotter").arg("overlayfs").arg(archive));
        wait::until(name, || {
            let all: cri::Images = self.client().call("ImageService/ListImages", Empty {}).ok()?;
            let is = |image: &cri::Image| image.tags.iter().any(|tag| tag == name);
            all.images.iter().any(is).then_some(())
        });
    }

    /// Remembers a pod, so that it is stopped whatever happens.
    pub fn keep(&self, sandbox: &str) {
        self.sandboxes.borrow_mut().push(sandbox.to_owned());
    }

    /// Ends a pod and everything in it.
    pub fn stop(&self, sandbox: &str) {
        self.sandboxes.borrow_mut().retain(|kept| kept != sandbox);
        let _ = self.end(sandbox);
    }

    fn end(&self, sandbox: &str) -> Result<(), tonic::Status> {
        let id = SandboxId { id: sandbox.to_owned() };
        self.client().call::<_, Empty>("RuntimeService/StopPodSandbox", id.clone())?;
        self.client().call::<_, Empty>("RuntimeService/RemovePodSandbox", id).map(|_| ())
    }

    /// What containerd said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn configure(directory: &Path, network: &str, name: &str) {
    let at = |name: &str| directory.join(name).display().to_string();
    fs::create_dir_all(directory.join("cni")).unwrap();
    let config = format!(
        r#"version = 2
root = "{}"
state = "{}"
# Restarting pods of an earlier run, and tracing, are nobody's here.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pcigate-test/client:1"
# Where the machine's root lacks CAP_SYS_RESOURCE, no sandbox starts otherwise.
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PLUGINS}"
conf_dir = "{}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{}"
"#,
        at("root"),
        at("state"),
        at("sock"),
        at("cni"),
        at("runc"),
    );
    fs::write(directory.join("config.toml"), config).unwrap();
    let cni = format!(
        r#"{{"cniVersion": "0.4.0", "name": "{name}", "plugins": [{{"type": "ptp",
            "ipam": {{"type": "host-local", "subnet": "{network}.0/24", "dataDir": "{}",
                      "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}"#,
        at("addresses"),
    );
    fs::write(directory.join("cni/10-pcigate.conflist"), cni).unwrap();
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("containerd's log:\n{}", end_of(&self.log()));
        }
        if self.client.is_some() {
            for sandbox in self.sandboxes.take().iter().rev() {
                if let Err(error) = self.end(sandbox) {
                    eprintln!("pod {sandbox} does not end: {error}");
                }
            }
        }
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM);
        let _ = self.child.wait();
        let own = self.directory.path().display().to_string();
        end_shims(&own);
        unmount_below(&own);
        remove_cgroups(&self.parent);
    }
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Shims that outlived containerd name its socket on their command line.
fn end_shims(directory: &str) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("containerd-shim") && line.contains(directory) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn unmount_below(directory: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut points: Vec<_> = points.filter(|point| point.starts_with(directory)).collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
}

/// In every hierarchy, where there are several.
fn remove_cgroups(parent: &str) {
    let name = parent.trim_start_matches('/');
    let places = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let places = places.map(|entry| entry.path().join(name));
    for place in places.chain([Path::new("/sys/fs/cgroup").join(name)]) {
        if place.is_dir()
            && let Err(error) = cgroup::remove(&place)
        {
            eprintln!("{} stays: {error}", place.display());
        }
    }
}
