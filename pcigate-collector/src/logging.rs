//! The log: text or JSON lines on standard error, and what of foreign origin may stand in it.

use std::io::IsTerminal;

use pcigate_policy::mask::one_line;
use tracing_subscriber::EnvFilter;

/// Longest foreign text in a log line, bytes.
pub const FOREIGN_BYTES_MAX: usize = 64;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `log` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `log.format`.
    pub format: Format,
    /// `log.level`: the least important lines written.
    pub level: &'static str,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info" }
    }
}

/// Starts logging; the environment variable `RUST_LOG` overrides the level.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log.level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => builder.json().flatten_event(true).with_ansi(false).init(),
    }
}

/// Text from outside, fit for a log line: masked, without control characters, and at most
/// [`FOREIGN_BYTES_MAX`] bytes.
#[must_use]
pub fn foreign(text: &str) -> String {
    one_line(text, FOREIGN_BYTES_MAX)
}
