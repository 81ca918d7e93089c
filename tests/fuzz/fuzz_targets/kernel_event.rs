//! Kernel event decoding: what is decoded lies within the bytes, and is the same after a copy.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pcigate_common::event::{Event, decode};

/// Ring records are 8-byte aligned and at most this long here.
#[repr(align(8))]
struct Ring([u8; 8192]);

fuzz_target!(|bytes: &[u8]| {
    let mut ring = Ring([0; 8192]);
    let length = bytes.len().min(ring.0.len());
    ring.0[..length].copy_from_slice(&bytes[..length]);
    let record = &ring.0[..length];
    let Ok(event) = decode(record) else { return };
    if let Event::Exec(exec) = event {
        let texts = exec.path.len() + exec.invoked.len() + exec.argv.len();
        assert!(size_of_val(exec.exec) + texts <= length);
        // The texts follow each other and are the record's own bytes.
        let all = [exec.path, exec.invoked, exec.argv].concat();
        assert_eq!(all, record[size_of_val(exec.exec)..][..texts]);
    }
    let copy = Ring(ring.0);
    assert_eq!(decode(&copy.0[..length]), Ok(event));
    // The last byte missing is an error or the same event without what was not asked for.
    if let Some(shorter) = length.checked_sub(1).and_then(|end| decode(&copy.0[..end]).ok()) {
        assert_eq!(shorter, event);
    }
});
