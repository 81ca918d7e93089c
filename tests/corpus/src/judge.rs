//! Whether a number can still be read out of a text, by anyone who decodes patiently.
//!
//! Slow and generous: all digits of the text are read as one string, whatever stands between them,
//! after every sequence of up to two decodings.

const DEPTH_MAX: usize = 2;
/// Shorter runs hold no card number.
const BASE64_MIN: usize = 16;
const HEX_MIN: usize = 24;
/// Zeros of the decimal digits of other scripts that occur.
const ZEROS: &[char] = &['０', '٠', '۰', '०', '০', '๐', '𝟎', '𝟘', '𝟢', '𝟬', '𝟶'];

/// Gives what the text stands for; nothing where it has nothing to decode.
type Decode = fn(&[u8]) -> Vec<u8>;

const DECODERS: &[Decode] = &[
    percent,
    entities,
    escapes,
    quoted_printable,
    other_digits,
    without_nul,
    |text| hex(text, 0),
    |text| hex(text, 1),
    |text| base64(text, 0),
    |text| base64(text, 1),
    |text| base64(text, 2),
    |text| base64(text, 3),
];

/// Whether these digits can be read out of `text`.
#[must_use]
pub fn survives(text: &[u8], digits: &str) -> bool {
    reads(text, digits.as_bytes(), DEPTH_MAX)
}

fn reads(text: &[u8], digits: &[u8], depth: usize) -> bool {
    if in_plain_sight(text, digits) || in_nibbles(text, digits) {
        return true;
    }
    depth > 0
        && DECODERS.iter().any(|decode| {
            let decoded = decode(text);
            !decoded.is_empty() && decoded != text && reads(&decoded, digits, depth - 1)
        })
}

fn in_plain_sight(text: &[u8], digits: &[u8]) -> bool {
    let shown: Vec<u8> = text.iter().copied().filter(u8::is_ascii_digit).collect();
    holds(&shown, digits)
}

/// Two digits to a byte, from any half byte on.
fn in_nibbles(text: &[u8], digits: &[u8]) -> bool {
    // Almost no text has a long run of bytes whose halves are both decimal digits.
    let packed = |byte: &u8| byte >> 4 < 10 && byte & 15 < 10;
    text.split(|byte| !packed(byte)).filter(|run| run.len() * 2 + 2 >= digits.len()).any(|_| {
        let halves: Vec<u8> =
            text.iter().flat_map(|byte| [b'0' + (byte >> 4), b'0' + (byte & 15)]).collect();
        holds(&halves, digits)
    })
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

/// Copies `text`; where `unit` knows a unit at the beginning of the rest, takes what it stands for.
fn replace(text: &[u8], mark: u8, unit: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Vec<u8> {
    if !text.contains(&mark) {
        return Vec::new();
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match (*first == mark).then(|| unit(rest)).flatten() {
            Some((bytes, length)) => {
                decoded.extend(bytes);
                rest = rest.get(length..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn hex_number(digits: Option<&[u8]>) -> Option<u32> {
    let digits = std::str::from_utf8(digits?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

fn utf8(code: u32) -> Option<Vec<u8>> {
    char::from_u32(code).map(|c| c.to_string().into_bytes())
}

fn percent(text: &[u8]) -> Vec<u8> {
    replace(text, b'%', |rest| {
        let code = hex_number(rest.get(1..3))?;
        Some((vec![u8::try_from(code).ok()?], 3))
    })
}

fn entities(text: &[u8]) -> Vec<u8> {
    replace(text, b'&', |rest| {
        let end = rest.iter().take(12).position(|byte| *byte == b';')?;
        let name = std::str::from_utf8(rest.get(1..end)?).ok()?;
        let code = match name.strip_prefix('#')? {
            hex if hex.starts_with(['x', 'X']) => u32::from_str_radix(hex.get(1..)?, 16).ok()?,
            decimal => decimal.parse().ok()?,
        };
        Some((utf8(code)?, end + 1))
    })
}

fn escapes(text: &[u8]) -> Vec<u8> {
    replace(text, b'\\', |rest| match rest.get(1)? {
        b'u' => Some((utf8(hex_number(rest.get(2..6))?)?, 6)),
        b'x' => Some((vec![u8::try_from(hex_number(rest.get(2..4))?).ok()?], 4)),
        b'n' | b'r' | b't' => Some((vec![b' '], 2)),
        _ => None,
    })
}

fn quoted_printable(text: &[u8]) -> Vec<u8> {
    replace(text, b'=', |rest| match rest.get(1)? {
        b'\n' => Some((Vec::new(), 2)),
        b'\r' => Some((Vec::new(), 3)),
        _ => Some((vec![u8::try_from(hex_number(rest.get(1..3))?).ok()?], 3)),
    })
}

fn other_digits(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return Vec::new();
    }
    let digit = |c: char| {
        let value = |zero: &char| u32::from(c).checked_sub(u32::from(*zero)).filter(|v| *v < 10);
        ZEROS.iter().find_map(value).and_then(|value| char::from_digit(value, 10)).unwrap_or(c)
    };
    String::from_utf8_lossy(text).chars().map(digit).collect::<String>().into_bytes()
}

fn without_nul(text: &[u8]) -> Vec<u8> {
    if !text.contains(&0) {
        return Vec::new();
    }
    text.iter().copied().filter(|byte| *byte != 0).collect()
}

/// Decodes every long run of hexadecimal digits, from its digit `skip` on.
fn hex(text: &[u8], skip: usize) -> Vec<u8> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b' ').collect();
    let mut decoded = Vec::new();
    for run in text.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() >= HEX_MIN) {
        let pairs = run.get(skip..).unwrap_or_default().chunks_exact(2);
        decoded.extend(pairs.filter_map(|pair| u8::try_from(hex_number(Some(pair))?).ok()));
    }
    decoded
}

/// Decodes every long run of base64 or base64url, from its character `skip` on.
fn base64(text: &[u8], skip: usize) -> Vec<u8> {
    let text: Vec<u8> =
        text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let mut decoded = Vec::new();
    for run in text.split(|byte| value(*byte).is_none()).filter(|run| run.len() >= BASE64_MIN) {
        for group in run.get(skip..).unwrap_or_default().chunks(4) {
            let bits = group.iter().filter_map(|byte| value(*byte));
            let bits = bits.fold(0, |bits, value| bits << 6 | value) << (6 * (4 - group.len()));
            let bytes = bits.to_be_bytes();
            decoded.extend(bytes.iter().skip(1).take(group.len() * 6 / 8));
        }
    }
    decoded
}

fn value(character: u8) -> Option<u32> {
    Some(u32::from(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::survives;

    #[test]
    fn a_number_is_read_through_every_encoding_and_a_masked_one_is_not() {
        let digits = "4111111111111111";
        for text in [
            "4111 1111-1111.1111",
            "NDExMTExMTExMTExMTExMQ==",
            "\\u0034111111111111111",
            "%2534111111111111111",
            "&#52;111111111111111",
            "x34313131313131313131313131313131",
            "４１１１１１１１１１１１１１１１",
            "=34111111=\n111111111",
        ] {
            assert!(survives(text.as_bytes(), digits), "{text}");
        }
        assert!(survives(b"\x57\x41\x11\x11\x11\x11\x11\x11\x11\xd2", digits));
        assert!(!survives(b"411111******1111 and 4111111111", digits));
    }
}
