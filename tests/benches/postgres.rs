//! What the PostgreSQL gateway costs: pgbench direct, through pgbouncer, and through the gateway
//! with policy, masking and records on; a wide result; memory of idle connections.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go out, progress to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "postgres/idle.rs"]
mod idle;
#[path = "postgres/ways.rs"]
mod ways;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Instant,
};

use pcigate_tests::{
    figures::{Budget, figure, flag, how, option},
    line::driven,
};

use ways::{Bench, Cell, Script, Way};

/// Clients side by side.
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Seconds of each measurement: many short rounds tell more of a shared machine than long ones.
const SECONDS: u64 = 1;
/// Rows and columns of the wide result, and how often it is asked for.
const WIDE_ROWS: u64 = 20_000;
const WIDE_COLUMNS: u64 = 30;
const WIDE_TIMES: u64 = 3;
/// Connections that stay idle.
const IDLE: u64 = 1_000;
/// Added latency over direct, beyond one fdatasync, µs; and the 99th percentile, ms.
const P50_MICROS: f64 = 60.0;
const P99_MILLIS: f64 = 2.0;

/// Samples by the name of their figure.
type Samples = BTreeMap<String, Vec<f64>>;

fn main() {
    if let Some(arguments) = driven() {
        return idle::hold(&arguments);
    }
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 1 } else { 5 });
    let bench = Bench::new();
    let mut samples = Samples::new();
    for round in 0..rounds {
        eprintln!("postgres: round {} of {rounds}", round + 1);
        one_round(&bench, round % 2 == 1, &mut samples);
    }
    let idle = if quick { IDLE / 5 } else { IDLE };
    eprintln!("postgres: {idle} idle connections");
    let memory = idle::measure(&bench, idle);
    told(&bench, idle);
    figures(&samples);
    let per_connection = (memory.many - memory.one) / (idle - 1) as f64;
    figure(
        "idle connection: anonymous memory of the agent",
        "KiB",
        Budget::None,
        &[per_connection],
    );
    let name = format!("agent RSS with {idle} idle connections");
    figure(&name, "MiB", Budget::None, &[memory.rss / 1024.0]);
}

/// All ways in turn, in the other order every other time.
fn one_round(bench: &Bench, backwards: bool, samples: &mut Samples) {
    let mut sync = fdatasync(&bench.directory());
    for clients in CLIENTS {
        for script in [Script::ReadOnly, Script::TpcB] {
            let mut cells = BTreeMap::new();
            for way in in_order(bench.ways(), backwards) {
                cells.insert(way, bench.run(way, script, clients, SECONDS));
            }
            compared(script, clients, &cells, samples);
        }
    }
    sync.extend(fdatasync(&bench.directory()));
    sync.sort_by(f64::total_cmp);
    let of_sync = ways::percentile(&sync, 50);
    keep(samples, "fdatasync of 4 KiB, p50", of_sync);
    keep(samples, "fdatasync of 4 KiB, p99", ways::percentile(&sync, 99));
    let added = last(samples, &added_name(Script::ReadOnly, 1, 50));
    keep(samples, BEYOND_SYNC, added - of_sync);
    let mut rates = BTreeMap::new();
    for way in in_order(bench.ways(), backwards) {
        let latency = bench.wide(way, WIDE_TIMES).p50 / 1e6;
        rates.insert(way, WIDE_ROWS as f64 / latency);
    }
    keep(samples, "wide result, direct", rates[&Way::Direct]);
    keep(samples, "wide result, gateway", rates[&Way::Gateway]);
    keep(samples, "wide result, gateway ÷ direct", rates[&Way::Gateway] / rates[&Way::Direct]);
}

const BEYOND_SYNC: &str = "-S, 1 client: added latency p50, beyond one fdatasync";

fn cell_name(script: Script, clients: usize) -> String {
    let plural = if clients == 1 { "" } else { "s" };
    format!("{}, {clients} client{plural}", script.name())
}

fn added_name(script: Script, clients: usize, percent: usize) -> String {
    format!("{}: added latency p{percent}", cell_name(script, clients))
}

