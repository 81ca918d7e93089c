//! The masks of a block by AVX2, 32 bytes at a time, where the processor has it.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setr_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
};

use super::classes::{
    BACKSLASH, BYTES, ESCAPES_LOW, KEYS, LEADS, MARKS, Masks, Nibbles, PERCENT, READ, Rare, WHITE,
    whole,
};
use super::prefilter::{Batch, Span, collect_with};
use super::vectors::load_32 as load;

/// [`collect_with`] by AVX2.
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
pub(super) fn compiled(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    collect_with(
        text,
        from,
        to,
        batch,
        |block| whole(block, |block| masks(block)),
        |span, batch| look(span, batch),
    )
}

/// Not inlined: what few spans need would take registers from what all need.
#[inline(never)]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn look(span: &Span<'_>, batch: &mut Batch) {
    span.look(batch, |block| whole(block, |block| rare(block)));
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn masks(block: &[u8; READ]) -> Masks {
    let [low, high] = [half(block, 0), half(block, 32)];
    Masks {
        digits: low.digits | high.digits << 32,
        letters: low.letters | high.letters << 32,
        not_hex: u64::MAX,
        marks: low.marks | high.marks << 32,
        escapes: low.escapes | high.escapes << 32,
        white: low.white | high.white << 32,
        base64: low.base64 | high.base64 << 32,
        rare: low.rare | high.rare << 32,
    }
}

/// The masks of the 32 bytes from `at` on (0 or 32).
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn half(block: &[u8; READ], at: usize) -> Masks {
    let bytes = load(block, at);
    let class = look_up(&BYTES, bytes);
    let none = _mm256_setzero_si256();
    let leads = _mm256_and_si256(class, all(LEADS));
    let rare = _mm256_or_si256(_mm256_or_si256(leads, equal(bytes, none)), keys(block, at));
    let fours = _mm256_or_si256(bytes, all(ESCAPES_LOW));
    let escapes = _mm256_or_si256(equal(fours, all(PERCENT)), equal(fours, all(BACKSLASH)));
    // The highest bit of bytes beyond ASCII is that of the mask.
    let escapes = _mm256_or_si256(_mm256_or_si256(bytes, escapes), _mm256_slli_epi16::<4>(class));
    // Bytes beyond ASCII are below zero.
    let white = _mm256_cmpgt_epi8(all(WHITE + 1), bytes);
    Masks {
        digits: bits(_mm256_slli_epi16::<7>(class)),
        letters: bits(class),
        not_hex: 0,
        marks: bits(some(class, MARKS)),
        escapes: bits(escapes),
        white: bits(_mm256_andnot_si256(bytes, white)),
        base64: bits(_mm256_slli_epi16::<1>(class)),
        rare: bits(equal(rare, none)) ^ u64::from(u32::MAX),
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn rare(block: &[u8; READ]) -> Rare {
    let half = |at: usize| {
        let bytes = load(block, at);
        let none = _mm256_setzero_si256();
        Rare {
            leads: bits(some(look_up(&BYTES, bytes), LEADS)),
            nuls: bits(equal(bytes, none)),
            keys: bits(equal(keys(block, at), none)) ^ u64::from(u32::MAX),
        }
    };
    let [low, high] = [half(0), half(32)];
    Rare {
        leads: low.leads | high.leads << 32,
        nuls: low.nuls | high.nuls << 32,
        keys: low.keys | high.keys << 32,
    }
}

/// What the three letters at each place may be.
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn keys(block: &[u8; READ], at: usize) -> __m256i {
    let [one, two, three] = &KEYS;
    _mm256_and_si256(
        look_up(one, load(block, at)),
        _mm256_and_si256(look_up(two, load(block, at + 1)), look_up(three, load(block, at + 2))),
    )
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn bits(bytes: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(bytes).cast_unsigned())
}

/// Bytes that have some of these bits, of which none is the highest.
#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn some(bytes: __m256i, bits: u8) -> __m256i {
    _mm256_cmpgt_epi8(_mm256_and_si256(bytes, all(bits)), _mm256_setzero_si256())
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn equal(one: __m256i, other: __m256i) -> __m256i {
    _mm256_cmpeq_epi8(one, other)
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn all(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
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
#[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
fn twice(table: &[u8; 16]) -> __m256i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = table.map(u8::cast_signed);
    _mm256_setr_epi8(
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, //
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p,
    )
}
