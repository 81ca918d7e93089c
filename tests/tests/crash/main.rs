//! The crash rounds in short: one plan that is always the same, and one nobody has seen before.
//! `cargo xtask crash` runs a thousand. They need root.
#![allow(clippy::print_stdout, reason = "the seed of a plan that finds something")]

use pcigate_tests::crash::{Kind, Options, random_seed, run};

/// Rounds of each kind.
const ROUNDS: u64 = 8;

fn survives(seed: u64) {
    println!("seed {seed}");
    for kind in [Kind::Collector, Kind::Spool, Kind::Agent] {
        let rounds = if kind == Kind::Agent { 1 } else { ROUNDS };
        let options = Options { rounds, seed, jobs: 1, only: Some(kind), keep: None };
        let summary = run(&options, |_| ());
        assert_eq!(summary.broken, Vec::<String>::new(), "seed {seed}");
        assert_eq!(summary.rounds.values().sum::<u64>(), rounds);
    }
}

#[test]
fn every_promise_is_kept_through_the_crashes_of_a_known_plan() {
    survives(1);
}

#[test]
fn every_promise_is_kept_through_the_crashes_of_a_random_plan() {
    survives(random_seed());
}
