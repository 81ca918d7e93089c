//! Writes one message behind the others in a buffer; what cannot be said leaves no trace there.

use bytes::{BufMut, BytesMut};

use crate::error::WireError;

/// A message being written: its type is there, its length comes last.
pub(crate) struct Writer<'a> {
    what: &'static str,
    out: &'a mut BytesMut,
    length_at: usize,
}

/// Writes a message of type `tag`, or one without a type, by its fields.
pub(crate) fn message(
    what: &'static str,
    tag: Option<u8>,
    out: &mut BytesMut,
    fields: impl FnOnce(&mut Writer<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let begin = out.len();
    if let Some(tag) = tag {
        out.put_u8(tag);
    }
    let length_at = out.len();
    out.put_u32(0);
    let mut writer = Writer { what, out, length_at };
    let written = fields(&mut writer).and_then(|()| writer.finish());
    if written.is_err() {
        out.truncate(begin);
    }
    written
}

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// A text and its zero byte.
    pub(crate) fn text(&mut self, field: &'static str, text: &[u8]) -> Result<(), WireError> {
        if memchr::memchr(0, text).is_some() {
            return Err(WireError::Nul { what: self.what, field });
        }
        self.out.put_slice(text);
        self.out.put_u8(0);
        Ok(())
    }

    pub(crate) fn count(&mut self, field: &'static str, count: usize) -> Result<(), WireError> {
        let Ok(short) = u16::try_from(count) else {
            return Err(WireError::Unencodable { what: self.what, field, size: count });
        };
        self.out.put_u16(short);
        Ok(())
    }

    /// A value with its length in front, or NULL.
    pub(crate) fn value(&mut self, value: Option<&[u8]>) -> Result<(), WireError> {
        let Some(value) = value else {
            self.out.put_i32(-1);
            return Ok(());
        };
        let Ok(length) = i32::try_from(value.len()) else {
            let (what, size) = (self.what, value.len());
            return Err(WireError::Unencodable { what, field: "value", size });
        };
        self.out.put_i32(length);
        self.out.put_slice(value);
        Ok(())
    }

    /// A count of values, and the values.
    pub(crate) fn values<'v>(
        &mut self,
        values: impl IntoIterator<Item = Option<&'v [u8]>>,
    ) -> Result<(), WireError> {
        let count_at = self.out.len();
        self.out.put_u16(0);
        let mut count = 0_usize;
        for value in values {
            self.value(value)?;
            count += 1;
        }
        let Ok(short) = u16::try_from(count) else {
            let what = self.what;
            return Err(WireError::Unencodable { what, field: "values", size: count });
        };
        self.patch(count_at, &short.to_be_bytes());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WireError> {
        let size = self.out.len() - self.length_at;
        let Ok(length) = i32::try_from(size) else {
            return Err(WireError::Unencodable { what: self.what, field: "body", size });
        };
        self.patch(self.length_at, &length.to_be_bytes());
        Ok(())
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}
