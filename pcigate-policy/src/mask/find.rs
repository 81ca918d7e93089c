//! Whether a candidate is something to take out, and what to do about it: in plain text, and in
//! every spelling a piece of text may be decoded from.

use super::prefilter::{BASE64, Batch, KEY, MARKED, PLAIN, TOKEN, UNICODE, UTF16, collect};
use super::render::{Edit, Hit};
use super::spelling::{self, Form, MARGIN, Piece, symbol};
use super::unfinished::is_separator;
use super::{Cut, Kind, Rules, context, keyed, pan, track};

/// Spellings inside each other that are looked into.
pub(super) const DEPTH: u8 = 2;
/// Bytes before a candidate that may bear on it.
pub(super) const BEHIND: usize = 640;
/// Bytes after a candidate that may bear on it.
pub(super) const AHEAD: usize = spelling::SOURCE_MAX + 256;

/// What looking at one candidate gave.
#[derive(Default)]
pub(super) struct Looked {
    pub hit: Option<Hit>,
    /// Up to where pieces reached, by spelling.
    pub quiet: Quiet,
    /// Where to look on inside a digit run that may be hexadecimal.
    pub again: Option<usize>,
}

impl Looked {
    fn from(hit: Hit) -> Self {
        Self { hit: Some(hit), ..Self::default() }
    }

    /// Takes what another look has given; whether that was a hit.
    fn add(&mut self, looked: Self) -> bool {
        self.quiet.add(looked.quiet);
        self.hit = looked.hit;
        self.hit.is_some()
    }
}

/// Up to where each spelling has been looked for, so that no piece is decoded twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet([usize; 4]);

const ESCAPES: usize = 0;
const PAIRS: usize = 1;
const GROUPS: usize = 2;
const WIDE: usize = 3;

impl Quiet {
    /// Nothing has been looked for from `at` on.
    pub(super) const fn from(at: usize) -> Self {
        Self([at; 4])
    }

    pub(super) fn add(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }

    /// The same in a text whose first `by` bytes are gone.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self(self.0.map(|at| at.saturating_sub(by)))
    }

    fn at(self, spelling: usize) -> usize {
        self.0.get(spelling).copied().unwrap_or(0)
    }
}

/// A text and how it is to be looked at.
pub(super) struct View<'a> {
    pub text: &'a [u8],
    pub cut: Cut,
    pub rules: &'a Rules,
    /// Spellings that may still be decoded.
    pub depth: u8,
}

