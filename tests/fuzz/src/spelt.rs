//! Texts in which published test numbers stand in all kinds of spellings.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// Published test numbers.
pub const NUMBERS: [&str; 8] = [
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "2223003122003222",
    "6011000990139424",
    "4222222222222",
    "6205500000000000004",
    "30569309025904",
];

/// Pieces, each followed by a number in a spelling.
#[derive(Arbitrary, Debug)]
pub struct Text<'a> {
    pieces: Vec<(&'a [u8], u8, u8, u16)>,
}

impl Text<'_> {
    /// The bytes.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (piece, number, spelling, filler) in &self.pieces {
            text.extend_from_slice(piece);
            if let Some(number) = NUMBERS.get(usize::from(*number)) {
                text.extend(spell(number, *spelling));
            }
            let byte = filler.to_le_bytes()[0];
            text.extend(std::iter::repeat_n(byte, usize::from(*filler % 2048)));
        }
        text
    }
}

/// The number in one of the spellings.
#[must_use]
pub fn spell(number: &str, spelling: u8) -> Vec<u8> {
    let each = |form: fn(u8) -> String| number.bytes().map(form).collect::<String>().into_bytes();
    let grouped = |mark: &str| {
        let groups: Vec<&str> =
            (0..number.len()).step_by(4).map(|at| &number[at..number.len().min(at + 4)]).collect();
        groups.join(mark).into_bytes()
    };
    match spelling % 16 {
        0 => number.as_bytes().to_vec(),
        1 => grouped(" "),
        2 => grouped("-"),
        3 => grouped("%20"),
        4 => grouped("\u{a0}"),
        5 => grouped("\u{200b}"),
        6 => each(|byte| format!("%{byte:02x}")),
        7 => each(|byte| format!("\\u00{byte:02x}")),
        8 => each(|byte| format!("&#{byte};")),
        9 => each(|byte| format!("%25{byte:02X}")),
        10 => each(|byte| format!("{byte:02x}")),
        11 => each(|byte| format!("={byte:02X}")),
        12 => each(|byte| format!("\\x{byte:02x}")),
        13 => number.bytes().flat_map(|byte| [byte, 0]).collect(),
        14 => grouped("\n"),
        _ => base64(number.as_bytes()),
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for step in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * step) & 63) as usize];
            text.push(if step > group.len() { b'=' } else { letter });
        }
    }
    text
}
