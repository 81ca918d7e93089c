//! The packets that open a connection, before messages have types (manual, "Message Flow,
//! Start-up"; "Message Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest).

use bytes::{Bytes, BytesMut};

use crate::backend::NegotiateProtocolVersion;
use crate::error::{What, WireError};
use crate::frame::body_length;
use crate::reader::Reader;
use crate::writer;

/// The largest opening packet PostgreSQL itself takes, in bytes after the length
/// (`MAX_STARTUP_PACKET_LENGTH`).
pub const LIMIT: usize = 10_000;

/// Protocol 3.0: what every server since 7.4 speaks.
pub const VERSION_3_0: u32 = 3 << 16;
/// Protocol 3.2: cancel keys of variable length, from PostgreSQL 18.
pub const VERSION_3_2: u32 = 3 << 16 | 2;

const SSL: u32 = 1234 << 16 | 5679;
const GSS: u32 = 1234 << 16 | 5680;
const CANCEL: u32 = 1234 << 16 | 5678;
/// The longest cancel key of protocol 3.2.
const KEY_MAX: usize = 256;
const WHAT: &str = "the packet that opens the connection";

/// The first packet of a connection, or the one after a refused encryption.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Packet {
    /// TLS? Answered by one byte: `S` and a handshake, or `N`.
    SslRequest,
    /// GSSAPI encryption? Answered by one byte: `G`, or `N`.
    GssEncRequest,
    /// Stop what another connection does. Never answered.
    Cancel(CancelRequest),
    /// A session.
    Startup(StartupMessage),
}

/// Names the backend whose statement is to be stopped, and proves the right to.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct CancelRequest {
    /// As in BackendKeyData.
    pub process: u32,
    /// As in BackendKeyData: 4 bytes, up to 256 from protocol 3.2 on.
    pub key: Bytes,
}

/// Opens a session.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct StartupMessage {
    /// Major version in the upper, minor in the lower 16 bits.
    pub version: u32,
    /// Names and values in order: `user`, `database`, `options`, `replication`, settings.
    pub parameters: Vec<(Bytes, Bytes)>,
}

impl StartupMessage {
    /// The value of a parameter; of several with one name the last, as the server takes it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Bytes> {
        let mut of_name = self.parameters.iter().rev().filter(|(known, _)| known == name);
        of_name.next().map(|(_, value)| value)
    }

    /// What a server that speaks up to `newest` (of major version 3) must answer before anything
    /// else: nothing when it can do all that is asked for.
    #[must_use]
    pub fn negotiate(&self, newest: u32) -> Option<NegotiateProtocolVersion> {
        let options = self.parameters.iter().map(|(name, _)| name);
        let unknown: Vec<Bytes> =
            options.filter(|name| name.starts_with(b"_pq_.")).cloned().collect();
        let version = self.version.min(newest);
        (version != self.version || !unknown.is_empty())
            .then_some(NegotiateProtocolVersion { version, unknown })
    }
}

/// Whether the bytes begin a TLS handshake without an SSLRequest (`sslnegotiation=direct`, from
/// PostgreSQL 17 on): to be asked before [`next`].
#[must_use]
pub fn begins_tls(buffer: &[u8]) -> bool {
    buffer.first() == Some(&0x16)
}

/// Takes the packet off the buffer, if it is whole; `limit` counts the bytes after the length
/// ([`LIMIT`]).
///
/// # Errors
/// A length that cannot be or is over the limit, a version other than 3, a malformed body.
pub fn next(buffer: &mut BytesMut, limit: usize) -> Result<Option<Packet>, WireError> {
    let Some(&length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(length);
    // The length itself and the code behind it.
    body_length(What::Startup, length, 8)?;
    let body = body_length(What::Startup, length, 4)?;
    if body > limit {
        return Err(WireError::TooLong { what: What::Startup, length: body, limit });
    }
    if buffer.len() < 4 + body {
        return Ok(None);
    }
    let mut packet = buffer.split_to(4 + body).freeze();
    decode(packet.split_off(4)).map(Some)
}

fn decode(body: Bytes) -> Result<Packet, WireError> {
    let mut reader = Reader::new(WHAT, body);
    let packet = match reader.u32("code")? {
        SSL => Packet::SslRequest,
        GSS => Packet::GssEncRequest,
        CANCEL => {
            let process = reader.u32("process")?;
            let key = reader.rest();
            if !(4..=KEY_MAX).contains(&key.len()) {
                return Err(WireError::Truncated { what: WHAT, field: "key" });
            }
            Packet::Cancel(CancelRequest { process, key })
        }
        version if version >> 16 == 3 => {
            let mut parameters = Vec::new();
            loop {
                let name = reader.text("name of a parameter")?;
                if name.is_empty() {
                    break;
                }
                parameters.push((name, reader.text("value of a parameter")?));
            }
            Packet::Startup(StartupMessage { version, parameters })
        }
        code => return Err(reader.value("version", code)),
    };
    reader.end()?;
    Ok(packet)
}

impl Packet {
    /// Writes it behind what is in `out`.
    ///
    /// # Errors
    /// A name or value with a zero byte, an empty name, a cancel key of a length that cannot be.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        writer::message(WHAT, None, out, |writer| {
            match self {
                Self::SslRequest => writer.u32(SSL),
                Self::GssEncRequest => writer.u32(GSS),
                Self::Cancel(CancelRequest { process, key }) => {
                    if !(4..=KEY_MAX).contains(&key.len()) {
                        let size = key.len();
                        return Err(WireError::Unencodable { what: WHAT, field: "key", size });
                    }
                    writer.u32(CANCEL);
                    writer.u32(*process);
                    writer.bytes(key);
                }
                Self::Startup(StartupMessage { version, parameters }) => {
                    if version >> 16 != 3 {
                        let value = i64::from(*version);
                        return Err(WireError::Value { what: WHAT, field: "version", value });
                    }
                    writer.u32(*version);
                    for (name, value) in parameters {
                        if name.is_empty() {
                            let field = "name of a parameter";
                            return Err(WireError::Unencodable { what: WHAT, field, size: 0 });
                        }
                        writer.text("name of a parameter", name)?;
                        writer.text("value of a parameter", value)?;
                    }
                    writer.u8(0);
                }
            }
            Ok(())
        })
    }
}
