//! Streams: any split of any bytes gives what the whole gives, and little is held back.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_fuzz::spelt::Text;
use pcigate_policy::mask::{Cut, Masker, Stream};

/// More than a stream holds back.
const HELD_MAX: usize = 8 * 1024;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: Text<'a>,
    sizes: Vec<u16>,
}

fuzz_target!(|input: Input<'_>| {
    let text = input.text.written();
    let masker = Masker::standard();
    let (whole, findings) = masker.mask(&text, Cut::Whole);
    let mut stream = Stream::new(masker);
    let (mut out, mut found, mut rest) = (Vec::new(), Vec::new(), text.as_slice());
    let mut sizes = input.sizes.iter().cycle();
    let mut shrunk = 0;
    while !rest.is_empty() {
        let size = usize::from(sizes.next().copied().unwrap_or(1)).clamp(1, rest.len());
        let (piece, tail) = rest.split_at(size);
        stream.push(piece, &mut out);
        let new = stream.take_findings();
        shrunk += new
            .iter()
            .map(|one| (one.end - one.start).saturating_sub(one.masked_len))
            .sum::<usize>();
        found.extend(new);
        rest = tail;
        let given = text.len() - rest.len();
        assert!(given <= out.len() + shrunk + HELD_MAX, "{} of {given} bytes are out", out.len());
    }
    stream.finish(&mut out);
    found.extend(stream.take_findings());
    assert_eq!(out, whole.as_ref());
    assert_eq!(found, findings);
});
