//! Results that fit nowhere, and statements that may not.

use std::{fs::File, io::Write, process::Stdio};

use pcigate_gateway::Event;
use pcigate_tests::{figures::cpu_seconds, postgres::Postgres, wait};

use super::{
    alone, ends, gate as new_gate,
    gate::{PAN, schema, text},
    limits, memory, recorded, sessions,
    wire::Wire,
};

/// Of about 1 KiB.
const ROWS: u64 = 128 << 10;
/// KiB that buffers and allocator may need, whatever passes.
const GROWTH: f64 = 8192.0;

/// Waits until this process, and so the gateway, has nothing to do: it uses no processor time while
/// others are at work.
fn quiet(postgres: &Postgres) {
    let used = || cpu_seconds(std::process::id());
    let (mut last, mut times) = (used(), 0);
    wait::until("the gateway to stop", || {
        postgres.sql("SELECT 1");
        let now = used();
        // Ticks of 10 ms. To start psql takes some, too, but not each time.
        times = if now - last < 0.005 { times + 1 } else { 0 };
        last = now;
        (times == 5).then_some(())
    });
}

#[test]
fn a_slow_reader_of_a_large_result_costs_no_memory_and_gets_every_row() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, limits());
    let mut client = Wire::open(gate.address);
    let before = memory();
    let filler = "x".repeat(1000);
    client.ask(&format!("SELECT i, '{filler}' || '{PAN}' FROM generate_series(1, {ROWS}) AS i"));
    quiet(&postgres);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    assert_eq!(postgres.sql(waits), "1\n", "nobody reads, so the server waits");
    let mut most = memory() - before;
    let (mut rows, mut bytes) = (0, 0);
    while let Some(frame) = client.next().unwrap() {
        bytes += frame.bytes().len();
        match frame.tag() {
            b'D' => {
                rows += 1;
                let row = frame.bytes();
                assert!(row.ends_with(b"xx411111******1111"), "row {rows} is masked");
            }
            b'Z' => break,
            _ => {}
        }
        if rows % 1024 == 0 {
            most = most.max(memory() - before);
        }
    }
    let mib = bytes >> 20;
    eprintln!("{mib} MiB of result cost {most:.0} KiB at most");
    assert_eq!(rows, ROWS);
    assert!(mib >= 128 && most < GROWTH, "{mib} MiB cost {most:.0} KiB");
    recorded(&gate, 1, |event| matches!(event, Event::StatementEnded(end) if end.rows == ROWS));
}

#[test]
fn a_statement_of_100_mb_is_refused_by_its_length_and_nobody_else_notices() {
    const LENGTH: u32 = 100 << 20;
    let _alone = alone();
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = new_gate(&postgres, limits());
    let mut other = Wire::open(gate.address);
    let before = memory();
    // Query, Parse, Bind, CopyData.
    for (number, tag) in [b'Q', b'P', b'B', b'd'].into_iter().enumerate() {
        let mut client = Wire::open(gate.address);
        client.stream.write_all(&[&[tag][..], &LENGTH.to_be_bytes()].concat()).unwrap();
        let (code, why) = client.last_words();
        assert_eq!(code, "08P01", "{why}");
        assert!(why.contains("104857596") && why.contains("limit"), "{why}");
        // What it sends all the same is dropped, or not taken.
        let piece = [b' '; 64 << 10];
        let _ = (0..LENGTH >> 16).try_for_each(|_| client.stream.write_all(&piece));
        assert_eq!(other.value("SELECT note FROM orders WHERE id = 7"), "order 7");
        assert_eq!(ends(&gate, number + 1)[number], why.trim_start_matches("pcigate: "));
    }
    let grown = memory() - before;
    assert!(grown < GROWTH, "{grown:.0} KiB");
    wait::until("its sessions to end", || (sessions(&postgres) == 1).then_some(()));
}

#[test]
fn psql_is_told_why_its_statement_of_100_mb_is_refused() {
    let _alone = alone();
    let postgres = Postgres::start("");
    let gate = new_gate(&postgres, limits());
    let path = postgres.socket_directory().join("long.sql");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"SELECT '").unwrap();
    for _ in 0..100 {
        file.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    file.write_all(b"';\n").unwrap();
    let mut psql = gate.client(&postgres, "psql");
    psql.args(["-X", "-q"]).stdin(Stdio::from(File::open(path).unwrap()));
    let told = text(&psql.output().unwrap());
    assert!(told.contains("pcigate: ") && told.contains("limit"), "{told}");
}
