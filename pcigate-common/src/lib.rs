//! The bytes pcigate's kernel programs and its agent share: events, map keys and values, limits.
//!
//! `no_std`, no `unsafe`, no dependency but zerocopy. Every struct is `repr(C)` without implicit
//! padding (zerocopy refuses to compile otherwise) and has its size asserted, so the two sides,
//! which different compilers build, cannot drift apart. Decoding is checked: an unknown event kind
//! is an error, never undefined behaviour.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod dns;
pub mod event;
pub mod limits;
pub mod maps;
pub mod names;
pub mod redirect;
pub mod settings;
