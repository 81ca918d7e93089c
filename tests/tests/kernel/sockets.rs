//! Every kind of socket a confined workload may not have, and the sockets it may not reach.

use std::{
    io::IoSlice,
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream},
    },
    process::{Command, Stdio},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use pcigate_agent::{
    coverage::{self, Confinement},
    draft::{CapabilityState, Draft, Ending, Event, Subject},
    enforcer::ExecRefusal,
};
use pcigate_common::{event::Operation, maps::verdict};
use pcigate_proto::Enforcement;
use pcigate_tests::{
    kernel::{Kernel, Setup},
    needs::{self, Need},
};

/// A policy of the one pod; `egress` goes into its section.
fn policy(mode: &str, egress: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}}}
  mode: {mode}
  egress: {{{egress}}}
"
    )
}

/// Nothing may be reached.
fn confined() -> Kernel {
    Kernel::with_policy(&policy("enforce", "defaultAction: deny"))
}

/// One port of loopback may be reached.
fn only(port: u16) -> Kernel {
    let rule = format!(
        "defaultAction: deny, rules: [{{id: one, action: allow, to: [{{cidr: 127.0.0.1/32}}], \
         ports: [{{port: {port}, protocol: TCP}}, {{port: {port}, protocol: UDP}}]}}]"
    );
    Kernel::with_policy(&policy("enforce", &rule))
}

/// (operation, object, rule, result) of every attempt.
fn attempts(drafts: &[Draft]) -> Vec<(&'static str, String, String, Ending)> {
    let attempt = |draft: &Draft| match &draft.event {
        Event::Attempt { operation, object } => {
            let rule = draft.outcome.decision.as_ref().unwrap().rule.id.as_str().to_owned();
            Some((*operation, object.as_str().to_owned(), rule, draft.outcome.result))
        }
        _ => None,
    };
    drafts.iter().filter_map(attempt).collect()
}

/// (port, rule, result, refused by) of every egress.
fn egress(drafts: &[Draft]) -> Vec<(u16, String, Ending, Option<Enforcement>)> {
    let egress = |draft: &Draft| match &draft.event {
        Event::Egress { port, .. } => {
            let rule = draft.outcome.decision.as_ref().unwrap().rule.id.as_str().to_owned();
            Some((*port, rule, draft.outcome.result, draft.outcome.enforcement))
        }
        _ => None,
    };
    drafts.iter().filter_map(egress).collect()
}

/// What the probe says of actions when its standard input is `stdin`.
fn probe_with(kernel: &Kernel, stdin: impl Into<Stdio>, actions: &[&str]) -> Vec<String> {
    let output = Command::new(pcigate_tests::program("pcigate-probe"))
        .arg("--cgroup")
        .arg(kernel.root())
        .args(actions)
        .stdin(stdin)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let results: Vec<_> =
        text.lines().map(|line| line.rsplit_once(' ').unwrap_or(("", line)).1.to_owned()).collect();
    assert_eq!(results.len(), actions.len(), "{text}");
    results
}

const RAW: [&str; 8] = [
    "socket:2,3,255",  // raw IPv4 with headers of one's own
    "socket:2,3,1",    // raw ICMP
    "socket:10,3,58",  // raw ICMPv6
    "socket:10,3,255", // raw IPv6
    "socket:2,3,6",    // raw TCP
    "socket:2,2,136",  // UDP-Lite
    "socket:10,2,136",
    "uring-socket:2,3,255",
];

/// A family or protocol that the kernel lacks has no socket to refuse.
fn is_refused_or_absent(result: &str) -> bool {
    matches!(result, "EPERM" | "EPROTONOSUPPORT" | "ESOCKTNOSUPPORT" | "EAFNOSUPPORT" | "ENOSYS")
}

