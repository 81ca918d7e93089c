//! Digits that touch the end of a cut text: they may begin a card number, in any spelling.

use std::borrow::Cow;

use super::pan::DIGITS_MAX;
use super::spelling::{self, Form, Symbol, symbol};

/// Digits at a cut end from which on they are taken out. Six may be kept (the prefix of a
/// truncated number), but the end of a cut text is worth less than certainty.
const DIGITS_MIN: usize = 4;
/// Bytes before the end where a number in another spelling may begin.
const REACH: usize = 480;

/// Bytes of an escape.
const ESCAPE_MAX: usize = 8;
/// Letters of a token in hexadecimal or base64 that may belong to a number of 19 digits.
const LETTERS_MAX: usize = 2 * DIGITS_MAX;

/// What of a number may go on behind a cut end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// Digits, plain or escaped.
    pub digits: usize,
    /// Letters and digits of a token in hexadecimal or base64.
    pub letters: usize,
    /// Bytes of the escape that the end has cut.
    pub escape: usize,
}

impl Open {
    fn behind(digits: usize) -> Self {
        Self { digits: DIGITS_MAX.saturating_sub(digits), ..Self::default() }
    }

    /// As much as both.
    pub(super) fn or(self, other: Self) -> Self {
        let (digits, letters) = (self.digits.max(other.digits), self.letters.max(other.letters));
        Self { digits, letters, escape: self.escape.max(other.escape) }
    }

    /// Whether anything may go on.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

/// Where digits were starred, and what may go on behind them.
type Starred = (usize, usize, Open);

/// Stars the digits; returns where they were, and `None` if there are too few.
pub(super) fn mask(text: &mut Cow<'_, [u8]>) -> Option<Starred> {
    plain(text).or_else(|| marked(text)).or_else(|| packed(text))
}

pub(super) const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b' ' | 0 | b'\t' | b'.' | b'_' | b'/' | b'+')
}

/// A digit, or the star of one that was masked.
const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'*'
}

/// As many whole groups of plain digits as make up to 19, before a separator, half of one, or the
/// end.
fn plain(text: &mut Cow<'_, [u8]>) -> Option<Starred> {
    let length = text.len();
    let ends = (length.saturating_sub(ESCAPE_MAX)..length)
        .filter(|at| at.checked_sub(1).and_then(|at| text.get(at)).copied().is_some_and(is_digit))
        .filter(|at| separator(text, *at) == Some(length - at) || is_cut_escape(text, *at));
    let (end, groups) = ends
        .chain([length])
        .find_map(|end| groups_before(text, end).map(|groups| (end, groups)))?;
    let start = groups.last().map_or(end, |(start, _)| *start);
    // They may be hexadecimal pairs as well.
    let threes = |from: usize| text.iter().take(end).skip(from).step_by(2).all(|b| *b == b'3');
    let pairs = threes(start) || threes(start + 1);
    let escape = if end < length && is_cut_escape(text, end) { ESCAPE_MAX } else { 0 };
    let text = text.to_mut();
    let mut digits = 0;
    for (from, to) in groups {
        digits += to - from;
        text.get_mut(from..to)?.iter_mut().for_each(|byte| *byte = b'*');
    }
    let letters = if pairs { LETTERS_MAX } else { 0 };
    Some((start, end, Open { letters, escape, ..Open::behind(digits) }))
}

/// The groups of digits with one separator between each, from the last one at `end` on; nothing
/// where they are too few, or stars already.
fn groups_before(text: &[u8], end: usize) -> Option<Vec<(usize, usize)>> {
    let (mut groups, mut digits, mut stop) = (Vec::new(), 0, end);
    loop {
        let head = text.get(..stop)?.iter().rev();
        let run = head.take(DIGITS_MAX + ESCAPE_MAX).take_while(|b| is_digit(**b)).count();
        let joint = joint(text, stop - run, stop);
        let start = joint.map_or(stop - run, |(_, behind)| behind);
        if start == stop || digits + stop - start > DIGITS_MAX {
            break;
        }
        digits += stop - start;
        groups.push((start, stop));
        let Some((before, _)) = joint else { break };
        stop = before;
    }
    let shown = |(from, to): &(usize, usize)| {
        text.get(*from..*to).is_some_and(|group| group.iter().any(u8::is_ascii_digit))
    };
    (digits >= DIGITS_MIN && groups.iter().any(shown)).then_some(groups)
}

/// A separator between a digit and the run of digits from `start` to `stop`, some of which may be
/// its own: where it begins, and where it ends.
fn joint(text: &[u8], start: usize, stop: usize) -> Option<(usize, usize)> {
    (start.saturating_sub(ESCAPE_MAX)..start).find_map(|at| {
        let behind = at + separator(text, at).or_else(|| line_end(text, at))?;
        let before = at.checked_sub(1).and_then(|at| text.get(at))?;
        (is_digit(*before) && (start..=stop).contains(&behind)).then_some((at, behind))
    })
}

