//! Ordinary clients under load: pgbench by every protocol, with masking and records on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    sync::atomic::Ordering,
};

use bytes::{Bytes, BytesMut};
use pcigate_gateway::Event;
use pcigate_postgres::{
    backend,
    frontend::{Bind, Execute, Message, Parse},
    startup::{Packet, StartupMessage, VERSION_3_0},
    values::{Formats, Values},
};
use pcigate_tests::{
    postgres::{DATABASE, Postgres},
    wait,
};

use super::gate::{EVERYTHING, Gate, PAN, Setup, schema, text};

#[test]
fn pgbench_runs_by_every_protocol_with_no_refusal() {
    let postgres = Postgres::start("");
    let made = postgres.client("pgbench").args(["-i", "-q", "-s", "1"]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    postgres.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC");
    let gate = Gate::new(&postgres, EVERYTHING);
    for protocol in ["simple", "extended", "prepared"] {
        for script in ["tpcb-like", "select-only"] {
            let mut pgbench = gate.client(&postgres, "pgbench");
            pgbench.args(["-n", "-c", "4", "-j", "2", "-t", "50", "-M", protocol, "-b", script]);
            let ran = pgbench.output().unwrap();
            let told = text(&ran);
            assert!(ran.status.success(), "{protocol} {script}: {told}");
            assert!(told.contains("processed: 200/200"), "{protocol} {script}: {told}");
        }
    }
}

#[test]
fn a_slow_reader_stops_the_server_and_then_gets_every_row() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = gate.raw();
    let sql = "SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) AS i";
    client.send(&Message::Query(Bytes::from_static(sql.as_bytes())), "query");
    // 30 MB against buffers of kernel and gateway: the server waits for somebody to read.
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    wait::until("the server to wait", || (postgres.sql(blocked) == "1\n").then_some(()));
    let told = client.read_to_ready();
    let rows = told.iter().filter(|told| matches!(told.message, backend::Message::DataRow(_)));
    assert_eq!(rows.count(), 30_000);
}

fn read_to_ready(stream: &mut TcpStream) -> Vec<backend::Message> {
    let (mut buffer, mut told) = (BytesMut::new(), Vec::new());
    let mut bytes = [0; 8192];
    loop {
        while let Some(frame) = backend::next(&mut buffer, &backend::Limits::default()).unwrap() {
            told.push(backend::Message::decode(&frame).unwrap());
            if matches!(told.last(), Some(backend::Message::ReadyForQuery(_))) {
                return told;
            }
        }
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "the connection ended");
        buffer.extend_from_slice(&bytes[..read]);
    }
}

#[test]
fn a_pipeline_of_statements_waits_for_the_disk_once_for_all() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = Gate::new(&postgres, EVERYTHING);
    let mut client = TcpStream::connect(gate.address).unwrap();
    let parameter = |name: &str, value: &str| (name.to_owned().into(), value.to_owned().into());
    let mut out = BytesMut::new();
    let parameters = vec![parameter("user", "bot"), parameter("database", DATABASE)];
    let startup = StartupMessage { version: VERSION_3_0, parameters };
    Packet::Startup(startup).encode(&mut out).unwrap();
    client.write_all(&out).unwrap();
    read_to_ready(&mut client);
    let before = gate.waits.load(Ordering::SeqCst);
    out.clear();
    let sql = Bytes::from_static(b"SELECT note FROM orders WHERE id = $1");
    for _ in 0..200 {
        let parse =
            Parse { statement: Bytes::new(), sql: sql.clone(), parameter_types: Vec::new() };
        Message::Parse(parse).encode(&mut out).unwrap();
        let bind = Bind {
            portal: Bytes::new(),
            statement: Bytes::new(),
            parameter_formats: Formats::default(),
            parameters: Values::new([Some(&b"7"[..])]).unwrap(),
            result_formats: Formats::default(),
        };
        Message::Bind(bind).encode(&mut out).unwrap();
        let execute = Execute { portal: Bytes::new(), max_rows: 0 };
        Message::Execute(execute).encode(&mut out).unwrap();
    }
    Message::Sync.encode(&mut out).unwrap();
    client.write_all(&out).unwrap();
    let told = read_to_ready(&mut client);
    let rows = told.iter().filter(|message| matches!(message, backend::Message::DataRow(_)));
    assert_eq!(rows.count(), 200);
    let statement = |event: &&Event| matches!(event, Event::Statement(_));
    assert_eq!(gate.events.lock().unwrap().iter().filter(statement).count(), 200);
    // As many as there were reads, on a machine that may be slow: far fewer than statements.
    assert!(gate.waits.load(Ordering::SeqCst) - before <= 10);
}

#[test]
fn copy_goes_both_ways_and_a_refused_one_takes_no_data() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let copy_in = |gate: &Gate, table: &str| {
        let mut psql = gate.client(&postgres, "psql");
        let statement = format!("COPY {table} FROM STDIN");
        psql.args(["-XAtq", "-c", &statement, "-c", "SELECT count(*) FROM orders"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let mut lines = child.stdin.take().unwrap();
        for id in 2_001..3_001 {
            // A refused COPY reads nothing.
            let _ = writeln!(lines, "{id}\tpaid with {PAN}");
        }
        drop(lines);
        text(&child.wait_with_output().unwrap())
    };
    let gate = Gate::new(&postgres, EVERYTHING);
    assert_eq!(copy_in(&gate, "orders"), "2000\n");
    let told = gate.psql(&postgres, "COPY orders TO STDOUT");
    assert_eq!(told.lines().count(), 2_000);
    assert!(told.contains("paid with 411111******1111") && !told.contains(PAN));
    assert!(!gate.recorded().contains(PAN));
    let readers = "
          - {id: read, action: allow, effects: [read], tables: [public.orders]}";
    let told = copy_in(&Gate::new(&postgres, readers), "orders");
    assert!(told.contains("pcigate: ") && told.starts_with("2000\n"), "{told}");
}

#[test]
fn a_client_that_wants_tls_gets_it_and_messages_over_the_limit_are_refused() {
    let postgres = Postgres::start("");
    let setup = Setup { statements: EVERYTHING, client_tls: true, ..Setup::default() };
    let gate = Gate::with(&postgres, setup);
    let mut psql = gate.client(&postgres, "psql");
    psql.env("PGSSLMODE", "require").args(["-X", "-c", "\\conninfo", "-c", "SELECT 42"]);
    let told = text(&psql.output().unwrap());
    assert!(told.contains("SSL connection") && told.contains("42"), "{told}");
    let mut client = gate.raw();
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    client.send(&Message::Query(Bytes::from(long)), "query");
    let told = client.read_raw(1);
    let backend::Message::ErrorResponse(report) = &told[0] else { panic!("no error") };
    assert_eq!(report.code(), b"08P01");
    wait::until("its end", || (gate.ends.lock().unwrap().len() == 2).then_some(()));
}