#[test]
fn a_confined_workload_makes_no_inet_socket_but_tcp_udp_and_mptcp() {
    let mut kernel = confined();
    let results = kernel.probe(&RAW);
    assert!(results.iter().all(|result| is_refused_or_absent(result)), "{results:?}");
    let refused = results.iter().filter(|result| *result == "EPERM").count();
    assert!(refused >= 5, "{results:?}");
    let drafts = kernel.drafts();
    let attempts = attempts(&drafts);
    assert_eq!(attempts.len(), refused, "one record per attempt: {attempts:?}");
    let raw = ("socket", "AF_INET SOCK_RAW 255".to_owned(), "pcigate/socket".to_owned());
    assert_eq!(attempts[0], (raw.0, raw.1, raw.2, Ending::Refused));
    let draft = drafts.iter().find(|draft| matches!(draft.event, Event::Attempt { .. })).unwrap();
    assert_eq!(draft.outcome.enforcement, Some(Enforcement::Cgroup));
    let ordinary = ["socket:2,1,0", "socket:10,1,6", "socket:2,2,0", "socket:10,2,17"];
    assert_eq!(kernel.probe(&ordinary), ["ok"; 4]);
    assert_ne!(kernel.probe(&["socket:2,1,262"]), ["EPERM"], "MPTCP is decided at connect");
}

#[test]
fn a_confined_workload_makes_no_ping_socket_where_the_kernel_would_give_one() {
    // In a network namespace of this thread's own, every group may ping.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
    let ping = ["socket:2,2,1", "socket:10,2,58"];
    let open = Kernel::with_policy(&policy("enforce", "defaultAction: allow"));
    assert_eq!(open.probe(&ping), ["ok"; 2]);
    let mut kernel = confined();
    assert_eq!(kernel.probe(&ping), ["EPERM"; 2]);
    assert_eq!(attempts(&kernel.drafts()).len(), 2);
}

#[test]
fn without_confinement_and_in_audit_mode_raw_sockets_are_made_and_audit_remarks() {
    let mut open = Kernel::with_policy(&policy("enforce", "defaultAction: allow"));
    assert_eq!(open.probe(&["socket:2,3,255"]), ["ok"]);
    assert_eq!(attempts(&open.drafts()), []);
    let mut audited = Kernel::with_policy(&policy("audit", "defaultAction: deny"));
    assert_eq!(audited.probe(&["socket:2,3,255"]), ["ok"]);
    let drafts = audited.drafts();
    let draft = drafts.iter().find(|draft| matches!(draft.event, Event::Attempt { .. })).unwrap();
    assert_eq!(draft.outcome.result, Ending::Success);
    assert_eq!(draft.outcome.audit.as_ref().unwrap().rule.id.as_str(), "pcigate/socket");
}

#[test]
fn an_unknown_cgroup_makes_raw_sockets_only_where_the_posture_allows() {
    for (unknown, result) in [(verdict::DENY, "EPERM"), (verdict::ALLOW, "ok")] {
        let kernel = Kernel::ungoverned(&Setup { unknown, ..Setup::default() });
        assert_eq!(kernel.probe(&["socket:2,3,255"]), [result]);
    }
}

#[test]
fn nobody_binds_or_reaches_the_gateway_s_listener() {
    let rules = "defaultAction: allow";
    let mut kernel = Kernel::with_policy(&policy("enforce", rules));
    let binds = [
        "bind:127.0.0.1:15099",
        "bind:0.0.0.0:15099",
        "bind:[::1]:15099",
        "bind:[::]:15099",
        "bind:[::ffff:127.0.0.1]:15099",
    ];
    assert_eq!(kernel.probe(&binds), ["EPERM"; 5]);
    let drafts = kernel.drafts();
    let found = attempts(&drafts);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.iter().all(|(what, _, rule, ending)| {
        (*what, rule.as_str(), *ending) == ("bind", "pcigate/gateway-listener", Ending::Refused)
    }));
    assert_eq!(found[0].1, "tcp 127.0.0.1:15099");
    assert_eq!(kernel.probe(&["bind:127.0.0.2:15099", "bind:127.0.0.1:0"]), ["ok"; 2]);

    let connects = ["tcp:127.0.0.1:15099", "tcp:[::1]:15099", "tcp:0.0.0.0:15099"];
    assert_eq!(kernel.probe(&connects), ["EPERM"; 3]);
    let found = egress(&kernel.drafts());
    let refused = |(port, rule, ending, _): &(u16, String, Ending, _)| {
        (*port, rule.as_str(), *ending) == (15_099, "pcigate/gateway-listener", Ending::Refused)
    };
    assert!(found.len() == 3 && found.iter().all(refused), "{found:?}");
}

