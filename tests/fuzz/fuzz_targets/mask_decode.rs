//! Spellings: a number planted in another spelling is not to be read out of what is left.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::spelt::{NUMBERS, Text, spell};
use pcigate_policy::mask::{Cut, mask_bytes};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    before: Text<'a>,
    number: u8,
    spelling: u8,
    after: Text<'a>,
}

fuzz_target!(|input: Input<'_>| {
    let number = NUMBERS[usize::from(input.number) % NUMBERS.len()];
    let planted = spell(number, input.spelling);
    // What touches the number may make it something else; a line end does not.
    let text = [&input.before.written(), &b"\n "[..], &planted, b" \n", &input.after.written()];
    let text = text.concat();
    let (masked, findings) = mask_bytes(&text, Cut::Whole);
    let still = masked.windows(planted.len()).filter(|part| *part == planted).count();
    let before = input.before.written();
    let after = input.after.written();
    let elsewhere = before.windows(planted.len()).chain(after.windows(planted.len()));
    assert!(still <= elsewhere.filter(|part| *part == planted).count(), "{text:?}");
    let mut last = 0;
    for finding in &findings {
        assert!(last <= finding.start && finding.start < finding.end);
        last = finding.end;
    }
    assert!(last <= text.len());
    let (again, found) = mask_bytes(&masked, Cut::Whole);
    assert_eq!(again, masked);
    assert_eq!(found, []);
});
