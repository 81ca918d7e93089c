//! One whole message as bytes, taken from a buffer that grows; nothing of the body is looked at.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Side, What, WireError};

/// Type and length in front of every body.
pub(crate) const HEADER: usize = 5;

/// A whole message: type (1 byte), length (4 bytes, itself included), body. A slice of the buffer
/// it was read into: cloning it copies nothing.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Frame {
    bytes: Bytes,
}

impl Frame {
    /// The first byte, which says what message this is.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    /// What follows type and length.
    #[must_use]
    pub fn body(&self) -> Bytes {
        let mut body = self.bytes.clone();
        body.advance(HEADER.min(body.len()));
        body
    }

    /// All of it, as it was received: to be sent on unchanged.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Takes the first message off the buffer, if it is whole. `limit` gives the largest body of a
/// type, or nothing for a type this side does not have. Reserves nothing, whatever a length says.
pub(crate) fn take(
    buffer: &mut BytesMut,
    side: Side,
    limit: impl Fn(u8) -> Option<usize>,
) -> Result<Option<Frame>, WireError> {
    let Some(&tag) = buffer.first() else { return Ok(None) };
    let limit = limit(tag).ok_or(WireError::UnknownType { side, tag })?;
    let Some(&[_, a, b, c, d]) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let what = What::Tagged(side, tag);
    let length = i32::from_be_bytes([a, b, c, d]);
    let body = body_length(what, length, 4)?;
    if body > limit {
        return Err(WireError::TooLong { what, length: body, limit });
    }
    let whole = HEADER + body;
    if buffer.len() < whole {
        return Ok(None);
    }
    Ok(Some(Frame { bytes: buffer.split_to(whole).freeze() }))
}

/// The length field without the bytes that every message has, itself included.
pub(crate) fn body_length(what: What, length: i32, least: usize) -> Result<usize, WireError> {
    let whole = usize::try_from(length).ok();
    whole.and_then(|whole| whole.checked_sub(least)).ok_or(WireError::Length { what, length })
}
