//! The detector: how fast it is beside what only reads memory, and how much it finds, on the
//! corpora that its peers are measured with in the same run (`--peers`).

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]

#[path = "../../tests/src/figures.rs"]
mod figures;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use figures::{Budget, figure, flag, how, option};
use pcigate_corpus::{Line, OPTIONAL, clean_log, dense_log, look_alikes, positives, write};
use pcigate_policy::mask::{Cut, Masker};
use regex::bytes::Regex;

const SEED: u64 = 20_261_123;
const CHUNK_BYTES: usize = 64 * 1024;
/// More than any cache holds.
const MEMORY_BYTES: usize = 256 << 20;
/// Lines of each brand in each spelling; look-alikes are forty of each class for one of these.
const EACH: usize = 10;
/// Spellings every peer knows of.
const PLAIN: [&str; 3] = ["plain", "space", "dash"];

/// What is compared: finds card numbers and gives their places.
type Search<'a> = &'a dyn Fn(&[u8]) -> Vec<(usize, usize)>;

/// A thing to be timed: gives how many bytes it has worked on.
struct Contest<'a> {
    name: &'static str,
    budget: Budget,
    run: Box<dyn Fn() -> usize + 'a>,
    samples: Vec<f64>,
}

fn main() {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 2 } else { 9 });
    let masker = Masker::standard();
    let pattern = Regex::new(r"(?-u)(?:\d[ -]?){12,18}\d").unwrap();
    explain();
    speeds(masker, &pattern, rounds, quick);
    let ours: Search<'_> = &|text| {
        let (_, findings) = masker.mask(text, Cut::Whole);
        findings.iter().map(|finding| (finding.start, finding.end)).collect()
    };
    let plain: Search<'_> = &|text| {
        let found = pattern.find_iter(text).filter(|found| luhn(found.as_bytes()));
        found.map(|found| (found.start(), found.end())).collect()
    };
    accuracy("pcigate", ours, true);
    accuracy("regex crate + Luhn", plain, false);
    if flag("peers") {
        peers(ours, plain, quick);
    }
}

fn explain() {
    how("Speed: a gateway's JSON log without card data (64 MiB, some 300 bytes a record), and \
         look-alikes line by line with a card number in two lines of a hundred (dense digits, \
         16 MiB), all of it masked by one thread; 'read' sums all words of 256 MiB, memchr looks \
         for a byte that is not there, the `regex` crate looks for thirteen to nineteen digits \
         with blanks or dashes and checks Luhn. Rounds alternate.");
    how("Accuracy: the corpus of `cargo xtask corpus` (every brand in every spelling; classes of \
         look-alikes), same seed for all. A number counts as found when a find overlaps it; \
         precision takes numbers found and look-alikes taken for cards. Peers are given the bytes \
         as text; their GB/s are per second of processor time.");
}