/// Width of the line end at `at`, escaped or not: a number may go on in the next line.
fn line_end(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at..)?.starts_with(b"\r\n") {
        return Some(2);
    }
    let Symbol { byte, width, .. } = symbol(text, at);
    (byte == Some(b'\n')).then_some(width)
}

/// Width of the separator at `at`, escaped once or twice or not at all.
fn separator(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    if let [b'%', b'2', b'5', high, low, ..] = rest {
        let once = [b'%', *high, *low];
        return symbol(&once, 0).byte.is_some_and(is_separator).then_some(5);
    }
    if rest.get(..6).is_some_and(|six| six.eq_ignore_ascii_case(b"%c2%a0")) {
        return Some(6);
    }
    let Symbol { byte, width, form } = symbol(text, at);
    let separates = byte.map_or(form != Form::Itself, is_separator);
    (separates && at + width <= text.len()).then_some(width)
}

/// Whether an escape may begin at `at` of which the end has cut a part.
fn is_cut_escape(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let twice = rest.len() < 5 && rest.starts_with(b"%25");
    let wide = (3..6).contains(&rest.len())
        && b"%c2%a0".get(..rest.len()).is_some_and(|begin| rest.eq_ignore_ascii_case(begin));
    if twice || wide {
        return true;
    }
    matches!(text.get(at), Some(b'%' | b'\\' | b'&' | b'=' | 0xc2..))
        && symbol(text, at).form == Form::Itself
}

/// Digits written as escapes or beyond ASCII, the last of which may be cut.
fn marked(text: &mut Cow<'_, [u8]>) -> Option<Starred> {
    let from = text.len().saturating_sub(REACH);
    let start = (from..text.len()).find(|at| reaches_end(text, *at))?;
    let piece = spelling::marked(text, start, true);
    let mut chars = piece.chars.clone();
    for char in chars.iter_mut().skip(piece.first).filter(|char| char.is_ascii_digit()) {
        *char = b'*';
    }
    let end = piece.end();
    let bytes = piece.part(piece.written(&chars), start, end);
    let text = text.to_mut();
    text.get_mut(start..end)?.copy_from_slice(&bytes);
    // What is left of the last escape shows half a digit.
    text.get_mut(end..)?.iter_mut().filter(|b| b.is_ascii_digit()).for_each(|byte| *byte = b'*');
    let digits = chars.iter().skip(piece.first).filter(|char| **char == b'*').count();
    let escape = if ends_in_escape(text) { ESCAPE_MAX } else { 0 };
    Some((start, text.len(), Open { escape, ..Open::behind(digits) }))
}

/// Whether the end has cut an escape.
fn ends_in_escape(text: &[u8]) -> bool {
    let from = text.len().saturating_sub(ESCAPE_MAX);
    (from..text.len()).any(|at| is_cut_escape(text, at))
}

/// Whether escaped digits begin at `start` and go on to the end.
fn reaches_end(text: &[u8], start: usize) -> bool {
    let first = symbol(text, start);
    let is_digit = |byte: Option<u8>| byte.is_some_and(is_digit);
    if first.form == Form::Itself || !is_digit(first.byte) {
        return false;
    }
    let mut at = start;
    let (mut digits, mut shown) = (0, false);
    while at < text.len() {
        let next = symbol(text, at);
        let rest = text.len() - at;
        if is_digit(next.byte) {
            digits += 1;
            shown |= next.byte != Some(b'*');
        } else if rest < ESCAPE_MAX && is_cut_escape(text, at) {
            break;
        } else if next.byte.is_some_and(|byte| !is_separator(byte)) {
            return false;
        }
        at += next.width;
    }
    digits >= DIGITS_MIN && shown
}

/// Digits in base64 or as hexadecimal pairs.
fn packed(text: &mut Cow<'_, [u8]>) -> Option<Starred> {
    let from = text.len().saturating_sub(REACH / 2);
    let (start, piece) = (from..text.len().saturating_sub(8)).find_map(|at| {
        let pairs = text.get(at..at + 8)?.iter().step_by(2).all(|byte| *byte == b'3');
        let hex = (pairs && text.get(at..at + 8)?.iter().all(u8::is_ascii_digit))
            .then(|| spelling::hex(text, at));
        let base64 = || spelling::looks_like_base64(text, at).then(|| spelling::base64(text, at));
        let piece = hex.or_else(base64)?;
        let touches = piece.end() + 2 > text.len();
        let tail = piece.chars.iter().rev().skip(1);
        let digits = tail.take_while(|byte| is_digit(**byte) || is_separator(**byte)).count();
        (touches && digits >= DIGITS_MIN).then_some((at, piece))
    })?;
    let mut chars = piece.chars.clone();
    let first = piece.first.saturating_sub(3);
    for char in chars.iter_mut().skip(first).filter(|char| char.is_ascii_digit()) {
        *char = b'*';
    }
    if chars == piece.chars {
        return None;
    }
    let bytes = piece.written(&chars);
    text.to_mut().get_mut(piece.from..piece.end())?.copy_from_slice(&bytes);
    Some((start, piece.end(), Open { letters: LETTERS_MAX, ..Open::default() }))
}
