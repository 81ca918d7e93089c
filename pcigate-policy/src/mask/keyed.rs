//! What only a key beside it makes sensitive: verification codes, PIN blocks, expiry dates.
//!
//! A key is a whole word (`cvv`, `cardCvc2`, `"security code"`, `exp_month`, `pinblock`), followed
//! by `:`, `=`, quotes or space and the value. Behind a card number an expiry date, and a code
//! behind that, need no key.

use super::{Kind, context};

/// Where something lies, and what it is.
pub(super) type Value = (usize, usize, Kind);

/// Bytes between a key and its value.
const GAP_MAX: usize = 10;
/// The longest key, with what may follow it.
const KEY_BYTES_MAX: usize = 24;

const EXPIRY_KEYS: [&str; 18] = [
    "expiration_date",
    "expirationdate",
    "expiration date",
    "expiration-date",
    "expiration",
    "expiry_date",
    "expirydate",
    "expiry date",
    "expiry-date",
    "expires",
    "expiry",
    "exp_date",
    "expdate",
    "exp date",
    "exp-date",
    "expdt",
    "expire",
    "exp",
];
const PART_KEYS: [(&str, bool); 12] = [
    ("expiration_month", true),
    ("expirationmonth", true),
    ("expiry_month", true),
    ("expirymonth", true),
    ("exp_month", true),
    ("expmonth", true),
    ("expiration_year", false),
    ("expirationyear", false),
    ("expiry_year", false),
    ("expiryyear", false),
    ("exp_year", false),
    ("expyear", false),
];
const PIN_KEYS: [&str; 5] = ["pinblock", "pin_block", "pin-block", "pin block", "pin"];
const CODE_KEYS: [&str; 9] = ["cvv2", "cvc2", "cav2", "cvv", "cvc", "cvn", "csc", "cid", "cav"];
const CODE_ENDS: [&str; 10] =
    ["_code", " code", "-code", "code", "_number", "number", "_value", "value", "_no", "no"];

/// The value whose key begins with the three letters at `at`.
pub(super) fn find(text: &[u8], at: usize) -> Option<Value> {
    let mut lower = [0; KEY_BYTES_MAX];
    let key = text.get(at..)?;
    for (place, byte) in lower.iter_mut().zip(key) {
        *place = byte.to_ascii_lowercase();
    }
    let before = at.checked_sub(1).and_then(|before| text.get(before)).copied().unwrap_or(b' ');
    let first = key.first().copied().unwrap_or(0);
    let begins = !before.is_ascii_alphanumeric()
        || before.is_ascii_lowercase() && first.is_ascii_uppercase();
    let longest = |keys: &[&str]| {
        let known = keys.iter().find(|known| lower.starts_with(known.as_bytes()));
        known.map(|known| known.len())
    };
    match first.to_ascii_lowercase() {
        b'c' => {
            let length = longest(&CODE_KEYS)?;
            let rare = matches!(lower, [b'c', b'v', b'v' | b'c', ..]);
            if !begins && !rare {
                return None;
            }
            let behind = lower.get(length..)?;
            let end = CODE_ENDS.iter().find(|end| behind.starts_with(end.as_bytes()));
            code(text, value_at(text, at + length + end.map_or(0, |end| end.len()))?)
        }
        b'y' => {
            let head = text.get(at.checked_sub(7)?..at)?;
            let length = longest(&["y code", "y_code", "y-code", "ycode"])?;
            let whole = head.eq_ignore_ascii_case(b"securit");
            if whole { code(text, value_at(text, at + length)?) } else { None }
        }
        b'e' if begins => {
            let part = PART_KEYS.iter().find(|(known, _)| lower.starts_with(known.as_bytes()));
            if let Some((known, month)) = part {
                return date_part(text, value_at(text, at + known.len())?, *month);
            }
            let value = value_at(text, at + longest(&EXPIRY_KEYS)?)?;
            Some((value, expiry(text, value, true)?, Kind::Expiry))
        }
        b'p' if begins => {
            let length = longest(&PIN_KEYS)?;
            pin(text, value_at(text, at + length)?, length > 3 || context::names_card(text, at))
        }
        _ => None,
    }
}

/// The value behind a key that ends at `end`: behind at least one delimiter.
fn value_at(text: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    while at < end + GAP_MAX {
        match text.get(at..)? {
            [b' ', b'i', b's', b' ', ..] => at += 4,
            [b'"' | b'\'' | b'\\' | b' ' | b'\t' | b':' | b'=' | b'>' | b'#' | b'(' | 0, ..] => {
                at += 1
            }
            [b'%', b'3', b'D' | b'A' | b'd' | b'a', ..] | [b'%', b'2', b'2' | b'0', ..] => at += 3,
            _ => break,
        }
    }
    (at > end).then_some(at)
}

/// Whether a value may end at `end`: no letter or digit goes on there, and no decimal place.
fn ends(text: &[u8], end: usize) -> bool {
    match text.get(end..).unwrap_or_default() {
        [b'.' | b',' | b'-' | b'/' | b':', next, ..] if next.is_ascii_digit() => false,
        [next, ..] => !next.is_ascii_alphanumeric() && *next != b'_' && *next < 0x80,
        [] => true,
    }
}

fn digits(text: &[u8], at: usize) -> usize {
    super::pan::run_length(text, at, 8)
}

/// A verification code of three or four digits.
fn code(text: &[u8], at: usize) -> Option<Value> {
    let count = digits(text, at);
    let found = (3..=4).contains(&count) && ends_code(text, at + count);
    found.then_some((at, at + count, Kind::Cvv))
}

