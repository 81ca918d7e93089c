//! Card numbers in plain digits: their layouts, brand, length and check digit.
//!
//! A number is one run of 12–19 digits, or groups in a layout of use, joined by single separators
//! of one kind. Letters may touch it, digits may not: a part of a longer run is no card number. A
//! line may wrap anywhere in a number that is not alone on its lines.

use super::brands;

/// Digits of the shortest card number (Maestro).
pub(super) const DIGITS_MIN: usize = 12;
/// Digits of the longest card number (ISO/IEC 7812).
pub(super) const DIGITS_MAX: usize = 19;
/// Digits of the first group.
const FIRST_GROUP_MIN: usize = 4;
/// Groups of the longest layout, 4-4-4-4-3.
const GROUPS_MAX: usize = 5;
/// Bytes of a line end with the space around it.
const WRAP_MAX: usize = 24;

/// Up to 19 ASCII digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Right-aligned behind zeros.
    digits: [u8; 24],
    count: usize,
}

/// How sure a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// A brand's prefix and length, and the check digit.
    Strong,
    /// The check digit alone.
    Weak,
}

/// A number in the text.
pub(super) struct Found {
    pub end: usize,
    pub number: Number,
    pub tier: Tier,
    /// Whether it is written in groups.
    pub grouped: bool,
}

impl Number {
    /// The number these bytes hold; what is no digit is left out. `None` beyond 19 digits.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let mut digits = [b'0'; 24];
        let mut count = 0;
        for byte in text.iter().rev().filter(|byte| byte.is_ascii_digit()) {
            if count == DIGITS_MAX {
                return None;
            }
            count += 1;
            *digits.get_mut(24 - count)? = *byte;
        }
        Some(Self { digits, count })
    }

    /// The run of `count` digits at `start`.
    #[inline]
    fn run(text: &[u8], start: usize, count: usize) -> Option<Self> {
        const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
        let zeros = 24_usize.checked_sub(count)?;
        let mut digits = [b'0'; 24];
        if let Some(around) = start.checked_sub(zeros).and_then(|from| text.get(from..from + 24)) {
            // All at once, and then away with what stands before: faster than a copy of any length.
            digits.copy_from_slice(around);
            let (words, _) = digits.as_chunks_mut::<8>();
            for (before, word) in (0..).step_by(8).zip(words) {
                let others = u32::try_from(zeros).ok()?.saturating_sub(before).min(8);
                let keep = u64::MAX.checked_shl(8 * others).unwrap_or(0);
                let kept = u64::from_le_bytes(*word) & keep;
                *word = (kept | ZEROS & !keep).to_le_bytes();
            }
        } else {
            digits.get_mut(zeros..)?.copy_from_slice(text.get(start..start + count)?);
        }
        Some(Self { digits, count })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.digits.get(24 - self.count..).unwrap_or_default()
    }

    /// What the number is, if it is anything.
    pub(super) fn tier(&self) -> Option<Tier> {
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&self.count) || !self.luhn() {
            return None;
        }
        let value = |digits: &[u8]| {
            digits.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit & 15))
        };
        let all = self.as_slice();
        let strong = brands::possible(value(all.get(..2)?) as usize, self.count)
            && brands::lengths(value(all.get(..brands::PREFIX_DIGITS)?)).allow(self.count);
        // Twelve zeros pass the check digit too.
        let weak = || all.iter().any(|digit| digit != all.first().unwrap_or(&b'0'));
        if strong { Some(Tier::Strong) } else { weak().then_some(Tier::Weak) }
    }

    /// The brand, where the prefix belongs to one alone.
    pub(super) fn brand(&self) -> Option<&'static str> {
        let prefix = self.as_slice().get(..brands::PREFIX_DIGITS)?;
        let value = prefix.iter().fold(0, |value, digit| value * 10 + u32::from(digit & 15));
        brands::name(value, self.count)
    }

    /// Whether there are at least two digits and the last checks the others.
    pub(super) fn checks(&self) -> bool {
        self.count > 1 && self.luhn()
    }

    /// ISO/IEC 7812-1 check digit, eight digits at a time.
    fn luhn(&self) -> bool {
        /// Every second digit from the right but one; the first byte of a word is its lowest.
        const DOUBLED: u64 = 0x00ff_00ff_00ff_00ff;
        const ONES: u64 = 0x0101_0101_0101_0101;
        let (words, _) = self.digits.as_chunks::<8>();
        let mut sums = 0;
        for word in words {
            let digits = u64::from_le_bytes(*word) & (0x0f * ONES);
            let doubled = (digits & DOUBLED) << 1;
            let over = (doubled + (118 * ONES)) >> 7 & ONES;
            sums += (digits & !DOUBLED) + doubled - over * 9;
        }
        let sum = sums.wrapping_mul(ONES) >> 56;
        sum % 10 == 0
    }
}