fn speeds(masker: &Masker, pattern: &Regex, rounds: u64, quick: bool) {
    let size = if quick { 8 << 20 } else { 64 << 20 };
    let clean = clean_log(SEED, size);
    let dense = dense_log(SEED, size / 4);
    let memory = vec![1_u8; if quick { MEMORY_BYTES / 8 } else { MEMORY_BYTES }];
    let row: [&[u8]; 5] =
        [b"48213", b"Ana Silva", b"4f7d2c11-9b1e-4b8e-a9f3-0c6d2f1e8b7a", b"129.90", b"2026-11-23"];
    // What finds and false starts cost: published test numbers.
    let cards = b"time=12:00 card=4111111111111111 ok\n".repeat(1 << 14);
    let tracks = b";4111111111111111=".repeat(1 << 12);
    let binary = vec![0xe4; 1 << 20];
    // Where records end is not looked for while time is taken.
    let records = |text| -> Vec<&[u8]> { <[u8]>::split_inclusive(text, |b| *b == b'\n').collect() };
    let (clean_records, dense_records) = (records(clean.as_slice()), records(dense.as_slice()));
    let mut contests = [
        contest("read", Budget::None, || sum(&memory)),
        contest("memchr, clean log", Budget::None, || {
            black_box(memchr::memchr(0xff, &clean));
            clean.len()
        }),
        contest("pcigate: clean log, pieces of 64 KiB", Budget::AtLeast(5.0), || {
            pieces(masker, clean.chunks(CHUNK_BYTES))
        }),
        contest("pcigate: clean log, record by record", Budget::AtLeast(3.0), || {
            pieces(masker, clean_records.iter().copied())
        }),
        contest("pcigate: dense digits, pieces of 64 KiB", Budget::AtLeast(1.0), || {
            pieces(masker, dense.chunks(CHUNK_BYTES))
        }),
        contest("pcigate: dense digits, record by record", Budget::None, || {
            pieces(masker, dense_records.iter().copied())
        }),
        contest("pcigate: a card number on every line", Budget::None, || {
            pieces(masker, cards.chunks(CHUNK_BYTES))
        }),
        contest("pcigate: tracks without an end", Budget::None, || {
            pieces(masker, tracks.chunks(CHUNK_BYTES))
        }),
        contest("pcigate: no byte of ASCII", Budget::None, || {
            pieces(masker, binary.chunks(CHUNK_BYTES))
        }),
        contest("regex crate: clean log, pieces of 64 KiB", Budget::None, || {
            matches(pattern, clean.chunks(CHUNK_BYTES))
        }),
        contest("regex crate: dense digits, pieces of 64 KiB", Budget::None, || {
            matches(pattern, dense.chunks(CHUNK_BYTES))
        }),
    ];
    let mut rows = Vec::new();
    for round in 0..rounds {
        eprintln!("mask: round {} of {rounds}", round + 1);
        for contest in &mut contests {
            let began = Instant::now();
            let bytes = black_box((contest.run)());
            contest.samples.push(float(bytes) / began.elapsed().as_secs_f64() / 1e9);
        }
        rows.push(row_nanoseconds(masker, &row));
    }
    for contest in &contests {
        figure(contest.name, "GB/s", contest.budget, &contest.samples);
    }
    figure("pcigate: a row of five columns", "ns", Budget::AtMost(150.0), &rows);
    ratios(&contests);
}

fn ratios(contests: &[Contest<'_>]) {
    let of = |name: &str| {
        let found = contests.iter().find(|contest| contest.name == name);
        found.map(|contest| contest.samples.as_slice()).unwrap_or_default()
    };
    let ours = of("pcigate: clean log, pieces of 64 KiB");
    ratio("clean log, pcigate ÷ read", Budget::AtLeast(0.5), ours, of("read"));
    ratio("clean log, pcigate ÷ memchr", Budget::None, ours, of("memchr, clean log"));
    let regex = of("regex crate: clean log, pieces of 64 KiB");
    ratio("clean log, pcigate ÷ regex crate", Budget::None, ours, regex);
}

fn contest<'a>(name: &'static str, budget: Budget, run: impl Fn() -> usize + 'a) -> Contest<'a> {
    Contest { name, budget, run: Box::new(run), samples: Vec::new() }
}

fn ratio(name: &str, budget: Budget, ours: &[f64], theirs: &[f64]) {
    let samples: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    figure(name, "ratio", budget, &samples);
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("no corpus has four gigabytes"))
}

/// Reads every word.
fn sum(memory: &[u8]) -> usize {
    let (words, _) = memory.as_chunks::<8>();
    // Four sums, so that adding does not wait for adding.
    let mut sums = [0_u64; 32];
    for group in words.chunks_exact(32) {
        for (sum, word) in sums.iter_mut().zip(group) {
            *sum ^= u64::from_ne_bytes(*word);
        }
    }
    black_box(sums);
    memory.len()
}

fn pieces<'a>(masker: &Masker, pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut bytes = 0;
    for piece in pieces {
        black_box(masker.mask(piece, Cut::Whole));
        bytes += piece.len();
    }
    bytes
}

fn matches<'a>(pattern: &Regex, pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut bytes = 0;
    for piece in pieces {
        black_box(pattern.find_iter(piece).filter(|found| luhn(found.as_bytes())).count());
        bytes += piece.len();
    }
    bytes
}

