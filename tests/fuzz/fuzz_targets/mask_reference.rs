//! Plain and grouped digits: what a slow, obvious search calls a card number is masked, and where
//! it sees nothing that could be one, nothing is changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::reference;
use pcigate_policy::mask::{Cut, Kind, mask_bytes};

/// Characters of numbers, separators and their neighbours.
const ALPHABET: &[u8; 32] = b"01234567894411112255550- -- ,\ng#";

fuzz_target!(|bytes: &[u8]| {
    let text: Vec<u8> = bytes.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect();
    let (masked, findings) = mask_bytes(&text, Cut::Whole);
    for (start, end) in reference::certain(&text) {
        let covered = findings.iter().any(|found| found.start < end && start < found.end);
        assert!(covered, "{:?} has a number at {start}", String::from_utf8_lossy(&text));
        assert_ne!(text.get(start..end), masked.get(start..end));
    }
    for finding in findings.iter().filter(|finding| finding.kind == Kind::Pan) {
        let part = &text[finding.start..finding.end];
        assert!(reference::possible(part), "{:?}", String::from_utf8_lossy(part));
    }
});
