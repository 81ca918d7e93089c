//! Encoders that say where each byte went.

use crate::text::Encoded;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn each<T: AsRef<[u8]>>(bytes: &[u8], mut spell: impl FnMut(u8) -> T) -> Encoded {
    let mut encoded = Encoded::default();
    for byte in bytes {
        encoded.push(spell(*byte));
    }
    encoded
}

/// `%34` for each byte that is not a letter, `-`, `.` or `_`; digits too.
pub fn percent_all(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    })
}

/// `%` twice: `%2534`.
pub fn percent_twice(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%25{byte:02x}"),
    })
}

/// As a form or a query has it: only what is not allowed there is escaped, digits are not.
pub fn percent_needed(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    })
}

/// `\u0034` for each digit.
pub fn json_unicode(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'0'..=b'9' => format!("\\u{byte:04x}").into_bytes(),
        _ => vec![byte],
    })
}

/// `\x34` for each byte.
pub fn string_escapes(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| format!("\\x{byte:02x}"))
}

/// `&#52;` for each digit.
pub fn html_decimal(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'0'..=b'9' => format!("&#{byte};").into_bytes(),
        _ => vec![byte],
    })
}

/// `&#x34;` for each digit.
pub fn html_hex(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'0'..=b'9' => format!("&#x{byte:X};").into_bytes(),
        _ => vec![byte],
    })
}

/// `=34` for each digit and `=`.
pub fn quoted_printable(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| match byte {
        b'0'..=b'9' | b'=' => format!("={byte:02X}").into_bytes(),
        _ => vec![byte],
    })
}

/// `34` for each byte, lower case.
pub fn hex_lower(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| format!("{byte:02x}"))
}

/// `34` for each byte, upper case.
pub fn hex_upper(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| format!("{byte:02X}"))
}

/// Two bytes for each ASCII byte, the low one first.
pub fn utf16_le(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| [byte, 0])
}

/// Two bytes for each ASCII byte, the high one first.
pub fn utf16_be(bytes: &[u8]) -> Encoded {
    each(bytes, |byte| [0, byte])
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> Encoded {
    base64_of(bytes, STANDARD, true, usize::MAX)
}

/// base64url without padding.
pub fn base64_url(bytes: &[u8]) -> Encoded {
    base64_of(bytes, URL, false, usize::MAX)
}

/// Standard base64 in lines of 76 characters, as MIME has it.
pub fn base64_mime(bytes: &[u8]) -> Encoded {
    base64_of(bytes, STANDARD, true, 76)
}

fn base64_of(bytes: &[u8], alphabet: &[u8; 64], padded: bool, columns: usize) -> Encoded {
    let mut characters = Vec::new();
    for chunk in bytes.chunks(3) {
        let mut bits = 0_usize;
        for place in 0..3 {
            bits = bits << 8 | chunk.get(place).map_or(0, |byte| usize::from(*byte));
        }
        for place in 0..=chunk.len() {
            characters.push(alphabet[bits >> (18 - 6 * place) & 63]);
        }
        if padded {
            characters.resize(characters.len().div_ceil(4) * 4, b'=');
        }
    }
    let place = |at: usize| at + at / columns * 2;
    let mut encoded = Encoded::default();
    for at in 0..bytes.len() {
        encoded.starts.push(place(at * 8 / 6));
        encoded.ends.push(place((at * 8 + 7) / 6) + 1);
    }
    for (at, character) in characters.iter().enumerate() {
        if at > 0 && at % columns == 0 {
            encoded.bytes.extend_from_slice(b"\r\n");
        }
        encoded.bytes.push(*character);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_and_knows_where_each_byte_went() {
        for (plain, expected) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(plain.as_bytes()).bytes, expected.as_bytes());
        }
        let encoded = base64(b"foobar");
        assert_eq!(
            (&encoded.starts[..4], &encoded.ends[..4]),
            (&[0, 1, 2, 4][..], &[2, 3, 4, 6][..])
        );
        let long = base64_mime(&[0; 60]);
        assert_eq!(long.bytes.iter().position(|byte| *byte == b'\r'), Some(76));
        assert_eq!(long.starts[57], 78);
    }
}