const TARGET: &str = "---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: cards, namespace: payments}
spec: {protocol: postgres, upstream: {address: 'db:5432'}, endpoints: [{cidr: 127.0.0.9/32, \
port: 5432}]}
";

#[test]
fn a_target_is_kept_from_everyone_without_a_gate_rule() {
    let everything = "defaultAction: allow, rules: [{id: all, action: allow, \
                      to: [{cidr: 0.0.0.0/0}]}]";
    let allowed = policy("enforce", everything) + TARGET;
    let gated = policy(
        "enforce",
        "defaultAction: allow, rules: [{id: cards, action: gate, target: cards, \
         statements: [{id: s, action: allow, effects: [read]}]}]",
    ) + TARGET;
    let no_policy = TARGET.trim_start_matches("---\n").to_owned();
    let actions = ["tcp:127.0.0.9:5432", "udp:127.0.0.9:5432", "udp:127.0.0.9:5433"];
    for (text, rules) in [
        (&allowed, ["pcigate/target", "pcigate/target"]),
        (&no_policy, ["pcigate/target", "pcigate/target"]),
        (&gated, ["cards", "pcigate/target"]),
    ] {
        let mut kernel = Kernel::with_policy(text);
        assert_eq!(kernel.probe(&actions), ["EPERM", "EPERM", "ok"], "{text}");
        let found = egress(&kernel.drafts());
        let found: Vec<_> = found.iter().map(|(_, rule, ..)| rule.as_str()).collect();
        assert_eq!(found[..2], rules, "{text}");
    }
}

#[test]
fn a_target_is_kept_from_unknown_workloads_that_are_allowed() {
    let policy = TARGET.trim_start_matches("---\n").to_owned();
    let setup = Setup { policy, unknown: verdict::ALLOW, ..Setup::default() };
    let mut kernel = Kernel::ungoverned(&setup);
    assert_eq!(kernel.probe(&["tcp:127.0.0.9:5432", "udp:127.0.0.9:9"]), ["EPERM", "ok"]);
    let found = egress(&kernel.drafts());
    let rules: Vec<_> = found.iter().map(|(_, rule, ..)| rule.as_str()).collect();
    assert_eq!(rules, ["pcigate/target", "pcigate/unknown-workload"]);
}

#[test]
fn every_call_that_connects_or_sends_is_refused_and_recorded_once() {
    let mut kernel = confined();
    let actions = [
        "mptcp:127.0.0.1:9",
        "mptcp:[::1]:9",
        "fastopen:127.0.0.1:9",
        "fastopen:[::ffff:127.0.0.1]:9",
        "sendmmsg:127.0.0.1:9",
        "sendmmsg:[::1]:9",
        "uring-connect:127.0.0.1:9",
        "uring-connect:[::1]:9",
        "uring-send:127.0.0.1:9",
        "uring-send:[::1]:9",
    ];
    let results = kernel.probe(&actions);
    assert!(results.iter().all(|result| is_refused_or_absent(result)), "{results:?}");
    assert_eq!(results[2..6], ["EPERM"; 4], "every kernel has these");
    let refused = results.iter().filter(|result| *result == "EPERM").count();
    let found = egress(&kernel.drafts());
    assert_eq!(found.len(), refused, "{results:?} {found:?}");
    assert!(found.iter().all(|(_, rule, ending, by)| {
        (rule.as_str(), *ending, *by) == ("default", Ending::Refused, Some(Enforcement::Cgroup))
    }));
}

