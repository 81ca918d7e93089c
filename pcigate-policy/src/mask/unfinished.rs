//! Digits that touch the end of a cut text: they may begin a card number, in any spelling.

use std::borrow::Cow;

use super::pan::DIGITS_MAX;
use super::spelling::{self, Form, symbol};

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

/// As many whole groups of plain digits as make up to 19.
fn plain(text: &mut Cow<'_, [u8]>) -> Option<Starred> {
    let trailing = usize::from(text.last().is_some_and(|byte| is_separator(*byte)));
    let end = text.len() - trailing;
    let mut start = end;
    let mut digits = 0;
    let mut stop = end;
    loop {
        let head = text.get(..stop)?;
        let run = head.iter().rev().take(DIGITS_MAX + 1).take_while(|b| is_digit(**b)).count();
        if run == 0 || digits + run > DIGITS_MAX {
            break;
        }
        digits += run;
        start = stop - run;
        match start.checked_sub(1).and_then(|at| text.get(at)) {
            Some(byte) if is_separator(*byte) => stop = start - 1,
            _ => break,
        }
    }
    if digits < DIGITS_MIN || !text.get(start..end)?.iter().any(u8::is_ascii_digit) {
        return None;
    }
    // They may be hexadecimal pairs as well.
    let threes = |from: usize| text.iter().take(end).skip(from).step_by(2).all(|b| *b == b'3');
    let pairs = threes(start) || threes(start + 1);
    for byte in text.to_mut().get_mut(start..end)?.iter_mut().filter(|byte| byte.is_ascii_digit()) {
        *byte = b'*';
    }
    let letters = if pairs { LETTERS_MAX } else { 0 };
    Some((start, end, Open { letters, ..Open::behind(digits) }))
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
    (from..text.len()).any(|at| {
        matches!(text.get(at), Some(b'%' | b'\\' | b'&' | b'='))
            && symbol(text, at).form == Form::Itself
    })
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
        } else if next.form == Form::Itself
            && rest < ESCAPE_MAX
            && matches!(text.get(at), Some(b'%' | b'\\' | b'&' | b'=' | 0xc2..))
        {
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