fn row_nanoseconds(masker: &Masker, row: &[&[u8]; 5]) -> f64 {
    const TIMES: u32 = 200_000;
    let began = Instant::now();
    for _ in 0..TIMES {
        for column in row {
            black_box(masker.mask(black_box(column), Cut::Whole));
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

fn luhn(text: &[u8]) -> bool {
    let digits = text.iter().rev().filter(|byte| byte.is_ascii_digit());
    let value = |(place, digit): (usize, &u8)| {
        let doubled = u32::from(digit - b'0') * 2;
        if place % 2 == 0 { doubled / 2 } else { doubled / 10 + doubled % 10 }
    };
    digits.enumerate().map(value).sum::<u32>() % 10 == 0
}

fn accuracy(name: &str, search: Search<'_>, judged: bool) {
    let budget = |budget| if judged { budget } else { Budget::None };
    let cards = positives(SEED, EACH);
    let required = recall(&cards, search, |spelling| !OPTIONAL.contains(&spelling));
    let plain = recall(&cards, search, |spelling| PLAIN.contains(&spelling));
    let lines = look_alikes(SEED, EACH * 40);
    let wrong = lines.iter().filter(|line| !search(&line.text.bytes).is_empty()).count();
    let (right, of) = required;
    let precision = percent((right, right + wrong));
    let atleast = budget(Budget::AtLeast(99.5));
    figure(&format!("{name}: recall, all spellings"), "%", atleast, &[percent((right, of))]);
    let title = format!("{name}: recall, plain, blanks, dashes");
    figure(&title, "%", Budget::None, &[percent(plain)]);
    let title = format!("{name}: look-alikes taken for cards");
    figure(&title, "%", budget(Budget::AtMost(0.5)), &[percent((wrong, lines.len()))]);
    figure(&format!("{name}: precision"), "%", Budget::None, &[precision]);
}

fn percent((part, whole): (usize, usize)) -> f64 {
    100.0 * float(part) / float(whole.max(1))
}

fn recall(lines: &[Line], search: Search<'_>, counts: impl Fn(&str) -> bool) -> (usize, usize) {
    let (mut right, mut all) = (0, 0);
    for line in lines {
        let found = search(&line.text.bytes);
        for label in line.text.labels.iter().filter(|label| counts(label.spelling)) {
            let overlaps = |(start, end): &(usize, usize)| *start < label.end && label.start < *end;
            right += usize::from(found.iter().any(overlaps));
            all += 1;
        }
    }
    (right, all)
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs what is written in Python on the same corpus, and both of ours on presidio-research's set
/// where it is at hand (`PCIGATE_RESEARCH`: its data/synth_dataset_v2.json).
fn peers(ours: Search<'_>, plain: Search<'_>, quick: bool) {
    let place = root().join("target/bench/mask");
    write(&place, SEED, EACH, 16).expect("target can be written");
    let program = root().join("tests/peers/mask.py");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut python = Command::new("python3");
        python.arg(&program).arg("--corpus").arg(&place).args(arguments);
        assert!(python.status().expect("python3 starts").success(), "{} failed", program.display());
    };
    if let Some(set) = std::env::var_os("PCIGATE_RESEARCH") {
        run(&["--research".as_ref(), &set]);
        for (name, search) in [("pcigate", ours), ("regex crate + Luhn", plain)] {
            let found = percent(research(&place, search));
            let title = format!("{name}: recall, presidio-research");
            figure(&title, "%", Budget::None, &[found]);
        }
    }
    let optional = OPTIONAL.join(";");
    let mut arguments: Vec<&std::ffi::OsStr> = vec!["--optional".as_ref(), optional.as_ref()];
    if quick {
        arguments.push("--quick".as_ref());
    }
    run(&arguments);
}

fn research(place: &Path, search: Search<'_>) -> (usize, usize) {
    let text = std::fs::read_to_string(place.join("research.ndjson")).expect("it was just written");
    let (mut right, mut all) = (0, 0);
    for line in text.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let found = search(entry["text"].as_str().unwrap().as_bytes());
        for label in entry["labels"].as_array().unwrap() {
            let at = |key: &str| usize::try_from(label[key].as_u64().unwrap()).unwrap();
            let overlaps = |(start, end): &(usize, usize)| *start < at("end") && at("start") < *end;
            right += usize::from(found.iter().any(overlaps));
            all += 1;
        }
    }
    (right, all)
}
