//! One character of a text, escaped or not: `%34`, `\u0034`, `\x34`, `&#52;`, `&#x34;`, `=34`,
//! digits and separators beyond ASCII.

/// A character.
pub(in crate::mask) struct Symbol {
    /// What it is; `None` for what shows nothing (zero-width characters, soft line breaks).
    pub byte: Option<u8>,
    /// Its bytes in the text.
    pub width: usize,
    pub form: Form,
}

/// How a character is spelt, and so how another is put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mask) enum Form {
    /// As itself.
    Itself,
    /// By a number: offset and length of its digits in the character's bytes, and their base.
    Numbered { at: u8, digits: u8, hex: bool },
    /// By bytes that cannot spell another character: stars instead.
    Fixed,
}

impl Form {
    /// Spells `byte` in the bytes of a character of this form.
    pub(in crate::mask) fn write(self, bytes: &mut [u8], byte: u8) {
        match self {
            Self::Itself => bytes.fill(byte),
            Self::Fixed if bytes.len() == 3 => bytes.copy_from_slice("\u{ff0a}".as_bytes()),
            Self::Fixed => bytes.fill(b'*'),
            Self::Numbered { at, digits, hex } => {
                let base = if hex { 16 } else { 10 };
                let mut value = u32::from(byte);
                let from = usize::from(at);
                let field = bytes.get_mut(from..from + usize::from(digits)).unwrap_or_default();
                for place in field.iter_mut().rev() {
                    *place = char::from_digit(value % base, base).map_or(b'0', |c| c as u8);
                    value /= base;
                }
            }
        }
    }
}

impl Symbol {
    /// A byte that stands for itself.
    pub(in crate::mask) const fn plain(byte: u8) -> Self {
        Self { byte: Some(byte), width: 1, form: Form::Itself }
    }
}

/// The character at `at`, which is inside the text.
pub(in crate::mask) fn symbol(text: &[u8], at: usize) -> Symbol {
    let rest = text.get(at..).unwrap_or_default();
    let escaped = match rest {
        [b'%', a, b, ..] => pair(*a, *b).map(|byte| numbered(u32::from(byte), 3, 1, 2, true)),
        [b'=', b'\r', b'\n', ..] => Some(nothing(3)),
        [b'=', b'\n', ..] => Some(nothing(2)),
        [b'=', a, b, ..] => pair(*a, *b).map(|byte| numbered(u32::from(byte), 3, 1, 2, true)),
        [b'\\', b'x', a, b, ..] => {
            pair(*a, *b).map(|byte| numbered(u32::from(byte), 4, 2, 2, true))
        }
        [b'\\', b'u', a, b, c, d, ..] => pair(*a, *b)
            .zip(pair(*c, *d))
            .map(|(high, low)| numbered(u32::from(high) << 8 | u32::from(low), 6, 2, 4, true)),
        [b'\\', letter, ..] => {
            let byte = match letter {
                b'n' => Some(b'\n'),
                b'r' => Some(b'\r'),
                b't' => Some(b'\t'),
                b'\\' | b'/' | b'"' => Some(*letter),
                _ => None,
            };
            byte.map(|byte| Symbol { byte: Some(byte), width: 2, form: Form::Fixed })
        }
        [b'&', ..] => entity(rest),
        [0xc2..=0xf4, ..] => Some(beyond_ascii(rest)),
        _ => None,
    };
    escaped.unwrap_or_else(|| Symbol::plain(rest.first().copied().unwrap_or(0)))
}

/// Whether an escape, or a byte beyond ASCII, stands at `at`.
pub(in crate::mask) fn is_escape(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        Some(b'%' | b'\\' | b'&' | b'=') => symbol(text, at).form != Form::Itself,
        Some(byte) => *byte >= 0xc2,
        None => false,
    }
}

fn nothing(width: usize) -> Symbol {
    Symbol { byte: None, width, form: Form::Fixed }
}

