//! What a bench program prints: one JSON object a line, which `cargo xtask bench` gathers. The
//! programs only measure; medians, budgets and documents are the chore's.

#![allow(clippy::print_stdout, reason = "the lines are the output of a bench program")]
#![allow(dead_code, reason = "not every bench program has every kind of figure")]

use serde_json::{Map, Value, json};

/// What a figure must reach (DESIGN.md section 10).
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// No budget: a figure that explains others.
    None,
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

/// Prints one figure: `samples` are its values in the order of the rounds.
pub fn figure(name: &str, unit: &str, budget: Budget, samples: &[f64]) {
    let mut line = Map::new();
    line.insert("figure".to_owned(), json!(name));
    line.insert("unit".to_owned(), json!(unit));
    match budget {
        Budget::None => {}
        Budget::AtMost(limit) => drop(line.insert("at_most".to_owned(), json!(limit))),
        Budget::AtLeast(limit) => drop(line.insert("at_least".to_owned(), json!(limit))),
    }
    line.insert("samples".to_owned(), json!(samples));
    println!("{}", Value::Object(line));
}

/// Prints one sentence about how the figures of this program were measured.
pub fn how(sentence: &str) {
    println!("{}", json!({ "how": sentence }));
}

/// The value behind `--NAME`, as the chore passes it on; `default` where it is not given.
///
/// # Panics
/// It is no number.
#[must_use]
pub fn option(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args();
    if !arguments.any(|argument| argument.strip_prefix("--") == Some(name)) {
        return default;
    }
    let value = arguments.next().unwrap_or_default();
    value.parse().unwrap_or_else(|_| panic!("--{name} {value}: it must be a whole number"))
}

/// Whether `--NAME` is given.
#[must_use]
pub fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument.strip_prefix("--") == Some(name))
}

/// A field of `/proc/PID/status` in KiB, such as `VmRSS`.
///
/// # Panics
/// The process is gone.
#[must_use]
pub fn status_kib(pid: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let text = text.unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("process {pid} tells no {field}"))
}

/// Seconds of processor time a process has used, its threads included.
///
/// # Panics
/// The process is gone.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    // `/proc/PID/stat` counts in ticks of 1/100 s; utime and stime are the 12th and 13th field
    // after the name.
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let text = text.unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
