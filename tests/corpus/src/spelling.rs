//! The spellings: how a card number may be written.

use crate::encode;
use crate::fill::{BODIES, fill};
use crate::number::Number;
use crate::rng::Rng;
use crate::text::{Encoded, Kind, Text};

/// Where a spelling can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anywhere: no blanks, quotes or control characters in it.
    Token,
    /// In a field: it may hold blanks.
    Field,
    /// In running text: it may hold anything.
    Prose,
    /// It is a whole message already.
    Whole,
}

/// How it is made.
#[derive(Clone, Copy)]
enum Make {
    /// The groups joined by this.
    Joined(&'static str),
    /// The digits written with this zero and its nine followers.
    Digits(char),
    /// The digits of one of several other scripts.
    AnyDigits,
    /// The digits encoded, nothing around them.
    Encoded(fn(&[u8]) -> Encoded),
    /// A body with the number in it, encoded as a whole; the second is done after the first.
    Body(&'static [fn(&[u8]) -> Encoded]),
    /// The groups joined by one of these.
    AnyOf(&'static [&'static str]),
    /// Anything else.
    Own(fn(&mut Rng, &Number) -> Vec<u8>),
}

/// A spelling.
#[derive(Clone, Copy)]
pub struct Spelling {
    /// Its name in labels and tables.
    pub name: &'static str,
    /// Where it can stand.
    pub place: Place,
    make: Make,
}

const fn s(name: &'static str, place: Place, make: Make) -> Spelling {
    Spelling { name, place, make }
}

/// Spellings nobody promises: measured and shown, not required.
pub const OPTIONAL: &[&str] = &[
    "unicode dash",
    "unicode space",
    "base64 in lines",
    "JSON \\u, some digits",
    "hex dump",
    "wrap inside",
    "wrapped groups",
];

/// Every spelling.
pub const SPELLINGS: &[Spelling] = &[
    s("plain", Place::Token, Make::Joined("")),
    s("space", Place::Field, Make::Joined(" ")),
    s("dash", Place::Token, Make::Joined("-")),
    s("dot", Place::Token, Make::Joined(".")),
    s("tab", Place::Prose, Make::Joined("\t")),
    s("NBSP", Place::Field, Make::Joined("\u{a0}")),
    s("%20", Place::Token, Make::Joined("%20")),
    s("%2520", Place::Token, Make::Joined("%2520")),
    s("plus", Place::Token, Make::Joined("+")),
    s("underscore", Place::Token, Make::Joined("_")),
    s("slash", Place::Token, Make::Joined("/")),
    s("NUL", Place::Prose, Make::Joined("\0")),
    s(
        "zero width",
        Place::Field,
        Make::AnyOf(&["\u{200b}", "\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}"]),
    ),
    s("line wrap", Place::Prose, Make::AnyOf(&["\n", "\r\n"])),
    s("wrapped groups", Place::Prose, Make::Own(wrapped_groups)),
    s("wrap inside", Place::Prose, Make::Own(wrapped)),
    s("escaped wrap", Place::Field, Make::AnyOf(&["\\n", "\\r\\n", "\\t"])),
    s("full width", Place::Field, Make::Digits('０')),
    s("arabic-indic", Place::Field, Make::AnyDigits),
    s("mathematical", Place::Field, Make::Digits('𝟎')),
    s("JSON \\u", Place::Field, Make::Encoded(encode::json_unicode)),
    s("JSON \\u, some digits", Place::Field, Make::Own(some_unicode)),
    s("URL", Place::Token, Make::Encoded(encode::percent_all)),
    s("URL twice", Place::Token, Make::Encoded(encode::percent_twice)),
    s("URL body", Place::Token, Make::Body(&[encode::percent_needed])),
    s("HTML decimal", Place::Field, Make::Encoded(encode::html_decimal)),
    s("HTML hex", Place::Field, Make::Encoded(encode::html_hex)),
    s("HTML space", Place::Field, Make::AnyOf(&["&nbsp;", "&#32;", "&#160;", "&#xA0;"])),
    s("base64", Place::Token, Make::Body(&[encode::base64])),
    s("base64url", Place::Token, Make::Body(&[encode::base64_url])),
    s("JWT", Place::Token, Make::Own(jwt)),
    s("base64 in lines", Place::Prose, Make::Own(base64_lines)),
    s("hex", Place::Token, Make::Body(&[encode::hex_lower])),
    s("HEX", Place::Token, Make::Body(&[encode::hex_upper])),
    s("bytea", Place::Token, Make::Own(bytea)),
    s("\\x34", Place::Field, Make::Encoded(encode::string_escapes)),
    s("hex dump", Place::Prose, Make::Own(hex_dump)),
    s("quoted-printable", Place::Field, Make::Encoded(encode::quoted_printable)),
    s("soft break", Place::Prose, Make::Own(soft_break)),
    s("UTF-16LE", Place::Whole, Make::Body(&[encode::utf16_le])),
    s("UTF-16BE", Place::Whole, Make::Body(&[encode::utf16_be])),
    s("glued", Place::Token, Make::Own(glued)),
    s("glued with key", Place::Token, Make::Own(glued_with_key)),
    s("base64 of URL", Place::Token, Make::Body(&[encode::percent_all, encode::base64])),
    s("URL of base64", Place::Token, Make::Body(&[encode::base64, encode::percent_needed])),
    s("base64 twice", Place::Token, Make::Body(&[encode::base64, encode::base64])),
    s("hex of base64", Place::Token, Make::Body(&[encode::base64, encode::hex_lower])),
    s("base64 of JSON \\u", Place::Token, Make::Body(&[encode::json_unicode, encode::base64])),
    s("base64 of UTF-16", Place::Token, Make::Body(&[encode::utf16_le, encode::base64])),
    s("unicode dash", Place::Field, Make::AnyOf(&["\u{2010}", "\u{2011}", "\u{2013}", "\u{2212}"])),
    s(
        "unicode space",
        Place::Field,
        Make::AnyOf(&["\u{2009}", "\u{202f}", "\u{2007}", "\u{3000}"]),
    ),
];

/// The names of all spellings.
#[must_use]
pub fn spellings() -> Vec<&'static str> {
    SPELLINGS.iter().map(|spelling| spelling.name).collect()
}