#[test]
fn a_source_route_is_refused_although_its_last_address_is_allowed() {
    let rule = "defaultAction: deny, rules: [{id: one, action: allow, to: [{cidr: 127.0.0.1/32}, \
                {cidr: '::1/128'}]}]";
    let mut kernel = Kernel::with_policy(&policy("enforce", rule));
    let actions = ["routed-connect:127.0.0.1:9", "routed-connect:[::1]:9"];
    assert_eq!(kernel.probe(&actions), ["EPERM"; 2]);
    let found = egress(&kernel.drafts());
    let rules: Vec<_> = found.iter().map(|(_, rule, ..)| rule.as_str()).collect();
    assert_eq!(rules, ["pcigate/socket"; 2]);

    // One that comes with a message is first seen on the packet.
    assert_eq!(kernel.probe(&["udp:127.0.0.1:9", "routed-send:127.0.0.1:9"]), ["ok", "EPERM"]);
    let drafts = kernel.drafts();
    let packet = drafts.iter().find_map(|draft| match draft.event {
        Event::Egress { operation: Operation::Packet, address, .. } => Some((draft, address)),
        _ => None,
    });
    let (draft, address) = packet.unwrap();
    assert_eq!(address, IpAddr::from([127, 0, 0, 1]));
    assert_eq!(draft.outcome.decision.as_ref().unwrap().rule.id.as_str(), "pcigate/socket");
    assert_eq!(draft.outcome.result, Ending::Refused);
    assert!(matches!(&draft.subject, Subject::Workload(pod) if pod.pod.as_str() == "billing-bot"));
    let open = Kernel::with_policy(&policy("enforce", "defaultAction: allow"));
    assert_eq!(open.probe(&["routed-send:127.0.0.1:9"]), ["ok"]);
}

/// Families that no cgroup hook sees: (action, whether it is of no use to a program).
const FAMILIES: [(&str, bool); 10] = [
    ("socket:17,3,768", true), // packet
    ("socket:40,1,0", true),   // vsock
    ("socket:38,5,0", true),   // kernel cryptography
    ("socket:44,3,0", true),   // XDP
    ("socket:16,3,16", true),  // generic netlink
    ("socket:16,3,12", true),  // netfilter
    ("socket:16,3,6", true),   // IPsec
    ("socket:16,3,15", true),  // device events
    ("socket:16,3,0", false),  // addresses and routes
    ("socket:1,1,0", false),   // unix
];

#[test]
fn where_bpf_lsm_is_active_a_confined_workload_makes_no_socket_of_another_family() {
    if !needs::met(&[Need::BpfLsm]) {
        return;
    }
    let mut kernel = confined();
    assert_eq!(kernel.refusal, ExecRefusal::Lsm);
    for (action, useless) in FAMILIES {
        let expected = if useless { "EPERM" } else { "ok" };
        assert_eq!(kernel.probe(&[action]), [expected], "{action}");
    }
    assert_eq!(kernel.probe(&["uring-socket:17,3,768"]), ["EPERM"]);
    let drafts = kernel.drafts();
    let found = attempts(&drafts);
    assert_eq!(found.len(), 9, "{found:?}");
    assert_eq!(found[0].1, "AF_PACKET SOCK_RAW 768");
    let by = |draft: &Draft| draft.outcome.enforcement;
    let attempt = drafts.iter().find(|draft| matches!(draft.event, Event::Attempt { .. }));
    assert_eq!(by(attempt.unwrap()), Some(Enforcement::Lsm));

    let open = Kernel::with_policy(&policy("enforce", "defaultAction: allow"));
    assert_eq!(open.probe(&["socket:17,3,768", "socket:16,3,16"]), ["ok", "ok"]);
}

#[test]
fn where_bpf_lsm_is_active_a_socket_carried_in_is_decided_by_whoever_uses_it() {
    if !needs::met(&[Need::BpfLsm]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = other.local_addr().unwrap();
    let mut kernel = only(address.port());
    let connected = |to| OwnedFd::from(TcpStream::connect(to).unwrap());

    // Connected outside, to where the policy does not lead: nothing goes out, however it is sent.
    let sends = ["stdin-send", "stdin-write", "stdin-send:127.0.0.1:1"];
    assert_eq!(probe_with(&kernel, connected(other), &sends), ["EPERM"; 3]);
    let found = egress(&kernel.drafts());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|(port, rule, ending, by)| {
        let by_lsm = *by == Some(Enforcement::Lsm);
        by_lsm && (*port, rule.as_str(), *ending) == (other.port(), "default", Ending::Refused)
    }));
    // To where it leads: one record, however much is sent.
    assert_eq!(probe_with(&kernel, connected(address), &["stdin-send"; 3]), ["ok"; 3]);
    assert_eq!(egress(&kernel.drafts()).len(), 1);

    // Unconnected datagram sockets, v4 and v6.
    let udp = |at: &str| OwnedFd::from(UdpSocket::bind(at).unwrap());
    let (yes, no) = (format!("stdin-send:{address}"), format!("stdin-send:{other}"));
    let connect = format!("stdin-connect:{other}");
    let actions = [yes.as_str(), &no, &connect];
    assert_eq!(probe_with(&kernel, udp("127.0.0.1:0"), &actions), ["ok", "EPERM", "EPERM"]);
    let mapped = format!("stdin-send:[::ffff:127.0.0.1]:{}", address.port());
    let actions = ["stdin-send:[::1]:9", "stdin-connect:[::1]:9", &mapped];
    assert_eq!(probe_with(&kernel, udp("[::]:0"), &actions), ["EPERM", "EPERM", "ok"]);
    let found = egress(&kernel.drafts());
    assert_eq!(found.len(), 6, "one record per attempt: {found:?}");
}

