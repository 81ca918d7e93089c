//! What the collector counts about itself, and the text in which it tells (OpenMetrics).
//!
//! Labels are closed sets, except for the names of nodes, of which at most
//! [`NODES_MAX`](nodes::NODES_MAX) have series. No pod, person, policy or text of a record is a
//! label. `docs/metrics.md` has a table of all names, and a test holds it to this file.

pub mod nodes;
mod process;
mod tls;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};

use nodes::Nodes;
pub use tls::Tls;

/// One label with a value out of a closed set.
pub type Label = [(&'static str, &'static str); 1];
/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// What a group of the writer held, told once it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records of nodes stored.
    pub stored: u64,
    /// Records of nodes that were stored before, with the same bytes.
    pub repeated: u64,
    /// Records of nodes refused.
    pub refused: u64,
    /// Gap records made.
    pub gaps: u64,
    /// Conflict records made.
    pub conflicts: u64,
    /// Bytes of all leaves.
    pub bytes: u64,
}

/// All metrics of a collector.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: process::Process,
    /// The nodes that were heard of.
    pub nodes: Arc<Nodes>,
    /// Leaves in the durable ledger.
    pub ledger_leaves: Gauge,
    /// Leaves that can be queried.
    pub index_leaves: Gauge,
    /// Parquet files of the index.
    pub index_files: Gauge,
    /// Bytes of these files.
    pub index_bytes: Gauge,
    /// Bytes of leaves committed.
    pub ledger_leaf_bytes: Counter,
    /// Failed attempts to write the ledger.
    pub ledger_write_failures: Counter,
    /// 1 while the last attempt to write the ledger succeeded.
    pub ledger_writable: Gauge,
    /// How long a commit took.
    pub commit_duration: Histogram,
    /// Leaves of a commit.
    pub commit_leaves: Histogram,
    /// Requests waiting for the writer.
    pub queue_requests: Gauge,
    /// How many may wait.
    pub queue_limit: Gauge,
    /// Answered batches, by result.
    pub batches: Family<Label, Counter>,
    /// Records in committed batches, by result.
    pub records: Family<Label, Counter>,
    /// Gap records made.
    pub gaps: Counter,
    /// Conflict records made.
    pub conflicts: Counter,
    /// Questions of people, by operation.
    pub queries: Family<Label, Counter>,
    /// Readings of the ledger under way.
    pub queries_running: Gauge,
    /// Connections and certificates.
    pub tls: Tls,
    /// Bytes left on the disk of the ledger.
    pub disk_free: Gauge,
    /// Bytes of that disk.
    pub disk_size: Gauge,
    /// How often the clock was found behind the newest own record.
    pub clock_set_back: Counter,
}

/// How many batches or records came to which end.
pub const BATCH_RESULTS: [&str; 4] = ["stored", "out_of_order", "not_durable", "stopped"];
/// What became of a record.
pub const RECORD_RESULTS: [&str; 3] = ["stored", "repeated", "refused"];
/// Operations of a question.
pub const OPERATIONS: [&str; 4] = ["records", "record", "ledger", "sql"];
impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut all = Registry::with_prefix("pcigate_collector");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The version of the program", build);
        let commit_duration = Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        let commit_leaves = Histogram::new(exponential_buckets(1.0, 4.0, 9));
        let nodes = Arc::new(Nodes::default());
        nodes.register(&mut all);
        let r = &mut all;
        Self {
            nodes,
            ledger_leaves: add(r, "ledger_leaves", "Leaves in the durable ledger"),
            index_leaves: add(r, "index_leaves", "Leaves that can be queried"),
            index_files: add(r, "index_files", "Parquet files of the index"),
            index_bytes: add(r, "index_bytes", "Bytes of these files"),
            ledger_leaf_bytes: add(r, "ledger_leaf_bytes", "Bytes of leaves committed"),
            ledger_write_failures: add(
                r,
                "ledger_write_failures",
                "Requests refused because the ledger could not be written",
            ),
            ledger_writable: add(
                r,
                "ledger_writable",
                "1 while the ledger can be written, as far as the last attempt tells",
            ),
            commit_duration: put(
                r,
                "commit_duration_seconds",
                "From a group of leaves to its durable checkpoint",
                commit_duration,
            ),
            commit_leaves: put(r, "commit_leaves", "Leaves committed together", commit_leaves),
            queue_requests: add(r, "queue_requests", "Requests waiting for the writer"),
            queue_limit: add(r, "queue_requests_limit", "Requests that may wait for the writer"),
            batches: put(
                r,
                "batches",
                "Batches of nodes answered, by result",
                counters("result", &BATCH_RESULTS),
            ),
            records: put(
                r,
                "records",
                "Records of nodes in durable batches, by result",
                counters("result", &RECORD_RESULTS),
            ),
            gaps: add(r, "gaps", "Gap records made"),
            conflicts: add(r, "conflicts", "Conflict records made"),
            queries: put(
                r,
                "queries",
                "Questions of people, by operation",
                counters("operation", &OPERATIONS),
            ),
            queries_running: add(r, "queries_running", "Readings of evidence under way"),
            tls: Tls::register(r),
            disk_free: add(r, "disk_free_bytes", "Bytes left on the disk of the ledger"),
            disk_size: add(r, "disk_size_bytes", "Bytes of the disk of the ledger"),
            clock_set_back: add(
                r,
                "clock_set_back",
                "How often the clock was found behind the newest own record",
            ),
            process: process::Process::register(r),
            registry: all,
        }
    }

    /// Takes in a durable group.
    pub fn committed(&self, tally: &Tally, leaves: usize, took: Duration) {
        let leaf_count = u32::try_from(leaves).unwrap_or(u32::MAX);
        self.commit_duration.observe(took.as_secs_f64());
        self.commit_leaves.observe(f64::from(leaf_count));
        self.ledger_leaf_bytes.inc_by(tally.bytes);
        self.gaps.inc_by(tally.gaps);
        self.conflicts.inc_by(tally.conflicts);
        let results = [tally.stored, tally.repeated, tally.refused];
        for (name, count) in RECORD_RESULTS.into_iter().zip(results) {
            self.records.get_or_create(&[("result", name)]).inc_by(count);
        }
    }

    /// The exposition, in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        self.nodes.refresh();
        self.process.refresh();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A number for a gauge; what does not fit is the largest.
#[must_use]
pub fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts one up for as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// Counts up.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counters that are there from the start, one for each value of a label.
fn counters(name: &'static str, values: &[&'static str]) -> Family<Label, Counter> {
    let family = Family::default();
    for value in values {
        drop(family.get_or_create(&[(name, *value)]));
    }
    family
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    put(registry, name, help, M::default())
}

fn put<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
