//! Masking: no card number is left, wherever it is planted; masking again finds nothing.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::cards;
use pcigate_policy::mask::{Cut, Masked, mask_bytes};

/// Published test numbers.
const PLANTED: [&str; 8] = [
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "4111 1111 1111 1111",
    "5555-5555-5555-4444",
    "3782\0822463\010005",
    "%B4111111111111111^DOE/JOHN^29122010000000000000?",
    ";4111111111111111=29122010000012345?",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pieces: Vec<(&'a [u8], u8)>,
    cut: bool,
}

/// Digits at the end of a text, before at most one separator.
fn digits_at_end(text: &[u8]) -> usize {
    let text = text.strip_suffix(b" ").or(text.strip_suffix(b"-")).unwrap_or(text);
    text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count()
}

fuzz_target!(|input: Input<'_>| {
    let mut text = Vec::new();
    for (piece, planted) in &input.pieces {
        text.extend_from_slice(piece);
        text.extend(PLANTED.get(usize::from(*planted)).copied().unwrap_or("").bytes());
    }
    let cut = if input.cut { Cut::End } else { Cut::Whole };
    let masked = Masked::new(&text, cut);
    assert!(!cards::shown_in(masked.as_str().as_bytes()), "{:?}", masked.as_str());
    let mut last = 0;
    for finding in masked.findings() {
        assert!(last <= finding.start && finding.start < finding.end);
        last = finding.end;
    }
    assert!(last <= text.len());
    let again = Masked::new(masked.as_str().as_bytes(), cut);
    assert_eq!(again.findings(), []);
    assert_eq!(again.as_str(), masked.as_str());
    let (bytes, findings) = mask_bytes(&text, cut);
    assert_eq!(findings, masked.findings());
    assert!(!cards::shown_in(&bytes));
    if input.cut {
        let left = digits_at_end(&bytes);
        assert!(!(4..=19).contains(&left), "{left} digits left at a cut end");
    }
});
