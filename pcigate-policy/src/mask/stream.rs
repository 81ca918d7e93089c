//! Masks a text that comes in pieces, as if it came whole.
//!
//! What may still change is held back: a few kibibytes, whatever comes. A deadline's flush gives
//! it out at once; then digits at the end are starred, because they may begin a number, and so are
//! the digits that go on from there, in whatever spelling.

use std::borrow::Cow;
use std::mem;

use super::scan::{Scan, Taken, disjoint};
use super::spelling::{ESCAPE_MAX, Symbol, symbol};
use super::unfinished::{Open, is_separator};
use super::{Cut, Finding, Kind, Masker};
use super::{custom, render};

/// Bytes taken in at a time, so that a huge piece is not copied as a whole.
const PART: usize = 64 * 1024;

/// A text in pieces. Any split of a text gives the same output and findings as the whole.
#[derive(Debug)]
pub struct Stream<'m> {
    masker: &'m Masker,
    /// What is held back, masked as far as `scan` has looked.
    held: Vec<u8>,
    /// Offset of the first byte held back.
    base: usize,
    scan: Scan,
    /// How far the detectors of the settings have looked.
    custom_at: usize,
    taken: Vec<Taken>,
    findings: Vec<Finding>,
    /// What may go on behind a flush, from where, and whether a separator was the last of it.
    owed: Open,
    owed_at: usize,
    separated: bool,
}

impl<'m> Stream<'m> {
    /// Begins a text.
    #[must_use]
    pub fn new(masker: &'m Masker) -> Self {
        Self {
            masker,
            held: Vec::new(),
            base: 0,
            scan: Scan::default(),
            custom_at: 0,
            taken: Vec::new(),
            findings: Vec::new(),
            owed: Open::default(),
            owed_at: 0,
            separated: false,
        }
    }

    /// Takes the next piece and appends what is final to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for part in piece.chunks(PART) {
            self.held.extend_from_slice(part);
            self.go_on(ESCAPE_MAX);
            let until = Scan::reach(self.held.len());
            if until > self.scan.at {
                let mut text = Cow::Owned(mem::take(&mut self.held));
                let rules = &self.masker.rules;
                self.scan.run(&mut text, until, Cut::Whole, rules, &mut self.taken);
                let mut settled = self.scan.settled();
                if let Some(custom) = &self.masker.custom {
                    let until = settled.saturating_sub(custom::AHEAD);
                    custom.mask(&mut text, &mut self.custom_at, until, &mut self.taken);
                    settled = self.custom_at.min(until).saturating_sub(custom::BEHIND);
                }
                self.held = text.into_owned();
                self.release(settled, out);
            }
        }
    }

    /// Appends all that is held back, because nothing has come for a while: at least four digits
    /// at the end are starred, and those that follow them.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.owed = self.end(Cut::End, out);
    }

    /// Ends the text and appends the rest of it. A new text may begin.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end(Cut::Whole, out);
        self.owed = Open::default();
    }

    /// What was taken out of the bytes that are final, since the last call; in order and without
    /// overlap, with offsets from the beginning of the text.
    #[must_use]
    pub fn take_findings(&mut self) -> Vec<Finding> {
        mem::take(&mut self.findings)
    }

    fn end(&mut self, cut: Cut, out: &mut Vec<u8>) -> Open {
        self.go_on(1);
        let still = self.owed;
        let mut text = Cow::Owned(mem::take(&mut self.held));
        let open = self.scan.finish(&mut text, cut, &self.masker.rules, &mut self.taken);
        if let Some(custom) = &self.masker.custom {
            let end = text.len();
            custom.mask(&mut text, &mut self.custom_at, end, &mut self.taken);
        }
        self.held = text.into_owned();
        self.release(self.held.len(), out);
        (self.scan, self.custom_at) = (Scan::default(), 0);
        (self.owed_at, self.separated) = (0, false);
        // All that came since the last flush went on from there.
        if open.any() { open } else { still }
    }

    /// Appends everything before `to`, but no part of what was taken out as one.
    fn release(&mut self, to: usize, out: &mut Vec<u8>) {
        disjoint(&mut self.taken);
        let cut = self.taken.iter().find(|one| one.finding.start < to && to < one.finding.end);
        let to = cut.map_or(to, |one| one.finding.start);
        if to == 0 {
            return;
        }
        let done = self.taken.iter().take_while(|one| one.finding.end <= to).count();
        let rest = self.taken.split_off(done);
        render::words(self.held.get(..to).unwrap_or_default(), &self.taken, out);
        let base = self.base;
        self.findings.extend(self.taken.iter().map(|one| one.moved(base).finding()));
        self.taken = rest.into_iter().map(|one| one.moved(0_usize.wrapping_sub(to))).collect();
        self.held.drain(..to);
        self.base += to;
        self.scan = self.scan.shifted(to);
        self.custom_at = self.custom_at.saturating_sub(to);
        self.owed_at = self.owed_at.saturating_sub(to);
    }

    /// Stars what goes on behind a flush: digits in any spelling with single separators between, or
    /// the rest of a token. Waits for more where less than `least` bytes are there.
    fn go_on(&mut self, least: usize) {
        let from = self.owed_at;
        let mut starred = false;
        while self.owed.any() && self.held.len() >= self.owed_at + least {
            let at = self.owed_at;
            let Symbol { byte, width, form } = symbol(&self.held, at);
            let Some(place) = self.held.get_mut(at..at + width) else { break };
            let letter = matches!(place, [b'+' | b'/' | b'-' | b'_'])
                || matches!(place, [byte] if byte.is_ascii_alphanumeric());
            let rest = match place {
                [b'x' | b'u' | b'#' | b';'] => true,
                [byte] => byte.is_ascii_hexdigit(),
                _ => false,
            };
            // A token has no gaps.
            self.owed.letters = if letter { self.owed.letters } else { 0 };
            match byte {
                _ if self.owed.escape > 0 => {
                    // Its digits are starred; behind it, all is as it always is.
                    self.owed.escape = if rest { self.owed.escape - 1 } else { 0 };
                    if !rest {
                        continue;
                    }
                    starred |= place.iter().any(u8::is_ascii_hexdigit);
                    place.iter_mut().filter(|b| b.is_ascii_hexdigit()).for_each(|b| *b = b'*');
                }
                _ if self.owed.letters > 0 => {
                    place.fill(b'*');
                    self.owed.letters -= 1;
                    starred = true;
                }
                Some(b'0'..=b'9') if self.owed.digits > 0 => {
                    form.write(place, b'*');
                    self.owed.digits -= 1;
                    (starred, self.separated) = (true, false);
                }
                Some(byte) if is_separator(byte) && !self.separated => self.separated = true,
                None => {}
                _ => self.owed = Open::default(),
            }
            if self.owed.any() || starred {
                self.owed_at += width;
            }
        }
        if starred {
            self.taken.push(Taken::new((from, self.owed_at, Kind::Pan), false));
        }
    }
}
