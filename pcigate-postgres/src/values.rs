//! Lists of values (rows, parameters, arguments) and of formats, as slices of the message they
//! came in: checked once when decoded, walked without copying.

use bytes::{Bytes, BytesMut};

use crate::error::WireError;
use crate::reader::Reader;
use crate::writer::{self, Writer};

/// Text or binary (manual, "Formats and Format Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As the type's output function writes it.
    Text,
    /// As the type's send function writes it.
    Binary,
}

impl Format {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }
}

/// Values in order, each with its length in front, a length of -1 being NULL. The bytes begin with
/// the count (2 bytes), as in DataRow, Bind and FunctionCall.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Values {
    bytes: Bytes,
}

impl Values {
    /// Made of values; `None` is NULL.
    ///
    /// # Errors
    /// More than 65,535 values, or 2 GiB.
    pub fn new<'v>(values: impl IntoIterator<Item = Option<&'v [u8]>>) -> Result<Self, WireError> {
        let mut out = BytesMut::new();
        writer::message("a list of values", None, &mut out, |writer| writer.values(values))?;
        let length_field = 4.min(out.len());
        Ok(Self { bytes: out.split_off(length_field).freeze() })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.first_chunk::<2>().map_or(0, |count| usize::from(u16::from_be_bytes(*count)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them; NULL is `None`.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: self.bytes.get(2..).unwrap_or_default() }
    }

    /// The list is at the front of what is left: takes it, after walking over all lengths.
    pub(crate) fn read(reader: &mut Reader, field: &'static str) -> Result<Self, WireError> {
        let size = match walk(reader.left()) {
            Ok(size) => size,
            Err(Some(length)) => return Err(reader.value(field, length)),
            // Longer than what is left: the error is made by asking for it.
            Err(None) => reader.left().len() + 1,
        };
        Ok(Self { bytes: reader.bytes(field, size)? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(&self.bytes);
    }
}

impl<'a> IntoIterator for &'a Values {
    type Item = Option<&'a [u8]>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Default for Values {
    /// None at all.
    fn default() -> Self {
        Self { bytes: Bytes::from_static(&[0, 0]) }
    }
}

/// Walks over [`Values`].
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(value))
    }
}

/// Bytes of a list with its count; the length that cannot be, or nothing when the list is cut off.
fn walk(bytes: &[u8]) -> Result<usize, Option<i32>> {
    let (count, mut rest) = bytes.split_first_chunk::<2>().ok_or(None)?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(None)?;
        let length = i32::from_be_bytes(*length);
        rest = match usize::try_from(length) {
            Ok(length) => after.get(length..).ok_or(None)?,
            Err(_) if length == -1 => after,
            Err(_) => return Err(Some(length)),
        };
    }
    Ok(bytes.len() - rest.len())
}

/// Format codes: none (all text), one for all, or one each (manual, Bind).
#[derive(Clone, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct Formats {
    /// Two bytes each, every one a known code.
    codes: Bytes,
}

impl Formats {
    /// Made of single formats.
    #[must_use]
    pub fn new(formats: &[Format]) -> Self {
        let codes = formats.iter().flat_map(|format| format.code().to_be_bytes());
        Self { codes: codes.collect() }
    }

    /// How many codes there are: not the number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len() / 2
    }

    /// Whether there are none, which means all text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The format of the column or parameter `index` (from 0); nothing when there are codes, but
    /// none for it.
    #[must_use]
    pub fn of(&self, index: usize) -> Option<Format> {
        let at = match self.len() {
            0 => return Some(Format::Text),
            1 => 0,
            _ => index.checked_mul(2)?,
        };
        let &[high, low] = self.codes.get(at..)?.first_chunk::<2>()?;
        Format::from_code(u16::from_be_bytes([high, low]))
    }

    /// The same in memory of its own, so that keeping it does not keep the buffer of its message.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { codes: Bytes::copy_from_slice(&self.codes) }
    }

    pub(crate) fn read(reader: &mut Reader, field: &'static str) -> Result<Self, WireError> {
        let count = reader.count(field, 2)?;
        let codes = reader.bytes(field, count * 2)?;
        for code in codes.chunks_exact(2) {
            let code = code.first_chunk::<2>().map_or(u16::MAX, |code| u16::from_be_bytes(*code));
            if Format::from_code(code).is_none() {
                return Err(reader.value(field, code));
            }
        }
        Ok(Self { codes })
    }

    pub(crate) fn write(
        &self,
        writer: &mut Writer<'_>,
        field: &'static str,
    ) -> Result<(), WireError> {
        writer.count(field, self.len())?;
        writer.bytes(&self.codes);
        Ok(())
    }
}
