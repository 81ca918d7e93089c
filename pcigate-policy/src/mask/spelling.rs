//! Digits in other spellings: a piece of text decoded, with the way back for every character.
//!
//! A decoded piece is searched like any text; what is found is masked in the decoded form and
//! written back in the spelling it had, in as many bytes. Pieces are bounded, and a piece may hold
//! one more spelling inside, not two.

mod packed;
mod symbol;

pub(super) use packed::{
    Token, base64, hex, looks_like_base64, looks_like_hex, may_be_pairs, may_be_token, token, utf16,
};
pub(super) use symbol::{Form, Symbol, is_escape, symbol};

/// Bytes of text a decoded piece is made of, at most.
pub(super) const SOURCE_MAX: usize = 1024;
/// Characters of a decoded piece, at most.
pub(super) const CHARS_MAX: usize = 512;
/// Characters before a piece that come along, for words and letters that touch.
pub(super) const BEFORE: usize = 40;
/// Bytes before the first escape that come along: digits that touch may be spelt twice over.
const MARKED_BEFORE: usize = 128;
/// Bytes of the longest escape, `&#x0000034;`.
pub(super) const ESCAPE_MAX: usize = 12;
/// Characters before the end of a piece from which on it is not searched: the longest number in
/// the longest spelling inside the piece.
pub(super) const MARGIN: usize = 160;

/// A decoded piece of a text.
pub(super) struct Piece {
    /// Offset of the source in the text.
    pub from: usize,
    /// The source.
    source: Vec<u8>,
    /// The decoded characters: ASCII; bytes beyond it stand for whatever is no digit.
    pub chars: Vec<u8>,
    places: Vec<Place>,
    /// Where the letters of base64 stand in the source.
    letters: Option<Vec<u32>>,
    /// First character that is not merely context.
    pub first: usize,
}

#[derive(Clone, Copy)]
struct Place {
    at: u32,
    width: u8,
    form: Form,
}

impl Piece {
    fn new(text: &[u8], from: usize, to: usize) -> Self {
        let source = text.get(from..to.min(text.len())).unwrap_or_default().to_vec();
        let room = CHARS_MAX + MARKED_BEFORE;
        Self {
            from,
            source,
            chars: Vec::with_capacity(room),
            places: Vec::with_capacity(room),
            letters: None,
            first: 0,
        }
    }

    fn push(&mut self, byte: u8, at: usize, width: usize, form: Form) {
        let (at, width) = (u32::try_from(at).unwrap_or(u32::MAX), u8::try_from(width).unwrap_or(0));
        self.chars.push(byte);
        self.places.push(Place { at, width, form });
    }

    /// Whether `=34` and escapes of other kinds stand in it: then its `=` may be no escape.
    pub(super) fn is_mixed(&self) -> bool {
        let escapes = || self.places.iter().filter(|place| place.form != Form::Itself);
        let quoted = |place: &Place| self.source.get(place.at as usize) == Some(&b'=');
        escapes().any(quoted) && !escapes().all(quoted)
    }

    /// Appends a character of the text, if it shows one; returns its width.
    fn take(&mut self, symbol: &Symbol, at: usize) -> usize {
        if let Some(byte) = symbol.byte {
            self.push(byte, at - self.from, symbol.width, symbol.form);
        }
        symbol.width
    }

    /// Offset in the text of a character; of the end of the piece behind the last.
    pub(super) fn start_of(&self, char: usize) -> usize {
        self.places.get(char).map_or(self.end(), |place| self.from + place.at as usize)
    }

    /// Offset in the text behind a character.
    pub(super) fn end_of(&self, char: usize) -> usize {
        self.places
            .get(char)
            .map_or(self.end(), |place| self.from + place.at as usize + usize::from(place.width))
    }

    /// Offset in the text behind the piece.
    pub(super) fn end(&self) -> usize {
        self.from + self.source.len()
    }

    /// Whether one of these characters is spelt otherwise than as itself.
    pub(super) fn is_spelt(&self, chars: std::ops::Range<usize>) -> bool {
        let places = self.places.get(chars).unwrap_or_default();
        let apart = places.windows(2).any(|pair| {
            let [one, two] = pair else { return false };
            one.at + u32::from(one.width) != two.at
        });
        apart || places.iter().any(|place| place.form != Form::Itself)
    }

    /// The source with these characters in place of the decoded ones, in the same spelling.
    pub(super) fn written(&self, chars: &[u8]) -> Vec<u8> {
        let mut source = self.source.clone();
        if let Some(letters) = &self.letters {
            packed::write_base64(&mut source, letters, &self.chars, chars);
            return source;
        }
        for ((new, old), place) in chars.iter().zip(&self.chars).zip(&self.places) {
            let at = place.at as usize;
            if new != old
                && let Some(bytes) = source.get_mut(at..at + usize::from(place.width))
            {
                place.form.write(bytes, *new);
            }
        }
        source
    }

    /// The masked source of these characters, cut out of what [`Piece::written`] gives.
    pub(super) fn part(&self, mut written: Vec<u8>, start: usize, end: usize) -> Vec<u8> {
        written.truncate(end - self.from);
        written.drain(..start - self.from);
        written
    }
}

/// The piece from `start` on with every escape decoded once, and so what stands before it: a piece
/// that begins amid escapes reads them as the piece before did. `=34` is an escape where `quoted`.
pub(super) fn marked(text: &[u8], start: usize, quoted: bool) -> Piece {
    let from = start.saturating_sub(MARKED_BEFORE);
    let mut piece = Piece::new(text, from, start + SOURCE_MAX);
    let symbol = |at: usize| match symbol(text, at) {
        Symbol { form, .. } if !quoted && form != Form::Itself && text.get(at) == Some(&b'=') => {
            Symbol::plain(b'=')
        }
        symbol => symbol,
    };
    let mut at = from;
    while at < start {
        let mut symbol = symbol(at);
        if at + symbol.width > start {
            symbol = Symbol::plain(text.get(at).copied().unwrap_or(0));
        }
        at += piece.take(&symbol, at);
    }
    piece.first = piece.chars.len();
    let end = piece.end();
    while at < end && piece.chars.len() < piece.first + CHARS_MAX {
        let symbol = symbol(at);
        // A last escape that does not fit is left for the next piece.
        if at + symbol.width > end {
            break;
        }
        at += piece.take(&symbol, at);
    }
    piece.source.truncate(at - from);
    piece
}
