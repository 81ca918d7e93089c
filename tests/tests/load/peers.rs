//! Peers that take nothing, say nothing, or vanish; and many of them at once.

use std::{io::Write, net::TcpStream, time::Duration};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{setsockopt, sockopt::TcpRepair},
    },
    unistd::Pid,
};
use pcigate_gateway::Limits;
use pcigate_tests::{postgres::Postgres, wait};

use super::{
    alone, ends, gate as new_gate, is_end, is_start, limits, memory, recorded, sessions, wire::Wire,
};

/// More than all buffers on the way hold.
const LARGE: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 30000)";
const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";

fn blocked(postgres: &Postgres) {
    wait::until("the server to wait", || (postgres.sql(BLOCKED) == "1\n").then_some(()));
}

/// Its session is over at the server too, and only that of `other` goes on.
fn alone_is_left(postgres: &Postgres, other: &mut Wire) {
    wait::until("the server to be left", || (sessions(postgres) == 1).then_some(()));
    assert_eq!(other.value("SELECT 42"), "42");
}

#[test]
fn a_client_that_takes_nothing_is_ended_and_its_server_freed() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, Limits { stalled: Duration::from_secs(1), ..limits() });
    let (mut other, mut client) = (Wire::open(gate.address), Wire::open(gate.address));
    client.ask(LARGE);
    let told = ends(&gate, 1);
    assert_eq!(told, ["taking what was sent took longer than 1 s; the session is ended"]);
    alone_is_left(&postgres, &mut other);
    recorded(&gate, 1, is_end);
}

#[test]
fn a_client_that_vanishes_without_a_word_is_noticed_by_what_it_does_not_take() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, limits());
    let (mut other, mut client) = (Wire::open(gate.address), Wire::open(gate.address));
    client.ask(LARGE);
    blocked(&postgres);
    // Closed so, a socket says nothing to its peer.
    setsockopt(&client.stream, TcpRepair, &1).unwrap();
    drop(client);
    assert_eq!(ends(&gate, 1), ["the client's connection ended"]);
    alone_is_left(&postgres, &mut other);
    recorded(&gate, 1, is_end);
}

#[test]
fn a_client_that_closes_its_half_only_is_gone() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, limits());
    let (mut other, client) = (Wire::open(gate.address), Wire::open(gate.address));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ends(&gate, 1), ["the client's connection ended"]);
    alone_is_left(&postgres, &mut other);
}

#[test]
fn a_client_that_says_nothing_for_too_long_is_ended() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, Limits { idle: Some(Duration::from_secs(1)), ..limits() });
    let mut client = Wire::open(gate.address);
    let (code, why) = client.last_words();
    assert!(code.starts_with("57P0") && why.starts_with("pcigate: "), "{code} {why}");
    wait::until("the server to be left", || (sessions(&postgres) == 0).then_some(()));
    recorded(&gate, 1, is_end);
}

/// A server whose kernel takes connections, and that answers none.
struct Stopped(Pid);

impl Stopped {
    fn new(postgres: &Postgres) -> Self {
        let pid = Pid::from_raw(i32::try_from(postgres.pid()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_and_sessions_that_stand_go_on() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, Limits { opening: Duration::from_secs(2), ..limits() });
    let mut other = Wire::open(gate.address);
    let stopped = Stopped::new(&postgres);
    let (code, why) = Wire::knocking(gate.address).last_words();
    assert_eq!(code, "57P01");
    assert!(why.contains("opening the connection took longer than 2 s"), "{why}");
    assert_eq!(other.value("SELECT 42"), "42");
    drop(stopped);
    recorded(&gate, 1, is_end);
    assert_eq!(Wire::open(gate.address).value("SELECT 43"), "43");
}

#[test]
fn a_flood_of_silence_and_garbage_is_closed_in_time_recorded_and_disturbs_nobody() {
    const FLOOD: usize = 600;
    let _alone = alone();
    let postgres = Postgres::start("");
    let opening = Duration::from_secs(5);
    let gate = new_gate(&postgres, Limits { opening, ..limits() });
    let mut other = Wire::open(gate.address);
    let before = memory();
    let garbage: [&[u8]; 6] = [
        b"",
        // The beginning of a startup message.
        &[0, 0, 0, 41, 0, 3, 0],
        // A length that cannot be; one that is too long; words of another protocol.
        &[0, 0, 0, 3, 0, 3, 0, 0],
        &[0xff; 64],
        b"GET / HTTP/1.1\r\nHost: db\r\n\r\n",
        // TLS out of the blue.
        &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3],
    ];
    let flood: Vec<TcpStream> = (0..FLOOD)
        .map(|number| {
            let mut stream = Wire::silent(gate.address).stream;
            // One that is refused already takes nothing.
            let _ = stream.write_all(garbage[number % garbage.len()]);
            stream
        })
        .collect();
    assert_eq!(other.value("SELECT 42"), "42");
    let mut newcomer = Wire::open(gate.address);
    assert_eq!(newcomer.value("SELECT 43"), "43", "who comes is let in");
    newcomer.leave();
    let each = (memory() - before) / FLOOD as f64;
    eprintln!("a connection that says nothing costs {each:.0} KiB");
    assert!(each < 64.0, "{each:.0} KiB");
    let told = ends(&gate, FLOOD + 1);
    let slow =
        told.iter().filter(|why| why.contains("opening the connection took longer than 5 s"));
    assert_eq!(slow.count(), FLOOD / 3, "the silent and the slow: {told:?}");
    assert_eq!(told.iter().filter(|why| *why == "left").count(), 1);
    // Each has its record, and none was a session.
    recorded(&gate, FLOOD + 1, is_end);
    recorded(&gate, 2, is_start);
    for mut stream in flood {
        let ended = std::io::copy(&mut stream, &mut std::io::sink());
        assert!(ended.is_err() || ended.is_ok_and(|bytes| bytes < 512), "it is closed");
    }
    alone_is_left(&postgres, &mut other);
}