#[test]
fn where_bpf_lsm_is_active_a_socket_passed_in_a_message_is_decided_too() {
    if !needs::met(&[Need::BpfLsm]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut kernel = confined();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unbound = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [connected.as_raw_fd(), unbound.as_raw_fd()] {
        let fds = [socket];
        let control = [ControlMessage::ScmRights(&fds)];
        let bytes = [IoSlice::new(b"x")];
        sendmsg::<()>(ours.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None).unwrap();
    }
    let actions = ["passed-send", "passed-connect:127.0.0.1:9"];
    assert_eq!(probe_with(&kernel, OwnedFd::from(theirs), &actions), ["EPERM"; 2]);
    assert_eq!(egress(&kernel.drafts()).len(), 2);
}

#[test]
fn where_bpf_lsm_is_active_a_confined_workload_reaches_no_unix_socket_made_elsewhere() {
    if !needs::met(&[Need::BpfLsm]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("containerd.sock");
    let _stream = UnixListener::bind(&path).unwrap();
    let datagrams = directory.path().join("log");
    let _datagram = UnixDatagram::bind(&datagrams).unwrap();
    let name = format!("pcigate-test-{}", std::process::id());
    let at = UnixAddress::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&at).unwrap();
    let actions = [
        format!("unix:{}", path.display()),
        format!("unix-datagram:{}", datagrams.display()),
        format!("unix:@{name}"),
        format!("unix-own:@{name}-own"),
        format!("unix-own:{}/own", directory.path().display()),
    ];
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    let mut kernel = confined();
    assert_eq!(kernel.probe(&actions), ["EPERM", "EPERM", "EPERM", "ok", "ok"]);
    let found = attempts(&kernel.drafts());
    let names: Vec<_> = found.iter().map(|(_, name, ..)| name.trim_end_matches('\0')).collect();
    let expected = [path.to_str().unwrap(), datagrams.to_str().unwrap(), &format!("@{name}")];
    assert_eq!(names, expected);
    assert!(found.iter().all(|(what, _, rule, ending)| {
        (*what, rule.as_str(), *ending) == ("unix-connect", "pcigate/node-socket", Ending::Refused)
    }));
    let open = Kernel::with_policy(&policy("enforce", "defaultAction: allow"));
    assert_eq!(open.probe(&actions[..3]), ["ok"; 3]);
}

#[test]
fn coverage_names_the_sockets_that_need_bpf_lsm_where_it_is_lacking() {
    let kernel = confined();
    let rows = coverage::capabilities(&kernel.refusal, Confinement::Runtime { pinned: true });
    let state = |name| rows.iter().find(|row| row.name == name).map(|row| row.state);
    let by_lsm = match kernel.refusal {
        ExecRefusal::Lsm => CapabilityState::Enforced,
        ExecRefusal::Kill { .. } => CapabilityState::NotEnforceableHere,
    };
    for name in ["egress-packet-sockets", "egress-foreign-sockets", "unix-sockets"] {
        assert_eq!(state(name), Some(by_lsm), "{name}");
    }
    for name in ["egress-raw", "egress-source-routing", "gateway-listener", "targets"] {
        assert_eq!(state(name), Some(CapabilityState::Enforced), "{name}");
    }
    if by_lsm == CapabilityState::NotEnforceableHere {
        // What the rows say of this kernel is so.
        let results = kernel.probe(&["socket:17,3,768", "socket:16,3,16"]);
        assert_eq!(results, ["ok", "ok"]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(probe_with(&kernel, OwnedFd::from(connected), &["stdin-send"]), ["ok"]);
    }
}
