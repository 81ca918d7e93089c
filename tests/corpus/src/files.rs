//! A corpus as files, for programs in other languages.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Label, Line, clean_log, dense_log, look_alikes, positives, sensitive};

/// Writes `cards.ndjson` (`each` lines of every brand in every spelling), `sensitive.ndjson` and
/// `look-alikes.ndjson` to `out`, and `clean.log` and `dense.log` of so many megabytes each.
///
/// # Errors
/// What the system says.
pub fn write(out: &Path, seed: u64, each: usize, megabytes: usize) -> io::Result<()> {
    fs::create_dir_all(out)?;
    lines(&out.join("cards.ndjson"), &positives(seed, each))?;
    lines(&out.join("sensitive.ndjson"), &sensitive(seed, each * 10))?;
    lines(&out.join("look-alikes.ndjson"), &look_alikes(seed, each * 40))?;
    if megabytes > 0 {
        fs::write(out.join("clean.log"), clean_log(seed, megabytes << 20))?;
        fs::write(out.join("dense.log"), dense_log(seed, megabytes << 20))?;
    }
    Ok(())
}

fn lines(path: &Path, lines: &[Line]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&json(line));
        text.push('\n');
    }
    fs::write(path, text)
}

fn json(line: &Line) -> String {
    let text = match std::str::from_utf8(&line.text.bytes) {
        Ok(text) => format!("\"text\":{}", quoted(text)),
        Err(_) => {
            let hex: String = line.text.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"hex\":\"{hex}\"")
        }
    };
    let label = |label: &Label| {
        format!(
            "{{\"start\":{},\"end\":{},\"kind\":\"{}\",\"brand\":\"{}\",\
             \"spelling\":{},\"secret\":{}}}",
            label.start,
            label.end,
            label.kind.name(),
            label.brand,
            quoted(label.spelling),
            quoted(&label.secret)
        )
    };
    let labels: Vec<String> = line.text.labels.iter().map(label).collect();
    format!("{{\"class\":{},{text},\"labels\":[{}]}}", quoted(line.class), labels.join(","))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\0'..='\x1f' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
