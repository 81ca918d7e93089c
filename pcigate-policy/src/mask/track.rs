//! Magnetic stripe tracks (ISO/IEC 7813): sensitive authentication data, taken out as a whole.
//!
//! Track 1 is known by `%B`, 12–19 digits and `^`; what follows only decides how far it goes.
//! Track 2 is 12–19 digits, `=` or `D`, and an expiry date after a `;`; without the `;` the number
//! must be a card number and date, service code and more (7 digits) must follow. As binary coded
//! digits both are known by their EMV tags: 57 (track 2) and 5A (number), with a length.

use super::{Cut, Kind, pan};

/// Longest track 1, bytes, with its sentinels.
const TRACK1_BYTES_MAX: usize = 79;
/// Longest track 2, bytes, with room for a spelling that is not quite one.
const TRACK2_BYTES_MAX: usize = 96;
/// Digits before a track 2 in hexadecimal that are looked at.
const TAGGED_RUN_MAX: usize = 160;
/// Digits of an expiry date, YYMM.
const EXPIRY_DIGITS: usize = 4;
/// Digits of expiry date and service code.
const EXPIRY_AND_SERVICE_DIGITS: usize = 7;

/// Where a track lies, and which it is.
pub(super) type Track = (usize, usize, Kind);

/// The track whose number begins with the digits at `number`.
pub(super) fn at(text: &[u8], number: usize, cut: Cut) -> Option<Track> {
    let head = text.get(..number)?;
    match head {
        [.., b'%', b'B' | b'b'] => track1(text, number - 2),
        [.., before, b'B'] if before.is_ascii_alphanumeric() => track2(text, number, cut),
        // Without its `%` a track 1 needs a card number.
        [.., b'B'] => track1(text, number - 1).filter(|_| {
            let run = pan::run_length(text, number, pan::DIGITS_MAX + 1);
            text.get(number..number + run).is_some_and(pan::is_card)
        }),
        _ => track2(text, number, cut),
    }
}

/// A track 2 at the end of the digit run at `start`, behind its tag and length in hexadecimal:
/// `5713` and so on, as EMV data is logged.
pub(super) fn tagged(text: &[u8], start: usize) -> Option<Track> {
    let run = pan::run_length(text, start, TAGGED_RUN_MAX);
    if !matches!(text.get(start + run)?, b'D' | b'd') {
        return None;
    }
    let separator = start + run;
    let tagged = (pan::DIGITS_MIN..=pan::DIGITS_MAX).rev().find_map(|digits| {
        let number = separator.checked_sub(digits)?;
        let [b'5', b'7', high, low] = text.get(number.checked_sub(4)?..number)? else {
            return None;
        };
        let nibble = |byte: &u8| char::from(*byte).to_digit(16);
        let bytes = (nibble(high)? * 16 + nibble(low)?) as usize;
        let end = number + 2 * bytes;
        let rest = text.get(separator + 1..end)?;
        let fits = rest.len() >= EXPIRY_AND_SERVICE_DIGITS
            && rest.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'F' | b'f'))
            && text.get(number..separator).is_some_and(pan::is_card);
        fits.then_some((number, end, Kind::Track2))
    });
    let long = run > pan::DIGITS_MAX;
    tagged.or_else(|| if long { behind_digits(text, separator) } else { None })
}

