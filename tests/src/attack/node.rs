//! Ways out through the node itself: its processes, cgroups, namespaces, pins and devices.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

use super::{Joins, Scene, Stopped, Tried, Under, Vector, calls, enter, links, network, step};
use crate::system_calls::{self, open_socket};

const SELF: &str = "self-protection";
const ISOLATION: &str = "isolation";

const fn closed(name: &'static str, named: &'static str, take: fn(&Scene) -> Tried) -> Vector {
    Vector { name, under: Under::Closed, joins: Joins::First, named, take }
}

pub(super) const VECTORS: &[Vector] = &[
    closed("signal-a-process-outside", SELF, |s| {
        s.join()?;
        step("kill", kill(Pid::from_raw(s.number("decoy")), Signal::SIGCONT))
    }),
    closed("ptrace-a-process-outside", SELF, traced),
    closed("memory-of-a-process-outside", SELF, |s| {
        s.join()?;
        step("process_vm_readv", calls::read_memory(s.number("decoy")))
    }),
    closed("root-directory-of-a-process-outside", SELF, |s| {
        s.join()?;
        step("readlink", fs::read_link(format!("/proc/{}/root", s.number("decoy")))).map(drop)
    }),
    closed("bpf-system-call", SELF, |s| {
        s.join()?;
        step("bpf", system_calls::bpf())
    }),
    closed("perf-event", SELF, |s| {
        s.join()?;
        step("perf_event_open", system_calls::perf())
    }),
    closed("remove-a-pin", SELF, |s| {
        s.join()?;
        step("unlink", fs::remove_file(s.path("pin")))
    }),
    closed("make-a-directory-in-bpffs", SELF, |s| {
        s.join()?;
        let directory = s.path("bpffs").join("made-inside");
        step("mkdir", fs::create_dir(&directory))?;
        step("rmdir", fs::remove_dir(&directory))
    }),
    closed("move-to-another-cgroup", SELF, |s| {
        s.join()?;
        enter(&s.path("outside")).map_err(|stopped| Stopped { step: "write", ..stopped })
    }),
    closed("begin-in-another-cgroup", SELF, |s| {
        s.join()?;
        let directory = step("open", File::open(s.path("outside")))?;
        step("clone3", system_calls::clone_into(directory.as_fd()))
    }),
    closed("mount-the-cgroup-tree-anew", SELF, |s| mounted(s, "cgroup2")),
    closed("mount-bpffs-anew", SELF, |s| mounted(s, "bpf")),
    closed("network-namespace-of-another-process", ISOLATION, |s| {
        s.join()?;
        let namespace = File::open(format!("/proc/{}/ns/net", s.number("decoy")));
        let namespace = step("open", namespace)?;
        step("setns", setns(namespace, CloneFlags::CLONE_NEWNET))
    }),
    closed("network-namespace-of-its-own", ISOLATION, |s| {
        s.join()?;
        step("unshare", unshare(CloneFlags::CLONE_NEWNET))
    }),
    closed("network-namespace-by-a-user-namespace", ISOLATION, |s| {
        s.join()?;
        step("unshare", unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
    }),
    closed("tun-device", ISOLATION, |s| {
        s.join()?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        step("TUNSETIFF", calls::tun(&OwnedFd::from(step("open", device)?)))
    }),
    closed("tunnel-or-link", ISOLATION, |s| {
        s.join()?;
        step("RTM_NEWLINK", links::make_and_remove())
    }),
    closed("child-cgroup", "egress-connect", child_cgroup),
    // As `kubectl exec`: a process of the node joins the workload's cgroup.
    Vector {
        joins: Joins::Itself,
        ..closed("process-that-enters-from-outside", "egress-connect", |s| {
            network::tcp(s, s.address("tcp4"))
        })
    },
];

fn traced(scene: &Scene) -> Tried {
    let decoy = Pid::from_raw(scene.number("decoy"));
    scene.join()?;
    step("ptrace", ptrace::attach(decoy))?;
    step("ptrace", waitpid(decoy, None))?;
    step("ptrace", ptrace::detach(decoy, None))
}

fn mounted(scene: &Scene, kind: &str) -> Tried {
    let place = scene.path("mount-point");
    scene.join()?;
    let none = None::<&str>;
    step("mount", mount(Some("none"), &place, Some(kind), MsFlags::empty(), none))?;
    step("umount", umount(&place))
}

/// What goes on in a cgroup below is governed as in the cgroup itself.
fn child_cgroup(scene: &Scene) -> Tried {
    scene.join()?;
    let own = step("open", fs::read_to_string("/proc/self/cgroup"))?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or(Stopped { step: "open", errno: Errno::ENOENT })?;
    let child = scene.path("tree").join(own).join(format!("child-{}", std::process::id()));
    step("mkdir", fs::create_dir(&child))?;
    let tried = enter(&child).and_then(|()| {
        let socket = step("socket", open_socket(libc::AF_INET, libc::SOCK_STREAM, 0))?;
        network::connect(&socket, scene.address("tcp4"))
    });
    let _ = enter(child.parent().unwrap_or(&child));
    let _ = fs::remove_dir(&child);
    tried
}