fn compared(script: Script, clients: usize, cells: &BTreeMap<Way, Cell>, samples: &mut Samples) {
    let (direct, gateway) = (&cells[&Way::Direct], &cells[&Way::Gateway]);
    let name = cell_name(script, clients);
    keep(samples, &format!("{name}: direct"), direct.per_second);
    keep(samples, &format!("{name}: gateway ÷ direct"), gateway.per_second / direct.per_second);
    if let Some(bouncer) = cells.get(&Way::Bouncer) {
        let ratio = gateway.per_second / bouncer.per_second;
        keep(samples, &format!("{name}: gateway ÷ pgbouncer"), ratio);
    }
    keep(samples, &format!("{name}: direct, latency p50"), direct.p50);
    keep(samples, &added_name(script, clients, 50), gateway.p50 - direct.p50);
    keep(samples, &added_name(script, clients, 99), (gateway.p99 - direct.p99) / 1e3);
}

fn in_order(mut ways: Vec<Way>, backwards: bool) -> Vec<Way> {
    if backwards {
        ways.reverse();
    }
    ways
}

fn keep(samples: &mut Samples, name: &str, value: f64) {
    samples.entry(name.to_owned()).or_default().push(value);
}

fn last(samples: &Samples, name: &str) -> f64 {
    *samples[name].last().expect("it was kept")
}

/// µs of each of 200 syncs of 4 KiB more, on the file system of the spool.
fn fdatasync(directory: &Path) -> Vec<f64> {
    let path = directory.join("sync");
    let mut file = File::create(&path).unwrap();
    let page = [7; 4096];
    let times = (0..200).map(|_| {
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&page).unwrap();
        let began = Instant::now();
        file.sync_data().unwrap();
        began.elapsed().as_secs_f64() * 1e6
    });
    let times = times.collect();
    std::fs::remove_file(path).unwrap();
    times
}

fn told(bench: &Bench, idle: u64) {
    how(&format!(
        "pgbench, {SECONDS} s a measurement, simple protocol, scale 10, fsync on, to a PostgreSQL \
         15 of the bench's own on loopback. direct: with SCRAM. gateway: the same pgbench under \
         `pcigate-agent exec`, with one gate rule for reading and writing, masking of every value, \
         every statement's record on disk before it is sent, traffic kept, and all of it left in \
         the spool. Latencies are those of pgbench's log: of a statement for -S, of a transaction \
         of seven statements for TPC-B."
    ));
    how(match bench.ways().contains(&Way::Bouncer) {
        true => "pgbouncer: 1.18 of Debian 12, session mode, one server connection a client.",
        false => "pgbouncer was not there: nothing is compared with it.",
    });
    how(&format!(
        "The budget of the latency is one group commit's fdatasync of the same run and 60 µs: what \
         is shown is what is beyond the fdatasync, of 4 KiB appended to a file beside the spool. \
         The wide result has {WIDE_ROWS} rows of {WIDE_COLUMNS} columns. Idle: {idle} connections \
         that have asked nothing; anonymous memory is what the agent's processes have more than \
         with one connection, for each."
    ));
}

fn figures(samples: &Samples) {
    let show = |name: &str, unit: &str, budget: Budget| {
        if let Some(values) = samples.get(name) {
            figure(name, unit, budget, values);
        }
    };
    show(BEYOND_SYNC, "µs", Budget::AtMost(P50_MICROS));
    show("fdatasync of 4 KiB, p50", "µs", Budget::None);
    show("fdatasync of 4 KiB, p99", "µs", Budget::None);
    for script in [Script::ReadOnly, Script::TpcB] {
        for clients in CLIENTS {
            let name = cell_name(script, clients);
            let judged = script == Script::ReadOnly && clients == 16;
            let at_least = |least| if judged { Budget::AtLeast(least) } else { Budget::None };
            let single = script == Script::ReadOnly && clients == 1;
            let p99 = if single { Budget::AtMost(P99_MILLIS) } else { Budget::None };
            show(&format!("{name}: gateway ÷ pgbouncer"), "ratio", at_least(1.0));
            show(&format!("{name}: gateway ÷ direct"), "ratio", at_least(0.7));
            show(&format!("{name}: direct"), "transactions/s", Budget::None);
            show(&format!("{name}: direct, latency p50"), "µs", Budget::None);
            show(&added_name(script, clients, 50), "µs", Budget::None);
            show(&added_name(script, clients, 99), "ms", p99);
        }
    }
    show("wide result, direct", "rows/s", Budget::None);
    show("wide result, gateway", "rows/s", Budget::None);
    show("wide result, gateway ÷ direct", "ratio", Budget::None);
}