/// A track 2 at the end of a run of digits too long for a number: what stands before its number is
/// something else, so number and date must be right.
fn behind_digits(text: &[u8], separator: usize) -> Option<Track> {
    let follows = separator + 1;
    let [_, _, month @ .., _, _, _] = text.get(follows..follows + EXPIRY_AND_SERVICE_DIGITS)?
    else {
        return None;
    };
    let digits = pan::run_length(text, follows, TRACK2_BYTES_MAX);
    let valid = matches!(month, [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2']);
    if digits < EXPIRY_AND_SERVICE_DIGITS || !valid {
        return None;
    }
    let number = (pan::DIGITS_MIN..=pan::DIGITS_MAX).rev().find_map(|digits| {
        let number = separator.checked_sub(digits)?;
        text.get(number..separator).filter(|digits| pan::is_card(digits))?;
        Some(number)
    })?;
    let padded = matches!(text.get(follows + digits), Some(b'F' | b'f'));
    Some((number, follows + digits + usize::from(padded), Kind::Track2))
}

/// A track 1 that begins at `start`, with `%` or, without it, with `B`. Its end is the `?` where
/// there is one in reach, otherwise the end of what may follow the name, of the line, or of the
/// longest possible track.
fn track1(text: &[u8], start: usize) -> Option<Track> {
    let mut digits = 0;
    let mut at = start + 1 + usize::from(text.get(start) == Some(&b'%'));
    loop {
        let run = pan::run_length(text, at, pan::DIGITS_MAX + 1);
        digits += run;
        at += run;
        // Old encodings keep the spaces printed on the card.
        if run == 0 || digits > pan::DIGITS_MAX || text.get(at) != Some(&b' ') {
            break;
        }
        at += 1;
    }
    if !(pan::DIGITS_MIN..=pan::DIGITS_MAX).contains(&digits) || text.get(at) != Some(&b'^') {
        return None;
    }
    let limit = text.len().min(start + TRACK1_BYTES_MAX).max(at + 1);
    let body = text.get(at + 1..limit).unwrap_or_default();
    let stop = body.iter().position(|byte| matches!(byte, b'?' | b'\n' | b'\r'));
    let mut end = stop.map_or(limit, |stop| at + 1 + stop);
    if text.get(end) == Some(&b'?') {
        end += 1;
    } else if let Some(name) = body.iter().position(|byte| *byte == b'^') {
        // Without its end, a track is what may follow the name: date, service code and more.
        let rest = body.get(name + 1..).unwrap_or_default();
        let more = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        end = end.min(at + 1 + name + 1 + more);
    }
    // The rest of a digit run that was cut here must not look like a number of its own.
    if stop.is_none() {
        end += pan::run_length(text, end, TRACK1_BYTES_MAX);
    }
    Some((start, end, Kind::Track1))
}

/// A track 2 whose number is the run that begins at `number`.
fn track2(text: &[u8], number: usize, cut: Cut) -> Option<Track> {
    let length = pan::run_length(text, number, pan::DIGITS_MAX + 1);
    if !(pan::DIGITS_MIN..=pan::DIGITS_MAX).contains(&length) {
        return None;
    }
    let separator = number + length;
    if !matches!(text.get(separator)?, b'=' | b'D' | b'd') {
        return None;
    }
    let follows = separator + 1;
    let digits = pan::run_length(text, follows, TRACK2_BYTES_MAX);
    let unfinished = cut == Cut::End && follows + digits == text.len();
    let sentinel = number.checked_sub(1).filter(|before| text.get(*before) == Some(&b';'));
    let is_track = if sentinel.is_some() {
        // A second `=` stands for a missing expiry date.
        digits >= EXPIRY_DIGITS || text.get(follows) == Some(&b'=') || unfinished
    } else {
        (digits >= EXPIRY_AND_SERVICE_DIGITS || unfinished)
            && pan::is_card(text.get(number..separator).unwrap_or_default())
    };
    if !is_track {
        return None;
    }
    let body = text.get(follows..).unwrap_or_default();
    let is_body = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'=' | b'D' | b'd' | b'F' | b'f');
    let mut end = follows + body.iter().take(TRACK2_BYTES_MAX).take_while(is_body).count();
    if text.get(end) == Some(&b'?') {
        end += 1;
    }
    Some((sentinel.unwrap_or(number), end, Kind::Track2))
}

/// What stands behind the EMV tag at `tag` in binary coded digits: a track 2 (57) or a number (5A).
pub(super) fn coded(text: &[u8], tag: usize) -> Option<Track> {
    let [tag_byte, length, ..] = text.get(tag..)? else { return None };
    let length = usize::from(*length);
    let start = tag + 2;
    let value = text.get(start..start + length)?;
    let nibbles = || value.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let count = nibbles().take_while(|nibble| *nibble < 10).count();
    let mut digits = [0; pan::DIGITS_MAX];
    for (place, nibble) in digits.get_mut(..count)?.iter_mut().zip(nibbles()) {
        *place = b'0' + nibble;
    }
    let rest_is = |wanted: fn(u8) -> bool, from: usize| nibbles().skip(from).all(wanted);
    let padded = |nibble| nibble == 0xf;
    let kind = match tag_byte {
        0x57 if nibbles().nth(count) == Some(0xd)
            && rest_is(|nibble| nibble < 10 || nibble == 0xf, count + 1) =>
        {
            Kind::Track2
        }
        0x5a if length < 11 && rest_is(padded, count) => Kind::Pan,
        _ => return None,
    };
    pan::is_card(digits.get(..count)?).then_some((start, start + length, kind))
}
