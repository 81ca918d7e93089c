//! Spellings without a mark before each character: hexadecimal pairs, base64, UTF-16.

use super::symbol::{Form, pair};
use super::{BEFORE, CHARS_MAX, Piece, SOURCE_MAX};

/// Bytes before a candidate that are decoded with it.
const BACK: usize = 64;
/// Groups of base64 that must be digits and separators.
const GROUPS: usize = 3;
/// Pairs of hexadecimal digits that must be digits.
const PAIRS: usize = 4;
/// How far into a run of digits pairs may begin.
const PAIRS_WITHIN: usize = 64;

/// Where in the digit run at `start` the pairs 30–39 of a number begin, if they do.
pub(in crate::mask) fn looks_like_hex(text: &[u8], start: usize) -> Option<usize> {
    let run = text.get(start..text.len().min(start + PAIRS_WITHIN + 2 * PAIRS))?;
    let length = run.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let run = run.get(..length)?;
    let at = run
        .windows(2 * PAIRS)
        .position(|window| window.iter().step_by(2).all(|byte| *byte == b'3'))?;
    Some(start + at)
}

/// The hexadecimal pairs around `start`, where one begins.
pub(in crate::mask) fn hex(text: &[u8], start: usize) -> Piece {
    let is_pair = |at: usize| match text.get(at..at + 2) {
        Some([high, low]) => pair(*high, *low),
        _ => None,
    };
    let mut from = start;
    while let Some(before) = from.checked_sub(2)
        && start - before <= BACK
        && is_pair(before).is_some()
    {
        from = before;
    }
    let mut piece = Piece::new(text, from, start + SOURCE_MAX);
    piece.first = (start - from) / 2;
    let end = piece.end();
    let mut at = from;
    while at + 2 <= end
        && let Some(byte) = is_pair(at)
    {
        piece.push(byte, at - from, 2, Form::Numbered { at: 0, digits: 2, hex: true });
        at += 2;
    }
    piece.source.truncate(at - from);
    piece
}

/// The UTF-16 code units below 256 around the digit at `start`, in either order of bytes.
pub(in crate::mask) fn utf16(text: &[u8], start: usize) -> Piece {
    let beside = |at: usize| {
        let nul = |at: Option<usize>| at.and_then(|at| text.get(at)) == Some(&0);
        (nul(Some(at + 1)) || nul(at.checked_sub(1))) && text.get(at).is_some_and(|byte| *byte != 0)
    };
    let mut from = start;
    while let Some(before) = from.checked_sub(2)
        && start - before <= 2 * BEFORE
        && beside(before)
    {
        from = before;
    }
    let mut piece = Piece::new(text, from, start + SOURCE_MAX);
    piece.first = (start - from) / 2;
    let end = piece.end();
    let mut at = from;
    while at < end && beside(at) {
        // The second byte is NUL in either order.
        let byte = text.get(at).copied().unwrap_or(0);
        piece.push(byte, at - from, 1, Form::Itself);
        at += 2;
    }
    piece.source.truncate(at.min(end) - from);
    piece
}

/// Whether three groups of base64 letters at `start` decode to digits and separators.
pub(in crate::mask) fn looks_like_base64(text: &[u8], start: usize) -> bool {
    let Some(letters) = text.get(start..start + 4 * GROUPS) else { return false };
    letters.chunks_exact(4).all(|group| {
        let [a, b, c, d] = group else { return false };
        decode([*a, *b, *c, *d]).is_some_and(|bytes| {
            bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b' ' | b'-' | b'.' | b'/' | b'+'))
        })
    })
}

/// Where in the token at `start` hexadecimal pairs or base64 groups of plain text begin.
pub(in crate::mask) enum Token {
    Hex(usize),
    Base64(usize),
}

/// Whether [`token`] may find something: most tokens are hexadecimal and not of text, whose pairs
/// begin with digits. Bit n of `digits`, of 16, says whether byte n of the token is one.
#[inline]
pub(in crate::mask) fn may_be_token(text: &[u8], start: usize, digits: u64) -> bool {
    may_be_pairs(digits) || !text.get(start..).and_then(<[u8]>::first_chunk).is_some_and(is_hex)
}

/// Whether every second of the first 16 is a digit.
#[inline]
pub(in crate::mask) const fn may_be_pairs(digits: u64) -> bool {
    const FIRSTS: u64 = 0x5555;
    digits & FIRSTS == FIRSTS || digits >> 1 & FIRSTS == FIRSTS
}

#[inline]
fn is_hex(letters: &[u8; TOKEN_LETTERS]) -> bool {
    letters.iter().fold(true, |hex, letter| hex & letter.is_ascii_hexdigit())
}

/// Letters a token must have.
const TOKEN_LETTERS: usize = 24;

