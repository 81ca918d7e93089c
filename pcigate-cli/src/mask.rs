//! `pcigate mask`: stdin to stdout without card data, line by line.
//!
//! A card number or track that is broken by a line end is not seen as one. Bytes other than what
//! is masked pass unchanged, whether UTF-8 or not; a last line without a line end stays without
//! one. Lines up to 1 MiB are read through a buffer of that size; a longer line is held in memory
//! as a whole (about three times its length) and masked in one go, never in parts.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use clap::{Args, ValueEnum};
use pcigate_policy::mask::{Cut, Finding, mask_bytes};
use serde_json::json;

use crate::failure::{Answer, Failure};

const BUFFER_BYTES: usize = 1024 * 1024;

/// What `pcigate mask` is told.
#[derive(Args, Debug)]
#[command(after_help = "Reads stdin. A card number keeps its first six and last four digits; a \
    track becomes [SAD:track1] or [SAD:track2]. Works line by line, lines of any length.")]
pub struct Options {
    /// The masked text, or what was found: one JSON array [[start, end, "kind"], …] per line with
    /// byte offsets in that line.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Findings,
}

/// Filters stdin.
pub fn run(options: &Options) -> Result<Answer, Failure> {
    filter(io::stdin().lock(), io::stdout().lock(), options.output)?;
    Ok(Answer::Yes)
}

fn filter(input: impl Read, output: impl Write, what: Output) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line).map_err(|error| {
            Failure::because("cannot read stdin: give the text to mask through a pipe", error)
        })?;
        if read == 0 {
            break;
        }
        let (text, end) = match line.strip_suffix(b"\n") {
            Some(text) => (text, b"\n".as_slice()),
            None => (line.as_slice(), b"".as_slice()),
        };
        let (masked, findings) = mask_bytes(text, Cut::Whole);
        match what {
            Output::Text => {
                output.write_all(&masked)?;
                output.write_all(end)?;
            }
            Output::Findings => writeln!(output, "{}", as_json(&findings))?,
        }
        // A filter in a live pipe must not sit on lines while no more input is there.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()?;
    Ok(())
}

fn as_json(findings: &[Finding]) -> serde_json::Value {
    findings
        .iter()
        .map(|finding| json!([finding.start, finding.end, finding.kind.to_string()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(input: &[u8], what: Output) -> Vec<u8> {
        let mut output = Vec::new();
        filter(input, &mut output, what).expect("a vector takes every byte");
        output
    }

    #[test]
    fn card_data_goes_and_every_other_byte_stays() {
        let input = b"a 4111111111111111\r\n\n\xff\xfe;4111111111111111=2912201?\x80\nlast 12";
        let expected = b"a 411111******1111\r\n\n\xff\xfe[SAD:track2]\x80\nlast 12";
        assert_eq!(filtered(input, Output::Text), expected);
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_masked_as_one() {
        let mut input = vec![b'x'; BUFFER_BYTES - 8];
        input.extend_from_slice(b"4111111111111111");
        let masked = filtered(&input, Output::Text);
        assert!(masked.ends_with(b"x411111******1111"));
        assert_eq!(masked.len(), input.len());
    }

    #[test]
    fn findings_are_one_array_per_line() {
        let input = b"x\n4111111111111111 and 378282246310005\n%B4111111111111111^A/B^2912?";
        let expected = "[]\n[[0,16,\"pan\"],[21,36,\"pan\"]]\n[[0,28,\"track1\"]]\n";
        assert_eq!(String::from_utf8_lossy(&filtered(input, Output::Findings)), expected);
    }
}
