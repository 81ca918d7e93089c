//! Magnetic stripe tracks (ISO/IEC 7813): sensitive authentication data, taken out as a whole.
//!
//! Track 1 is known by `%B`, 12–19 digits and `^`; what follows only decides how far it goes.
//! Track 2 is 12–19 digits, `=` or `D`, and an expiry date after a `;`; without the `;` the number
//! must be a card number and date, service code and more (7 digits) must follow.

use super::{Cut, Finding, Kind, pan};

/// Longest track 1, bytes, with its sentinels.
const TRACK1_BYTES_MAX: usize = 79;
/// Digits of an expiry date, YYMM.
const EXPIRY_DIGITS: usize = 4;
/// Digits of expiry date and service code.
const EXPIRY_AND_SERVICE_DIGITS: usize = 7;
/// What a track is overwritten with until it is replaced: neither digit nor separator.
const FILLER: u8 = b'#';

/// All tracks of the text, in order and without overlap.
pub(super) fn find(text: &[u8], cut: Cut) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let track = match byte {
            b'%' => track1(text, at),
            b'0'..=b'9' => track2(text, at, cut),
            _ => None,
        };
        at = match track {
            Some(track) => track.end,
            None => at + pan::run_length(text, at).max(1),
        };
        found.extend(track);
    }
    found
}

/// Overwrites the tracks, so that nothing inside is looked at again.
pub(super) fn fill(working: &mut [u8], tracks: &[Finding]) {
    for track in tracks {
        working.get_mut(track.start..track.end).unwrap_or_default().fill(FILLER);
    }
}

/// Replaces each track among the findings by its word.
pub(super) fn replace(working: &[u8], findings: &[Finding]) -> Vec<u8> {
    let mut text = Vec::with_capacity(working.len());
    let mut done = 0;
    for finding in findings {
        let word: &[u8] = match finding.kind {
            Kind::Pan => continue,
            Kind::Track1 => b"[SAD:track1]",
            Kind::Track2 => b"[SAD:track2]",
        };
        text.extend_from_slice(working.get(done..finding.start).unwrap_or_default());
        text.extend_from_slice(word);
        done = finding.end;
    }
    text.extend_from_slice(working.get(done..).unwrap_or_default());
    text
}

/// A track 1 that begins at the `%` at `start`. Its end is the `?` where there is one in reach,
/// otherwise the end of the line or of the longest possible track.
fn track1(text: &[u8], start: usize) -> Option<Finding> {
    if !matches!(text.get(start + 1)?, b'B' | b'b') {
        return None;
    }
    let number = start + 2;
    let mut digits = 0;
    let mut at = number;
    loop {
        let run = pan::run_length(text, at);
        digits += run;
        at += run;
        // Old encodings keep the spaces printed on the card.
        if run == 0 || text.get(at) != Some(&b' ') {
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
    }
    // The rest of a digit run that was cut here must not look like a number of its own.
    if stop.is_none() {
        end += pan::run_length(text, end);
    }
    Some(Finding { start, end, kind: Kind::Track1 })
}

/// A track 2 whose number is the run that begins at `number`.
fn track2(text: &[u8], number: usize, cut: Cut) -> Option<Finding> {
    let length = pan::run_length(text, number);
    if !(pan::DIGITS_MIN..=pan::DIGITS_MAX).contains(&length) {
        return None;
    }
    let separator = number + length;
    if !matches!(text.get(separator)?, b'=' | b'D' | b'd') {
        return None;
    }
    let follows = separator + 1;
    let digits = pan::run_length(text, follows);
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
    let is_body = |byte: &u8| matches!(byte, b'0'..=b'9' | b'=' | b'D' | b'd' | b'F' | b'f');
    let mut end = follows + body.iter().position(|byte| !is_body(byte)).unwrap_or(body.len());
    if text.get(end) == Some(&b'?') {
        end += 1;
    }
    Some(Finding { start: sentinel.unwrap_or(number), end, kind: Kind::Track2 })
}
