//! How many events a second become masked records in the spool, none of them lost: real ones from
//! the kernel, and the half of the work that begins behind the rings alone.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go out, progress to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use pcigate_agent::{attribution::Attribution, pipeline, sensor::Batch};
use pcigate_common::{
    event::{Egress, Exec, Exit, Fork, Header, Kind, Operation, Task},
    maps::Decision,
};
use pcigate_tests::{
    figures::{Budget, cpu_seconds, figure, flag, how, option},
    line::{Place, Store, driven, govern},
};
use zerocopy::IntoBytes;

/// Real events a second tried, until one rate loses something.
const RATES: [u64; 12] = [
    100_000, 150_000, 200_000, 250_000, 300_000, 350_000, 400_000, 450_000, 500_000, 600_000,
    700_000, 800_000,
];
/// How often the flood sends its share.
const TICK: Duration = Duration::from_millis(1);
/// Events of a synthetic round.
const SYNTHETIC: usize = 1_000_000;
/// Pods behind them.
const PODS: u64 = 250;
const FIRST_POD: u64 = 1 << 40;
const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  exec: {defaultAction: allow, rules: [{id: no-shells, action: deny, paths: [/bin/sh]}]}
  egress: {defaultAction: allow}
";

fn main() {
    if let Some(arguments) = driven() {
        return flood(arguments[0].parse().unwrap(), arguments[1].parse().unwrap());
    }
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 3 } else { 7 });
    let seconds = if quick { 2 } else { 5 };
    let place = Place::new();
    let (mut synthetic, mut micros) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("ring: synthetic round {} of {rounds}", round + 1);
        let events = if quick { SYNTHETIC / 4 } else { SYNTHETIC };
        let (rate, processor) = behind_the_rings(&place, events);
        synthetic.push(rate);
        micros.push(processor);
    }
    let mut real = Vec::new();
    for round in 0..if quick { 1 } else { 3 } {
        real.push(highest_rate(&place, seconds, round));
    }
    how("Synthetic: ring records as the kernel programs make them (an eighth exec with path and \
         argv, an eighth fork, an eighth exit, the rest egress; 250 pods), given to the agent's \
         own code behind the rings: decode, attribution, masking, queue, encoding, spool with \
         fdatasync. The clock stops when the last record is durable.");
    how(&format!(
        "Real: a process in the governed cgroup connects UDP sockets at a paced rate for {seconds} \
         s, every call decided by the kernel programs and recorded. The figure is the highest \
         rate tried at which nothing was lost, as durable records over the time until the last \
         was durable. Flood, kernel programs, agent and disk share the two processors."
    ));
    how(
        "The spool is acknowledged every 20 ms in place of an exporter: sending is not part of it.",
    );
    let budget = Budget::AtLeast(300_000.0);
    figure("ring record to durable masked record, synthetic", "events/s", budget, &synthetic);
    figure("ring to durable masked record, real, 0 lost", "events/s", budget, &real);
    figure("processor time of an event behind the rings", "µs", Budget::None, &micros);
}

/// Events per second with nothing lost, at the highest of [`RATES`] that loses nothing.
fn highest_rate(place: &Place, seconds: u64, round: u64) -> f64 {
    let mut best = 0.0;
    for rate in RATES {
        let line = place.start(place.load(POLICY));
        let began = Instant::now();
        let cpu = thread::available_parallelism().unwrap().get() - 1;
        let sent: u64 =
            place.drive(cpu, &[&rate.to_string(), &seconds.to_string()]).parse().unwrap();
        let counters = line.stop();
        let took = began.elapsed().as_secs_f64();
        let lost: u64 = counters.lost.values().sum();
        let reached = counters.recorded as f64 / took;
        let (round, lost_where) = (round + 1, &counters.lost);
        eprintln!("ring: real round {round}: {rate}/s wanted, {sent} sent, lost {lost_where:?}");
        assert!(counters.recorded + lost >= sent, "events are neither recorded nor counted lost");
        let fell_behind = sent < rate * seconds * 95 / 100;
        if lost > 0 {
            return best;
        }
        best = f64::max(best, reached);
        if fell_behind {
            return best;
        }
    }
    best
}

/// Connects datagram sockets `rate` times a second, and prints how often.
fn flood(rate: u64, seconds: u64) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let began = Instant::now();
    let (mut sent, all) = (0, rate * seconds);
    while sent < all && began.elapsed() < Duration::from_secs(seconds) {
        let due = rate * u64::try_from(began.elapsed().as_micros()).unwrap() / 1_000_000;
        while sent < due.min(all) {
            let to = Ipv4Addr::from(0x7f00_0001 + u32::try_from(sent % 250).unwrap());
            socket.connect((to, 443)).unwrap();
            sent += 1;
        }
        thread::sleep(TICK);
    }
    println!("{sent}");
}

