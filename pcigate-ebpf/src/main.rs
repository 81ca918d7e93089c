//! The kernel programs: observe exec, fork and exit; decide exec, connect and sendmsg; learn names.
//!
//! One program per hook, policies as data (`maps`). A program finds who acts (`identity`), asks the
//! policy (`exec_policy`, `egress`) and puts a record into a ring (`ring`). What it cannot decide
//! it refuses. Nothing here logs, waits or retries.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod args;
mod atomic;
mod births;
mod digest;
mod egress;
mod entering;
mod exec_lsm;
mod exec_policy;
mod foreign;
mod grants;
mod guards;
mod identity;
mod lsm_result;
mod maps;
mod memory;
mod names;
mod packet;
mod packets;
mod packets_in;
mod path;
mod process;
mod redirect;
mod ring;
mod scratch;
mod socket_attempt;
mod socket_origin;
mod sockets;
mod unix;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the build refuses an object that still holds a panic path, and the verifier
    // would refuse to load one.
    loop {}
}

/// Some helpers are only for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
