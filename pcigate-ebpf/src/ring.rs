//! The two rings: reserve, number, wake sparingly; what does not fit is counted, never retried.

use aya_ebpf::{
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
        generated::{bpf_probe_read_kernel_str, bpf_ringbuf_output},
    },
    maps::{PerCpuArray, RingBuf},
};
use pcigate_common::{
    event::{Attempt, Header, Kind, Task},
    limits::{self, NAME_BYTES_MAX},
    maps::{Decision, Ring},
};

use crate::{
    atomic,
    identity::{Subject, current_task},
    maps::{EVENTS, LOST, MADE, SEQUENCE, VERDICTS},
    memory::Address,
};

/// `bpf_ringbuf_query` flag: bytes not yet consumed.
const BPF_RB_AVAIL_DATA: u64 = 0;
/// Submit without waking the reader.
const BPF_RB_NO_WAKEUP: u64 = 1;
/// Submit and wake the reader.
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// The ring a record belongs into.
#[inline(always)]
pub fn for_decision(decision: &Decision) -> Ring {
    if decision.allows() { Ring::Events } else { Ring::Verdicts }
}

#[inline(always)]
fn map_of(ring: Ring) -> &'static RingBuf {
    match ring {
        Ring::Events => &EVENTS,
        Ring::Verdicts => &VERDICTS,
    }
}

/// The wake-up is what costs (an interrupt to another CPU and a context switch), not the record, so
/// the reader is woken only when much is pending; it polls every few milliseconds anyway.
#[inline(always)]
fn wake_up(ring: &RingBuf) -> u64 {
    if ring.query(BPF_RB_AVAIL_DATA) >= limits::WAKE_UP_BYTES {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// The first part of a record made here and now by the current task.
#[inline(always)]
pub fn header(kind: Kind, flags: u32, subject: &Subject, decision: Decision) -> Header {
    header_of(current_task(), kind, flags, subject, decision)
}

/// As [`header`], of a task that is named or, with [`Task::NONE`], not known.
#[inline(always)]
pub fn header_of(
    task: Task,
    kind: Kind,
    flags: u32,
    subject: &Subject,
    decision: Decision,
) -> Header {
    numbered(number(), task, kind, flags, subject, decision)
}

/// The next number of this CPU's records, which one that finds no room takes along.
#[inline(always)]
pub fn number() -> u64 {
    increment(&SEQUENCE, 0)
}

/// As [`header_of`], with a number taken before.
#[inline(always)]
pub fn numbered(
    seq: u64,
    task: Task,
    kind: Kind,
    flags: u32,
    subject: &Subject,
    decision: Decision,
) -> Header {
    Header {
        kind,
        flags,
        // SAFETY: helper without preconditions.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        seq,
        // SAFETY: helper without preconditions.
        cpu: unsafe { bpf_get_smp_processor_id() },
        policy: if subject.workload == 0 { 0 } else { subject.policy },
        cgroup: subject.cgroup,
        workload: subject.workload,
        task,
        decision,
    }
}

/// Puts a record of fixed size into a ring.
#[inline(always)]
pub fn put<T: 'static>(ring: Ring, record: T) {
    // SAFETY: reserved room for one `T`.
    put_with::<T>(ring, |place| unsafe { place.write(record) });
}

/// Puts a record that `fill` writes in place: too large for the stack, or of foreign bytes.
#[inline(always)]
pub fn put_with<T: 'static>(ring: Ring, fill: impl FnOnce(*mut T)) {
    increment(&MADE, ring as u32);
    let map = map_of(ring);
    match map.reserve::<T>(0) {
        Some(mut entry) => {
            fill(entry.as_mut_ptr());
            entry.submit(wake_up(map));
        }
        None => lose(ring),
    }
}

/// Puts an attempt and the NUL-terminated kernel string at `text` into a ring; null = no text.
#[inline(always)]
pub fn put_named(ring: Ring, mut attempt: Attempt, text: Address) {
    put_with::<Named>(ring, |named| {
        // SAFETY: the reserved room has the size of `Named`; the helper writes at most the bytes
        // given.
        unsafe {
            let to = (&raw mut (*named).text).cast();
            let read = bpf_probe_read_kernel_str(to, NAME_BYTES_MAX as u32, text.0 as *const _);
            attempt.text_len = if read > 0 { read as u32 - 1 } else { 0 };
            (&raw mut (*named).attempt).write(attempt);
        }
    });
}

/// An attempt with room for its text.
#[repr(C)]
struct Named {
    attempt: Attempt,
    text: [u8; NAME_BYTES_MAX],
}

/// Puts the first `len` bytes at `bytes` into a ring.
#[inline(always)]
pub fn put_bytes(ring: Ring, bytes: *const u8, len: u32) {
    increment(&MADE, ring as u32);
    let map = map_of(ring);
    let flags = wake_up(map);
    // SAFETY: the verifier has proven `len` to lie within the map value `bytes` points into; the
    // first argument is the map itself, whose address the loader relocates.
    let result = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(map).cast_mut().cast(),
            bytes.cast_mut().cast(),
            u64::from(len),
            flags,
        )
    };
    if result < 0 {
        lose(ring);
    }
}

/// Counts a refusal that cannot be recorded because no record can be built.
#[inline(always)]
pub fn lose_unbuilt() {
    increment(&SEQUENCE, 0);
    increment(&MADE, Ring::Verdicts as u32);
    lose(Ring::Verdicts);
}

/// Counts a record that found no room.
#[inline(always)]
fn lose(ring: Ring) {
    increment(&LOST, ring as u32);
}

/// Adds one to this CPU's counter and returns what it was. Atomic, because on a preemptible kernel
/// two tasks of one CPU can be in a program at the same time.
#[inline(always)]
pub fn increment(counters: &PerCpuArray<u64>, index: u32) -> u64 {
    match counters.get_ptr_mut(index) {
        // SAFETY: the pointer is this CPU's aligned slot, alive as long as the map.
        Some(counter) => unsafe { atomic::fetch_increment(counter) },
        None => 0,
    }
}