/// Whether these ASCII digits are a card number: brand, length and check digit.
pub(super) fn is_card(digits: &[u8]) -> bool {
    Number::of(digits).is_some_and(|number| number.tier() == Some(Tier::Strong))
}

/// Whether the run of `run` digits at `start` has a right check digit.
#[inline]
pub(super) fn checks(text: &[u8], start: usize, run: usize) -> bool {
    Number::run(text, start, run).is_some_and(|number| number.luhn())
}

/// Digits from `at` on without interruption, counted up to `most`.
#[inline]
pub(super) fn run_length(text: &[u8], at: usize, most: usize) -> usize {
    let mut run = 0;
    while run < most {
        let Some(word) = text.get(at + run..).and_then(<[u8]>::first_chunk) else {
            let rest = text.get(at + run..).unwrap_or_default();
            run += rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            break;
        };
        let digits = digits_first(u64::from_le_bytes(*word));
        run += digits;
        if digits < 8 {
            break;
        }
    }
    run.min(most)
}

/// How many of eight bytes, the first of which is the lowest, are digits up to the first that is
/// none.
#[inline]
const fn digits_first(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Digits become 0–9; of what is more, adding 118 sets the highest bit, or it is set.
    let value = word ^ (b'0' as u64 * ONES);
    let others = (((value & (127 * ONES)) + 118 * ONES) | value) & (128 * ONES);
    others.trailing_zeros() as usize / 8
}

/// The longest number that begins with the run of `run` digits at `start`.
pub(super) fn at(text: &[u8], start: usize, run: usize) -> Option<Found> {
    if !(FIRST_GROUP_MIN..=DIGITS_MAX).contains(&run) {
        return None;
    }
    let alone = || {
        let number = Number::run(text, start, run)?;
        let tier = number.tier()?;
        Some(Found { end: start + run, number, tier, grouped: false })
    };
    let grouped = || grouped(text, start, run);
    if run >= DIGITS_MIN { alone().or_else(grouped) } else { grouped() }
}

#[derive(Clone, Copy, PartialEq)]
enum Joint {
    White,
    Wrap,
    Other(u8),
}

impl Joint {
    /// Whether both may stand in one number.
    fn fits(self, other: Self) -> bool {
        self == other || !matches!((self, other), (Self::Other(_), _) | (_, Self::Other(_)))
    }
}

/// The separator at `at`, and its width. A NUL counts as white space: an argv is masked as one
/// NUL-separated buffer.
#[inline]
fn joint(text: &[u8], at: usize) -> Option<(Joint, usize)> {
    match *text.get(at)? {
        byte @ (b'-' | b'.' | b'_' | b'/' | b'+') => Some((Joint::Other(byte), 1)),
        b' ' | 0 | b'\t' if text.get(at + 1).is_some_and(u8::is_ascii_digit) => {
            Some((Joint::White, 1))
        }
        b' ' | b'\t' | b'\r' | b'\n' => {
            let rest = text.get(at..text.len().min(at + WRAP_MAX))?;
            let width = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            let lines = rest.iter().take(width).filter(|byte| **byte == b'\n').count();
            (lines == 1).then_some((Joint::Wrap, width))
        }
        _ => None,
    }
}