fn numbered(code: u32, width: usize, at: u8, digits: u8, hex: bool) -> Symbol {
    // `%EF%BC%94` is three bytes of one character: bytes stay as they are.
    let byte = match u8::try_from(code) {
        Ok(byte) if code < 0x80 || width < 5 => Some(byte),
        _ => meaning(code),
    };
    Symbol { byte, width, form: Form::Numbered { at, digits, hex } }
}

/// Two hexadecimal digits.
pub(super) fn pair(high: u8, low: u8) -> Option<u8> {
    Some(nibble(high)? << 4 | nibble(low)?)
}

const fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// An HTML entity: `&#52;`, `&#x34;`, `&nbsp;`.
fn entity(rest: &[u8]) -> Option<Symbol> {
    const NAMED: [(&[u8], u8); 5] = [
        (b"&nbsp;", b' '),
        (b"&ensp;", b' '),
        (b"&emsp;", b' '),
        (b"&thinsp;", b' '),
        (b"&ndash;", b'-'),
    ];
    const DIGITS_MAX: usize = 7;
    if rest.get(1) != Some(&b'#') {
        let (name, byte) = NAMED.iter().find(|(name, _)| rest.starts_with(name))?;
        return Some(Symbol { byte: Some(*byte), width: name.len(), form: Form::Fixed });
    }
    let hex = matches!(rest.get(2)?, b'x' | b'X');
    let from = if hex { 3 } else { 2 };
    let base = if hex { 16 } else { 10 };
    let (mut code, mut digits) = (0, 0);
    for byte in rest.get(from..)?.iter().take(DIGITS_MAX) {
        let Some(value) = char::from(*byte).to_digit(base) else { break };
        code = code * base + value;
        digits += 1;
    }
    if digits < 2 {
        return None;
    }
    let ended = rest.get(from + digits) == Some(&b';');
    let width = from + digits + usize::from(ended);
    let (at, digits) = (u8::try_from(from).ok()?, u8::try_from(digits).ok()?);
    Some(numbered(code, width, at, digits, hex))
}

/// A character of two to four bytes; a broken one counts as its first byte.
fn beyond_ascii(rest: &[u8]) -> Symbol {
    let width = match rest.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        _ => 4,
    };
    let decoded = rest.get(..width).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.chars().next()) {
        Some(c) => Symbol { byte: meaning(u32::from(c)), width, form: Form::Fixed },
        None => Symbol::plain(rest.first().copied().unwrap_or(0)),
    }
}

/// The ASCII digit or separator a character beyond ASCII stands for; `None` for what shows
/// nothing; 0x80 for everything else.
fn meaning(code: u32) -> Option<u8> {
    match code {
        0..0x80 => u8::try_from(code).ok(),
        0xa0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => Some(b' '),
        0xad | 0x200b..=0x200f | 0x2060..=0x2064 | 0xfeff => None,
        0x2010..=0x2015 | 0x2212 | 0xff0d | 0xfe63 => Some(b'-'),
        0xff0e | 0xb7 | 0x2022 | 0x2027 => Some(b'.'),
        0x2028 | 0x2029 | 0x85 => Some(b'\n'),
        0xff0f | 0x2044 => Some(b'/'),
        0xff3f => Some(b'_'),
        _ => Some(digit(code).unwrap_or(0x80)),
    }
}

/// The value of a decimal digit (Unicode 16, general category Nd), as ASCII.
fn digit(code: u32) -> Option<u8> {
    let first = ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?;
    let value = code - ZEROS.get(first)?;
    let values = if (0x1d7ce..=0x1d7ff).contains(&code) { 50 } else { 10 };
    (value < values).then(|| b'0' + u8::try_from(value % 10).unwrap_or(0))
}

/// The zero of every run of ten decimal digits; the mathematical ones are five runs on end.
const ZEROS: [u32; 70] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
    0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
    0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50, 0x11d50,
    0x11da0, 0x11f50, 0x16130, 0x16a60, 0x16ac0, 0x16b50, 0x1ccf0, 0x1d7ce, 0x1e140, 0x1e2f0,
    0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];
