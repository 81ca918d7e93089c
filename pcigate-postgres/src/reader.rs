//! Reads the fields of one body in order; every way to be too short or too long is an error.

use bytes::{Buf, Bytes};

use crate::error::WireError;

/// The rest of a body.
pub(crate) struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(what: &'static str, rest: Bytes) -> Self {
        Self { what, rest }
    }

    pub(crate) fn bytes(&mut self, field: &'static str, count: usize) -> Result<Bytes, WireError> {
        if self.rest.len() < count {
            return Err(WireError::Truncated { what: self.what, field });
        }
        Ok(self.rest.split_to(count))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let Some(&array) = self.rest.first_chunk::<N>() else {
            return Err(WireError::Truncated { what: self.what, field });
        };
        self.rest.advance(N);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, WireError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// A text up to its zero byte, which is taken and not given.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<Bytes, WireError> {
        let Some(at) = memchr::memchr(0, &self.rest) else {
            return Err(WireError::Unterminated { what: self.what, field });
        };
        let text = self.rest.split_to(at);
        self.rest.advance(1);
        Ok(text)
    }

    /// A count of elements of at least `size` bytes each, which must fit into what is left: so that
    /// nobody makes room for elements that cannot be there.
    pub(crate) fn count(&mut self, field: &'static str, size: usize) -> Result<usize, WireError> {
        let count = usize::from(self.u16(field)?);
        if count.saturating_mul(size) > self.rest.len() {
            return Err(WireError::Truncated { what: self.what, field });
        }
        Ok(count)
    }

    pub(crate) fn left(&self) -> &[u8] {
        &self.rest
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn value(&self, field: &'static str, value: impl Into<i64>) -> WireError {
        WireError::Value { what: self.what, field, value: value.into() }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(WireError::Trailing { what: self.what, left: self.rest.len() })
    }
}
