//! Every way out of `pcigate_tests::attack`, tried outside and inside: refused with a record and a
//! rule, or named in Coverage. What is found here is docs/bypass.md.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{UnixDatagram, UnixListener},
    },
    process::{Child, Command, Stdio},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use pcigate_agent::{
    cgroup,
    coverage::{self, Confinement},
    draft::{CapabilityState, Ending},
};
use pcigate_common::limits;
use pcigate_tests::{
    attack::{Under, Vector, links, vectors},
    kernel::{Kernel, Setup},
    table,
};

/// Attacks that ask several times: each refusal has a record, knocks at a listener one a second.
const SEVERAL: [&str; 2] = ["any-other-family", "accept-from-outside"];

/// What is outside of the governed cgroups for attacks to find.
struct Outside {
    tcp4: TcpListener,
    tcp6: TcpListener,
    udp4: UdpSocket,
    udp6: UdpSocket,
    target: TcpListener,
    gateway6: TcpListener,
    _unix: UnixListener,
    _unix_abstract: UnixListener,
    _unix_datagram: UnixDatagram,
    abstract_name: String,
    cgroup: cgroup::Owned,
    decoy: Child,
    directory: tempfile::TempDir,
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.decoy.kill();
        let _ = self.decoy.wait();
    }
}

impl Outside {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["bpffs", "mount-point"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let none = None::<&str>;
        let bpffs = directory.path().join("bpffs");
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), none).unwrap();
        let tcp4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let abstract_name = format!("pcigate-bypass-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let decoy = decoy(TcpStream::connect(tcp4.local_addr().unwrap()).unwrap());
        Self {
            tcp4,
            tcp6: TcpListener::bind("[::1]:0").unwrap(),
            udp4: UdpSocket::bind("127.0.0.1:0").unwrap(),
            udp6: UdpSocket::bind("[::1]:0").unwrap(),
            target: TcpListener::bind("127.0.0.1:0").unwrap(),
            gateway6: TcpListener::bind(("::1", limits::GATEWAY_PORT)).unwrap(),
            _unix: UnixListener::bind(directory.path().join("containerd.sock")).unwrap(),
            _unix_abstract: UnixListener::bind_addr(&address).unwrap(),
            _unix_datagram: UnixDatagram::bind(directory.path().join("log")).unwrap(),
            abstract_name,
            cgroup: cgroup::create(&format!("test-outside-{}", std::process::id())).unwrap(),
            decoy,
            directory,
        }
    }

    /// The words of a scene; `run` names what one run uses up.
    fn words(&self, run: &str, cgroup: Option<&std::path::Path>) -> Vec<String> {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses: [(&str, SocketAddr); 10] = [
            ("tcp4", self.tcp4.local_addr().unwrap()),
            ("tcp6", self.tcp6.local_addr().unwrap()),
            ("udp4", self.udp4.local_addr().unwrap()),
            ("udp6", self.udp6.local_addr().unwrap()),
            ("target", self.target.local_addr().unwrap()),
            ("gateway6", self.gateway6.local_addr().unwrap()),
            ("gateway", ([127, 0, 0, 1], limits::GATEWAY_PORT).into()),
            ("open4", ([127, 0, 0, 9], 9).into()),
            ("open6", "[fd00::9]:9".parse().unwrap()),
            ("free4", free),
        ];
        let mut words: Vec<String> =
            addresses.iter().map(|(key, address)| format!("{key}={address}")).collect();
        let pin = self.directory.path().join("bpffs").join(run);
        // What a pin is to unlink(2).
        std::os::unix::fs::symlink("nowhere", &pin).unwrap();
        words.extend([
            format!("unix={}", at("containerd.sock")),
            format!("unix-datagram={}", at("log")),
            format!("unix-abstract={}", self.abstract_name),
            format!("decoy={}", self.decoy.id()),
            "decoy-socket=0".to_owned(),
            format!("bpffs={}", at("bpffs")),
            format!("pin={}", pin.display()),
            format!("mount-point={}", at("mount-point")),
            format!("outside={}", self.cgroup.cgroup.path.display()),
            format!("tree={}", cgroup::mount_point().unwrap().display()),
        ]);
        words.extend(cgroup.map(|cgroup| format!("cgroup={}", cgroup.display())));
        words
    }

    fn policy(&self) -> String {
        let port = self.target.local_addr().unwrap().port();
        format!(
            "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: closed, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: closed}}}}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - {{id: open, action: allow, to: [{{cidr: 127.0.0.9/32}}, {{cidr: \"fd00::9/128\"}}]}}
  ingress: {{defaultAction: deny}}
---
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: open, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: open}}}}
  mode: enforce
  egress: {{defaultAction: allow}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: cards-db, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"127.0.0.1:{port}\"}}
  credential: {{username: ro, passwordFile: /nonexistent}}
"
        )
    }
}

