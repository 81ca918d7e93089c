//! The data of COPY … TO STDOUT, row by row however they are cut into messages: drivers take one
//! message of text for one row, as the server sends it.

use bytes::{Buf, BytesMut};
use pcigate_policy::mask::{Cut, Masker};
use pcigate_postgres::values::Format;

use super::binary::{put_value, take_i16, take_i32, take_value};
use super::value::{Fate, Look};
use crate::record::{self, MaskedCounts};

/// What a binary COPY begins with (manual, COPY, "Binary Format").
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The data of one COPY.
pub(crate) enum CopyOut<'m> {
    Text { pending: Vec<u8>, masker: &'m Masker, most: usize },
    Binary { pending: BytesMut, begun: bool, most: usize },
}

/// Binary data that do not fit together, or a row over the limit: the session is to be closed.
pub(crate) struct Unreadable;

impl<'m> CopyOut<'m> {
    /// `most`: bytes of a row.
    pub(crate) fn new(format: Format, masker: &'m Masker, most: usize) -> Self {
        match format {
            Format::Text => Self::Text { pending: Vec::new(), masker, most },
            Format::Binary => Self::Binary { pending: BytesMut::new(), begun: false, most },
        }
    }

    /// Takes data in, and appends what is final to `out`.
    pub(crate) fn push(
        &mut self,
        data: &[u8],
        look: Look<'_>,
        counts: &mut MaskedCounts,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        match self {
            // The server ends each row by a line feed, and so each message.
            Self::Text { pending, masker, .. } if pending.is_empty() && data.ends_with(b"\n") => {
                masked(masker, data, counts, out);
                Ok(())
            }
            Self::Text { pending, masker, most } => {
                pending.extend_from_slice(data);
                if pending.ends_with(b"\n") {
                    masked(masker, &std::mem::take(pending), counts, out);
                }
                if pending.len() > *most { Err(Unreadable) } else { Ok(()) }
            }
            Self::Binary { pending, begun, most } => {
                pending.extend_from_slice(data);
                if !*begun {
                    let Some(header) = header(pending)? else { return Ok(()) };
                    out.extend_from_slice(pending.get(..header).unwrap_or_default());
                    pending.advance(header.min(pending.len()));
                    *begun = true;
                }
                while let Some(length) = row(pending, look, counts, out)? {
                    pending.advance(length.min(pending.len()));
                }
                if pending.len() > *most { Err(Unreadable) } else { Ok(()) }
            }
        }
    }

    /// The data are complete: appends the rest.
    pub(crate) fn finish(
        &mut self,
        counts: &mut MaskedCounts,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        match self {
            Self::Text { pending, masker, .. } => {
                masked(masker, &std::mem::take(pending), counts, out);
                Ok(())
            }
            Self::Binary { pending, .. } if pending.is_empty() => Ok(()),
            Self::Binary { .. } => Err(Unreadable),
        }
    }
}

fn masked(masker: &Masker, text: &[u8], counts: &mut MaskedCounts, out: &mut Vec<u8>) {
    let (text, findings) = masker.mask(text, Cut::Whole);
    record::count(counts, &findings);
    out.extend_from_slice(&text);
}

/// Bytes of the header, when it is there.
fn header(bytes: &[u8]) -> Result<Option<usize>, Unreadable> {
    let there = bytes.len().min(SIGNATURE.len());
    if bytes.get(..there) != SIGNATURE.get(..there) {
        return Err(Unreadable);
    }
    let extension = bytes.get(SIGNATURE.len() + 4..).and_then(take_i32);
    let Some((extension, _)) = extension else { return Ok(None) };
    let extension = usize::try_from(extension).ok().filter(|extension| *extension <= 1 << 16);
    let whole = SIGNATURE.len() + 8 + extension.ok_or(Unreadable)?;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Writes the first row, when it is whole, and says how many bytes it had.
fn row(
    bytes: &[u8],
    look: Look<'_>,
    counts: &mut MaskedCounts,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, Unreadable> {
    let Some((fields, mut rest)) = take_i16(bytes) else { return Ok(None) };
    let begin = out.len();
    out.extend_from_slice(&fields.to_be_bytes());
    if fields < -1 {
        return Err(Unreadable);
    }
    for _ in 0..fields {
        let Some((value, after)) = take_value(rest) else {
            out.truncate(begin);
            let impossible = take_i32(rest).is_some_and(|(length, _)| length < -1);
            return if impossible { Err(Unreadable) } else { Ok(None) };
        };
        let fate = value.map_or(Fate::Same, |value| look.other(value, counts));
        let new = match &fate {
            Fate::Same => value,
            Fate::New(new) => Some(new.as_slice()),
            Fate::Null => None,
        };
        put_value(new, out).ok_or(Unreadable)?;
        rest = after;
    }
    Ok(Some(bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::shape::Types;

    #[test]
    fn text_that_is_cut_within_a_number_is_masked_and_a_row_stays_a_message() {
        let (types, masker) = (Types::new(), Masker::standard());
        let style = pcigate_policy::document::MaskStyle::Truncate;
        let look = Look { masker, mixed: masker, types: &types, style };
        let mut copy = CopyOut::new(Format::Text, masker, 1_000);
        let mut counts = MaskedCounts::new();
        let mut push = |data: &[u8]| {
            let mut out = Vec::new();
            assert!(copy.push(data, look, &mut counts, &mut out).is_ok());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(push(b"1\tplain\n"), "1\tplain\n");
        assert_eq!(push(b"2\t41111111"), "");
        assert_eq!(push(b"11111111\n"), "2\t411111******1111\n");
        assert!(copy.push(&[b'x'; 2_000], look, &mut counts, &mut Vec::new()).is_err());
    }
}
