//! What becomes of one value: it stays, it is replaced, or it is NULL because its type cannot hold
//! a mask.

mod numbers;

use std::borrow::Cow;

use pcigate_policy::document::{ColumnClass, MaskStyle};
use pcigate_policy::mask::{Cut, Kind, Masker};
use pcigate_postgres::values::Format;

use super::binary::{numeric, put_value, take_i32, take_u32, take_value};
use super::shape::{Shape, Types};
use crate::record::{self, MaskedCounts};

/// Values inside of values: deeper is not looked at, and NULL.
const DEPTH: usize = 8;
/// Fewer bytes hold neither a card number nor a keyed code.
const SHORTEST: usize = 6;

/// What becomes of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Same,
    New(Vec<u8>),
    Null,
}

/// What masking a value needs, whatever its column.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub masker: &'a Masker,
    /// For texts that hold the texts of other types: it also knows numbers with an exponent.
    pub mixed: &'a Masker,
    pub types: &'a Types,
    pub style: MaskStyle,
}

impl Look<'_> {
    /// A value by its content.
    pub(crate) fn value(
        &self,
        shape: Shape,
        format: Format,
        value: &[u8],
        counts: &mut MaskedCounts,
    ) -> Fate {
        if shape == Shape::Text && self.is_padded(value, counts) {
            return Fate::New(vec![b'*'; value.len()]);
        }
        match format {
            Format::Text => self.text(shape, value, counts),
            Format::Binary => self.binary(shape, value, counts, DEPTH),
        }
    }

    fn text(&self, shape: Shape, value: &[u8], counts: &mut MaskedCounts) -> Fate {
        if shape == Shape::Pass || value.len() < SHORTEST {
            return Fate::Same;
        }
        let masker = match shape {
            Shape::Money => return self.money(value, counts),
            Shape::Int8 | Shape::Float4 | Shape::Float8 | Shape::Numeric => {
                return std::str::from_utf8(value)
                    .map_or(Fate::Null, |number| self.decimal(number, counts));
            }
            Shape::Array { .. } | Shape::Composite | Shape::Hstore | Shape::Other => self.mixed,
            _ => self.masker,
        };
        let Some(masked) = content(masker, value, counts) else { return Fate::Same };
        let holds = match shape {
            Shape::Text | Shape::Composite | Shape::Hstore | Shape::Other => true,
            Shape::Array { of_text } => of_text,
            Shape::Json | Shape::Jsonb => is_json_like(&masked),
            Shape::Bytea => is_bytea(&masked),
            _ => false,
        };
        if holds { Fate::New(masked) } else { Fate::Null }
    }

    fn binary(&self, shape: Shape, value: &[u8], counts: &mut MaskedCounts, depth: usize) -> Fate {
        if depth == 0 {
            return Fate::Null;
        }
        match shape {
            Shape::Pass => Fate::Same,
            Shape::Int8 => match value.first_chunk::<8>() {
                Some(bytes) if value.len() == 8 => {
                    self.number(&i64::from_be_bytes(*bytes).to_string(), counts)
                }
                _ => Fate::Null,
            },
            Shape::Money => self.hundredths(value, counts),
            Shape::Bits => match self.bits(value, counts) {
                true => Fate::Null,
                false => self.other(value, counts),
            },
            Shape::Float4 => match <[u8; 4]>::try_from(value) {
                Ok(bytes) => self.decimal(&f32::from_be_bytes(bytes).to_string(), counts),
                Err(_) => Fate::Null,
            },
            Shape::Float8 => match <[u8; 8]>::try_from(value) {
                Ok(bytes) => self.decimal(&f64::from_be_bytes(bytes).to_string(), counts),
                Err(_) => Fate::Null,
            },
            Shape::Numeric => match numeric(value) {
                Some(text) => self.decimal(&text, counts),
                None => Fate::Null,
            },
            Shape::Uuid => {
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                self.number(&hex, counts)
            }
            Shape::Text | Shape::Json | Shape::Bytea => self.bytes(shape, value, counts),
            Shape::Jsonb => match value.split_first() {
                // There is one version.
                Some((version, json)) if *version == 1 => {
                    match self.bytes(Shape::Json, json, counts) {
                        Fate::New(json) => Fate::New([&[*version], json.as_slice()].concat()),
                        fate => fate,
                    }
                }
                _ => Fate::Null,
            },
            Shape::Array { .. } => held(self.array(value, counts, depth), value),
            Shape::Composite => held(self.composite(value, counts, depth), value),
            Shape::Hstore => held(self.hstore(value, counts, depth), value),
            Shape::Range(of) => self.range(of, value, counts, depth).unwrap_or(Fate::Null),
            Shape::Multirange(of) => {
                self.multirange(of, value, counts, depth).unwrap_or(Fate::Null)
            }
            Shape::Other => self.other(value, counts),
        }
    }

    fn content(&self, value: &[u8], counts: &mut MaskedCounts) -> Option<Vec<u8>> {
        content(self.masker, value, counts)
    }

    fn bytes(&self, shape: Shape, value: &[u8], counts: &mut MaskedCounts) -> Fate {
        match self.content(value, counts) {
            None => Fate::Same,
            Some(masked) if shape == Shape::Json && !is_json_like(&masked) => Fate::Null,
            Some(masked) => Fate::New(masked),
        }
    }

    /// A value of a type nobody knows, in a format nobody knows.
    pub(crate) fn other(&self, value: &[u8], counts: &mut MaskedCounts) -> Fate {
        if let Some(masked) = self.content(value, counts) {
            let is_text = std::str::from_utf8(value).is_ok() && !value.contains(&0);
            let fits = is_text && masked.len() == value.len();
            return if fits { Fate::New(masked) } else { Fate::Null };
        }
        if let Ok(bytes) = <[u8; 8]>::try_from(value) {
            let whole = i64::from_be_bytes(bytes).to_string();
            if self.number(&whole, counts) == Fate::Null {
                return Fate::Null;
            }
        }
        if self.floats(value, counts) || self.bits(value, counts) || self.inside(value, counts) {
            return Fate::Null;
        }
        match numeric(value) {
            Some(text) => self.decimal(&text, counts),
            None => Fate::Same,
        }
    }

    /// A value inside of another: what stands in its place; the outer `None` = malformed.
    fn inner<'v>(
        &self,
        shape: Shape,
        value: Option<&'v [u8]>,
        counts: &mut MaskedCounts,
        depth: usize,
    ) -> Option<Cow<'v, [u8]>> {
        let value = value?;
        match self.binary(shape, value, counts, depth - 1) {
            Fate::Same => Some(Cow::Borrowed(value)),
            Fate::New(value) => Some(Cow::Owned(value)),
            Fate::Null => None,
        }
    }

    /// Dimensions, whether there are NULLs, the elements' type, then the elements (`array_send`).
    fn array(&self, value: &[u8], counts: &mut MaskedCounts, depth: usize) -> Option<Vec<u8>> {
        let (dimensions, rest) = take_i32(value)?;
        let (_nulls, rest) = take_i32(rest)?;
        let (element, rest) = take_u32(rest)?;
        let shape = Shape::of(element, self.types);
        let bounds = usize::try_from(dimensions).ok().filter(|count| *count <= 6)? * 8;
        let (bounds, mut rest) = rest.split_at_checked(bounds)?;
        let mut out = Vec::with_capacity(value.len());
        out.extend_from_slice(&dimensions.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&element.to_be_bytes());
        out.extend_from_slice(bounds);
        let mut nulls = false;
        while !rest.is_empty() {
            let (one, after) = take_value(rest)?;
            let one = self.inner(shape, one, counts, depth);
            nulls |= one.is_none();
            put_value(one.as_deref(), &mut out)?;
            rest = after;
        }
        if let Some(flag) = out.get_mut(7) {
            *flag = u8::from(nulls);
        }
        Some(out)
    }

    /// The number of fields, then each with its type (`record_send`).
    fn composite(&self, value: &[u8], counts: &mut MaskedCounts, depth: usize) -> Option<Vec<u8>> {
        let (fields, mut rest) = take_i32(value)?;
        let mut out = Vec::with_capacity(value.len());
        out.extend_from_slice(&fields.to_be_bytes());
        for _ in 0..fields {
            let (oid, after) = take_u32(rest)?;
            let (one, after) = take_value(after)?;
            let one = self.inner(Shape::of(oid, self.types), one, counts, depth);
            out.extend_from_slice(&oid.to_be_bytes());
            put_value(one.as_deref(), &mut out)?;
            rest = after;
        }
        rest.is_empty().then_some(out)
    }

    /// The number of pairs, then keys and values (`hstore_send`).
    fn hstore(&self, value: &[u8], counts: &mut MaskedCounts, depth: usize) -> Option<Vec<u8>> {
        let (pairs, mut rest) = take_i32(value)?;
        let mut out = Vec::with_capacity(value.len());
        out.extend_from_slice(&pairs.to_be_bytes());
        for _ in 0..pairs {
            let (key, after) = take_value(rest)?;
            let (one, after) = take_value(after)?;
            let key = self.inner(Shape::Text, Some(key?), counts, depth)?;
            let one = self.inner(Shape::Text, one, counts, depth);
            put_value(Some(&key), &mut out)?;
            put_value(one.as_deref(), &mut out)?;
            rest = after;
        }
        rest.is_empty().then_some(out)
    }

    /// Flags, then the bounds that there are (`range_send`): it holds no masks.
    fn range(
        &self,
        of: u32,
        value: &[u8],
        counts: &mut MaskedCounts,
        depth: usize,
    ) -> Option<Fate> {
        let (_flags, mut rest) = value.split_first()?;
        while !rest.is_empty() {
            let (bound, after) = take_value(rest)?;
            let fate = self.binary(Shape::of(of, self.types), bound?, counts, depth - 1);
            if fate != Fate::Same {
                return Some(Fate::Null);
            }
            rest = after;
        }
        Some(Fate::Same)
    }

    fn multirange(
        &self,
        of: u32,
        value: &[u8],
        counts: &mut MaskedCounts,
        depth: usize,
    ) -> Option<Fate> {
        let (_count, mut rest) = take_i32(value)?;
        while !rest.is_empty() {
            let (one, after) = take_value(rest)?;
            if self.range(of, one?, counts, depth - 1)? != Fate::Same {
                return Some(Fate::Null);
            }
            rest = after;
        }
        Some(Fate::Same)
    }

    /// A value of a tagged column, whatever it looks like.
    pub(crate) fn tagged(
        &self,
        class: ColumnClass,
        shape: Shape,
        value: &[u8],
        counts: &mut MaskedCounts,
    ) -> Fate {
        let kind = if class == ColumnClass::Pan { Kind::Pan } else { Kind::Cvv };
        *counts.entry(kind).or_default() += 1;
        match (class, shape) {
            (ColumnClass::Pan, Shape::Text) => Fate::New(starred(value, self.style)),
            _ => Fate::Null,
        }
    }
}

