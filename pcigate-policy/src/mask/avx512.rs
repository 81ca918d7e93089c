//! The masks of a block by AVX-512 (with VBMI), 64 bytes at a time, where the processor has it:
//! tables of 128 bytes instead of halves of bytes, and comparisons that give masks at once.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cmple_epu8_mask, _mm512_maskz_permutex2var_epi8,
    _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi8, _mm512_test_epi8_mask,
    _mm512_testn_epi8_mask,
};

use super::classes::{
    BASE64, BLOCK, DIGIT, ESCAPE, LEADS, LETTER, MARKS, Masks, READ, Rare, WHITE, class_of, keys_of,
};
use super::prefilter::{Batch, Span, collect_with};
use super::vectors::{load_64 as load, part_64};

/// Bits of [`CLASSES`], where they differ from those of [`class_of`].
const NUL: u8 = 0x10;
const NOT_HEX: u8 = 0x20;
/// The class of every byte: the lower half, and what the upper has besides [`Masks::escapes`].
static CLASSES: [[u8; BLOCK]; 4] = {
    let mut table = [[0; BLOCK]; 4];
    let mut byte = 0_u8;
    loop {
        let place = &mut table[byte as usize / BLOCK][byte as usize % BLOCK];
        if byte < 0x80 {
            let escape =
                if matches!(byte, b'%' | b'\\' | b'&' | b'=' | b'\r' | b'\n') { ESCAPE } else { 0 };
            let nul = if byte == 0 { NUL } else { 0 };
            let letter = class_of(byte) & LETTER != 0 && !byte.is_ascii_hexdigit();
            let not_hex = if letter { NOT_HEX } else { 0 };
            *place = class_of(byte) & (DIGIT | MARKS | BASE64 | LETTER) | escape | nul | not_hex;
        } else {
            *place = class_of(byte) & LEADS;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    table
};
/// The keys' bits of each byte of ASCII as first, second and third letter.
static KEYS: [[[u8; BLOCK]; 2]; 3] = [key_table(0), key_table(1), key_table(2)];

const fn key_table(letter: usize) -> [[u8; BLOCK]; 2] {
    let mut table = [[0; BLOCK]; 2];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize / BLOCK][byte as usize % BLOCK] = keys_of(letter, byte);
        byte += 1;
    }
    table
}

/// [`collect_with`] by AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
pub(super) fn compiled(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    collect_with(text, from, to, batch, |block| masks(block), |span, batch| look(span, batch))
}

/// Not inlined: what few spans need would take registers from what all need.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn look(span: &Span<'_>, batch: &mut Batch) {
    span.look(batch, |block| rare(block));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn masks(block: &[u8]) -> Masks {
    let [bytes, second, third] = three(block);
    let beyond = _mm512_movepi8_mask(bytes);
    let class = look_up([&CLASSES[0], &CLASSES[1]], bytes, !beyond);
    let leads = look_up([&CLASSES[2], &CLASSES[3]], bytes, beyond);
    let rare = _mm512_or_si512(_mm512_and_si512(class, all(NUL)), leads);
    let rare = _mm512_or_si512(rare, keys([bytes, second, third], beyond));
    Masks {
        digits: _mm512_test_epi8_mask(class, all(DIGIT)),
        letters: _mm512_movepi8_mask(class),
        not_hex: _mm512_test_epi8_mask(class, all(NOT_HEX)),
        marks: _mm512_test_epi8_mask(class, all(MARKS)),
        escapes: _mm512_test_epi8_mask(class, all(ESCAPE)) | beyond,
        white: _mm512_cmple_epu8_mask(bytes, all(WHITE)),
        base64: _mm512_test_epi8_mask(class, all(BASE64)),
        rare: _mm512_test_epi8_mask(rare, rare),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn rare(block: &[u8]) -> Rare {
    let [bytes, second, third] = three(block);
    let beyond = _mm512_movepi8_mask(bytes);
    let leads = look_up([&CLASSES[2], &CLASSES[3]], bytes, beyond);
    let keys = keys([bytes, second, third], beyond);
    let only_tags = _mm512_test_epi8_mask(keys, all(TAGS)) | !_mm512_movepi8_mask(third);
    Rare {
        leads: _mm512_test_epi8_mask(leads, leads),
        nuls: _mm512_testn_epi8_mask(bytes, bytes),
        keys: _mm512_test_epi8_mask(keys, keys) & only_tags & !_mm512_movepi8_mask(second),
    }
}

/// The keys whose third byte may be any.
const TAGS: u8 = 0x80;

/// What the three letters at each place may be. Behind the first, bytes beyond ASCII count as those
/// with the same lower bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn keys([first, second, third]: [__m512i; 3], beyond: u64) -> __m512i {
    let [one, two, three] = &KEYS;
    let first = look_up([&one[0], &one[1]], first, !beyond);
    let second = look_up([&two[0], &two[1]], second, u64::MAX);
    let third = look_up([&three[0], &three[1]], third, u64::MAX);
    _mm512_and_si512(first, _mm512_and_si512(second, third))
}

/// The entries of a table for 128 bytes, by the lower seven bits; zero where `of` says no.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn look_up([low, high]: [&[u8; BLOCK]; 2], bytes: __m512i, of: u64) -> __m512i {
    _mm512_maskz_permutex2var_epi8(of, load(low), bytes, load(high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn all(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// 64 bytes from the first, from the second and from the third on; blanks behind the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,lzcnt,popcnt")]
fn three(bytes: &[u8]) -> [__m512i; 3] {
    let Some(block) = bytes.first_chunk::<READ>() else {
        return [0, 1, 2].map(|at| part_64(all(WHITE), bytes.get(at..).unwrap_or_default()));
    };
    let from = |at: usize| block.get(at..).and_then(<[u8]>::first_chunk).map(|block| load(block));
    [from(0), from(1), from(2)].map(|part| part.unwrap_or_else(|| all(WHITE)))
}
