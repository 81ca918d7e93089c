//! What questions over many records take, and what the index takes on disk.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../../tests/src/figures.rs"]
mod figures;
mod records;

use std::{
    path::Path,
    process::{Command, ExitCode},
    sync::mpsc::{Receiver, sync_channel},
    time::{Instant, SystemTime},
};

use figures::{Budget, figure, flag, how, option, status_kib};
use pcigate_collector::ledger::{Leaf, Ledger};
use pcigate_index::{Index, Question, Settings, SqlLimits};
use pcigate_ledger::entry;
use tokio::runtime::Runtime;

/// Records of the ledger.
const RECORDS: u64 = 50_000_000;
/// Bytes a record needs on disk, ledger and index, while the index is being compacted too.
const DISK_BYTES: u64 = 720;
/// Leaves of one commit, and of one step of the index.
const GROUP: u64 = 65_536;
/// The pod that is asked for.
const POD: u64 = 123;
/// The day that is asked for, from 0.
const DAY: u64 = 17;

const DENIED: &str = "SELECT date_trunc('hour', time) AS hour, service_account, count(*) AS denied \
                      FROM records WHERE verdict = 'deny' GROUP BY 1, 2 ORDER BY 1, 2";
const LIKE: &str = "SELECT count(*) FROM records WHERE command LIKE '%reconcile%'";

fn main() -> ExitCode {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 3 } else { 7 });
    let records = option("records", if quick { RECORDS / 50 } else { RECORDS });
    let own = std::env::current_exe().unwrap();
    let target = own.parent().unwrap();
    let (needed, free) = (records * DISK_BYTES, free_bytes(target));
    if free < needed {
        eprintln!(
            "query: {records} records need {} GB on disk while this runs, {} has {} GB free: make \
             room, or give fewer with --records",
            needed / 1_000_000_000,
            target.display(),
            free / 1_000_000_000
        );
        return ExitCode::FAILURE;
    }
    let directory = tempfile::tempdir_in(target).unwrap();
    let made = make(directory.path(), records);
    let runtime = Runtime::new().unwrap();
    let asked = ask(&runtime, &made, records, rounds);
    how(&format!(
        "A ledger of {records} records: {} pods on {} nodes over {} days, two of ten a program \
         with its arguments, four a connection, two each a fork and an end, one of fifty decided \
         ones refused. Indexed by the library as the collector does it, compacted, nothing left in \
         memory. The first round is the first question asked; files are in the page cache as far \
         as it holds them.",
        records::PODS,
        records::NODES,
        records::DAYS
    ));
    how(&format!("Denied per agent and hour: `{DENIED}`. LIKE: `{LIKE}`."));
    let second = Budget::AtMost(1.0);
    figure("one pod-day, through the filters", "s", second, &asked.pod_day);
    figure("the records of that pod-day, read from the ledger", "s", Budget::None, &asked.leaves);
    figure("denied per agent and hour, SQL", "s", Budget::None, &asked.denied);
    figure("LIKE over all arguments, SQL", "s", Budget::None, &asked.like);
    figure("records indexed", "records/s", Budget::None, &[made.indexed_per_second]);
    figure("a record in the index", "bytes", Budget::AtMost(60.0), &[made.bytes_per_record]);
    let resident = status_kib(std::process::id(), "VmRSS") / 1024.0;
    figure("RSS of the process that answered", "MiB", Budget::None, &[resident]);
    ExitCode::SUCCESS
}

/// What was put on disk.
struct Made {
    ledger: Ledger,
    index: Index,
    indexed_per_second: f64,
    bytes_per_record: f64,
}

