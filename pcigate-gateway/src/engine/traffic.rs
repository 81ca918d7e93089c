//! What passes, as masked lines for replay; bounded, and it says so when it ends.

use pcigate_policy::mask::{Cut, Masked};

use crate::record::{Direction, Entry, Event};

/// Bytes of one record of traffic: with its other fields below the limit of a record.
const CHUNK: usize = 16 << 10;
/// Bytes of one message that are kept.
const MESSAGE: usize = 4 << 10;

pub(crate) struct Traffic {
    limit: u64,
    kept: u64,
    truncated: bool,
    open: Vec<(Direction, Vec<u8>)>,
}

impl Traffic {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, kept: 0, truncated: false, open: Vec::new() }
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
                None => chunk.extend_from_slice(b"NULL"),
                Some(_) if room == 0 => {
                    chunk.extend_from_slice(b"...");
                    break;
                }
                Some(part) => push_part(part, room, chunk),
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
            let text = Masked::new(&chunk, Cut::Whole);
            entries.push(Entry { event: Event::Traffic { direction, text }, durable: None });
        }
        if self.truncated {
            let event = Event::Truncated { limit: self.limit };
            entries.push(Entry { event, durable: None });
        }
    }
}

/// Text as it is; what is no text in hexadecimal digits. Cut digits are starred by their cut.
fn push_part(part: &[u8], room: usize, chunk: &mut Vec<u8>) {
    let is_text = std::str::from_utf8(part).is_ok()
        && !part.iter().any(|byte| *byte < b' ' && !b"\t\n\r".contains(byte));
    if !is_text {
        let hex = part.iter().take(room / 2).flat_map(|byte| format!("{byte:02x}").into_bytes());
        chunk.extend(hex);
        return;
    }
    match part.get(..room) {
        Some(begin) if part.len() > room => {
            chunk.extend_from_slice(Masked::new(begin, Cut::End).as_str().as_bytes());
            chunk.extend_from_slice(b"...");
        }
        _ => chunk.extend_from_slice(part),
    }
}
