//! Reads of kernel memory at an offset the loader found in BTF.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// A kernel address. Null and garbage are fine: reading them fails instead of faulting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// The address `offset` bytes further.
    #[inline(always)]
    pub fn at(self, offset: u32) -> Address {
        Address(self.0.wrapping_add(u64::from(offset)))
    }

    /// The address `offset` bytes before: from a member to its struct.
    #[inline(always)]
    pub fn back(self, offset: u32) -> Address {
        Address(self.0.wrapping_sub(u64::from(offset)))
    }

    /// Reads a plain value.
    #[inline(always)]
    pub fn read<T>(self) -> Option<T> {
        // SAFETY: the helper checks the address and fails on a bad one; `T` is a plain integer
        // everywhere in this crate.
        unsafe { bpf_probe_read_kernel(self.0 as *const T) }.ok()
    }

    /// Reads the pointer stored `offset` bytes further.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Address> {
        self.at(offset).read::<u64>().map(Address)
    }
}