/// Writes ledger and index side by side, so that the index reads what is still in memory.
fn make(directory: &Path, records: u64) -> Made {
    let mut ledger = Ledger::open(directory, "example.com/bench").unwrap();
    let (size, root) = (ledger.durable().size, ledger.durable().root);
    let index = directory.join("index");
    let index = Index::open(&index, ledger.source(), size, root, Settings::default()).unwrap();
    let mut indexing = 0.0;
    let mut told = Instant::now();
    for leaves in generated(records) {
        let size = ledger.commit(&leaves).unwrap().size;
        let began = Instant::now();
        while index.indexed() < size {
            index.advance(size).unwrap();
        }
        indexing += began.elapsed().as_secs_f64();
        if told.elapsed().as_secs() >= 10 {
            eprintln!("query: {size} of {records} records");
            told = Instant::now();
        }
    }
    let began = Instant::now();
    index.flush().unwrap();
    eprintln!("query: compacting");
    while index.compact(SystemTime::now()).unwrap() {}
    indexing += began.elapsed().as_secs_f64();
    let bytes_per_record = index.status().bytes as f64 / records as f64;
    Made { ledger, index, indexed_per_second: records as f64 / indexing, bytes_per_record }
}

/// Leaves in groups, made by a thread of their own.
fn generated(records: u64) -> Receiver<Vec<Leaf>> {
    let (groups, made) = sync_channel(2);
    std::thread::spawn(move || {
        for first in (0..records).step_by(usize::try_from(GROUP).unwrap()) {
            let numbers = first..(first + GROUP).min(records);
            let leaf = |number| Leaf::new(records::of_cluster(number, records));
            if groups.send(numbers.map(leaf).collect()).is_err() {
                return;
            }
        }
    });
    made
}

/// Seconds of each question, by round.
#[derive(Default)]
struct Asked {
    pod_day: Vec<f64>,
    leaves: Vec<f64>,
    denied: Vec<f64>,
    like: Vec<f64>,
}

fn ask(runtime: &Runtime, made: &Made, records: u64, rounds: u64) -> Asked {
    let Made { ledger, index, .. } = made;
    let size = ledger.durable().size;
    let since = records::BEGIN_UNIX_NANO + DAY * records::DAY_NS;
    let question = Question {
        since_unix_nano: since,
        until_unix_nano: since + records::DAY_NS,
        pod: records::pod_name(POD),
        limit: 1_000_000,
        ..Question::default()
    };
    let expected = records / records::PODS / records::DAYS;
    let mut asked = Asked::default();
    for round in 0..rounds {
        eprintln!("query: round {} of {rounds}", round + 1);
        let began = Instant::now();
        let selected = runtime.block_on(index.select(&question, size)).unwrap();
        asked.pod_day.push(began.elapsed().as_secs_f64());
        // By chance a pod has somewhat more or fewer; far from it something else was answered.
        let near = expected / 2..=expected * 2;
        assert!(near.contains(&selected.matched), "{} match", selected.matched);
        let began = Instant::now();
        for leaf in &selected.leaves {
            entry(&ledger.source(), size, *leaf).unwrap();
        }
        asked.leaves.push(began.elapsed().as_secs_f64());
        asked.denied.push(sql(runtime, index, DENIED, size));
        asked.like.push(sql(runtime, index, LIKE, size));
    }
    asked
}

/// Seconds until the last row.
fn sql(runtime: &Runtime, index: &Index, statement: &str, size: u64) -> f64 {
    let began = Instant::now();
    let rows = runtime.block_on(async {
        let limits = SqlLimits { rows: 1_000_000, ..SqlLimits::default() };
        let mut answer = index.sql(statement, limits, size).await.unwrap();
        let mut rows = 0;
        while answer.next().await.unwrap().is_some() {
            rows += 1;
        }
        rows
    });
    assert!(rows > 0, "`{statement}` answered nothing");
    began.elapsed().as_secs_f64()
}

/// Bytes an unprivileged process may still write where `directory` is.
fn free_bytes(directory: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(directory).output();
    let text = String::from_utf8(output.expect("df runs").stdout).unwrap();
    let value = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    value.expect("df tells the bytes available")
}