/// Writes the number in this spelling.
pub fn spell(rng: &mut Rng, spelling: &Spelling, number: &Number) -> Text {
    let written = |bytes: Vec<u8>| {
        Text::labelled(bytes, Kind::Pan, number.brand, spelling.name, &number.digits)
    };
    match spelling.make {
        Make::Joined(separator) => written(number.groups(rng).join(separator).into_bytes()),
        Make::AnyOf(separators) => {
            let separator = rng.pick(separators);
            written(number.groups(rng).join(separator).into_bytes())
        }
        Make::Digits(zero) => written(in_digits(&number.digits, zero).into_bytes()),
        Make::AnyDigits => {
            let zero = *rng.pick(&['٠', '۰', '०', '০', '๐']);
            written(in_digits(&number.digits, zero).into_bytes())
        }
        Make::Encoded(encode) => written(encode(number.digits.as_bytes()).bytes),
        Make::Own(own) => {
            let bytes = own(rng, number);
            let mut text = written(bytes);
            trim(&mut text, &number.digits);
            text
        }
        Make::Body(encoders) => {
            let joint = *rng.pick(&["", "", "", " ", "-"]);
            let plain = written(number.groups(rng).join(joint).into_bytes());
            let template = *rng.pick(BODIES);
            // Every alignment of base64 is met: bodies begin at any offset.
            let shift = usize::try_from(rng.below(3)).unwrap_or_default();
            let mut body = Text::plain(&b"a: "[..shift]);
            body.append(&fill(rng, template, &[("card", &plain)]));
            encoders.iter().fold(body, |body, encode| body.encoded(*encode))
        }
    }
}

