//! The log: text or JSON lines on standard error, and what of foreign origin may stand in it.

use std::io::IsTerminal;

use pcigate_policy::mask::{Cut, Masked};
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
    let cut = text.floor_char_boundary(FOREIGN_BYTES_MAX);
    let (text, end) = match text.get(..cut) {
        Some(part) if part.len() < text.len() => (part, Cut::End),
        _ => (text, Cut::Whole),
    };
    let masked = Masked::new(text.as_bytes(), end).into_string();
    let mut plain: String =
        masked.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    plain.truncate(plain.floor_char_boundary(FOREIGN_BYTES_MAX));
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_text_is_masked_cut_and_on_one_line() {
        assert_eq!(foreign("0.1.0"), "0.1.0");
        assert_eq!(foreign("v 4111111111111111"), "v 411111******1111");
        assert_eq!(foreign("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        let long = format!("{}4111111111111111", "x".repeat(56));
        assert_eq!(foreign(&long), format!("{}********", "x".repeat(56)), "{long}");
    }

    proptest! {
        #[test]
        fn foreign_text_is_always_short_and_printable(text in any::<String>()) {
            let shown = foreign(&text);
            prop_assert!(shown.len() <= FOREIGN_BYTES_MAX);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
