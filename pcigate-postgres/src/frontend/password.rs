//! The shapes a PasswordMessage takes, each answering another demand.

use bytes::{Bytes, BytesMut};

use crate::error::WireError;
use crate::reader::Reader;
use crate::writer;

/// SASLInitialResponse: the answer to AuthenticationSASL.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct SaslInitialResponse {
    /// The mechanism chosen.
    pub mechanism: Bytes,
    /// The mechanism's first message, if it begins with the client.
    pub response: Option<Bytes>,
}

/// Reads the body of the answer to AuthenticationCleartextPassword or AuthenticationMD5Password: a
/// text with its zero byte. Also how a client hands over a token.
///
/// # Errors
/// No zero byte, or bytes behind it.
pub fn password(body: Bytes) -> Result<Bytes, WireError> {
    let mut reader = Reader::new("PasswordMessage", body);
    let password = reader.text("password")?;
    reader.end().map(|()| password)
}

impl SaslInitialResponse {
    /// Reads the body of the answer to AuthenticationSASL.
    ///
    /// # Errors
    /// Fields cut off or left over.
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("SASLInitialResponse", body);
        let mechanism = reader.text("mechanism")?;
        let length = reader.i32("response")?;
        let response = match usize::try_from(length) {
            Ok(length) => Some(reader.bytes("response", length)?),
            Err(_) if length == -1 => None,
            Err(_) => return Err(reader.value("response", length)),
        };
        reader.end().map(|()| Self { mechanism, response })
    }

    /// Writes the whole message behind what is in `out`.
    ///
    /// # Errors
    /// A mechanism with a zero byte, a response of more than 2 GiB.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        writer::message("SASLInitialResponse", Some(b'p'), out, |writer| {
            writer.text("mechanism", &self.mechanism)?;
            writer.value(self.response.as_deref())
        })
    }
}
