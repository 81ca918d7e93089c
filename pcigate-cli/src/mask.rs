//! `pcigate mask`: files or stdin to stdout without card data, or a list of what is in them.
//!
//! Bytes other than what is masked pass unchanged, whether UTF-8 or not. Memory is bounded,
//! whatever comes: two read buffers, one for the output, and what the scanner holds back. It never
//! writes to its input.

mod progress;
mod read;
mod report;
mod scan;
mod settings;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::failure::{Answer, Failure, remark};
use progress::Progress;
use read::{Piece, Pieces};
use report::{Sink, Totals};
use scan::Scan;
use settings::Set;

const EXAMPLES: &str = "\
A card number keeps its first six and last four digits; tracks, codes and PIN blocks become a word
that does not tell their length, expiry dates [EXP]. docs/masking.md says what is found.

Examples:
  kubectl logs -f billing-0 | pcigate mask          follow a log without card data
  pcigate mask app.log > clean.log                  a copy without card data
  pcigate mask --output findings dump.sql           OFFSET, KIND, BRAND, MASKED of each find
  pcigate mask --fail-on-find --stats logs/*.log > /dev/null   a check for CI: exit 1 where found
  pcigate mask --output json core.4711 | jq .kind   the same for programs; any bytes will do
  pcigate mask --settings mask.yaml app.log         take out secrets and your own patterns too

A file of settings has the fields of a policy's `mask` (docs/masking.md), and
`fingerprint: {id, keyFile}`: an HMAC by which finds of one number can be told together.

Input that pauses: what came is written 0.2 s after its last line end, and digits at that end are
then masked, because they may begin a number. Exit codes: 0 ok, 1 found something (--fail-on-find),
2 usage or bad input.";

/// What `pcigate mask` is told.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Files to read, one after the other; `-` or nothing is stdin.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The masked text, or what was found: a line each, for people or for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    /// Mask as this file says: fields, detectors, secrets too, and what stays of a card number.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Say at the end, on stderr, how much was read and what was found in it.
    #[arg(long)]
    stats: bool,
    /// Exit with 1 when anything was found. All input is read, also when nobody reads the output.
    #[arg(long)]
    fail_on_find: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The input without card data.
    Text,
    /// One JSON object per find: file, offset, length, kind, brand, masked, fingerprint.
    Json,
    /// One line per find: offset (behind the file's name), kind, brand and masked form, between
    /// tabs.
    Findings,
}

/// Masks all files.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    let began = Instant::now();
    let mut sink = Sink::new(io::stdout().lock(), options.output, options.fail_on_find);
    let mut totals = Totals::default();
    let set = options.settings.as_deref().map_or_else(|| Ok(Set::standard()), Set::read)?;
    let stdin = [PathBuf::from("-")];
    let files = if options.files.is_empty() { &stdin[..] } else { &options.files };
    for path in files {
        mask(path, &set, &mut sink, &mut totals)?;
    }
    if options.stats {
        remark(&totals.sentence(began.elapsed()));
    }
    let found = options.fail_on_find && totals.found() > 0;
    Ok(if found { Answer::No } else { Answer::Yes })
}

/// Masks one file, or stdin for `-`.
fn mask(
    path: &Path,
    set: &Set,
    sink: &mut Sink<impl Write>,
    totals: &mut Totals,
) -> Result<(), Failure> {
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            remark("reading what you type; Ctrl-D ends it (`pcigate mask --help` for files)");
        }
        let pieces = Pieces::start(io::stdin(), true);
        return drain("stdin", None, Scan::new(set), pieces, sink, totals, &mut Progress::none());
    }
    let name = path.display().to_string();
    let cannot = |error| {
        Failure::because(format!("cannot read {name}: give files that exist and are yours"), error)
    };
    let file = File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let mut progress = Progress::of(&name, size, io::stderr().is_terminal());
    let pieces = Pieces::start(file, false);
    drain(&name, Some(&name), Scan::new(set), pieces, sink, totals, &mut progress)
}

fn drain(
    name: &str,
    shown: Option<&str>,
    mut scan: Scan<'_>,
    mut pieces: Pieces,
    sink: &mut Sink<impl Write>,
    totals: &mut Totals,
    progress: &mut Progress,
) -> Result<(), Failure> {
    loop {
        let piece = match pieces.ready() {
            Some(piece) => piece,
            // A filter in a live pipe must not sit on text while no more input is there.
            None => {
                sink.flush()?;
                pieces.wait()
            }
        };
        match &piece {
            Piece::Bytes(bytes) => scan.push(bytes),
            Piece::Pause => scan.flush(),
            Piece::End => scan.finish(),
            Piece::Failed(error) => {
                let sentence = format!("cannot read {name}: give a file or a pipe to read from");
                return Err(Failure::because(sentence, error.to_string()));
            }
        }
        let hits = scan.take_hits();
        totals.count(&hits);
        sink.write(shown, scan.text(), &hits)?;
        scan.clear();
        match piece {
            Piece::Bytes(bytes) => {
                totals.bytes += bytes.len() as u64;
                progress.add(bytes.len() as u64);
                pieces.give_back(bytes);
            }
            Piece::Pause => {}
            _ => break,
        }
    }
    progress.end();
    sink.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
