//! What stands around a number and says what it is: words that name cards, and the forms of other
//! numbers (UUID, hash, IBAN, decimal fraction, phone) that only look like a card.

use super::pan::{Number, Tier};

/// How far before a number a word may stand that names it.
const WORDS_BEFORE: usize = 32;
/// Words that mean a card, and beginnings of such words.
const CARD_WORDS: [&str; 12] = [
    "pan",
    "cc",
    "ccn",
    "ccno",
    "ccnum",
    "acct",
    "visa",
    "amex",
    "maestro",
    "mastercard",
    "unionpay",
    "primaryaccountnumber",
];
/// Each begins with `c`, `k` or `t`.
const CARD_STEMS: [&str; 6] = ["card", "carte", "carta", "tarjeta", "kart", "credit"];
const CARD_STEM_MIN: usize = 4;
/// Keys of numbers that have a check digit like a card's.
const OTHER_KEYS: [&str; 14] = [
    "imei",
    "imei1",
    "imei2",
    "imeisv",
    "meid",
    "iccid",
    "uuid",
    "guid",
    "traceid",
    "spanid",
    "trace",
    "snowflake",
    "isbn",
    "gtin",
];

/// Whether a word before `start` names a card.
pub(super) fn names_card(text: &[u8], start: usize) -> bool {
    let from = start.saturating_sub(WORDS_BEFORE);
    let before = text.get(from..start).unwrap_or_default();
    // What was masked says nothing of what follows.
    let before = before.rsplit(|byte| *byte == b']').next().unwrap_or_default();
    let mut lower = [0_u8; WORDS_BEFORE];
    for (place, byte) in lower.iter_mut().zip(before) {
        *place = byte.to_ascii_lowercase();
    }
    let lower = lower.get(..before.len()).unwrap_or_default();
    let words = || lower.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    words().any(|word| {
        CARD_WORDS.iter().any(|known| known.as_bytes() == word)
            || word.len() >= CARD_STEM_MIN && has_stem(word)
    })
}

fn has_stem(word: &[u8]) -> bool {
    (0..word.len()).filter_map(|at| word.get(at..)).any(|rest| {
        let first = rest.first().copied().unwrap_or(0);
        matches!(first, b'c' | b'k' | b't')
            && CARD_STEMS.iter().any(|stem| rest.starts_with(stem.as_bytes()))
    })
}

/// Whether a number with a brand's prefix and a right check digit is something else all the same.
pub(super) fn is_something_else(
    text: &[u8],
    start: usize,
    end: usize,
    number: &Number,
    grouped: bool,
) -> bool {
    let before = |by: usize| start.checked_sub(by).and_then(|at| text.get(at)).copied();
    let after = |by: usize| text.get(end + by).copied();
    if !grouped && (fraction(text, start, end) || amount(text, start, end)) {
        return true;
    }
    // E.164: a plus sign and up to 15 digits; few have more than 13.
    if !grouped
        && number.as_slice().len() <= 13
        && before(1) == Some(b'+')
        && !before(2).is_some_and(|byte| byte.is_ascii_alphanumeric())
    {
        return true;
    }
    let hex_beside = |byte: Option<u8>| byte.is_some_and(|b| b == b'-' || b.is_ascii_hexdigit());
    let dashed = text.get(start..end).is_some_and(|number| number.contains(&b'-'));
    let one_token = !grouped || dashed;
    if one_token
        && (hex_beside(before(1)) || hex_beside(after(0)))
        && hash_or_uuid(text, start, end)
    {
        return true;
    }
    iban(text, start, end) || named_otherwise(text, start)
}

/// Whether the number is to be masked.
pub(super) fn counts(
    text: &[u8],
    (start, end): (usize, usize),
    number: &Number,
    tier: Tier,
    grouped: bool,
    card_data: bool,
) -> bool {
    (tier == Tier::Strong || card_data || names_card(text, start))
        && !is_something_else(text, start, end, number, grouped)
}

/// `0.4111111111111111`: the digits behind a decimal point.
fn fraction(text: &[u8], start: usize, end: usize) -> bool {
    let Some(head) = start.checked_sub(1).and_then(|dot| text.get(..dot)) else { return false };
    if text.get(start - 1) != Some(&b'.') {
        return false;
    }
    let whole = head.iter().rev().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let sign = head.len().checked_sub(whole + 1).and_then(|at| head.get(at));
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    // Behind a file's name stands its ending.
    let ending =
        text.get(end) == Some(&b'.') && text.get(end + 1).is_some_and(u8::is_ascii_alphabetic);
    (1..6).contains(&whole) && !sign.is_some_and(word) && !ending
}

/// `4111111111111111.25`: the digits before a decimal point. Not `card: 4111111111111111.0`: so
/// programs print a number that they took for a measure.
fn amount(text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    let rest = text.get(end..text.len().min(end + 8)).unwrap_or_default();
    let [b'.', places @ ..] = rest else { return false };
    let count = places.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let next = places.get(count);
    let whole = places.starts_with(b"0") && count == 1;
    (1..=6).contains(&count)
        && !next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
        && !before.is_some_and(u8::is_ascii_alphanumeric)
        && (!whole || !names_card(text, start))
}

