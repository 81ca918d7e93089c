//! What takes the place of a hit: stars in digits, words for what must leave no trace.

use super::pan::{self, Number, Tier};
use super::spelling::Piece;
use super::{Kind, Rendering, Rules, keyed, keyed::Value, scan::Taken};

/// Stands where a word will stand, in a text that keeps its length: like the end of that word, it
/// is neither letter, digit nor separator.
pub(super) const FILLER: u8 = b']';

/// One thing to take out.
pub(super) struct Hit {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
    pub edit: Edit,
    /// The card number, for its fingerprint.
    pub number: Option<Number>,
}

/// How it is taken out.
pub(super) enum Edit {
    /// Stars for the digits that may not stay.
    Digits,
    /// These bytes, as many as there were.
    Bytes(Vec<u8>),
    /// The word of its kind.
    Word,
}

impl Hit {
    /// A card number in plain digits.
    pub(super) fn number(start: usize, end: usize, number: Number) -> Self {
        Self { start, end, kind: Kind::Pan, edit: Edit::Digits, number: Some(number) }
    }

    /// A value in binary coded digits: a number keeps its place, not its digits.
    pub(super) fn coded(start: usize, end: usize, kind: Kind) -> Self {
        let edit =
            if kind == Kind::Pan { Edit::Bytes(vec![b'*'; end - start]) } else { Edit::Word };
        Self { start, end, kind, edit, number: None }
    }

    /// What stands behind a number in plain digits and goes with it.
    pub(super) fn followers(&self, text: &[u8]) -> [Option<Value>; 3] {
        match self.edit {
            Edit::Digits => keyed::followers(text, self.end),
            Edit::Bytes(_) | Edit::Word => [None; 3],
        }
    }

    /// The same hit, from a decoded piece to the text the piece was decoded from.
    pub(super) fn brought_back(self, piece: &Piece, packed: bool, rules: &Rules) -> Self {
        let (mut start, mut end) = (self.start, self.end);
        let in_place = packed && matches!(self.kind, Kind::Cvv | Kind::Expiry | Kind::PinBlock);
        if matches!(self.edit, Edit::Word) && !in_place {
            let (start, end) = (piece.start_of(start), piece.end_of(end - 1));
            return Self { start, end, number: None, ..self };
        }
        let mut chars = piece.chars.clone();
        let (kind, number) = (self.kind, self.number);
        let more = self.followers(&chars);
        let mut values: Vec<Value> = more.into_iter().flatten().collect();
        if in_place {
            values.push((start, end, kind));
        } else {
            (start, end) = self.apply(&mut chars, rules);
        }
        for (from, to, _) in values {
            chars.get_mut(from..to).unwrap_or_default().fill(b'*');
            (start, end) = (start.min(from), end.max(to));
        }
        let (start, end) = (piece.start_of(start), piece.end_of(end - 1));
        let bytes = piece.part(piece.written(&chars), start, end);
        Self { start, end, kind, edit: Edit::Bytes(bytes), number }
    }

    /// Takes the hit out of the text, in place; returns where the text has changed.
    pub(super) fn apply(self, text: &mut [u8], rules: &Rules) -> (usize, usize) {
        let (start, mut end) = (self.start, self.end);
        match self.edit {
            Edit::Bytes(bytes) => {
                if let Some(place) = text.get_mut(start..end).filter(|p| p.len() == bytes.len()) {
                    place.copy_from_slice(&bytes);
                }
            }
            Edit::Word => text.get_mut(start..end).unwrap_or_default().fill(FILLER),
            Edit::Digits => {
                // A number may begin in a group of another: both are masked as if alone.
                let others = overlapping(text, start, end);
                star(text.get_mut(start..end).unwrap_or_default(), rules.rendering);
                for (from, to) in others.into_iter().flatten() {
                    star(text.get_mut(from..to).unwrap_or_default(), rules.rendering);
                    end = end.max(to);
                }
            }
        }
        (start, end)
    }
}

fn overlapping(text: &[u8], start: usize, end: usize) -> [Option<(usize, usize)>; 4] {
    let mut found = [None; 4];
    let mut slots = found.iter_mut();
    let mut at = start + pan::run_length(text, start, end - start);
    while at < end {
        let run = pan::run_length(text, at, pan::DIGITS_MAX + 1);
        if let Some(other) = pan::at(text, at, run)
            && other.tier == Tier::Strong
            && let Some(slot) = slots.next()
        {
            *slot = Some((at, other.end));
        }
        at += run.max(1);
    }
    found
}

/// Stars the digits that may not stay (PCI DSS 3.5.1). Stars of an earlier, overlapping number
/// count as the digits they were.
fn star(number: &mut [u8], rendering: Rendering) {
    let (first, last) = match rendering {
        Rendering::Truncate => (6, 4),
        Rendering::Last4 => (0, 4),
        Rendering::Full => (0, 0),
    };
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'*';
    let count = number.iter().filter(|byte| is_digit(byte)).count();
    let digits = number.iter_mut().filter(|byte| is_digit(byte));
    for byte in digits.take(count.saturating_sub(last)).skip(first) {
        *byte = b'*';
    }
}

/// Appends the text with words in place of their filler.
pub(super) fn words(text: &[u8], taken: &[Taken], out: &mut Vec<u8>) {
    let mut done = 0;
    for Taken { finding, .. } in taken.iter().filter(|one| one.word) {
        out.extend_from_slice(text.get(done..finding.start).unwrap_or_default());
        out.extend_from_slice(finding.kind.word().as_bytes());
        done = finding.end;
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default());
}
