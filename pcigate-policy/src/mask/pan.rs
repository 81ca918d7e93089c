//! Card numbers: finds them in digit groups and stars their middle.
//!
//! A candidate begins where a digit run begins. It is one run of 12–19 digits, or several groups
//! joined by single separators of one kind: dashes, or spaces and NULs (an argv is masked as one
//! NUL-separated buffer). The first group has at least four digits and the others one to six, which
//! covers every layout in use (4-4-4-4, 4-6-5, 4-6-4, 4-4-4-1, 4-4-4-4-3); 6-13 is allowed too.
//! Letters may touch it, digits may not: a part of a longer run is no card number.

use super::{Finding, Kind, brands};

/// Digits of the shortest card number (Maestro).
pub(super) const DIGITS_MIN: usize = 12;
/// Digits of the longest card number (ISO/IEC 7812).
pub(super) const DIGITS_MAX: usize = 19;
const FIRST_GROUP_MIN: usize = 4;
const OTHER_GROUP_MAX: usize = 6;
/// More bytes than a candidate can span: 19 digits and at most 15 separators.
const SPAN_MAX: usize = 40;
/// Digits at a cut end from which on they are taken out. Six may be kept (the prefix of a
/// truncated number), but the end of a cut text is worth less than certainty.
const UNFINISHED_MIN: usize = 4;
/// Kept digits of a card number: PCI DSS 3.5.1, allowed for every brand and length.
const KEPT_FIRST: usize = 6;
const KEPT_LAST: usize = 4;

/// Stars every card number of `input` in `working`, a copy of it. Candidates may overlap; each is
/// starred as if it were the real one.
pub(super) fn mask(input: &[u8], working: &mut [u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = next_run(input, at) {
        at = end;
        candidates(input, start, end, |stop| {
            star_middle(working, start, stop);
            findings.push(Finding { start, end: stop, kind: Kind::Pan });
        });
    }
    findings
}

/// Stars what became a candidate because its neighbour was starred (kept last digits followed by
/// further groups), until nothing is found any more. Linear: every step stars digits and goes back
/// by a bounded number of bytes.
pub(super) fn settle(working: &mut [u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = next_run(working, at) {
        at = end;
        let mut longest = None;
        candidates(working, start, end, |stop| longest = Some(stop));
        if let Some(stop) = longest {
            star_middle(working, start, stop);
            findings.push(Finding { start, end: stop, kind: Kind::Pan });
            at = before(working, start);
        }
    }
    findings
}

/// Stars the digit groups touching the cut end that may begin a card number: as many whole groups
/// as make up to 19 digits.
pub(super) fn mask_unfinished(input: &[u8], working: &mut [u8]) -> Option<Finding> {
    let trailing = usize::from(input.last().is_some_and(|byte| separator(*byte).is_some()));
    let end = input.len() - trailing;
    let mut start = end;
    let mut digits = 0;
    let mut stop = end;
    loop {
        let head = input.get(..stop)?;
        let run = head.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        if run == 0 || digits + run > DIGITS_MAX {
            break;
        }
        digits += run;
        start = stop - run;
        match start.checked_sub(1).and_then(|at| input.get(at)) {
            Some(byte) if separator(*byte).is_some() => stop = start - 1,
            _ => break,
        }
    }
    if digits < UNFINISHED_MIN {
        return None;
    }
    for byte in working.get_mut(start..end)?.iter_mut().filter(|byte| byte.is_ascii_digit()) {
        *byte = b'*';
    }
    Some(Finding { start, end, kind: Kind::Pan })
}

/// Whether these ASCII digits are a card number: brand, length and check digit.
pub(super) fn is_card(digits: &[u8]) -> bool {
    lengths(digits).allow(digits.len()) && luhn(digits)
}

/// The next whole digit run at or behind `from`.
pub(super) fn next_run(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let start = from + rest.iter().position(u8::is_ascii_digit)?;
    Some((start, start + run_length(text, start)))
}

/// Digits from `at` on without interruption.
pub(super) fn run_length(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
}

/// Calls `found` with the end of every card number that begins with the run `start..end`, shortest
/// first.
fn candidates(text: &[u8], start: usize, end: usize, mut found: impl FnMut(usize)) {
    let first = end - start;
    if !(FIRST_GROUP_MIN..=DIGITS_MAX).contains(&first) {
        return;
    }
    let mut digits = Digits::default();
    digits.push(text.get(start..end).unwrap_or_default());
    let mut stop = end;
    let mut joint = None;
    for group in 0_usize.. {
        if digits.count >= DIGITS_MIN && is_card(digits.as_slice()) {
            found(stop);
        }
        let Some(kind) = text.get(stop).and_then(|byte| separator(*byte)) else { return };
        if *joint.get_or_insert(kind) != kind {
            return;
        }
        let from = stop + 1;
        // A run is read no further than it can matter, so that long ones cost nothing.
        let window = text.get(from..text.len().min(from + SPAN_MAX)).unwrap_or_default();
        let length = run_length(window, 0);
        let long = group == 0 && first == 6 && length == 13;
        if length == 0 || (length > OTHER_GROUP_MAX && !long) {
            return;
        }
        if digits.count + length > DIGITS_MAX {
            return;
        }
        stop = from + length;
        digits.push(text.get(from..stop).unwrap_or_default());
    }
}

/// Up to 19 ASCII digits.
#[derive(Default)]
struct Digits {
    bytes: [u8; DIGITS_MAX],
    count: usize,
}

impl Digits {
    fn push(&mut self, group: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.count).zip(group) {
            *place = *byte;
        }
        self.count = (self.count + group.len()).min(DIGITS_MAX);
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Separator {
    Dash,
    SpaceOrNul,
}

fn separator(byte: u8) -> Option<Separator> {
    match byte {
        b'-' => Some(Separator::Dash),
        b' ' | 0 => Some(Separator::SpaceOrNul),
        _ => None,
    }
}

fn lengths(digits: &[u8]) -> brands::Lengths {
    let head = digits.get(..brands::PREFIX_DIGITS).unwrap_or_default();
    brands::lengths(head.iter().fold(0, |prefix, digit| prefix * 10 + u32::from(digit - b'0')))
}

/// ISO/IEC 7812-1 check digit.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(digit, double)| {
            let value = u32::from(digit - b'0') << u32::from(double);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Stars all but the first six and last four digits of the candidate. Stars of an earlier,
/// overlapping candidate count as the digits they were.
fn star_middle(working: &mut [u8], start: usize, end: usize) {
    let range = working.get_mut(start..end).unwrap_or_default();
    let is_digit = |byte: &u8| separator(*byte).is_none();
    let count = range.iter().filter(|byte| is_digit(byte)).count();
    let digits = range.iter_mut().filter(|byte| is_digit(byte));
    for byte in digits.take(count.saturating_sub(KEPT_LAST)).skip(KEPT_FIRST) {
        *byte = b'*';
    }
}

/// Where to look again after a change at `start`: far enough back for every candidate that could
/// reach it, and not inside a digit run.
fn before(text: &[u8], start: usize) -> usize {
    let from = start.saturating_sub(SPAN_MAX);
    let inside = from.checked_sub(1).and_then(|at| text.get(at)).is_some_and(u8::is_ascii_digit);
    if inside { from + run_length(text, from) } else { from }
}
