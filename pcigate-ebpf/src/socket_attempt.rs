//! The record of a socket, an address or a peer that was asked for.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use pcigate_common::{
    event::{Attempt, Kind, What},
    limits::UNIX_NAME_BYTES_MAX,
    maps::{Decision, verdict},
};

use crate::{identity::Subject, memory::Address, ring};

/// An attempt with room for a text behind it; `text_len` says how much of the room counts.
#[repr(C)]
struct Named {
    attempt: Attempt,
    text: [u8; UNIX_NAME_BYTES_MAX],
}

/// What is allowed without a remark is ordinary and makes no record.
#[inline(always)]
fn is_ordinary(decision: &Decision) -> bool {
    decision.allows() && decision.audit_verdict == verdict::NONE
}

/// Records a refusal, or the remark of audit mode.
#[inline(always)]
pub fn report(
    what: What,
    bits: u32,
    subject: &Subject,
    decision: Decision,
    numbers: [u32; 4],
    address: [u8; 16],
) {
    if is_ordinary(&decision) {
        return;
    }
    let header = ring::header(Kind::Attempt, bits, subject, decision);
    ring::put(
        ring::for_decision(&decision),
        Attempt { header, what, text_len: 0, numbers, address },
    );
}

/// As [`report`], with `len` bytes of kernel memory as the text.
#[inline(always)]
pub fn report_named(
    what: What,
    bits: u32,
    subject: &Subject,
    decision: Decision,
    text: Address,
    len: u32,
) {
    if is_ordinary(&decision) {
        return;
    }
    let header = ring::header(Kind::Attempt, bits, subject, decision);
    ring::put_with::<Named>(ring::for_decision(&decision), |named| {
        // SAFETY: `named` is reserved room of the ring for one `Named`; `len` is at most the size
        // of its text, and the helper checks the source. The length is put down and taken up again,
        // so that old verifiers do not ask on every way here what it may be.
        unsafe {
            (&raw mut (*named).attempt.text_len).write_volatile(len);
            let len = (&raw const (*named).attempt.text_len).read_volatile();
            let most = UNIX_NAME_BYTES_MAX as u32;
            let len = if len > most { most } else { len };
            let to = (&raw mut (*named).text).cast::<u8>();
            let status = bpf_probe_read_kernel(to.cast(), len, text.0 as *const _);
            let text_len = if status < 0 { 0 } else { len };
            (&raw mut (*named).attempt).write(Attempt {
                header,
                what,
                text_len,
                numbers: [0; 4],
                address: [0; 16],
            });
        }
    });
}