/// A process of the node, in another network namespace, with a connection as its standard input.
fn decoy(connection: TcpStream) -> Child {
    let spawn = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut decoy = Command::new(pcigate_tests::program("pcigate-probe"));
        decoy.arg("read-line").stdin(Stdio::from(OwnedFd::from(connection)));
        decoy.stdout(Stdio::null()).spawn().unwrap()
    };
    std::thread::spawn(spawn).join().unwrap()
}

fn attack(name: &str, words: &[String]) -> String {
    let mut attack = Command::new(pcigate_tests::program("pcigate-attack"));
    let output = attack.arg(name).args(words).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(!said.is_empty(), "{name} ended by {:?}: {output:?}", output.status);
    said
}

/// What became of an attack from inside: the cell of the table, or what is wrong with it.
fn inside(vector: &Vector, outside: &Outside, kernel: &mut Kernel) -> Result<String, String> {
    let words = outside.words(&format!("{}-inside", vector.name), Some(kernel.root()));
    kernel.drafts();
    let said = attack(vector.name, &words);
    let refusals: Vec<String> = kernel
        .drafts()
        .into_iter()
        .filter(|draft| draft.outcome.result == Ending::Refused)
        .filter_map(|draft| draft.outcome.decision.map(|decided| decided.rule.id.as_str().into()))
        .collect();
    if said == "through" {
        let confinement = Confinement::Runtime { pinned: true };
        let rows = coverage::capabilities(&kernel.refusal, confinement);
        let row = rows.iter().find(|row| row.name == vector.named);
        let admitted = row.is_some_and(|row| row.state == CapabilityState::NotEnforceableHere);
        let cell = format!("open, named `{}`", vector.named);
        return if admitted { Ok(cell) } else { Err(format!("{cell} in vain: {refusals:?}")) };
    }
    if let Some(word) = ["scene", "join", "helper"].iter().find(|word| said.starts_with(**word)) {
        return Err(format!("the test itself failed at {word}: {said}"));
    }
    let how = match said.split_once(' ') {
        Some((step, "ETIMEDOUT")) => format!("silence at {step}"),
        Some((step, errno @ ("EPERM" | "EACCES"))) => format!("{errno} at {step}"),
        _ => return Err(format!("{said}, which is no refusal: {refusals:?}")),
    };
    match refusals.as_slice() {
        [] => Err(format!("{how}, without a record")),
        [rule] => Ok(format!("{how}, `{rule}`")),
        [rule, ..] if SEVERAL.contains(&vector.name) => Ok(format!("{how}, `{rule}`")),
        more => Err(format!("{how}, with {} records: {more:?}", more.len())),
    }
}

#[test]
fn no_way_out_is_open_that_is_not_named() {
    pcigate_tests::need_root();
    // What is mounted and made here is seen by nobody else, and gone with this thread.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
    links::loopback_up().unwrap();
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let outside = Outside::new();
    let policy = outside.policy();
    let kernel = |pod: &str| {
        let setup = Setup { policy: policy.clone(), ..Setup::default() };
        let mut kernel = Kernel::ungoverned(&setup);
        let root = kernel.root().to_owned();
        kernel.govern(&root, pod);
        kernel
    };
    let mut kernels = [
        (Under::Closed, kernel("closed")),
        (Under::Open, kernel("open")),
        (Under::Unselected, kernel("unselected")),
    ];
    let mut wrong = Vec::new();
    for vector in vectors() {
        let control =
            attack(vector.name, &outside.words(&format!("{}-outside", vector.name), None));
        let (_, kernel) = kernels.iter_mut().find(|(under, _)| *under == vector.under).unwrap();
        let cell = if control == "through" {
            inside(&vector, &outside, kernel)
        } else {
            Ok(format!("not on this kernel ({control})"))
        };
        match cell {
            Ok(cell) => table::row("bypass", vector.name, &cell),
            Err(why) => {
                wrong.push(format!("{}: {why}", vector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n  {}", wrong.len(), vectors().len(), wrong.join("\n  "));
}
