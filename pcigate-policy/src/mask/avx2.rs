//! The masks of a block by AVX2, 32 bytes at a time, where the processor has it.
// unsafe: two vector loads from an array whose size covers them, and one call of a function
// compiled for AVX2 right after asking whether the processor has it. Everything else is safe code.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256,
    _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
};

use super::classes::{BYTES, KEYS, LEADS, MARKS, Masks, Nibbles, READ};
use super::prefilter::{Batch, collect_with};

/// [`collect_with`] by AVX2; `None` where the processor does not have it.
#[inline]
pub(super) fn collect(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> Option<usize> {
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt");
    if !has {
        return None;
    }
    // SAFETY: the processor has the features `compiled` is compiled for.
    Some(unsafe { compiled(text, from, to, batch) })
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn compiled(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    collect_with(text, from, to, batch, |block| masks(block))
}

#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn masks(block: &[u8; READ]) -> Masks {
    let mut masks = half(block, 0);
    let high = half(block, 32);
    masks.digits |= high.digits << 32;
    masks.marks |= high.marks << 32;
    masks.base64 |= high.base64 << 32;
    masks.leads |= high.leads << 32;
    masks.nuls |= high.nuls << 32;
    masks.letters |= high.letters << 32;
    masks.keys |= high.keys << 32;
    masks
}

/// The masks of the 32 bytes from `at` on (0 or 32).
#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn half(block: &[u8; READ], at: usize) -> Masks {
    let [first, second, third] = [load(block, at), load(block, at + 1), load(block, at + 2)];
    let class = look_up(&BYTES, first);
    let [one, two, three] = &KEYS;
    let keys = _mm256_and_si256(
        look_up(one, first),
        _mm256_and_si256(look_up(two, second), look_up(three, third)),
    );
    let none = _mm256_setzero_si256();
    let any = |bits: u8| {
        _mm256_cmpgt_epi8(_mm256_and_si256(class, _mm256_set1_epi8(bits.cast_signed())), none)
    };
    Masks {
        digits: bits(_mm256_slli_epi16::<7>(class)),
        marks: bits(any(MARKS)),
        base64: bits(_mm256_slli_epi16::<4>(class)),
        leads: bits(any(LEADS)),
        nuls: bits(_mm256_slli_epi16::<1>(class)),
        letters: bits(class),
        keys: bits(_mm256_cmpeq_epi8(keys, none)) ^ u64::from(u32::MAX),
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn bits(bytes: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(bytes).cast_unsigned())
}

#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn look_up(tables: &Nibbles, bytes: __m256i) -> __m256i {
    let nibble = _mm256_set1_epi8(0x0f);
    let low = _mm256_and_si256(bytes, nibble);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
    _mm256_and_si256(
        _mm256_shuffle_epi8(twice(&tables.low), low),
        _mm256_shuffle_epi8(twice(&tables.high), high),
    )
}

#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn twice(table: &[u8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = table.map(u8::cast_signed);
    _mm256_setr_epi8(
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, //
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p,
    )
}

#[inline]
#[target_feature(enable = "avx2,bmi1,popcnt")]
fn load(block: &[u8; READ], at: usize) -> __m256i {
    let at = at.min(READ - 32);
    // SAFETY: 32 bytes from `at` on lie within the array, because `at` is at most READ - 32.
    unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast()) }
}
