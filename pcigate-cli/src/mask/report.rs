//! What is written of the input and of what was found in it, and the count of both.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use serde_json::json;

use super::Output;
use super::progress::{amount, speed};
use super::scan::Hit;
use crate::table::plain;

const BUFFER_BYTES: usize = 256 * 1024;
/// Longer masked forms (a number inside a long token) are shown by their beginning.
const SHOWN_MAX: usize = 80;

/// Where the answer goes.
pub struct Sink<W: Write> {
    output: BufWriter<W>,
    what: Output,
    /// Whether to go on when nobody reads the answer.
    goes_on: bool,
    closed: bool,
}

impl<W: Write> Sink<W> {
    /// Writes `what` to `output`; a reader that has gone ends it, unless it `goes_on`.
    pub fn new(output: W, what: Output, goes_on: bool) -> Self {
        let output = BufWriter::with_capacity(BUFFER_BYTES, output);
        Self { output, what, goes_on, closed: false }
    }

    /// Writes masked text and what was found in it, in the form asked for.
    pub fn write(&mut self, file: Option<&str>, text: &[u8], hits: &[Hit]) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = match self.what {
            Output::Text => self.output.write_all(text),
            Output::Findings => hits.iter().try_for_each(|hit| {
                let place = file.map(|name| format!("{}:", plain(name))).unwrap_or_default();
                let brand = hit.brand.unwrap_or("-");
                let masked = shown(&hit.masked);
                let key = hit.fingerprint.as_ref().map(|of| format!("\t{of}")).unwrap_or_default();
                let (offset, kind) = (hit.offset, &hit.kind);
                writeln!(self.output, "{place}{offset}\t{kind}\t{brand}\t{masked}{key}")
            }),
            Output::Json => hits.iter().try_for_each(|hit| {
                let object = json!({
                    "file": file, "offset": hit.offset, "length": hit.length, "kind": hit.kind,
                    "brand": hit.brand, "masked": String::from_utf8_lossy(&hit.masked),
                    "fingerprint": hit.fingerprint,
                });
                writeln!(self.output, "{object}")
            }),
        };
        self.tolerate(written)
    }

    /// Hands over what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let flushed = self.output.flush();
        self.tolerate(flushed)
    }

    fn tolerate(&mut self, outcome: io::Result<()>) -> io::Result<()> {
        match outcome {
            Err(error) if self.goes_on && error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            outcome => outcome,
        }
    }
}

fn shown(masked: &[u8]) -> String {
    plain(&crate::table::beginning(&String::from_utf8_lossy(masked), SHOWN_MAX))
}

/// What was read and found.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes read.
    pub bytes: u64,
    kinds: BTreeMap<String, u64>,
}

impl Totals {
    /// Counts these.
    pub fn count(&mut self, hits: &[Hit]) {
        for hit in hits {
            match self.kinds.get_mut(&hit.kind) {
                Some(count) => *count += 1,
                None => _ = self.kinds.insert(hit.kind.clone(), 1),
            }
        }
    }

    /// How many finds there were.
    pub fn found(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// `1.2 GB in 0.4 s (3.0 GB/s): 3 pan, 1 cvv`.
    pub fn sentence(&self, took: Duration) -> String {
        let kinds: Vec<String> =
            self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let found = if kinds.is_empty() { "nothing found".to_owned() } else { kinds.join(", ") };
        let speed = speed(self.bytes, took);
        format!("{} in {:.1} s ({speed}): {found}", amount(self.bytes), took.as_secs_f64())
    }
}
