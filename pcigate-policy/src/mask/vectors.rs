//! What vector instructions need `unsafe` for: asking the processor before the first, and loads.
// unsafe: vector loads from arrays and slices that cover them, and two calls of functions compiled
// for certain instructions right after asking whether the processor has them.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm512_loadu_si512, _mm512_mask_loadu_epi8,
};
use std::sync::LazyLock;

use super::classes::{BLOCK, READ};
use super::prefilter::Batch;
use super::{avx2, avx512};

/// `prefilter::collect_with` by AVX2; `None` where the processor does not have it.
#[inline]
pub(super) fn by_avx2(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> Option<usize> {
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    });
    if !*HAS {
        return None;
    }
    // SAFETY: the processor has the features `compiled` is compiled for.
    Some(unsafe { avx2::compiled(text, from, to, batch) })
}

/// `prefilter::collect_with` by AVX-512; `None` where the processor does not have it.
#[inline]
pub(super) fn by_avx512(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> Option<usize> {
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    });
    if !*HAS {
        return None;
    }
    // SAFETY: the processor has the features `compiled` is compiled for.
    Some(unsafe { avx512::compiled(text, from, to, batch) })
}

/// 32 bytes from `at` on, or the last 32.
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
pub(super) fn load_32(block: &[u8; READ], at: usize) -> __m256i {
    let at = at.min(READ - 32);
    // SAFETY: 32 bytes from `at` on lie within the array, because `at` is at most READ - 32.
    unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast()) }
}

/// A whole block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
pub(super) fn load_64(block: &[u8; BLOCK]) -> __m512i {
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// The first 64 bytes, or all there are and those of `rest` behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
pub(super) fn part_64(rest: __m512i, bytes: &[u8]) -> __m512i {
    if let Some(block) = bytes.first_chunk() {
        return load_64(block);
    }
    let there = (1 << bytes.len()) - 1;
    // SAFETY: only as many bytes are read as there are.
    unsafe { _mm512_mask_loadu_epi8(rest, there, bytes.as_ptr().cast()) }
}