/// What is found in bytes that may be text.
fn content(masker: &Masker, value: &[u8], counts: &mut MaskedCounts) -> Option<Vec<u8>> {
    let (masked, findings) = masker.mask(value, Cut::Whole);
    record::count(counts, &findings);
    match masked {
        Cow::Owned(masked) if !findings.is_empty() => Some(masked),
        _ => None,
    }
}

/// What was written anew stays the old one where it is the same.
fn held(new: Option<Vec<u8>>, value: &[u8]) -> Fate {
    match new {
        None => Fate::Null,
        // The flag for NULLs is ours, and all that may differ in an array without findings.
        Some(new) if new == value => Fate::Same,
        Some(new) => Fate::New(new),
    }
}

/// The value of a column of card numbers: digits that may stay (PCI DSS 3.5.1) where it is one, and
/// otherwise nothing that can be read.
fn starred(value: &[u8], style: MaskStyle) -> Vec<u8> {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = value.iter().all(|byte| byte.is_ascii_digit() || b" -.".contains(byte));
    let (first, last) = match style {
        _ if !plain || !(12..=19).contains(&digits) => (0, 0),
        MaskStyle::Truncate => (6, 4),
        MaskStyle::Last4 => (0, 4),
        MaskStyle::Full => (0, 0),
    };
    let mut at = 0;
    let star = |byte: &u8| {
        let keeps = byte.is_ascii_digit() && (at < first || at + last >= digits);
        at += usize::from(byte.is_ascii_digit());
        match byte {
            byte if keeps || b" -.".contains(byte) => *byte,
            _ => b'*',
        }
    };
    value.iter().map(star).collect()
}

/// Whether masks stand inside of strings only, so that it is still JSON if it was.
fn is_json_like(text: &[u8]) -> bool {
    let (mut inside, mut escaped) = (false, false);
    text.iter().all(|byte| {
        if inside {
            (inside, escaped) = match byte {
                _ if escaped => (true, false),
                b'\\' => (true, true),
                b'"' => (false, false),
                _ => (true, false),
            };
            return true;
        }
        inside = *byte == b'"';
        // Numbers, true, false, null and what holds them together.
        byte.is_ascii_digit() || b"{}[]:,\"+-.eE \t\r\ntruefalsn".contains(byte)
    })
}

/// The hexadecimal form, or the escape form, which takes any text.
fn is_bytea(text: &[u8]) -> bool {
    match text.strip_prefix(b"\\x") {
        Some(hex) => hex.len().is_multiple_of(2) && hex.iter().all(u8::is_ascii_hexdigit),
        None => true,
    }
}
