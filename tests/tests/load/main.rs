//! The gateway with many clients, large messages, and peers that do not play along: bounded memory,
//! an end in time, a record of it, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(clippy::print_stderr, reason = "figures for people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../gateway/gate.rs"]
#[allow(dead_code, reason = "it has more than these tests need")]
mod gate;
mod large;
mod many;
mod peers;
#[path = "../postgres/client.rs"]
#[allow(dead_code, reason = "it has more than these tests need")]
mod raw;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pcigate_gateway::{Event, Limits};
use pcigate_tests::{
    figures::status_kib,
    postgres::{Postgres, SCRAM},
    wait,
};

use gate::{EVERYTHING, Gate, Setup};

/// One test at a time: each looks at the memory of this process, in which the gateway runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// KiB of this process that no file backs.
fn memory() -> f64 {
    status_kib(std::process::id(), "RssAnon")
}

/// A gate that allows everything, and keeps little of what passes: records stay in this process.
fn gate(postgres: &Postgres, limits: Limits) -> Gate {
    Gate::with(postgres, Setup { statements: EVERYTHING, limits, ..Setup::default() })
}

fn limits() -> Limits {
    Limits { traffic: 64 << 10, ..Limits::default() }
}

/// Sessions that the server has with the gateway.
fn sessions(postgres: &Postgres) -> usize {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{SCRAM}'");
    postgres.sql(&sql).trim().parse().unwrap()
}

/// Waits for the ends of so many connections; the reasons, in order.
fn ends(gate: &Gate, count: usize) -> Vec<String> {
    wait::until("the ends", || (gate.ends.lock().unwrap().len() >= count).then_some(()));
    gate.ends.lock().unwrap().clone()
}

/// How many records there are of a kind, once there are so many.
fn recorded(gate: &Gate, count: usize, is: impl Fn(&Event) -> bool) {
    let found = || gate.events.lock().unwrap().iter().filter(|event| is(event)).count();
    wait::until("the records", || (found() >= count).then_some(()));
    assert_eq!(found(), count);
}

fn is_start(event: &Event) -> bool {
    matches!(event, Event::SessionStarted { .. })
}

fn is_end(event: &Event) -> bool {
    matches!(event, Event::SessionEnded { .. })
}
