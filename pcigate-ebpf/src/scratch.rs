//! Buffers for building a path and an exec record, too large for the 512-byte stack.
//!
//! A CPU has a few, because a program may be preempted while it holds one and another task of that
//! CPU may need one meanwhile. Each is owned through an atomic flag.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use pcigate_common::{
    event::Exec,
    limits::{ARGV_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, SCRATCHES_PER_CPU},
    maps::Decision,
};

use crate::{
    args::Args,
    atomic,
    maps::SCRATCH,
    path::{Climb, Path},
};

/// Room for path, invoked name and argv one after the other; the doubled path keeps the offsets the
/// verifier derives from masks inside.
pub const DATA_BYTES: usize = 2 * PATH_BYTES_MAX + NAME_BYTES_MAX + ARGV_BYTES_MAX;

/// One buffer.
#[repr(C)]
pub struct Scratch {
    /// 1 while a program owns it.
    busy: u64,
    /// The path being resolved.
    pub climb: Climb,
    /// See [`settle`].
    settled: Settled,
    /// The path is written backwards from `PATH_BYTES_MAX`; the rest is room for one more name.
    pub path: [u8; PATH_BYTES_MAX + NAME_BYTES_MAX],
    /// The name the program was called by, NUL-terminated.
    pub invoked: [u8; NAME_BYTES_MAX],
    /// The arguments, NUL-terminated each.
    pub argv: [u8; ARGV_BYTES_MAX],
    /// The record: fixed part …
    pub exec: Exec,
    /// … and what follows it, directly behind.
    pub data: [u8; DATA_BYTES],
}
// The record is sent as one run of bytes from `exec` into `data`.
const _: () = assert!(
    core::mem::offset_of!(Scratch, data)
        == core::mem::offset_of!(Scratch, exec) + core::mem::size_of::<Exec>()
);

/// What is known of an exec once its files and arguments have been read.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Settled {
    pub path: Path,
    pub invoked_len: u32,
    pub args: Args,
    pub decision: Decision,
    /// Of `pcigate_common::event::flags`.
    pub bits: u32,
}

/// Puts values down and takes them up again. Old verifiers look at what follows once for each way
/// that led here, as long as the values differ; of what is loaded from a map they know nothing, so
/// all ways go on as one. Without it they look at ten times as much.
#[inline(always)]
pub fn settle(scratch: *mut Scratch, values: Settled) -> Settled {
    // SAFETY: this run owns the buffer; volatile, so that the compiler does not see through it.
    unsafe {
        (&raw mut (*scratch).settled).write_volatile(values);
        (&raw const (*scratch).settled).read_volatile()
    }
}

/// Takes a free buffer of this CPU.
#[inline(always)]
pub fn take() -> Option<*mut Scratch> {
    // SAFETY: helper without preconditions.
    let first = unsafe { bpf_get_smp_processor_id() } * SCRATCHES_PER_CPU;
    for i in 0..SCRATCHES_PER_CPU {
        let scratch = SCRATCH.get_ptr_mut(first + i)?;
        // SAFETY: `busy` is an aligned slot of the map value, only touched atomically.
        if unsafe { atomic::exchange(&raw mut (*scratch).busy, 1) } == 0 {
            return Some(scratch);
        }
    }
    None
}

/// Gives a buffer back.
#[inline(always)]
pub fn give_back(scratch: *mut Scratch) {
    // SAFETY: as in `take`; only the owner gets here.
    unsafe { atomic::exchange(&raw mut (*scratch).busy, 0) };
}
