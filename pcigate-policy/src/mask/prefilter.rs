//! Where something may begin: candidates found in bit masks, a block of 64 bytes at a time.
//!
//! A candidate depends on the bytes around it only, never on where a block begins, so that a text
//! gives the same candidates in whatever pieces it is looked at. What is no candidate is never
//! looked at again: everything the later steps accept must begin at one.

use super::classes::{Masks, Rare, WHITE, scalar, scalar_rare, whole};
use super::{runs, spelling};

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
/// Letters and digits of a token that is worth a look.
const TOKEN_LETTERS: u32 = 24;
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

/// Bytes of a span: less than a block by what may lie around a place that decides about it.
const SPAN: usize = 48;
/// A span in its block.
const SPAN_BITS: u64 = ((1 << SPAN) - 1) << 1;
/// Digits of a run that is not seen by those further on.
const SHORT: u32 = 11;
/// Up to where in a block all 25 bytes can be seen.
const FAR_SEEN: u32 = u64::BITS - 25;
/// Candidates after which a batch is full; one span may add 48 more.
const FULL: usize = 8;
/// Bytes one batch looks at.
pub(super) const BATCH_BYTES: usize = 2048;

/// Candidates in order.
pub(super) struct Batch {
    from: usize,
    /// Offset from `from` in the low 16 bits, reasons above.
    found: [u32; FULL + SPAN],
    count: usize,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self { from: 0, found: [0; FULL + SPAN], count: 0 }
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

    fn push(&mut self, place: usize, why: u32) {
        if let Some(found) = self.found.get_mut(self.count) {
            *found = why | u32::try_from(place - self.from).unwrap_or(0xffff);
            self.count += 1;
        }
    }
}

/// Fills `batch` with the candidates at `from` and behind it, before `to`; returns up to where it
/// has looked.
#[inline]
pub(super) fn collect(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let done = super::vectors::by_avx512(text, from, to, batch);
        let done = done.or_else(|| super::vectors::by_avx2(text, from, to, batch));
        if let Some(done) = done {
            return done;
        }
    }
    collect_scalar(text, from, to, batch)
}

/// [`collect`] without vector instructions.
pub(super) fn collect_scalar(text: &[u8], from: usize, to: usize, batch: &mut Batch) -> usize {
    let rare = |block: &[u8]| whole(block, scalar_rare);
    let look = |span: &Span<'_>, batch: &mut Batch| span.look(batch, rare);
    collect_with(text, from, to, batch, |block| whole(block, scalar), look)
}

