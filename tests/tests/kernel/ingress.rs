//! From where a workload's listeners may be reached.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::socket::{bind, connect};
use pcigate_agent::draft::{Draft, Ending, Event, Subject};
use pcigate_proto::Enforcement;
use pcigate_tests::{
    kernel::Kernel,
    needs::{self, Need},
    system_calls, wait,
};

/// A packet on loopback that has not arrived by then was dropped.
const ARRIVES_WITHIN: Duration = Duration::from_millis(300);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn policy(mode: &str, rules: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: billing-bot}}}}
  mode: {mode}
  egress:
    defaultAction: deny
    rules: [{{id: asked, action: allow, to: [{{cidr: 127.0.0.7/32}}]}}]
  ingress: {{defaultAction: deny, rules: [{rules}]}}
"
    )
}

/// Only 127.0.0.2 may come.
const FROM_OTHER: &str = "{id: friend, action: allow, from: [{cidr: 127.0.0.2/32}]}";

/// A port nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process of the workload that waits for something at a port.
struct Waiting {
    child: Child,
    port: u16,
}

impl Waiting {
    fn start(kernel: &Kernel, action: &str) -> Self {
        let port = free_port();
        let child = Command::new(pcigate_tests::program("pcigate-probe"))
            .arg("--cgroup")
            .arg(kernel.root())
            .arg(format!("{action}:127.0.0.1:{port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let table = if action == "accept" { "/proc/net/tcp" } else { "/proc/net/udp" };
        let local = format!(": 0100007F:{port:04X} ");
        let there = || fs::read_to_string(table).unwrap().contains(&local).then_some(());
        wait::until("the workload has its port", there);
        Self { child, port }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What it got.
    fn result(mut self) -> String {
        self.child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end().rsplit_once(' ').unwrap().1.to_owned()
    }
}

/// Connects from 127.0.0.2.
fn connect_from_other(to: SocketAddr) {
    let socket = system_calls::open_socket(2, 1, 6).unwrap();
    let at = system_calls::storage((OTHER, 0).into()).unwrap();
    bind(socket.as_raw_fd(), &at).unwrap();
    connect(socket.as_raw_fd(), &system_calls::storage(to).unwrap()).unwrap();
}

/// (object, rule, result, audit rule) of every attempt to come in.
fn accepts(drafts: &[Draft]) -> Vec<(String, String, Ending, Option<String>)> {
    let accept = |draft: &Draft| match &draft.event {
        Event::Attempt { operation: "accept", object } => {
            assert!(matches!(&draft.subject, Subject::Workload(_)));
            let rule = draft.outcome.decision.as_ref().unwrap().rule.id.as_str().to_owned();
            let audit = draft.outcome.audit.as_ref().map(|audit| audit.rule.id.as_str().to_owned());
            Some((object.as_str().to_owned(), rule, draft.outcome.result, audit))
        }
        _ => None,
    };
    drafts.iter().filter_map(accept).collect()
}

#[test]
fn a_connection_from_a_source_no_rule_allows_does_not_reach_the_listener() {
    let mut kernel = Kernel::with_policy(&policy("enforce", FROM_OTHER));
    let listener = Waiting::start(&kernel, "accept");
    let port = listener.port;
    let refused = TcpStream::connect_timeout(&listener.address(), ARRIVES_WITHIN);
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(listener.result(), "EAGAIN");
    let found = accepts(&kernel.drafts());
    let expected = (format!("tcp 127.0.0.1:{port}"), "default".to_owned(), Ending::Refused, None);
    assert_eq!(found, [expected]);

    let listener = Waiting::start(&kernel, "accept");
    connect_from_other(listener.address());
    assert_eq!(listener.result(), "ok");
    assert_eq!(accepts(&kernel.drafts()), []);
}

#[test]
fn a_datagram_comes_in_from_allowed_sources_and_as_an_answer() {
    let mut kernel = Kernel::with_policy(&policy("enforce", FROM_OTHER));
    for (source, result) in [(Ipv4Addr::LOCALHOST, "EAGAIN"), (OTHER, "ok")] {
        let service = Waiting::start(&kernel, "receive");
        let socket = UdpSocket::bind((source, 0)).unwrap();
        // Many knocks of one source within a second make one record.
        for _ in 0..5 {
            socket.send_to(b"x", service.address()).unwrap();
        }
        assert_eq!(service.result(), result);
    }
    assert_eq!(accepts(&kernel.drafts()).len(), 1);

    // Who may be asked may answer.
    let server = UdpSocket::bind("127.0.0.7:0").unwrap();
    let address = server.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        let (_, from) = server.recv_from(&mut [0]).unwrap();
        server.send_to(b"y", from).unwrap();
    });
    assert_eq!(kernel.probe(&[&format!("ask:{address}")]), ["ok"]);
    answer.join().unwrap();
}

#[test]
fn ingress_in_audit_mode_lets_in_and_says_what_it_would_have_done() {
    let mut kernel = Kernel::with_policy(&policy("audit", FROM_OTHER));
    let listener = Waiting::start(&kernel, "accept");
    TcpStream::connect(listener.address()).unwrap();
    assert_eq!(listener.result(), "ok");
    let found = accepts(&kernel.drafts());
    let [(_, _, Ending::Success, Some(audit))] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(audit, "default");
}

#[test]
fn where_bpf_lsm_is_active_nobody_listens_whom_no_rule_lets_be_reached() {
    if !needs::met(&[Need::BpfLsm]) {
        return;
    }
    let mut closed = Kernel::with_policy(&policy("enforce", ""));
    assert_eq!(closed.probe(&["listen:127.0.0.1:0", "listen:[::1]:0"]), ["EPERM"; 2]);
    let drafts = closed.drafts();
    let listens = drafts.iter().filter_map(|draft| match &draft.event {
        Event::Attempt { operation: "listen", .. } => draft.outcome.enforcement,
        _ => None,
    });
    assert_eq!(listens.collect::<Vec<_>>(), [Enforcement::Lsm; 2]);
    let open = Kernel::with_policy(&policy("enforce", FROM_OTHER));
    assert_eq!(open.probe(&["listen:127.0.0.1:0"]), ["ok"]);
}