/// Whether the token that begins at `start` is text in hexadecimal pairs or base64.
pub(in crate::mask) fn token(text: &[u8], start: usize) -> Option<Token> {
    const LOOKED_AT: usize = 20;
    const AFTER_MARK: usize = 32;
    let at_mark = |at: usize| {
        // Hashes and ids are ruled out first: there are many of them.
        let run = text.get(at..)?.first_chunk()?;
        let hex = is_hex(run);
        if !hex && !may_be_groups(run) {
            return None;
        }
        let places = at..at + if hex { 2 } else { 4 };
        places.into_iter().find_map(|at| {
            let letters = text.get(at..at + LOOKED_AT)?;
            if hex {
                is_text_in_pairs(letters).then_some(Token::Hex(at))
            } else {
                is_text_in_groups(letters).then_some(Token::Base64(at))
            }
        })
    };
    let token = at_mark(start);
    if token.is_some() {
        return token;
    }
    // A name may stand before it: `scan_`. A hash has none, and there are many.
    let run = text.get(start..start + AFTER_MARK)?;
    if is_hex(run.first_chunk()?) {
        return None;
    }
    let mark = run.iter().rposition(|byte| !byte.is_ascii_alphanumeric())?;
    let first = run.iter().position(|byte| !byte.is_ascii_alphanumeric())?;
    at_mark(start + first + 1).or_else(|| at_mark(start + mark + 1))
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

fn is_text_in_pairs(letters: &[u8]) -> bool {
    let (pairs, _) = letters.as_chunks::<2>();
    let high = pairs.iter().fold(true, |all, [high, _]| all & matches!(high, b'0' | b'2'..=b'7'));
    high && pairs.iter().all(|[high, low]| pair(*high, *low).is_some_and(is_printable))
}

/// First letters of groups of printable text, and of NUL.
const fn is_first(letter: u8) -> bool {
    matches!(letter, b'A' | b'C' | b'D' | b'I'..=b'Z' | b'a'..=b'f')
}

/// Whether five groups of text may begin at one of the first four letters: asked of all at once.
fn may_be_groups(letters: &[u8; TOKEN_LETTERS]) -> bool {
    let mut firsts = [0; TOKEN_LETTERS];
    for (first, letter) in firsts.iter_mut().zip(letters) {
        *first = u8::from(is_first(*letter));
    }
    let (fours, _) = firsts.as_chunks::<4>();
    fours.iter().take(5).fold(u32::MAX, |all, four| all & u32::from_le_bytes(*four)) != 0
}

fn is_text_in_groups(letters: &[u8]) -> bool {
    let (groups, _) = letters.as_chunks::<4>();
    groups.iter().fold(true, |all, [first, ..]| all & is_first(*first))
        && groups.iter().all(|group| {
            decode(*group)
                .is_some_and(|bytes| bytes.iter().all(|byte| is_printable(*byte) || *byte == 0))
        })
}

/// The base64 around `start`, where a group begins. Line ends inside are skipped.
pub(in crate::mask) fn base64(text: &[u8], start: usize) -> Piece {
    let all =
        |at: usize| text.get(at..at + 4).is_some_and(|four| four.iter().all(|b| is_letter(*b)));
    let mut from = start;
    while let Some(before) = from.checked_sub(4)
        && start - before <= BACK
        && all(before)
    {
        from = before;
    }
    let mut piece = Piece::new(text, from, start + SOURCE_MAX);
    piece.first = (start - from) / 4 * 3;
    let mut letters: Vec<u32> = Vec::with_capacity(CHARS_MAX);
    let mut at = 0;
    while letters.len() < CHARS_MAX {
        match piece.source.get(at..) {
            Some([letter, ..]) if is_letter(*letter) => {
                letters.push(u32::try_from(at).unwrap_or(u32::MAX));
                at += 1;
            }
            Some([b'\r', b'\n', next, ..]) if is_letter(*next) => at += 2,
            Some([b'\n', next, ..]) if is_letter(*next) => at += 1,
            Some([b'\\', b'n', next, ..]) if is_letter(*next) => at += 2,
            _ => break,
        }
    }
    for group in letters.chunks(4) {
        let letter = |at: usize| {
            let at = group.get(at).copied()?;
            piece.source.get(at as usize).copied()
        };
        let four = [0, 1, 2, 3].map(|at| letter(at).unwrap_or(b'A'));
        let bytes = decode(four).unwrap_or_default();
        let first = group.first().copied().unwrap_or(0) as usize;
        let last = group.last().copied().unwrap_or(0) as usize;
        for byte in bytes.iter().take(group.len() * 3 / 4) {
            piece.push(*byte, first, last + 1 - first, Form::Fixed);
        }
    }
    let end = letters.last().map_or(0, |last| *last as usize + 1);
    piece.source.truncate(end);
    piece.letters = Some(letters);
    piece
}

/// Encodes every group whose bytes have changed anew, with the letters of its alphabet.
pub(super) fn write_base64(source: &mut [u8], letters: &[u32], old: &[u8], new: &[u8]) {
    let url = letters.iter().any(|at| matches!(source.get(*at as usize), Some(b'-' | b'_')));
    let groups = letters.chunks(4).zip(old.chunks(3)).zip(new.chunks(3));
    for ((places, _), new) in groups.filter(|((_, old), new)| old != new) {
        let byte = |at: usize| u32::from(new.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (step, place) in places.iter().enumerate() {
            let value = bits >> (18 - 6 * step) & 63;
            if let Some(letter) = source.get_mut(*place as usize) {
                *letter = match value {
                    62 if url => b'-',
                    63 if url => b'_',
                    value => LETTERS.get(value as usize).copied().unwrap_or(b'A'),
                };
            }
        }
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

fn decode(letters: [u8; 4]) -> Option<[u8; 3]> {
    let mut bits = 0_u32;
    for letter in letters {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
    }
    let [_, a, b, c] = bits.to_be_bytes();
    Some([a, b, c])
}
