//! Where something may begin: candidates found in bit masks, a block of 64 bytes at a time.
//!
//! A candidate depends on the bytes around it only, never on where a block begins, so that a text
//! gives the same candidates in whatever pieces it is looked at. What is no candidate is never
//! looked at again: everything the later steps accept must begin at one.

use super::classes::{BLOCK, Masks, READ, scalar};

/// Why a place is a candidate; a place may have several reasons.
pub(super) const PLAIN: u32 = 1 << 16;
pub(super) const MARKED: u32 = 1 << 17;
pub(super) const BASE64: u32 = 1 << 18;
pub(super) const UNICODE: u32 = 1 << 19;
pub(super) const UTF16: u32 = 1 << 20;
pub(super) const KEY: u32 = 1 << 21;
pub(super) const TOKEN: u32 = 1 << 22;

/// Bytes behind the start of a digit run among which there must be enough digits for a number.
const WINDOW: u64 = (1 << 25) - 1;
const WINDOW_DIGITS: u32 = 12;
/// Escaped digits among 64 bytes from which on they may be a number.
const MARKED_DIGITS: u32 = 6;

/// Candidates after which a batch is full; one block may add 64 more.
const FULL: usize = 8;
/// Bytes one batch looks at. A change of the text makes the rest of a batch worthless.
const BATCH_BYTES: usize = 2048;

/// Candidates in order.
pub(super) struct Batch {
    from: usize,
    /// Offset from `from` in the low 16 bits, reasons above.
    found: [u32; FULL + BLOCK],
    count: usize,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self { from: 0, found: [0; FULL + BLOCK], count: 0 }
    }

    /// Places and reasons, in order of place.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        let from = self.from;
        self.found
            .iter()
            .take(self.count)
            .map(move |found| (from + (*found & 0xffff) as usize, *found & !0xffff))
    }
}

/// Fills `batch` with the candidates at `from` and behind it, before `to`; returns up to where it
/// has looked.
#[inline]
pub(super) fn collect(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(done) = super::avx2::collect(text, from, to, batch) {
        return done;
    }
    collect_scalar(text, from, to, batch)
}

/// [`collect`] without vector instructions.
pub(super) fn collect_scalar(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    collect_with(text, from, to, batch, scalar)
}

/// [`collect`] with the masks `classify` makes; inlined so that it is compiled with its features.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
pub(super) fn collect_with(
    text: &[u8],
    from: usize,
    to: usize,
    batch: &mut Batch,
    classify: impl Fn(&[u8; READ]) -> Masks,
) -> usize {
    batch.from = from;
    batch.count = 0;
    let to = to.min(text.len());
    let stop = to.min(from + BATCH_BYTES);
    let masks_at = |at: usize| match text.get(at..at + READ).and_then(|part| part.try_into().ok()) {
        Some(block) => classify(block),
        None => match text.get(at..) {
            None | Some([]) => Masks::default(),
            Some(rest) => {
                let mut block = [b' '; READ];
                if let Some(place) = block.get_mut(..rest.len()) {
                    place.copy_from_slice(rest);
                }
                classify(&block)
            }
        },
    };
    let before = from.checked_sub(1).and_then(|at| text.get(at)).copied().unwrap_or(b' ');
    let mut digit_before = u64::from(before.is_ascii_digit());
    let mut mark_before = u64::from(is_mark(before));
    let mut token_before = u64::from(before.is_ascii_digit() || matches!(before, 0x40..0x80));
    let mut at = from;
    let mut next = masks_at(at);
    while at < stop && batch.count <= FULL {
        let now = next;
        next = masks_at(at + BLOCK);
        let left = to - at;
        let within = if left >= BLOCK { u64::MAX } else { (1 << left) - 1 };
        let before = [digit_before, mark_before, token_before];
        block(&now, &next, before, within, (at - from) as u32, batch);
        digit_before = now.digits >> 63;
        mark_before = now.marks >> 63;
        token_before = (now.digits | now.letters) >> 63;
        at += BLOCK;
    }
    at.min(to)
}

const fn is_mark(byte: u8) -> bool {
    super::classes::BYTES.low[(byte & 15) as usize]
        & super::classes::BYTES.high[(byte >> 4) as usize]
        & super::classes::MARKS
        != 0
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
fn block(
    now: &Masks,
    next: &Masks,
    [digit_before, mark_before, token_before]: [u64; 3],
    within: u64,
    offset: u32,
    batch: &mut Batch,
) {
    let ahead = |now: u64, next: u64, by: u32| now >> by | next << (64 - by);
    let digits = |by| ahead(now.digits, next.digits, by);
    let fours = now.digits & digits(1) & digits(2) & digits(3);
    let plain = fours & !(now.digits << 1 | digit_before);
    let mut marked = now.digits & (now.marks << 1 | mark_before);
    let marked_next = next.digits & (next.marks << 1 | now.marks >> 63);
    if marked.count_ones() + marked_next.count_ones() < MARKED_DIGITS {
        marked = 0;
    }
    let base64 = now.base64 & ahead(now.base64, next.base64, 4) & ahead(now.base64, next.base64, 8);
    let mut wide = 0;
    if now.nuls != 0 {
        let beside = now.digits & ahead(now.nuls, next.nuls, 1);
        let beside_next = next.digits & next.nuls >> 1;
        let ahead = |by| ahead(beside, beside_next, by);
        wide = beside & ahead(2) & ahead(4) & ahead(6);
    }
    let tokens = tokens(now, next, token_before);
    let mut any = (plain | marked | base64 | wide | tokens | now.leads | now.keys) & within;
    while any != 0 {
        let bit = any.trailing_zeros();
        any &= any - 1;
        let window = |now: u64, next: u64| now >> bit | next << 1 << (63 - bit);
        let is = |mask: u64, why: u32| if mask >> bit & 1 == 1 { why } else { 0 };
        let mut why = is(base64, BASE64) | is(now.leads, UNICODE) | is(wide, UTF16);
        why |= is(now.keys, KEY) | is(tokens, TOKEN);
        if plain >> bit & 1 == 1 {
            let digits = window(now.digits, next.digits) & WINDOW;
            why |= if digits.count_ones() >= WINDOW_DIGITS { PLAIN } else { 0 };
        }
        if marked >> bit & 1 == 1 {
            let marked = window(marked, marked_next);
            why |= if marked.count_ones() >= MARKED_DIGITS { MARKED } else { 0 };
        }
        if why != 0
            && let Some(place) = batch.found.get_mut(batch.count)
        {
            *place = why | (offset + bit);
            batch.count += 1;
        }
    }
}

/// Where runs of at least 24 letters and digits begin.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
fn tokens(now: &Masks, next: &Masks, before: u64) -> u64 {
    let both = |masks: &Masks| u128::from(masks.digits | masks.letters);
    let all = both(now) | both(next) << 64;
    let two = all & all >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let run = eight & eight >> 8 & eight >> 16;
    (run & !(all << 1 | u128::from(before))) as u64
}