/// [`collect`] with the masks `classify` makes; `look` is given the spans that may hold something.
/// Inlined so that it is compiled with its caller's features.
///
/// A span is the 48 bytes behind the first of a block: what decides about it lies in the block.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
pub(super) fn collect_with(
    text: &[u8],
    from: usize,
    to: usize,
    batch: &mut Batch,
    classify: impl Fn(&[u8]) -> Masks,
    look: impl Fn(&Span<'_>, &mut Batch),
) -> usize {
    batch.from = from;
    batch.count = 0;
    let to = to.min(text.len());
    let stop = to.min(from + BATCH_BYTES);
    let mut at = from;
    let mut next = around(text, at, &classify);
    while at < stop && batch.count <= FULL {
        let masks = next;
        next = read(text, at + SPAN - 1, &classify).unwrap_or_default();
        let hints = Hints::of(&masks, &next);
        if hints.any() {
            look(&Span { text, at, to, masks, next, hints }, batch);
        }
        at += SPAN;
    }
    at.min(to)
}

/// The masks of the block that begins a byte before `at`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
fn around(text: &[u8], at: usize, classify: impl Fn(&[u8]) -> Masks) -> Masks {
    match at.checked_sub(1) {
        Some(before) => read(text, before, classify).unwrap_or_default(),
        None => read(text, 0, classify).unwrap_or_default().behind_a_blank(),
    }
}

/// What `classify` says of the block at `at`, if the text has one there.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
fn read<T>(text: &[u8], at: usize, classify: impl Fn(&[u8]) -> T) -> Option<T> {
    text.get(at..).filter(|rest| !rest.is_empty()).map(classify)
}

/// Places in a block where something may begin, as masks. Where nothing may, most spans end.
#[derive(Clone, Copy)]
struct Hints {
    runs: u64,
    tokens: u64,
    others: u64,
}

impl Hints {
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
    fn of(masks: &Masks, next: &Masks) -> Self {
        let base64 = masks.base64 & masks.base64 >> 4 & masks.base64 >> 8;
        let (marked, behind) = (masks.marked(), next.marked());
        let crowded = marked.count_ones() + behind.count_ones() >= MARKED_DIGITS;
        let marked = if crowded { masks.escaped() } else { 0 };
        // Of a digit in UTF-16, the NUL byte may be the first of the next span.
        let rare = masks.rare & (SPAN_BITS | SPAN_BITS << 1);
        let others = rare | (base64 | marked) & SPAN_BITS;
        Self { runs: runs(masks), tokens: tokens(masks), others }
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
    const fn any(&self) -> bool {
        self.runs | self.tokens | self.others != 0
    }
}

/// Where a run of four digits begins that may belong to a number: digits stand where all layouts
/// with single separators have them, or the run ends before an escape or white space.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
fn runs(masks: &Masks) -> u64 {
    let Masks { digits, escapes, white, .. } = *masks;
    let (starts, close) = starts(masks);
    let ends = digits.wrapping_add(starts) & !digits;
    let far = ends & (escapes | white & white >> 1);
    // Digits of a number lie within 25 bytes; what cannot be seen here may be digits.
    let end = far.trailing_zeros();
    let seen = digits >> end.saturating_sub(SHORT) & ((1 << (SHORT + 25)) - 1);
    let crowded = seen.count_ones() >= WINDOW_DIGITS || end >= FAR_SEEN;
    // Which of the runs it is does not matter: then all are looked at.
    let all = if far != 0 && (crowded || far & far.wrapping_sub(1) != 0) { starts } else { close };
    // Runs of four to seven digits before a letter, as ids in hexadecimal have them, go nowhere.
    let inside = (ends & masks.letters & !masks.not_hex) >> 4;
    let inside = inside | inside >> 1;
    all & !(inside | inside >> 2)
}

/// Where runs of four digits begin, and those of them behind which digits stand where all layouts
/// with single separators have them.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
const fn starts(masks: &Masks) -> (u64, u64) {
    let (digits, white) = (masks.digits, masks.white);
    let two = digits & digits >> 1;
    let starts = two & two >> 2 & !(digits << 1) & SPAN_BITS;
    let third = (digits | white) >> 10 | digits >> 11 | white >> 9;
    (starts, starts & digits >> 7 & third)
}

/// Where a run of letters and digits begins that may be a long token of text.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
fn tokens(masks: &Masks) -> u64 {
    let all = masks.digits | masks.letters;
    let two = all & all >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let starts = eight & eight >> 7 & !(all << 1) & SPAN_BITS;
    // Most tokens are a hash or an id in hexadecimal: of text, its pairs would begin with digits.
    let at = starts.trailing_zeros();
    let letters = masks.not_hex.checked_shr(at).unwrap_or(0) & ((1 << TOKEN_LETTERS) - 1);
    let digits = masks.digits.checked_shr(at).unwrap_or(0);
    let pairs = spelling::may_be_pairs(digits);
    let seen = starts & starts.wrapping_sub(1) == 0 && at <= u64::BITS - TOKEN_LETTERS;
    if seen && letters == 0 && !pairs { 0 } else { starts }
}

/// Whether an escape or more than one blank stands at `at`.
fn goes_far(text: &[u8], at: usize) -> bool {
    let white = |at: usize| text.get(at).is_none_or(|byte| *byte <= WHITE);
    text.get(at).is_some_and(|byte| is_escape(*byte)) || white(at) && white(at + 1)
}

const fn is_escape(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&' | b'=' | b'\r' | b'\n' | 0x80..)
}

/// Bytes of a text that may hold something, and what is known of them.
pub(super) struct Span<'a> {
    text: &'a [u8],
    at: usize,
    /// Candidates at this place and behind it are not wanted.
    to: usize,
    /// Of the block that begins a byte before the span.
    masks: Masks,
    /// Of the block that begins a byte before the next span.
    next: Masks,
    hints: Hints,
}

/// The mask `by` places on, filled up from that of the next span; `by` is at most [`SPAN`].
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
const fn ahead(now: u64, next: u64, by: u32) -> u64 {
    now >> by | next << (SPAN_BITS.count_ones() - by)
}

impl Span<'_> {
    /// Adds the candidates; `rare` makes the masks that most spans do without.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
    pub(super) fn look(&self, batch: &mut Batch, rare: impl Fn(&[u8]) -> Rare) {
        let (now, next) = (&self.masks, &self.next);
        let plain = self.numbers(next);
        let tokens = self.tokens(next);
        let (mut marked, mut base64, mut wide, mut rest) = (0, 0, 0, Rare::default());
        if self.hints.others != 0 {
            let groups = |by| ahead(now.base64, next.base64, by);
            base64 = now.base64 & groups(4) & groups(8);
            marked = self.crowded(next);
            if now.rare != 0 {
                rest = self.rare(self.at, &rare);
                wide = if rest.nuls == 0 { 0 } else { self.wide(next, rest.nuls, &rare) };
            }
        }
        let Rare { leads, keys, .. } = rest;
        let within = (((1 << SPAN.min(self.to - self.at)) - 1) << 1) & SPAN_BITS;
        let mut any = (plain | marked | base64 | wide | tokens | leads | keys) & within;
        while any != 0 {
            let bit = any.trailing_zeros();
            any &= any - 1;
            let is = |mask: u64, why: u32| if mask >> bit & 1 == 1 { why } else { 0 };
            let why = is(plain, PLAIN)
                | is(marked, MARKED)
                | is(base64, BASE64)
                | is(leads, UNICODE)
                | is(wide, UTF16)
                | is(keys, KEY)
                | is(tokens, TOKEN);
            batch.push(self.place(bit), why);
        }
    }

    /// The rare masks of the block that begins a byte before `at`.
    fn rare(&self, at: usize, rare: impl Fn(&[u8]) -> Rare) -> Rare {
        match at.checked_sub(1) {
            Some(before) => read(self.text, before, rare).unwrap_or_default(),
            None => {
                let Rare { leads, nuls, keys } = read(self.text, 0, rare).unwrap_or_default();
                Rare { leads: leads << 1, nuls: nuls << 1, keys: keys << 1 }
            }
        }
    }

    /// Where in the text a bit's byte stands.
    const fn place(&self, bit: u32) -> usize {
        (self.at + bit as usize).saturating_sub(1)
    }

    /// Digits with NUL bytes between them.
    fn wide(&self, next: &Masks, nuls: u64, rare: impl Fn(&[u8]) -> Rare) -> u64 {
        let nuls_next = self.rare(self.at + SPAN, rare).nuls;
        let beside = self.masks.digits & ahead(nuls, nuls_next, 1);
        let beside_next = next.digits & nuls_next >> 1;
        let ahead = |by| ahead(beside, beside_next, by);
        beside & ahead(2) & ahead(4) & ahead(6)
    }

    /// Those digit runs that may be a number: enough digits follow, and they are no date.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
    fn numbers(&self, next: &Masks) -> u64 {
        let (mut kept, mut starts) = (0, self.hints.runs);
        let (_, close) = self::starts(&self.masks);
        while starts != 0 {
            let bit = starts.trailing_zeros();
            let start = starts & starts.wrapping_neg();
            starts ^= start;
            let digits = ahead(self.masks.digits, next.digits, bit);
            if (digits & WINDOW).count_ones() < WINDOW_DIGITS {
                continue;
            }
            // A short run must go on behind a separator or an escape.
            let run = digits.trailing_ones();
            let place = self.place(bit);
            let behind = self.text.get(place + run as usize).copied().unwrap_or(b' ');
            let stops = (run < LONG) & !GOES_ON[usize::from(behind)];
            // `2026-11-22`: a short run, one byte, and two or three digits.
            let second = (digits >> (run & 63) >> 1).trailing_ones();
            let date = (run <= LONG) & ((second == 2) | (second == 3));
            // Which of both it is comes at random: one branch is better than two.
            if stops | date {
                continue;
            }
            if close & start == 0 && !goes_far(self.text, place + run as usize) {
                continue;
            }
            if runs::may_count(self.text, place, digits) {
                kept |= start;
            }
        }
        kept
    }

    /// Escaped digits behind which, in 64 bytes, there are enough of them.
    fn crowded(&self, next: &Masks) -> u64 {
        let (now, next) = (self.masks.marked(), next.marked());
        let (mut kept, mut rest) = (0, self.masks.escaped() & SPAN_BITS);
        while rest != 0 {
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            if ahead(now, next, bit).count_ones() >= MARKED_DIGITS {
                kept |= 1 << bit;
            }
        }
        kept
    }

    /// Where runs of at least 24 letters and digits begin that may be text in base64 or in pairs.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
    fn tokens(&self, next: &Masks) -> u64 {
        let of = |masks: &Masks| masks.digits | masks.letters;
        let (all, all_next) = (of(&self.masks), of(next));
        let (mut kept, mut starts) = (0, self.hints.tokens);
        while starts != 0 {
            let bit = starts.trailing_zeros();
            let start = starts & starts.wrapping_neg();
            starts ^= start;
            if ahead(all, all_next, bit).trailing_ones() >= TOKEN_LETTERS
                && spelling::may_be_token(self.text, self.place(bit), self.masks.digits >> bit)
            {
                kept |= start;
            }
        }
        kept
    }
}
