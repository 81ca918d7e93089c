//! `pcigate mask` as a process: pipes, files, exit codes, memory.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const CARD: &str = "4111111111111111";

fn mask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcigate"));
    command.arg("mask").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = mask(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A reader that ends early is for the test to see.
    let _ = writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_number_across_a_thousand_writes_of_one_byte_is_masked() {
    let mut child = mask(&[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = format!("{{\"card\":\"{CARD}\"}} and 5555-5555-5555-4444 end\n").repeat(20);
    let writer = thread::spawn(move || {
        for byte in input.bytes() {
            stdin.write_all(&[byte]).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let expected = "{\"card\":\"411111******1111\"} and 5555-55**-****-4444 end\n".repeat(20);
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn a_line_is_out_before_the_next_one_comes() {
    let mut child = mask(&[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, received) = mpsc::sync_channel(4);
    let reader = thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            let _ = send.send(line);
        }
    });
    for (line, expected) in [("one 4111111111111111.", "one 411111******1111."), ("two", "two")] {
        writeln!(stdin, "{line}").unwrap();
        let shown = received.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(shown, expected);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
}

#[test]
fn files_are_read_one_after_the_other_and_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("a"), CARD).unwrap();
    fs::write(path("b"), "1 clean \u{fc}\n").unwrap();
    let output = piped(&[&path("a"), &path("b"), "-"], b"and stdin\n");
    assert_eq!(text(&output.stdout), "411111******11111 clean \u{fc}\nand stdin\n");
    assert_eq!(fs::read_to_string(path("a")).unwrap(), CARD);
    let output = piped(&["--output", "findings", &path("b"), &path("a")], b"");
    let found = format!("{}:0\tpan\tvisa\t411111******1111\n", path("a"));
    assert_eq!(text(&output.stdout), found);
    let refused = piped(&["--in-place", &path("a")], b"");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn what_cannot_be_read_is_named_with_exit_2() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    for path in [format!("{at}/none.log"), at] {
        let output = piped(&[&path], b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(&path), "{}", text(&output.stderr));
    }
}

#[test]
fn a_check_is_exit_1_where_something_was_found_and_counts_it() {
    let found = piped(&["--fail-on-find", "--stats"], format!("a {CARD} cvv=123\n").as_bytes());
    assert_eq!(found.status.code(), Some(1));
    let said = text(&found.stderr);
    assert!(said.contains("1 cvv, 1 pan") && !said.contains(CARD), "{said}");
    let clean = piped(&["--fail-on-find", "--stats"], b"order 17\n");
    assert_eq!(clean.status.code(), Some(0));
    assert!(text(&clean.stderr).contains("nothing found"), "{}", text(&clean.stderr));
    let without = piped(&[], CARD.as_bytes());
    assert_eq!((without.status.code(), text(&without.stderr)), (Some(0), String::new()));
}

fn end_with_reader_gone(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = mask(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut first = [0; 10];
    // Less than pipes and buffers hold: nobody reads yet.
    stdin.write_all(&b"some line\n".repeat(1 << 13)).unwrap();
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let input = [vec![b'y'; 1 << 21], format!(" {CARD}\n").into_bytes()].concat();
    // Without --fail-on-find nobody reads this to its end.
    let _ = stdin.write_all(&input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_but_not_a_check() {
    assert_eq!(end_with_reader_gone(&[]), (Some(0), String::new()));
    assert_eq!(end_with_reader_gone(&["--fail-on-find"]), (Some(1), String::new()));
}

/// The most memory the process had so far, in KiB.
fn peak(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_line_without_an_end_takes_no_more_memory_than_a_short_one() {
    let mut child = mask(&[]).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        output
    });
    let piece = [b"7 x ".repeat(256 << 8), b"5555555555554444 ".to_vec()].concat();
    for _ in 0..96 {
        stdin.write_all(&piece).unwrap();
    }
    let peak = peak(&child);
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let output = reader.join().unwrap();
    assert_eq!(output.len(), piece.len() * 96);
    assert!(!output.windows(16).any(|part| part == b"5555555555554444"));
    assert!(peak < 24 * 1024, "{peak} KiB for {} bytes", output.len());
}