/// Whether a line wraps in the blanks at `at`.
pub(super) fn wraps(text: &[u8], at: usize) -> bool {
    matches!(joint(text, at), Some((Joint::Wrap, _)))
}

fn grouped(text: &[u8], start: usize, run: usize) -> Option<Found> {
    let mut sizes = [0_usize; GROUPS_MAX];
    let mut ends = [0_usize; GROUPS_MAX];
    let (mut count, mut total, mut stop) = (0, 0, start);
    let mut length = run;
    let mut kind: Option<Joint> = None;
    let mut wraps = 0;
    while let (Some(size), Some(end)) = (sizes.get_mut(count), ends.get_mut(count)) {
        total += length;
        if length == 0 || total > DIGITS_MAX {
            break;
        }
        stop += length;
        (*size, *end) = (length, stop);
        count += 1;
        let Some((next, width)) = joint(text, stop) else { break };
        if kind.is_some_and(|kind| !kind.fits(next)) {
            break;
        }
        wraps += usize::from(next == Joint::Wrap);
        kind = kind.or(Some(next));
        stop += width;
        length = run_length(text, stop, DIGITS_MAX + 1);
        // Dates, versions and addresses go no further.
        if count == 1 && length < 4 && next != Joint::Wrap {
            return None;
        }
    }
    let mut weak = None;
    for last in (1..count).rev() {
        let (Some(sizes), Some(end)) = (sizes.get(..=last), ends.get(last)) else { continue };
        let wrapped = last == 1 && wraps > 0 && kind == Some(Joint::Wrap);
        let fits = match sizes {
            [8, 8] if wrapped => !alone_on_lines(text, start, *end),
            _ if legal(sizes) => !chained(text, start, *end, sizes, kind),
            _ => wrapped && !alone_on_lines(text, start, *end),
        };
        if !fits {
            continue;
        }
        let Some(number) = Number::of(text.get(start..*end)?) else { continue };
        let found = |tier| Found { end: *end, number, tier, grouped: true };
        match number.tier() {
            Some(Tier::Strong) => return Some(found(Tier::Strong)),
            Some(Tier::Weak) if weak.is_none() => weak = Some(found(Tier::Weak)),
            _ => {}
        }
    }
    weak
}

/// Layouts in use.
fn legal(sizes: &[usize]) -> bool {
    match sizes {
        [4, 4, middle @ .., 1..=5] => middle.iter().all(|size| *size == 4),
        [4, 6, 2..=5] | [4, 5, 6] | [6, 6..=13] | [8, 8] => true,
        _ => false,
    }
}

/// Whether a layout that is not all fours goes on before or behind in groups of the same kind: then
/// it is a part of something longer.
fn chained(text: &[u8], start: usize, end: usize, sizes: &[usize], kind: Option<Joint>) -> bool {
    let mark = match kind {
        Some(Joint::Other(mark)) => mark,
        _ => b' ',
    };
    let fours = matches!(sizes, [4, 4, 4, ..] | [4, 6, 4..=5] | [6, 13]);
    let digit = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_digit);
    let is_mark = |at: Option<usize>| at.and_then(|at| text.get(at)) == Some(&mark);
    let before = is_mark(start.checked_sub(1)) && digit(start.checked_sub(2));
    let behind = is_mark(Some(end)) && digit(Some(end + 1));
    !fours && (before || behind)
}

/// Whether two digit runs are whole lines each: then they are a column of numbers.
pub(super) fn alone_on_lines(text: &[u8], start: usize, end: usize) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'\n' | b'\r'));
    edge(start.checked_sub(1).and_then(|at| text.get(at))) && edge(text.get(end))
}
