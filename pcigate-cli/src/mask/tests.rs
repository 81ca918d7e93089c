//! Any chunking, any output, whatever the bytes.

use std::io::{self, Cursor, Read, Write};

use pcigate_corpus::{Rng, look_alikes, positives, sensitive};
use proptest::prelude::*;

use super::progress::Progress;
use super::read::Pieces;
use super::report::{Sink, Totals};
use super::scan::Scan;
use super::settings::Set;
use super::{Output, drain};

/// Gives the bytes in reads of these sizes, over and over.
struct Chunks {
    bytes: Cursor<Vec<u8>>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()].min(buffer.len());
        self.turn += 1;
        self.bytes.read(&mut buffer[..size])
    }
}

fn masked(bytes: &[u8], sizes: &[usize], what: Output) -> Vec<u8> {
    masked_as(&Set::standard(), bytes, sizes, what)
}

fn masked_as(set: &Set, bytes: &[u8], sizes: &[usize], what: Output) -> Vec<u8> {
    let chunks = Chunks { bytes: Cursor::new(bytes.to_vec()), sizes: sizes.to_vec(), turn: 0 };
    let mut output = Vec::new();
    let mut sink = Sink::new(&mut output, what, false);
    let pieces = Pieces::start(chunks, false);
    let mut totals = Totals::default();
    drain("test", None, Scan::new(set), pieces, &mut sink, &mut totals, &mut Progress::none())
        .unwrap();
    drop(sink);
    assert_eq!(totals.bytes, bytes.len() as u64);
    output
}

/// Card data, look-alikes and bytes that are no text, in an order made from the seed.
fn sample(seed: u64, junk: &[u8]) -> Vec<u8> {
    let mut lines = positives(seed, 1);
    lines.extend(sensitive(seed, 1));
    lines.extend(look_alikes(seed, 2));
    let mut rng = Rng::new(seed, "sample");
    let mut bytes = Vec::new();
    for line in (0..120).map(|_| rng.pick(&lines).clone()) {
        bytes.extend_from_slice(&line.text.bytes);
        bytes.extend_from_slice(if line.text.bytes.len() % 7 == 0 { junk } else { b"\n" });
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    #[test]
    fn any_chunking_of_the_input_gives_the_same_output(
        seed in any::<u64>(),
        junk in prop::collection::vec(any::<u8>(), 0..40),
        sizes in prop::collection::vec(1_usize..2000, 1..20),
    ) {
        let bytes = sample(seed, &junk);
        for what in [Output::Text, Output::Findings, Output::Json] {
            let whole = masked(&bytes, &[usize::MAX], what);
            prop_assert!(masked(&bytes, &sizes, what) == whole, "{what:?} differs");
        }
    }
}

#[test]
fn bytes_one_by_one_give_the_same_output() {
    let bytes = sample(4, b"\xff\x00");
    let text = |sizes: &[usize]| masked(&bytes, sizes, Output::Text);
    assert!(text(&[1]) == text(&[usize::MAX]));
}

#[test]
fn card_data_goes_and_every_other_byte_stays() {
    let mut input: Vec<u8> = (0..=255).collect();
    input.extend_from_slice(
        b"a 4111111111111111\r\n\n\xff\xfe;4111111111111111=29122010000?\x80\nlast",
    );
    let mut expected: Vec<u8> = (0..=255).collect();
    expected.extend_from_slice(b"a 411111******1111\r\n\n\xff\xfe[SAD:track2]\x80\nlast");
    assert_eq!(masked(&input, &[4096], Output::Text), expected);
}

#[test]
fn findings_say_where_what_whose_and_how_it_looks_now() {
    let input = b"x 4111 1111 1111 1111 and 378282246310005\n%B4111111111111111^A/B^29122010000?\n\
        5555555555554444";
    let text = masked(input, &[7], Output::Findings);
    assert_eq!(
        String::from_utf8_lossy(&text),
        "2\tpan\tvisa\t4111 11** **** 1111\n\
         26\tpan\tamex\t378282*****0005\n\
         42\ttrack1\t-\t[SAD:track1]\n\
         78\tpan\tmastercard\t555555******4444\n"
    );
    let text = String::from_utf8(masked(input, &[7], Output::Json)).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        serde_json::json!({
            "file": null, "offset": 2, "length": 19, "kind": "pan", "brand": "visa",
            "masked": "4111 11** **** 1111", "fingerprint": null
        })
    );
}

#[test]
fn settings_name_more_that_is_taken_out_and_tell_equal_numbers_by_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let (settings, key) = (directory.path().join("mask.yaml"), directory.path().join("key"));
    std::fs::write(&key, "ab".repeat(32) + "\n").unwrap();
    let text = format!(
        "secrets: true\nfields: [ssn]\ndetectors: [{{name: staff, pattern: 'E-[0-9]{{6}}'}}]\n\
         fingerprint: {{id: k1, keyFile: {}}}\n",
        key.display()
    );
    std::fs::write(&settings, text).unwrap();
    let set = Set::read(&settings).unwrap();
    let input = b"E-123456 ssn=078-05-1120 4111111111111111 x 4111-1111-1111-1111";
    let text = String::from_utf8(masked_as(&set, input, &[5], Output::Text)).unwrap();
    assert_eq!(text, "[MASKED] ssn=[MASKED] 411111******1111 x 4111-11**-****-1111");
    let text = String::from_utf8(masked_as(&set, input, &[5], Output::Findings)).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line[1]).collect();
    assert_eq!(kinds, ["staff", "field", "pan", "pan"], "{text}");
    assert!(lines[2][4].starts_with("k1:") && lines[2][4] == lines[3][4], "{text}");

    std::fs::write(&key, "short").unwrap();
    let failure = format!("{:?}", Set::read(&settings).err().unwrap());
    assert!(failure.contains("fingerprint.keyFile") && failure.contains("32 bytes"), "{failure}");
}

#[test]
fn no_find_shows_what_was_found() {
    for line in positives(9, 1).iter().step_by(3) {
        let text = masked(&line.text.bytes, &[64], Output::Findings);
        for label in &line.text.labels {
            let shown = String::from_utf8_lossy(&text);
            assert!(!pcigate_corpus::survives(&text, &label.secret), "{shown}");
        }
    }
}

#[test]
fn an_input_that_fails_is_a_failure_and_no_end() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the disk is gone"));
            }
            buffer[0] = b'x';
            Ok(1)
        }
    }
    let mut sink = Sink::new(Vec::new(), Output::Text, false);
    let (pieces, mut totals) = (Pieces::start(Broken(false), false), Totals::default());
    let set = Set::standard();
    let scan = Scan::new(&set);
    let none = &mut Progress::none();
    let failure = drain("disk.log", None, scan, pieces, &mut sink, &mut totals, none);
    assert!(format!("{failure:?}").contains("disk.log"), "{failure:?}");
}

/// Takes nothing.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_check_goes_on_when_nobody_reads_the_output() {
    for goes_on in [true, false] {
        let input = [vec![b'x'; 1 << 20], b" 4111111111111111".to_vec()].concat();
        let mut sink = Sink::new(Closed, Output::Text, goes_on);
        let (pieces, mut totals) = (Pieces::start(Cursor::new(input), false), Totals::default());
        let (set, none) = (Set::standard(), &mut Progress::none());
        let ended = drain("x", None, Scan::new(&set), pieces, &mut sink, &mut totals, none);
        assert_eq!((ended.is_ok(), totals.found()), (goes_on, u64::from(goes_on)));
    }
}