/// A code may stand in a list, so that a comma with a digit may follow.
fn ends_code(text: &[u8], end: usize) -> bool {
    match text.get(end..).unwrap_or_default() {
        [b'.', next, ..] if next.is_ascii_digit() => false,
        [next, ..] => !next.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// A PIN block of 16 hexadecimal digits; a clear PIN of 4–6 digits where cards are spoken of.
fn pin(text: &[u8], at: usize, sure: bool) -> Option<Value> {
    const BLOCK: usize = 16;
    let rest = text.get(at..)?;
    let hex = rest.iter().take(BLOCK + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let block = hex == BLOCK && ends(text, at + BLOCK);
    let clear = sure && (4..=6).contains(&digits(text, at)) && hex < 7 && ends(text, at + hex);
    let found = block || clear && hex == digits(text, at);
    found.then_some((at, at + hex, Kind::PinBlock))
}

fn date_part(text: &[u8], at: usize, month: bool) -> Option<Value> {
    let count = digits(text, at);
    let fits = match number(text, at, count) {
        Some(1..=12) => month && count <= 2,
        _ => false,
    } || !month && year(text, at, count);
    (fits && ends(text, at + count)).then_some((at, at + count, Kind::Expiry))
}

fn number(text: &[u8], at: usize, count: usize) -> Option<u32> {
    let digits = text.get(at..at + count)?;
    let value = |value: u32, digit: &u8| value * 10 + u32::from(digit & 15);
    (count > 0 && digits.iter().all(u8::is_ascii_digit)).then(|| digits.iter().fold(0, value))
}

fn month(text: &[u8], at: usize) -> bool {
    matches!(number(text, at, 2), Some(1..=12))
}

/// A year a card may expire in, of two or four digits.
fn year(text: &[u8], at: usize, count: usize) -> bool {
    match number(text, at, count) {
        Some(10..=59) => count == 2,
        Some(2010..=2059) => count == 4,
        _ => false,
    }
}

/// The end of the expiry date at `at`: MM/YY, MM/YYYY, YYYY-MM, and with a key also MMYY, YYMM,
/// MMYYYY and YYYYMM.
pub(super) fn expiry(text: &[u8], at: usize, keyed: bool) -> Option<usize> {
    let joint = |at: usize| match text.get(at..).unwrap_or_default() {
        [b'/' | b'-', ..] => Some(at + 1),
        [b'\\', b'/', ..] | [b' ', b'/', ..] => Some(at + 2),
        [b'%', b'2', b'F' | b'f', ..] => Some(at + 3),
        _ => None,
    };
    let end = match digits(text, at) {
        2 if month(text, at) => {
            let mut from = joint(at + 2)?;
            from += usize::from(text.get(from) == Some(&b' '));
            let count = digits(text, from);
            year(text, from, count).then_some(from + count)?
        }
        4 if year(text, at, 4) && joint(at + 4).is_some_and(|from| digits(text, from) == 2) => {
            let from = joint(at + 4)?;
            month(text, from).then_some(from + 2)?
        }
        4 if keyed => {
            let plausible = month(text, at) && year(text, at + 2, 2)
                || year(text, at, 2) && month(text, at + 2);
            plausible.then_some(at + 4)?
        }
        6 if keyed => {
            let plausible = month(text, at) && year(text, at + 2, 4)
                || year(text, at, 4) && month(text, at + 4);
            plausible.then_some(at + 6)?
        }
        _ => return None,
    };
    ends_date(text, end).then_some(end)
}

/// A date may be followed by a list's next value, not by more of a date.
fn ends_date(text: &[u8], end: usize) -> bool {
    match text.get(end..).unwrap_or_default() {
        [b'.' | b'-' | b'/' | b':', next, ..] if next.is_ascii_digit() => false,
        [next, ..] => !next.is_ascii_alphanumeric(),
        [] => true,
    }
}

/// Expiry date and verification code right behind a card number that ends at `end`.
pub(super) fn followers(text: &[u8], end: usize) -> [Option<Value>; 3] {
    const BESIDE_MAX: usize = 4;
    let gap = |at: usize| {
        let between = |byte: &&u8| {
            matches!(byte, b' ' | b'\t' | b'|' | b',' | b';' | b':' | b'"' | b'\'' | b'/')
        };
        let rest = text.get(at..text.len().min(at + BESIDE_MAX)).unwrap_or_default();
        let count = rest.iter().take_while(between).count();
        (count > 0).then_some(at + count)
    };
    let code_behind = |at: usize| gap(at).and_then(|at| code(text, at));
    let Some(at) = gap(end) else { return [None; 3] };
    if let Some(behind) = expiry(text, at, false) {
        return [Some((at, behind, Kind::Expiry)), code_behind(behind), None];
    }
    // Lists of stolen cards: `4111111111111111|12|2029|123` or `|1229|123`.
    let listed = text.get(end).filter(|byte| matches!(byte, b'|' | b',' | b';' | b':' | b'/'));
    if listed.is_none() {
        return [None; 3];
    }
    if digits(text, at) == 2
        && month(text, at)
        && text.get(at + 2) == listed
        && year(text, at + 3, digits(text, at + 3))
    {
        let behind = at + 3 + digits(text, at + 3);
        let (month, year) = ((at, at + 2, Kind::Expiry), (at + 3, behind, Kind::Expiry));
        return [Some(month), Some(year), code_behind(behind)];
    }
    // The next number of a list is not a date.
    if super::pan::at(text, at, digits(text, at)).is_some() {
        return [None; 3];
    }
    match expiry(text, at, true).map(|behind| (behind, code_behind(behind))) {
        Some((behind, Some(code))) => [Some((at, behind, Kind::Expiry)), Some(code), None],
        _ => [None; 3],
    }
}
