//! Writes a corpus to files: `cargo xtask corpus --seed N --out DIR`.
#![allow(clippy::print_stderr, reason = "a chore talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use pcigate_corpus::write;

const HELP: &str = "usage: pcigate-corpus --seed N --out DIR [--each N] [--megabytes N]

Writes to DIR:
  cards.ndjson        every brand in every spelling, EACH lines of each pair (default 5)
  sensitive.ndjson    tracks, codes, PIN blocks and expiry dates
  look-alikes.ndjson  what is made of digits and is no card number
  clean.log, dense.log  MEGABYTES each, to measure speed with (default: not written)

One JSON object a line: class, text (or hex, where the bytes are not UTF-8), and labels with
start and end (bytes), kind, brand, spelling and secret. The same seed gives the same bytes.";

struct Arguments {
    seed: u64,
    out: PathBuf,
    each: usize,
    megabytes: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(arguments) = parse(&words) else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    match write(&arguments.out, arguments.seed, arguments.each, arguments.megabytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot write to {}: {error}", arguments.out.display());
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Option<Arguments> {
    let (mut seed, mut out, mut each, mut megabytes) = (None, None, 5, 0);
    for pair in words.chunks(2) {
        let [name, value] = pair else { return None };
        match name.as_str() {
            "--seed" => seed = Some(value.parse().ok()?),
            "--out" => out = Some(PathBuf::from(value)),
            "--each" => each = value.parse().ok()?,
            "--megabytes" => megabytes = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(Arguments { seed: seed?, out: out?, each, megabytes })
}
