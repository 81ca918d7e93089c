//! PostgreSQL's own programs through a small relay: every message is decoded, followed by the
//! session, and encoded again; what goes out is, byte for byte, what came in.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use bytes::BytesMut;
use pcigate_postgres::{
    backend,
    frontend::{self, Message},
    session::{About, Limits, Origin, Session},
    startup::{self, Packet},
};
use pcigate_tests::postgres::{PASSWORD, Postgres, SCRAM};

/// What went through.
#[derive(Default)]
struct Count {
    requests: AtomicUsize,
    answers: AtomicUsize,
    rows: AtomicUsize,
    /// Rows whose columns were never described.
    bare_rows: AtomicUsize,
    dropped: AtomicUsize,
    waited: AtomicUsize,
}

impl Count {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::Relaxed)
    }
}

/// Both directions of one connection share it.
struct Following {
    /// Nothing until the server is ready for the first time.
    session: Mutex<Option<Session<()>>>,
    answered: Condvar,
}

/// Runs `work` with the address of a relay to the server.
fn through(postgres: &Postgres, work: impl FnOnce(SocketAddr)) -> Count {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], postgres.port()));
    let (count, done) = (Count::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let mut connections = Vec::new();
            for client in listener.incoming() {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let count = &count;
                connections.push(scope.spawn(move || connection(client.unwrap(), server, count)));
            }
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        });
        work(address);
        done.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(address).unwrap());
        accepting.join().unwrap();
    });
    count
}

fn connection(mut client: TcpStream, server: SocketAddr, count: &Count) {
    let mut buffer = BytesMut::new();
    let packet = loop {
        match startup::next(&mut buffer, startup::LIMIT).unwrap() {
            Some(Packet::SslRequest | Packet::GssEncRequest) => client.write_all(b"N").unwrap(),
            Some(packet) => break packet,
            None if !fill(&mut client, &mut buffer) => return,
            None => {}
        }
    };
    let mut server = TcpStream::connect(server).unwrap();
    let mut out = BytesMut::new();
    packet.encode(&mut out).unwrap();
    server.write_all(&out).unwrap();
    if matches!(packet, Packet::Cancel(_)) {
        return;
    }
    let following = Following { session: Mutex::new(None), answered: Condvar::new() };
    thread::scope(|scope| {
        let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let answers = scope.spawn(|| answers(from, to, &following, count));
        requests(client, server, buffer, &following, count);
        answers.join().unwrap();
    });
    let session = following.session.into_inner().unwrap().unwrap();
    assert_eq!(session.outstanding().count(), 0, "everything was answered");
}

fn requests(
    mut client: TcpStream,
    mut server: TcpStream,
    mut buffer: BytesMut,
    following: &Following,
    count: &Count,
) {
    loop {
        let Some(frame) = frontend::next(&mut buffer, &frontend::Limits::default()).unwrap() else {
            if fill(&mut client, &mut buffer) {
                continue;
            }
            let _ = server.shutdown(Shutdown::Write);
            return;
        };
        let message = Message::decode(&frame).unwrap();
        let mut out = BytesMut::new();
        message.encode(&mut out).unwrap();
        assert_eq!(out, frame.bytes(), "{}", message.name());
        Count::add(&count.requests);
        if may_go(&message, &mut server, following, count) {
            server.write_all(&out).unwrap();
        }
    }
}

/// Tells the session of a message, which may have to wait; whether it is to be sent on.
fn may_go(message: &Message, server: &mut TcpStream, following: &Following, count: &Count) -> bool {
    let mut session = following.session.lock().unwrap();
    if matches!(message, Message::Password(_)) {
        assert!(session.is_none(), "a password in the middle of a session");
        return true;
    }
    loop {
        let followed = session.as_mut().unwrap();
        match followed.about(message).unwrap() {
            About::Drop => {
                Count::add(&count.dropped);
                return false;
            }
            About::Wait => {
                Count::add(&count.waited);
                let mut flush = BytesMut::new();
                Message::Flush.encode(&mut flush).unwrap();
                server.write_all(&flush).unwrap();
                session = following.answered.wait(session).unwrap();
            }
            About::Decide { .. } | About::Copy(_) | About::Forward => {
                followed.sent(message, Origin::Client, ()).unwrap();
                return true;
            }
        }
    }
}

