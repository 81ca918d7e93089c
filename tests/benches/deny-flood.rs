//! How many refusals a second a node takes with every one of them recorded or counted: connects at
//! full speed on all processors.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go out, progress to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pcigate_agent::draft::Queue;
use pcigate_tests::{
    figures::{Budget, figure, flag, how, option},
    line::{Place, driven},
};

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";

fn main() {
    if let Some(arguments) = driven() {
        return flood(Duration::from_secs(arguments[0].parse().unwrap()));
    }
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 2 } else { 9 });
    let seconds = if quick { 1 } else { 5 };
    let place = Place::new();
    let cpus = thread::available_parallelism().unwrap().get();
    let (mut sustained, mut recorded, mut unaccounted) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
    for round in 0..rounds {
        let line = place.start(place.load(POLICY));
        let began = Instant::now();
        let sent: u64 = thread::scope(|scope| {
            let place = &place;
            let drive = move |cpu| place.drive(cpu, &[&seconds.to_string()]);
            let all: Vec<_> = (0..cpus).map(|cpu| scope.spawn(move || drive(cpu))).collect();
            all.into_iter().map(|one| one.join().unwrap().parse::<u64>().unwrap()).sum()
        });
        let took = began.elapsed().as_secs_f64();
        let counters = line.stop();
        let of = |name| counters.by_verdict.iter().filter(move |((kind, _), _)| *kind == name);
        let records: u64 = of("egress").map(|(_, count)| count).sum();
        let lost = counters.lost.iter().filter(|((queue, _), _)| *queue == Queue::Verdicts);
        let lost: u64 = lost.map(|(_, count)| count).sum();
        let round = round + 1;
        eprintln!("deny-flood: round {round} of {rounds}: {sent} refused, {lost} counted lost");
        sustained.push(sent as f64 / took);
        recorded.push(records as f64 / sent as f64 * 100.0);
        unaccounted.push(sent as f64 - (records + lost) as f64);
    }
    how(&format!(
        "One process on each of {cpus} processors connects a datagram socket to a refused address \
         as fast as it can for {seconds} s, while the agent's own threads record on the same \
         processors. Every refusal is a record of its own in the spool, or in the count of a Lost \
         record; unaccounted is what is in neither."
    ));
    figure("refusals, all processors at full speed", "1/s", Budget::None, &sustained);
    figure("of them unaccounted", "refusals", Budget::AtMost(0.0), &unaccounted);
    figure("of them with a record of their own", "%", Budget::None, &recorded);
}

/// Connects until the time is over, and prints how often it was refused.
fn flood(during: Duration) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (began, mut refused) = (Instant::now(), 0u64);
    while began.elapsed() < during {
        for _ in 0..100 {
            let error = socket.connect((Ipv4Addr::LOCALHOST, 9)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::EPERM as i32));
            refused += 1;
        }
    }
    println!("{refused}");
}
