//! The rings: order, completeness, and exact counting of what did not fit.

use std::collections::BTreeMap;

use pcigate_common::event::Event;
use pcigate_tests::kernel::{Kernel, Setup};

const DENY_ALL: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";

#[test]
fn a_full_ring_loses_records_and_counts_every_one() {
    const ATTEMPTS: u64 = 2000;
    let setup = Setup { policy: DENY_ALL.into(), ring: 4096, ..Setup::default() };
    let mut kernel = Kernel::start(&setup);
    kernel.probe(&[&format!("repeat:{ATTEMPTS}:tcp:127.0.0.1:9")]);
    let mut arrived = 0;
    kernel.events(|event| arrived += u64::from(matches!(event, Event::Egress(_))));
    let lost: u64 = kernel
        .lost()
        .into_iter()
        .filter(|(ring, _)| *ring == pcigate_common::maps::Ring::Verdicts)
        .map(|(_, count)| count)
        .sum();
    assert!(arrived > 0 && lost > 0, "{arrived} arrived, {lost} lost");
    assert_eq!(arrived + lost, ATTEMPTS);
    assert!(kernel.lost().is_empty(), "a loss is told once");
    kernel.probe(&["tcp:127.0.0.1:9"]);
    let mut arrived = 0;
    kernel.events(|event| arrived += u64::from(matches!(event, Event::Egress(_))));
    assert_eq!(arrived, 1, "an emptied ring takes records again");
}

#[test]
fn the_kernels_numbering_has_no_hole_where_nothing_was_lost() {
    let mut kernel = Kernel::with_policy(DENY_ALL);
    kernel.probe(&["fork-exec:200:/bin/true", "repeat:200:tcp:127.0.0.1:9"]);
    let mut numbers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut times = Vec::new();
    kernel.events(|event| {
        let header = event.header();
        numbers.entry(header.cpu).or_default().push(header.seq);
        times.push(header.time_ns);
    });
    assert!(kernel.lost().is_empty());
    assert!(times.is_sorted(), "a batch is in the order of time");
    let total: usize = numbers.values().map(Vec::len).sum();
    assert!(total >= 200 * 3 + 200, "fork, exec and exit of each, and each refusal: {total}");
    for (cpu, mut numbers) in numbers {
        numbers.sort_unstable();
        let expected: Vec<u64> = (0..numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "CPU {cpu}");
    }
}

#[test]
fn noise_in_one_ring_does_not_take_the_place_of_a_refusal() {
    let setup = Setup { policy: DENY_ALL.into(), ring: 4096, ..Setup::default() };
    let mut kernel = Kernel::start(&setup);
    kernel.probe(&["fork-exec:100:/bin/true", "tcp:127.0.0.1:9"]);
    let mut refusals = 0;
    kernel.events(|event| refusals += u64::from(matches!(event, Event::Egress(_))));
    assert_eq!(refusals, 1);
    assert!(kernel.lost().iter().any(|(ring, _)| *ring == pcigate_common::maps::Ring::Events));
}