/// Narrows the label to the digits, where they stand as they are.
fn trim(text: &mut Text, digits: &str) {
    let at = text.bytes.windows(digits.len()).position(|part| part == digits.as_bytes());
    if let (Some(at), Some(label)) = (at, text.labels.first_mut()) {
        (label.start, label.end) = (at, at + digits.len());
    }
}

fn in_digits(digits: &str, zero: char) -> String {
    let digit = |byte: u8| char::from_u32(u32::from(zero) + u32::from(byte - b'0'));
    digits.bytes().filter_map(digit).collect()
}

/// Groups with blanks between them, one of which became a line end.
fn wrapped_groups(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let groups = number.groups(rng);
    let at = usize::try_from(rng.within(1, groups.len() as u64 - 1)).unwrap_or(1);
    let (head, tail) = groups.split_at(at);
    format!("{}\n{}", head.join(" "), tail.join(" ")).into_bytes()
}

/// Broken by a line end at any place behind the fourth digit, as a terminal or an
/// editor wraps.
fn wrapped(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let at = usize::try_from(rng.within(4, number.digits.len() as u64 - 4)).unwrap_or(4);
    let (head, tail) = number.digits.split_at(at);
    format!("{head}{}{tail}", rng.pick(&["\n", "\r\n"])).into_bytes()
}

fn some_unicode(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let mut text = Vec::new();
    for digit in number.digits.bytes() {
        if rng.chance(50) {
            text.extend(encode::json_unicode(&[digit]).bytes);
        } else {
            text.push(digit);
        }
    }
    text
}

fn base64_lines(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let before = usize::try_from(rng.within(20, 80)).unwrap_or(20);
    let after = usize::try_from(rng.within(20, 80)).unwrap_or(20);
    let letters = "abcdefghijklmnopqrstuvwxyz ";
    let body =
        format!("{} {} {}", rng.string(letters, before), number.digits, rng.string(letters, after));
    encode::base64_mime(body.as_bytes()).bytes
}

/// A signed token with the number among its claims.
fn jwt(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let claims = format!(
        "{{\"iss\":\"pay\",\"iat\":{},\"card\":\"{}\",\"jti\":\"{}\"}}",
        rng.within(1_600_000_000, 1_899_999_999),
        number.digits,
        rng.hex(8)
    );
    let header = encode::base64_url(b"{\"alg\":\"ES256\"}").bytes;
    let signature = encode::base64_url(&rng.bytes(64)).bytes;
    [header, encode::base64_url(claims.as_bytes()).bytes, signature].join(&b'.')
}

fn bytea(_: &mut Rng, number: &Number) -> Vec<u8> {
    [b"\\x".to_vec(), encode::hex_lower(number.digits.as_bytes()).bytes].concat()
}

/// As `xxd` prints it: pairs of bytes.
fn hex_dump(_: &mut Rng, number: &Number) -> Vec<u8> {
    let hex = encode::hex_lower(number.digits.as_bytes()).bytes;
    hex.chunks(4).collect::<Vec<_>>().join(&b' ')
}

fn soft_break(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let at = usize::try_from(rng.within(4, number.digits.len() as u64 - 4)).unwrap_or(4);
    let (head, tail) = number.digits.split_at(at);
    format!("{head}={}{tail}", rng.pick(&["\r\n", "\n"])).into_bytes()
}

fn glued(rng: &mut Rng, number: &Number) -> Vec<u8> {
    // No letter of a hexadecimal number: that would be a digest, not a word.
    let letters = "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ";
    let (before, after) = (rng.within(1, 6), rng.below(5));
    let mut letters = |count| rng.string(letters, usize::try_from(count).unwrap_or(1));
    format!("{}{}{}", letters(before), number.digits, letters(after)).into_bytes()
}

fn glued_with_key(rng: &mut Rng, number: &Number) -> Vec<u8> {
    let key = rng.pick(&["card", "CC", "pan", "PAN", "ccnum", "cardNumber", "acct", "tarjeta"]);
    let after = if rng.chance(50) { "" } else { "x" };
    format!("{key}{}{after}", number.digits).into_bytes()
}
