//! What passes, as masked lines for replay; bounded, and it says so when it ends.
//!
//! A line is a message: its name, and its parts each behind a tab. A part is text, escaped as
//! PostgreSQL's COPY does it (`\\`, `\t`, `\n`, `\r`) so that nothing in it looks like another part
//! or message. `\N` is NULL, `\x` begins bytes that are no text, `\.` ends what was cut.

use pcigate_policy::mask::{Cut, Masked, Masker};

use crate::record::{Direction, Entry, Event};

/// Bytes of one record of traffic: with its other fields below the limit of a record.
const CHUNK: usize = 16 << 10;
/// Bytes of one message that are kept.
const MESSAGE: usize = 4 << 10;
/// Stands behind what was cut.
const CUT: &[u8] = b"\\.";

pub(crate) struct Traffic<'p> {
    masker: &'p Masker,
    limit: u64,
    kept: u64,
    truncated: bool,
    open: Vec<(Direction, Vec<u8>)>,
}

impl<'p> Traffic<'p> {
    pub(crate) fn new(limit: u64, masker: &'p Masker) -> Self {
        Self { masker, limit, kept: 0, truncated: false, open: Vec::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0 && !self.truncated
    }

    pub(crate) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Adds a message: its name, and what it says in parts; NULL is `None`.
    pub(crate) fn message<'v>(
        &mut self,
        direction: Direction,
        name: &str,
        parts: impl IntoIterator<Item = Option<&'v [u8]>>,
    ) {
        if !self.is_on() {
            return;
        }
        let fits = |(of, chunk): &&mut (Direction, Vec<u8>)| {
            *of == direction && chunk.len() + MESSAGE <= CHUNK
        };
        let chunk = match self.open.last_mut().filter(|last| fits(last)) {
            Some((_, chunk)) => chunk,
            None => {
                self.open.push((direction, Vec::new()));
                match self.open.last_mut() {
                    Some((_, chunk)) => chunk,
                    None => return,
                }
            }
        };
        let begin = chunk.len();
        chunk.extend_from_slice(name.as_bytes());
        for part in parts {
            chunk.push(b'\t');
            let room = MESSAGE.saturating_sub(chunk.len() - begin);
            match part {
                None => chunk.extend_from_slice(b"\\N"),
                Some(_) if room == 0 => {
                    chunk.extend_from_slice(CUT);
                    break;
                }
                Some(part) => push_part(self.masker, part, room, chunk),
            }
        }
        chunk.push(b'\n');
        self.kept += u64::try_from(chunk.len() - begin).unwrap_or(u64::MAX);
        self.truncated = self.kept >= self.limit;
    }

    /// Makes records of what was added.
    pub(crate) fn close(&mut self, entries: &mut Vec<Entry>) {
        if self.open.is_empty() {
            return;
        }
        for (direction, chunk) in self.open.drain(..) {
            let text = Masked::with(self.masker, &chunk, Cut::Whole);
            entries.push(Entry { event: Event::Traffic { direction, text }, durable: None });
        }
        if self.truncated {
            let event = Event::Truncated { limit: self.limit };
            entries.push(Entry { event, durable: None });
        }
    }
}

/// Text escaped; what is no text in hexadecimal digits.
fn push_part(masker: &Masker, part: &[u8], room: usize, chunk: &mut Vec<u8>) {
    let is_text = std::str::from_utf8(part).is_ok()
        && !part.iter().any(|byte| *byte < b' ' && escape(*byte).is_none());
    if !is_text {
        chunk.extend_from_slice(b"\\x");
        chunk
            .extend(part.iter().take(room / 2).flat_map(|byte| format!("{byte:02x}").into_bytes()));
        if part.len() > room / 2 {
            chunk.extend_from_slice(CUT);
        }
        return;
    }
    let length = fitting(part, room);
    let is_cut = length < part.len();
    if !is_cut && !part.iter().any(|byte| escape(*byte).is_some()) {
        chunk.extend_from_slice(part);
        return;
    }
    // Escapes stand between what belongs together, and digits at a cut may begin a number.
    let kept = part.get(..length).unwrap_or(part);
    let kept = Masked::with(masker, kept, if is_cut { Cut::End } else { Cut::Whole });
    for byte in kept.as_str().bytes() {
        match escape(byte) {
            Some(letter) => chunk.extend_from_slice(&[b'\\', letter]),
            None => chunk.push(byte),
        }
    }
    if is_cut {
        chunk.extend_from_slice(CUT);
    }
}

/// How many bytes of a text have room once they are escaped.
fn fitting(part: &[u8], room: usize) -> usize {
    let mut left = room;
    let fits = |byte: &&u8| {
        let width = if escape(**byte).is_some() { 2 } else { 1 };
        left.checked_sub(width).inspect(|rest| left = *rest).is_some()
    };
    part.iter().take_while(fits).count()
}

/// The letter that stands for a byte behind a backslash.
fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'\\' => Some(b'\\'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(parts: &[Option<&[u8]>]) -> String {
        let mut traffic = Traffic::new(1 << 20, Masker::standard());
        traffic.message(Direction::FromClient, "Query", parts.iter().copied());
        let mut entries = Vec::new();
        traffic.close(&mut entries);
        let Some(Entry { event: Event::Traffic { text, .. }, .. }) = entries.pop() else {
            panic!("nothing was kept")
        };
        text.into_string()
    }

    #[test]
    fn nothing_in_a_message_looks_like_another() {
        let forged = b"SELECT 1\nDataRow\tx\r\\N";
        assert_eq!(
            kept(&[Some(forged), None, Some(b"NULL"), Some(b"\x1b[2J")]),
            "Query\tSELECT 1\\nDataRow\\tx\\r\\\\N\t\\N\tNULL\t\\x1b5b324a\n"
        );
    }

    #[test]
    fn escapes_hide_no_card_data_from_masking() {
        for text in ["4111\n1111\n1111\n1111", "4111\t1111\t1111\t1111", "card 1 cvv\t9517"] {
            let kept = kept(&[Some(text.as_bytes())]);
            assert!(!kept.contains("9517") && !kept.contains("1111\\n1111"), "{kept}");
            assert!(!kept.contains("1111\\t1111"), "{kept}");
        }
    }

    #[test]
    fn a_long_part_ends_with_a_mark_and_its_digits_starred() {
        let long = "x".repeat(MESSAGE - 20) + " 4111111111111111";
        let kept_of_it = kept(&[Some(long.as_bytes()), Some(b"more")]);
        assert!(kept_of_it.trim_end().ends_with("\\."), "{kept_of_it}");
        assert!(!kept_of_it.contains("4111111"), "{kept_of_it}");
        let newlines = kept(&[Some(&b"\n".repeat(MESSAGE))]);
        assert!(newlines.len() <= MESSAGE + 10, "{}", newlines.len());
        let bytes = kept(&[Some(&[0; 2 * MESSAGE])]);
        assert!(bytes.starts_with("Query\t\\x0000") && bytes.ends_with("\\.\n"));
    }
}