/// Events per second from their bytes to the durable record, and processor time of each, µs.
fn behind_the_rings(place: &Place, events: usize) -> (f64, f64) {
    let mut hooks = place.load(POLICY);
    for pod in 0..PODS {
        let path = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\
             1a2b3c4d_0000_4000_8000_{pod:012}.slice"
        );
        govern(&mut hooks.governor, FIRST_POD + pod, &path, &format!("billing-bot-{pod}"));
    }
    let mut attribution = Attribution::new(hooks.governor.directory());
    let store = Store::open(place.directory());
    let recorder = store.recorder().handle();
    let records: Vec<Vec<u8>> = (0..events as u64).map(ring_record).collect();
    let mut batch = Batch::default();
    let mut rest = records.as_slice();
    let (began, used) = (Instant::now(), cpu_seconds(std::process::id()));
    while !rest.is_empty() {
        let room = (recorder.room() / 2).min(4096).min(rest.len());
        if room == 0 {
            thread::sleep(TICK);
            continue;
        }
        let (now, later) = rest.split_at(room);
        batch.refill(now.iter().map(Vec::as_slice));
        pipeline::hand_over(&batch, &mut attribution, &recorder);
        rest = later;
    }
    let counters = store.stop();
    let took = began.elapsed().as_secs_f64();
    let used = cpu_seconds(std::process::id()) - used;
    assert_eq!((counters.recorded, counters.lost.len()), (events as u64, 0));
    (events as f64 / took, used * 1e6 / events as f64)
}

/// The bytes of one event, as the kernel programs lay them out.
fn ring_record(number: u64) -> Vec<u8> {
    let task = Task {
        pid: 10_000 + u32::try_from(number / 8 % 4_000).unwrap(),
        tid: 10_000,
        start_ns: 77_000_000_000 + number / 8,
        parent_pid: 1_234,
        uid: 1_000,
        parent_start_ns: 66_000_000_000,
    };
    let (step, pod) = (number % 8, number / 8 % PODS);
    let kind = match step {
        0 => Kind::Fork,
        1 => Kind::Exec,
        7 => Kind::Exit,
        _ => Kind::Egress,
    };
    let header = Header {
        kind,
        flags: 0,
        time_ns: 80_000_000_000 + number * 3_000,
        seq: number,
        cpu: 0,
        policy: 1,
        cgroup: FIRST_POD + pod,
        workload: FIRST_POD + pod,
        task,
        decision: Decision::enforced(1, 0),
    };
    match kind {
        Kind::Fork => {
            // Of the process that the next seven events are about.
            let parent = Task { pid: 1_234, start_ns: 66_000_000_000, ..task };
            let header = Header { task: parent, ..header };
            let (child_pid, child_start_ns) = (task.pid, task.start_ns);
            Fork { header, child_start_ns, child_pid, reserved: 0 }.as_bytes().to_vec()
        }
        Kind::Exit => Exit { header, status: 0, reserved: 0 }.as_bytes().to_vec(),
        Kind::Exec | Kind::ExecRefused => exec(header, number),
        Kind::Egress => {
            let mut address = [0; 16];
            address[10..12].fill(0xff);
            address[12..].copy_from_slice(&[10, 42, 7, u8::try_from(number % 250).unwrap()]);
            let operation = Operation::Connect;
            let egress = Egress { header, address, operation, protocol: 6, port: 443, family: 2 };
            egress.as_bytes().to_vec()
        }
        Kind::Attempt => unreachable!("the mix holds none"),
    }
}

fn exec(header: Header, number: u64) -> Vec<u8> {
    let path = Path::new("/usr/local/lib/agent/bin/kubectl");
    let path = path.to_str().unwrap();
    let argv = format!(
        "kubectl\0--cluster=payments-eu-1\0--namespace=billing\0get\0pods\0-l\0app=api-{number}\0\
         -o\0jsonpath={{.items[*].status.podIP}}\0--request-timeout=30s\0"
    );
    let exec = Exec {
        header,
        path_len: u32::try_from(path.len()).unwrap(),
        invoked_len: 7,
        argv_len: u32::try_from(argv.len()).unwrap(),
        argv_total: u32::try_from(argv.len()).unwrap(),
    };
    [exec.as_bytes(), path.as_bytes(), b"kubectl", argv.as_bytes()].concat()
}