fn answers(mut server: TcpStream, mut client: TcpStream, following: &Following, count: &Count) {
    let mut buffer = BytesMut::new();
    loop {
        let mut out = BytesMut::new();
        while let Some(frame) = backend::next(&mut buffer, &backend::Limits::default()).unwrap() {
            let message = backend::Message::decode(&frame).unwrap();
            let before = out.len();
            message.encode(&mut out).unwrap();
            assert_eq!(out[before..], frame.bytes()[..], "{}", message.name());
            Count::add(&count.answers);
            let mut session = following.session.lock().unwrap();
            match session.as_mut() {
                Some(session) => follow(session, &message, count),
                None if matches!(message, backend::Message::ReadyForQuery(_)) => {
                    *session = Some(Session::new(Limits::default()));
                }
                None => {}
            }
            following.answered.notify_all();
        }
        if !out.is_empty() && client.write_all(&out).is_err() {
            return;
        }
        if !fill(&mut server, &mut buffer) {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn follow(session: &mut Session<()>, message: &backend::Message, count: &Count) {
    let answer = session.received(message).unwrap_or_else(|error| panic!("{error}"));
    if matches!(message, backend::Message::DataRow(_)) {
        Count::add(&count.rows);
        if answer.shape.is_none() {
            Count::add(&count.bare_rows);
        }
    }
}

/// Reads some more; whether there was any.
fn fill(from: &mut TcpStream, buffer: &mut BytesMut) -> bool {
    let mut bytes = [0; 65_536];
    let read = from.read(&mut bytes).unwrap_or(0);
    buffer.extend_from_slice(&bytes[..read]);
    read > 0
}

/// A client program that goes to `address` as the role with a SCRAM password.
fn client(postgres: &Postgres, name: &str, address: SocketAddr) -> Command {
    let mut client = postgres.client(name);
    client.env("PGHOST", "127.0.0.1").env("PGPORT", address.port().to_string());
    client.env("PGUSER", SCRAM).env("PGPASSWORD", PASSWORD);
    client
}

fn output(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What psql can do, once: it must say the same with and without the relay.
const SCRIPT: &str = r"
\set VERBOSITY verbose
DROP TABLE IF EXISTS t, u;
CREATE TABLE t (id int PRIMARY KEY, note text, n numeric, b bytea, j jsonb);
INSERT INTO t SELECT n, 'note ' || n, n / 7.0, '\x00ff', '{}' FROM generate_series(1, 5000) n;
SELECT * FROM t ORDER BY id;
SELECT 1 \; SELECT 2 \; SELECT * FROM t WHERE id < 3 ORDER BY id;
SELECT id, note FROM t \gdesc
COPY t (id, note) FROM STDIN;
6001	by copy
6002	\N
\.
COPY t (id, note) FROM STDIN;
not a number	x
\.
SELECT 'still here';
COPY (SELECT * FROM t ORDER BY id DESC LIMIT 3000) TO STDOUT;
COPY (SELECT 1) TO STDOUT (FORMAT binary);
BEGIN;
DECLARE c BINARY CURSOR FOR SELECT id FROM t ORDER BY id;
FETCH 2 FROM c;
SAVEPOINT s;
SELECT 1/0;
ROLLBACK TO s;
MOVE 3 IN c;
COMMIT;
BEGIN; SELECT nonsense; SELECT 1; END;
LISTEN channel;
NOTIFY channel, 'told';
SELECT 1;
DO $$ BEGIN RAISE WARNING 'told %', 1; END $$;
SET client_encoding TO 'LATIN1';
SHOW client_encoding;
SET client_encoding TO 'UTF8';
PREPARE p (int) AS SELECT note FROM t WHERE id = $1;
EXECUTE p (7);
DEALLOCATE p;
\lo_import large.bin
\lo_export :LASTOID large.out
\lo_unlink :LASTOID
SELECT repeat('x', 1000000);
";

#[test]
fn psql_says_the_same_through_our_decoders_session_and_encoders() {
    let postgres = Postgres::start("");
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(postgres.socket_directory().join("large.bin"), &large).unwrap();
    std::fs::write(postgres.socket_directory().join("script.sql"), SCRIPT).unwrap();
    let psql = |address| {
        let mut psql = client(&postgres, "psql", address);
        output(psql.args(["-X", "-f", "script.sql"]))
    };
    // The first time there are no tables to drop.
    psql(SocketAddr::from(([127, 0, 0, 1], postgres.port())));
    let (_, direct) = psql(SocketAddr::from(([127, 0, 0, 1], postgres.port())));
    let mut relayed = String::new();
    let count = through(&postgres, |address| relayed = psql(address).1);
    assert!(direct.contains("division by zero") && direct.contains("6001\tby copy"));
    let steady = |text: &str| {
        // Numbers of processes and large objects are others each time.
        let lines = text
            .lines()
            .filter(|line| !line.contains("server process with PID") && !line.starts_with("lo_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (relayed, direct) = (steady(&relayed), steady(&direct));
    for (relayed, direct) in relayed.iter().zip(&direct) {
        assert_eq!(relayed, direct);
    }
    assert_eq!(relayed.len(), direct.len());
    let exported = std::fs::read(postgres.socket_directory().join("large.out")).unwrap();
    assert_eq!(exported, large, "FunctionCall carries large objects");
    assert!(Count::get(&count.rows) > 5_000 && Count::get(&count.bare_rows) == 0);
    assert!(Count::get(&count.answers) > 8_000);
}

/// One batch of many statements, as pgbench can send them.
const PIPELINE: &str = r"
\set id random(1, 100000)
\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :id;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id;
SELECT abalance FROM pgbench_accounts WHERE aid = :id;
\endpipeline
";

#[test]
fn pgbench_runs_by_every_protocol_through_our_decoders_session_and_encoders() {
    let postgres = Postgres::start("");
    std::fs::write(postgres.socket_directory().join("pipeline.sql"), PIPELINE).unwrap();
    let bench = |address, words: &[&str]| {
        let (succeeded, text) = output(client(&postgres, "pgbench", address).args(words));
        assert!(succeeded, "{words:?}: {text}");
        assert!(!text.contains("aborted"), "{words:?}: {text}");
    };
    let count = through(&postgres, |address| bench(address, &["-i", "-s", "1", "-q"]));
    assert!(Count::get(&count.requests) > 1_000, "COPY of 100,000 rows");
    let run = ["-n", "-c", "4", "-j", "2", "-t", "25"];
    for protocol in ["simple", "extended", "prepared"] {
        let count = through(&postgres, |address| {
            bench(address, &[&run[..], &["-M", protocol]].concat());
        });
        assert!(Count::get(&count.rows) >= 100);
        assert_eq!(Count::get(&count.dropped), 0);
        if protocol != "simple" {
            let words = [&run[..], &["-M", protocol, "-f", "pipeline.sql"]].concat();
            let count = through(&postgres, |address| bench(address, &words));
            assert!(Count::get(&count.rows) >= 200);
            assert_eq!(Count::get(&count.bare_rows), 0);
        }
    }
}
