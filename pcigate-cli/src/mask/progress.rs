//! How far a long file is, on a terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(250);

/// A line on stderr that is written over again and again.
pub struct Progress {
    name: Option<String>,
    size: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Shows nothing.
    pub fn none() -> Self {
        Self { name: None, size: 0, done: 0, began: Instant::now(), shown: None }
    }

    /// Shows how much of `size` bytes (0: not known) is done, where `shows`.
    pub fn of(name: &str, size: u64, shows: bool) -> Self {
        let name = shows.then(|| crate::table::plain(&crate::table::ending(name, 40)));
        Self { name, size, ..Self::none() }
    }

    /// So many more bytes are done.
    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        // Nothing for what ends at once.
        let last = self.shown.unwrap_or(self.began);
        if let Some(name) = &self.name
            && last.elapsed() >= EVERY
        {
            self.shown = Some(Instant::now());
            let line = line(name, self.done, self.size, self.began.elapsed());
            // Progress is no part of the answer: it stands without it.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(name: &str, done: u64, size: u64, took: Duration) -> String {
    let share = match (done * 100).checked_div(size) {
        Some(share) => format!(" {}%", share.min(100)),
        None => String::new(),
    };
    format!("{name}{share} {} {}", amount(done), speed(done, took))
}

/// `1.2 GB` and the like.
pub fn amount(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

/// `1.2 GB/s` and the like.
pub fn speed(bytes: u64, took: Duration) -> String {
    let nanoseconds = took.as_nanos().max(1);
    let each = u128::from(bytes) * 1_000_000_000 / nanoseconds;
    format!("{}/s", amount(u64::try_from(each).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_shares_are_for_people() {
        assert_eq!(amount(999), "999 bytes");
        assert_eq!(amount(1_950_000_000), "1.9 GB");
        let half = line("a.log", 50_000_000, 100_000_000, Duration::from_secs(2));
        assert_eq!(half, "a.log 50% 50.0 MB 25.0 MB/s");
        assert_eq!(line("pipe", 5, 0, Duration::from_secs(1)), "pipe 5 bytes 5 bytes/s");
    }
}
