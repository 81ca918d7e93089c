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

/// Digits that may be a number, or hexadecimal pairs, whatever follows.
const LONG: u32 = 8;
/// What may stand between the groups of a number, or begin it.
const GOES_ON: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] = b"-._/+ \0\t\r\n%\\&=";
    while let [byte, tail @ ..] = rest {
        table[*byte as usize] = true;
        rest = tail;
    }
    let mut byte = 0xc2;
    while byte < 256 {
        table[byte] = true;
        byte += 1;
    }
    table
};

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
        let rest = text.get(at..).unwrap_or_default();
        block(&now, &next, before, within, rest, offset(at - from), batch);
        digit_before = now.digits >> 63;
        mark_before = now.marks >> 63;
        token_before = (now.digits | now.letters) >> 63;
        at += BLOCK;
    }
    at.min(to)
}

/// The offset of a block, of which a batch has few.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
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
    rest: &[u8],
    offset: u32,
    batch: &mut Batch,
) {
    let digits = |by| ahead(now.digits, next.digits, by);
    let fours = now.digits & digits(1) & digits(2) & digits(3);
    let starts = fours & !(now.digits << 1 | digit_before);
    let plain = numbers(starts, now.digits, next.digits, rest);
    let mut marked = now.digits & (now.marks << 1 | mark_before);
    if marked != 0 {
        let behind = next.digits & (next.marks << 1 | now.marks >> 63);
        let enough = marked.count_ones() + behind.count_ones() >= MARKED_DIGITS;
        marked = if enough { crowded(marked, behind) } else { 0 };
    }
    let mut base64 = now.base64;
    if base64 != 0 {
        base64 &= ahead(now.base64, next.base64, 4) & ahead(now.base64, next.base64, 8);
    }
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
        let is = |mask: u64, why: u32| if mask >> bit & 1 == 1 { why } else { 0 };
        let why = is(plain, PLAIN)
            | is(marked, MARKED)
            | is(base64, BASE64)
            | is(now.leads, UNICODE)
            | is(wide, UTF16)
            | is(now.keys, KEY)
            | is(tokens, TOKEN);
        if let Some(place) = batch.found.get_mut(batch.count) {
            *place = why | (offset + bit);
            batch.count += 1;
        }
    }
}

/// The mask `by` places on, filled up from the next one; `by` is 1–63.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
const fn ahead(now: u64, next: u64, by: u32) -> u64 {
    now >> by | next << (64 - by)
}

/// Those digit runs behind whose start there are enough digits for a number, and which are no date.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
fn numbers(mut starts: u64, now: u64, next: u64, rest: &[u8]) -> u64 {
    let mut kept = 0;
    while starts != 0 {
        let bit = starts.trailing_zeros();
        let start = starts & starts.wrapping_neg();
        starts ^= start;
        let digits = now >> bit | next << 1 << (63 - bit);
        if (digits & WINDOW).count_ones() < WINDOW_DIGITS {
            continue;
        }
        // A short run must go on behind a separator or an escape.
        let run = (!digits).trailing_zeros();
        let behind = rest.get((bit + run) as usize).copied().unwrap_or(b' ');
        if run < LONG && !GOES_ON[usize::from(behind)] {
            continue;
        }
        // `2026-11-22`: a short run, one byte, and two or three digits.
        let behind = digits >> (run & 63) >> 1;
        let second = (!behind).trailing_zeros();
        let one_apart = behind & 1 == 1;
        if !(run <= LONG && one_apart && (second == 2 || second == 3)) {
            kept |= start;
        }
    }
    kept
}

/// Those places behind which, in 64 bytes, there are enough of them.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
fn crowded(now: u64, next: u64) -> u64 {
    let (mut kept, mut rest) = (0, now);
    while rest != 0 {
        let bit = rest.trailing_zeros();
        let window = now >> bit | next << 1 << (63 - bit);
        if window.count_ones() >= MARKED_DIGITS {
            kept |= 1 << bit;
        }
        rest &= rest - 1;
    }
    kept
}

/// Where runs of at least 24 letters and digits begin.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for AVX2 and once without")]
fn tokens(now: &Masks, next: &Masks, before: u64) -> u64 {
    const LOWEST: u64 = 0x1ff;
    let (first, second) = (now.digits | now.letters, next.digits | next.letters);
    // Most blocks have no run of 16, and none that goes on far enough.
    let two = first & first >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let goes_on = first >> 63 == 1 && second & LOWEST == LOWEST;
    if eight & eight >> 8 == 0 && !goes_on {
        return 0;
    }
    let all = u128::from(first) | u128::from(second) << 64;
    let two = all & all >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let run = eight & eight >> 8 & eight >> 16;
    let starts = run & !(all << 1 | u128::from(before));
    u64::try_from(starts & u128::from(u64::MAX)).unwrap_or(0)
}
