//! What a connect costs: connect, accept and close on loopback, policy and recording on against
//! off.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go out, progress to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::Instant,
};

use nix::sys::socket::{setsockopt, sockopt::Linger};
use pcigate_tests::{
    figures::{Budget, cpu_seconds, figure, flag, how, option},
    line::{Place, driven},
};

/// Connections a variant and round.
const CONNECTIONS: u64 = 30_000;
/// Prefixes of the policy.
const PREFIXES: u32 = 10_000;
/// Prefixes of it that lie in the loopback network, where the connections go.
const LOOPBACK_PREFIXES: u32 = 2_000;

fn main() {
    if let Some(arguments) = driven() {
        return connect_many(arguments[0].parse().unwrap());
    }
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 5 } else { 15 });
    let connections = if quick { CONNECTIONS / 3 } else { CONNECTIONS };
    let place = Place::new();
    let (mut alone, mut busy, mut micros, mut agent) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    let mut lost = 0;
    for round in 0..rounds {
        eprintln!("connect: round {} of {rounds}", round + 1);
        let mut times = [[0.0; 2]; 2];
        for on in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let line = on.then(|| place.start(place.load(&policy())));
            let used = cpu_seconds(std::process::id());
            times[usize::from(on)] = [one(&place, connections), two(&place, connections)];
            if let Some(line) = line {
                let counters = line.stop();
                let used = cpu_seconds(std::process::id()) - used;
                agent.push(used * 1e6 / counters.recorded as f64);
                lost += counters.lost.values().sum::<u64>();
                assert!(counters.recorded >= connections * 3, "{} records", counters.recorded);
            }
        }
        let [off, on] = times;
        alone.push(on[0] / off[0]);
        busy.push(on[1] / off[1]);
        micros.push(off[0] / connections as f64 * 1e6);
    }
    assert_eq!(lost, 0, "events were lost");
    how(&format!(
        "connect, accept and close on loopback, {connections} times a variant and round by one \
         process pinned to one processor, to {LOOPBACK_PREFIXES} addresses in turn. On: all \
         programs attached, a policy of {PREFIXES} prefixes, every connect recorded in the spool \
         by the agent's own threads. Off: nothing attached. Programs are loaded and tables filled \
         anew for each round. Every connect was recorded; none was lost."
    ));
    how("Both processors busy: one such process on each, so that the agent's threads take their \
         time from the workload. A node seldom does nothing but connect; this is the bound.");
    figure("connect+accept+close, on ÷ off", "ratio", Budget::AtMost(1.05), &alone);
    figure("connect+accept+close, on ÷ off, both processors busy", "ratio", Budget::None, &busy);
    figure("connect+accept+close, off", "µs", Budget::None, &micros);
    figure("the agent's processor time for a record", "µs", Budget::None, &agent);
}

/// Seconds for all connections on the second processor; the first is the agent's.
fn one(place: &Place, connections: u64) -> f64 {
    seconds(&place.drive(last_cpu(), &[&connections.to_string()]))
}

/// Seconds, the longer of two that run side by side.
fn two(place: &Place, connections: u64) -> f64 {
    let connections = connections.to_string();
    thread::scope(|scope| {
        let first = scope.spawn(|| seconds(&place.drive(0, &[&connections])));
        let second = seconds(&place.drive(last_cpu(), &[&connections]));
        second.max(first.join().unwrap())
    })
}

fn last_cpu() -> usize {
    thread::available_parallelism().unwrap().get() - 1
}

fn seconds(line: &str) -> f64 {
    line.parse().expect("the workload prints seconds")
}

fn connect_many(connections: u64) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Closing by reset leaves no socket in TIME_WAIT, of which there would be too many.
    let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let connect = |number: u64| {
        let prefix = u32::try_from(number % u64::from(LOOPBACK_PREFIXES)).unwrap();
        let client = TcpStream::connect(SocketAddrV4::new(loopback(prefix), port)).unwrap();
        setsockopt(&client, Linger, &reset).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(client);
        drop(server);
    };
    (0..1_000).for_each(connect);
    let began = Instant::now();
    (0..connections).for_each(connect);
    println!("{}", began.elapsed().as_secs_f64());
}

/// The address of a loopback prefix.
fn loopback(prefix: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x7f01_0000 + prefix * 256 + 1)
}

/// 100 rules of 100 prefixes each; connections match one of the first twenty rules.
fn policy() -> String {
    let mut text = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
"
    .to_owned();
    for rule in 0..PREFIXES / 100 {
        let prefixes = (0..100).map(|at| {
            let prefix = rule * 100 + at;
            if prefix < LOOPBACK_PREFIXES {
                format!("{{cidr: {}/24}}", Ipv4Addr::from(u32::from(loopback(prefix)) & !255))
            } else {
                format!("{{cidr: {}/24}}", Ipv4Addr::from(0x0a00_0000 + prefix * 256))
            }
        });
        let prefixes = prefixes.collect::<Vec<_>>().join(", ");
        writeln!(text, "      - {{id: rule-{rule}, action: allow, to: [{prefixes}]}}").unwrap();
    }
    text
}