impl View<'_> {
    /// Looks at one candidate. Before `quiet`, other spellings have been looked for.
    #[inline]
    pub(super) fn look(&self, place: usize, why: u32, quiet: Quiet) -> Looked {
        if why & KEY != 0
            && let Some(hit) = self.keyed(place)
        {
            return Looked::from(hit);
        }
        if why & PLAIN != 0
            && let Some(hit) = self.plain(place)
        {
            return Looked::from(hit);
        }
        if why == KEY || self.depth == 0 {
            return Looked::default();
        }
        self.spelt(place, why, quiet)
    }

    fn keyed(&self, place: usize) -> Option<Hit> {
        if matches!(self.text.get(place), Some(0x57 | 0x5a))
            && let Some((start, end, kind)) = track::coded(self.text, place)
        {
            return Some(Hit::coded(start, end, kind));
        }
        keyed::find(self.text, place).map(Hit::word)
    }

    /// A number or track in the run of at least four digits at `start`.
    fn plain(&self, start: usize) -> Option<Hit> {
        let run = pan::run_length(self.text, start, pan::DIGITS_MAX + 4);
        if let Some(track) = self.track(start, run) {
            return Some(Hit::word(track));
        }
        self.number(start, run).or_else(|| {
            // Quoted-printable, or a key's `=`.
            if let Some(b'=') = start.checked_sub(1).and_then(|before| self.text.get(before))
                && matches!(self.text.get(start), Some(b'2' | b'3'))
            {
                return self.number(start + 2, run.saturating_sub(2));
            }
            // Digits of an escape for something else may stand right before the number.
            let (_, end, byte) = self.escape_over(start)?;
            let inside = end - start;
            let behind = !byte.is_ascii_digit() && inside < run;
            behind.then(|| self.number(end, run - inside)).flatten()
        })
    }

    fn number(&self, start: usize, run: usize) -> Option<Hit> {
        let pan::Found { end, number, tier, grouped } = pan::at(self.text, start, run)?;
        let (text, card_data) = (self.text, self.rules.card_data);
        let counts = context::counts(text, (start, end), &number, tier, grouped, card_data);
        counts.then(|| Hit::number(start, end, number))
    }

    /// An escape that begins before `start` and ends behind it: its place, end and meaning.
    fn escape_over(&self, start: usize) -> Option<(usize, usize, u8)> {
        const WIDTH_MAX: usize = 6;
        let from = start.saturating_sub(WIDTH_MAX - 1);
        let head = self.text.get(from..start)?;
        let mark = head.iter().rposition(|byte| matches!(byte, b'%' | b'\\'))?;
        let symbol = symbol(self.text, from + mark);
        let end = from + mark + symbol.width;
        let over = end > start && symbol.form != Form::Itself;
        over.then_some((from + mark, end, symbol.byte?))
    }

    fn track(&self, start: usize, run: usize) -> Option<track::Track> {
        let before = self.text.get(..start).unwrap_or_default();
        let next = self.text.get(start + run)?;
        match (before, next) {
            (_, b'=') | ([.., b'B' | b'b'], b'^' | b' ') => track::at(self.text, start, self.cut),
            (_, b'D' | b'd') => {
                track::at(self.text, start, self.cut).or_else(|| track::tagged(self.text, start))
            }
            (_, b'%' | b'\\' | b'&') if run >= pan::DIGITS_MIN => self.escaped_track(start),
            (_, b'0'..=b'9') => track::tagged(self.text, start),
            _ => None,
        }
    }

    /// A track whose marks are escaped and whose number at `start` is not.
    fn escaped_track(&self, start: usize) -> Option<track::Track> {
        let before = match self.text.get(..start)? {
            [.., b'%', b'2', b'5', b'B' | b'b'] => 4,
            [.., b'%', b'3', b'B' | b'b'] => 3,
            [.., b'B'] => 1,
            _ => 0,
        };
        let piece = spelling::marked(self.text, start - before, true);
        let number = (piece.first..piece.chars.len()).find(|at| piece.start_of(*at) == start)?;
        let (from, to, kind) = track::at(&piece.chars, number, Cut::Whole)?;
        Some((piece.start_of(from), piece.end_of(to - 1), kind))
    }

    fn is_digit(&self, at: usize) -> bool {
        let symbol = symbol(self.text, at);
        symbol.form != Form::Itself && symbol.byte.is_some_and(|byte| byte.is_ascii_digit())
    }

    /// A candidate in another spelling.
    fn spelt(&self, place: usize, why: u32, quiet: Quiet) -> Looked {
        let text = self.text;
        let is = |reason, spelling| why & reason != 0 && place >= quiet.at(spelling);
        let mut all = Looked::default();
        if is(MARKED | UNICODE | PLAIN, ESCAPES) {
            for start in self.escapes_at(place, why).into_iter().flatten() {
                let piece = spelling::marked(text, start, true);
                if all.add(self.search(&piece, ESCAPES))
                    || piece.is_mixed()
                        && all.add(self.search(&spelling::marked(text, start, false), ESCAPES))
                {
                    return all;
                }
            }
        }
        if why & PLAIN != 0
            && let Some(hit) = self.behind_mark(place)
        {
            return Looked::from(hit);
        }
        if is(PLAIN, PAIRS) && pan::run_length(text, place, 8) == 8 {
            let looked = self.hex(place);
            all.again = looked.again;
            if all.add(looked) {
                return all;
            }
        }
        if is(BASE64, GROUPS)
            && spelling::looks_like_base64(text, place)
            && all.add(self.search(&spelling::base64(text, place), GROUPS))
        {
            return all;
        }
        if is(UTF16, WIDE) && all.add(self.search(&spelling::utf16(text, place), WIDE)) {
            return all;
        }
        if why & TOKEN != 0 {
            let looked = match spelling::token(text, place) {
                Some(spelling::Token::Hex(at)) => self.search(&spelling::hex(text, at), PAIRS),
                Some(spelling::Token::Base64(at)) => {
                    self.search(&spelling::base64(text, at), GROUPS)
                }
                None => Looked::default(),
            };
            all.add(looked);
        }
        all
    }

    /// Where to begin to decode escapes for the candidate at `place`, if at all.
    fn escapes_at(&self, place: usize, why: u32) -> [Option<usize>; 2] {
        let marked = match why {
            _ if why & UNICODE != 0 && self.is_digit(place) => Some(place),
            _ if why & MARKED != 0 => self.escape_around(place),
            _ => None,
        };
        let plain = if why & PLAIN == 0 { None } else { self.escape_near(place) };
        [marked, plain.filter(|start| Some(*start) != marked)]
    }

    /// A number whose separators are escaped, and which stands behind a mark that only looks as if
    /// it escaped the first digits: `LIKE '%4111%20…'`.
    fn behind_mark(&self, start: usize) -> Option<Hit> {
        self.escape_over(start)?;
        let end = self.escape_behind(start)? + pan::run_length(self.text, start, pan::DIGITS_MAX);
        let next = symbol(self.text, end).byte;
        if next.is_some_and(|byte| !is_separator(byte)) {
            return None;
        }
        let piece = spelling::marked(self.text, start, true);
        let view = View { text: &piece.chars, cut: Cut::Whole, depth: 0, ..*self };
        let hit = view.plain(piece.first)?;
        (hit.start == piece.first).then(|| hit.brought_back(&piece, false, self.rules))
    }

    /// The same for a run of digits that ends before an escape or begins inside one.
    fn escape_near(&self, place: usize) -> Option<usize> {
        let text = self.text;
        if !text.get(place.saturating_sub(6)..place)?.iter().any(|b| matches!(b, b'%' | b'\\')) {
            return self.escape_behind(place);
        }
        let over = self.escape_over(place);
        match (text.get(..place)?, over) {
            ([.., b'\\', b'\\', b'u'], _) if self.is_digit(place - 2) => return Some(place - 3),
            (_, Some((start, _, byte))) if byte.is_ascii_digit() => return Some(start),
            _ => {}
        }
        self.escape_behind(over.map_or(place, |(_, end, _)| end))
    }

    /// `start`, if the run of digits there ends before an escape.
    fn escape_behind(&self, start: usize) -> Option<usize> {
        let text = self.text;
        let run = pan::run_length(text, start, pan::DIGITS_MAX);
        (run < pan::DIGITS_MAX && spelling::is_escape(text, start + run)).then_some(start)
    }

    /// The escape the digit at `place` belongs to, if another follows it at once or inside it.
    fn escape_around(&self, place: usize) -> Option<usize> {
        let start = match self.text.get(..place)? {
            [.., b'%' | b'='] => place - 1,
            [.., b'\\', b'x'] | [.., b'&', b'#'] => place - 2,
            [.., b'&', b'#', b'x'] => place - 3,
            _ => return None,
        };
        let first = symbol(self.text, start);
        let next = symbol(self.text, start + first.width);
        let nests = self.text.get(start) != Some(&b'=')
            && matches!(first.byte, Some(b'%' | b'\\' | b'&' | b'='));
        (first.form != Form::Itself && (nests || next.form != Form::Itself)).then_some(start)
    }

    /// Pairs of hexadecimal digits in the digit run at or around `start`.
    pub(super) fn hex(&self, start: usize) -> Looked {
        const STEP: usize = 64;
        let Some(at) = spelling::looks_like_hex(self.text, start) else {
            let long = pan::run_length(self.text, start, 2 * STEP) > STEP + 8;
            return Looked { again: long.then_some(start + STEP), ..Looked::default() };
        };
        let piece = spelling::hex(self.text, at);
        let mut looked = self.search(&piece, PAIRS);
        let reached = looked.quiet.at(PAIRS);
        // The run may go on behind the piece.
        if looked.hit.is_none() && reached > start {
            let run = pan::run_length(self.text, start, reached - start + 1);
            looked.again = (run > reached - start).then_some(reached);
        }
        looked
    }

    /// The first hit in a decoded piece, brought back to this text.
    fn search(&self, piece: &Piece, spelling: usize) -> Looked {
        let packed = spelling != ESCAPES;
        let view = View { text: &piece.chars, cut: Cut::Whole, depth: self.depth - 1, ..*self };
        let length = piece.chars.len();
        // Near the end of a piece that goes on, a number may seem to end where only the piece does.
        let goes_on = !packed && piece.end() < self.text.len();
        let searched = match length.saturating_sub(MARGIN).max((piece.first + length) / 2) {
            cut if goes_on => view.escape_over(cut).map_or(cut, |(start, ..)| start),
            cut if length > piece.first + MARGIN => cut,
            _ => length,
        };
        let from = piece.first.saturating_sub(3);
        let found = view.first(from, |hit| {
            packed
                || piece.is_spelt(hit.start..hit.end)
                    && !(goes_on && hit.end + spelling::ESCAPE_MAX > length)
        });
        match found {
            Some(hit) => Looked {
                hit: Some(hit.brought_back(piece, packed, self.rules)),
                ..Looked::default()
            },
            None => {
                let mut quiet = Quiet::default();
                if let Some(at) = quiet.0.get_mut(spelling) {
                    *at = piece.start_of(searched);
                }
                Looked { quiet, ..Looked::default() }
            }
        }
    }

    /// The first hit at or behind `from` that is accepted.
    fn first(&self, from: usize, accept: impl Fn(&Hit) -> bool) -> Option<Hit> {
        let mut batch = Batch::new();
        let (mut at, mut quiet) = (from, Quiet::default());
        while at < self.text.len() {
            let done = collect(self.text, at, self.text.len(), &mut batch);
            for (place, why) in batch.iter() {
                let mut looked = self.look(place, why, quiet);
                loop {
                    quiet.add(looked.quiet);
                    match (looked.hit, looked.again) {
                        (Some(hit), _) if accept(&hit) => return Some(hit),
                        (None, Some(again)) => looked = self.hex(again),
                        _ => break,
                    }
                }
            }
            at = done;
        }
        None
    }
}

impl Hit {
    /// A value found by its key, or a track.
    pub(super) fn word((start, end, kind): (usize, usize, Kind)) -> Self {
        Self { start, end, kind, edit: Edit::Word, number: None }
    }
}