/// A UUID, or a hash: hexadecimal digits in a length nobody gives a card number.
fn hash_or_uuid(text: &[u8], start: usize, end: usize) -> bool {
    const UUID: usize = 36;
    const HASH_MIN: usize = 32;
    const HASH_MAX: usize = 128;
    let head = text.get(..start).unwrap_or_default();
    let tail = text.get(end..).unwrap_or_default();
    let hex = |byte: &&u8| byte.is_ascii_hexdigit();
    let left = head.iter().rev().take(HASH_MAX).take_while(hex).count();
    let right = tail.iter().take(HASH_MAX).take_while(hex).count();
    let token = text.get(start - left..end + right).unwrap_or_default();
    let letters = token.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    // Letters alone around a number are no hash.
    let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
    let mixed = digits >= end - start + 2;
    // Pairs 30–39 are digits as hex, not a hash.
    if token.len() >= HASH_MIN && letters > 0 && mixed && !token.contains(&b'-') {
        return true;
    }
    let dashed = |byte: &&u8| byte.is_ascii_hexdigit() || **byte == b'-';
    let left = head.iter().rev().take(UUID).take_while(dashed).count();
    let right = tail.iter().take(UUID).take_while(dashed).count();
    let token = text.get(start - left..end + right).unwrap_or_default();
    token.len() == UUID
        && token
            .iter()
            .enumerate()
            .all(|(at, byte)| (*byte == b'-') == matches!(at, 8 | 13 | 18 | 23))
}

/// Countries and how long their IBANs are (SWIFT IBAN registry, release 99).
const IBANS: [(&[u8; 2], usize); 88] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// An IBAN (ISO 13616) around the number, by country and length; examples in texts seldom have
/// right check digits (remainder 1 of 97).
fn iban(text: &[u8], start: usize, end: usize) -> bool {
    const BYTES_MAX: usize = 42;
    let from = start.saturating_sub(BYTES_MAX);
    let window = text.get(from..text.len().min(end + BYTES_MAX)).unwrap_or_default();
    // The number may begin behind the country's letters at the earliest.
    let head = window.get(..start + 2 - from).unwrap_or_default();
    // Letters right before digits are rare: most numbers need nothing else. Asked of all places
    // without a branch, the compiler does it for many at once.
    let behind = head.get(1..).unwrap_or_default();
    let letters = head.iter().zip(behind).fold(false, |any, (letter, digit)| {
        any | (letter.is_ascii_uppercase() & digit.is_ascii_digit())
    });
    letters
        && head.windows(4).enumerate().any(|(at, four)| {
            let [first, second, third, fourth] = four else { return false };
            if !third.is_ascii_digit() || !second.is_ascii_uppercase() || !fourth.is_ascii_digit() {
                return false;
            }
            let touches = at.checked_sub(1).and_then(|before| window.get(before));
            if touches.is_some_and(u8::is_ascii_alphanumeric) {
                return false;
            }
            let country = IBANS.iter().find(|(code, _)| *code == &[*first, *second]);
            country.is_some_and(|(_, length)| {
                // Two letters right before what is called a card number are just two letters.
                let glued = from + at + 2 == start && names_card(text, start);
                iban_end(window, at, *length)
                    .is_some_and(|(last, valid)| last + from >= end && (valid || !glued))
            })
        })
}

/// The end of the IBAN that begins at `at` and has this many letters and digits, and whether its
/// check digits are right.
fn iban_end(window: &[u8], at: usize, length: usize) -> Option<(usize, bool)> {
    let (mut count, mut remainder, mut prefix) = (0, 0_u32, 0_u32);
    for (step, byte) in window.iter().enumerate().skip(at) {
        let value = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'A'..=b'Z' => u32::from(byte - b'A') + 10,
            b'a'..=b'z' => u32::from(byte - b'a') + 10,
            b' ' | b'-' if count % 4 == 0 => continue,
            _ => return None,
        };
        let shift = if value > 9 { 100 } else { 10 };
        if count < 4 {
            prefix = prefix * shift + value;
        } else {
            remainder = (remainder * shift + value) % 97;
        }
        count += 1;
        if count == length {
            // Country and check digits count last: six digits more.
            let is_iban = (remainder * (1_000_000 % 97) + prefix) % 97 == 1;
            let ends = !window.get(step + 1).is_some_and(u8::is_ascii_alphanumeric);
            return ends.then_some((step + 1, is_iban));
        }
    }
    None
}

/// Whether the key right before the number names another kind of number.
fn named_otherwise(text: &[u8], start: usize) -> bool {
    let from = start.saturating_sub(WORDS_BEFORE);
    let before = text.get(from..start).unwrap_or_default();
    let between =
        |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b':' | b'=' | b'\\' | b'#' | b'>');
    let gap = before.iter().rev().take(6).take_while(|byte| between(byte)).count();
    let before = before.get(..before.len() - gap).unwrap_or_default();
    let in_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let length = before.iter().rev().take_while(|byte| in_key(byte)).count();
    let key = before.get(before.len() - length..).unwrap_or_default();
    if gap == 0 || key.is_empty() {
        return false;
    }
    let mut plain = [0_u8; WORDS_BEFORE];
    let letters = key.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let mut count = 0;
    for (place, byte) in plain.iter_mut().zip(letters) {
        *place = byte.to_ascii_lowercase();
        count += 1;
    }
    let plain = plain.get(..count).unwrap_or_default();
    // `device.imei`, `x-trace-id`: the last word of the key.
    let last = key.rsplit(|byte| matches!(byte, b'_' | b'-' | b'.')).next().unwrap_or_default();
    OTHER_KEYS.iter().map(|known| known.as_bytes()).any(|known| {
        known == plain || known.len() == last.len() && known.eq_ignore_ascii_case(last)
    })
}
