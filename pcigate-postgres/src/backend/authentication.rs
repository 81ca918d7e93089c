//! Authentication messages: one type byte for a dozen demands.

use bytes::Bytes;

use crate::error::WireError;
use crate::reader::Reader;
use crate::writer::Writer;

const WHAT: &str = "Authentication";

/// What the server wants, or that it is content.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Authentication {
    /// Enough.
    Ok,
    /// Kerberos V5, which no server wants any more.
    KerberosV5,
    /// The password itself.
    CleartextPassword,
    /// A digest of password and salt.
    Md5Password {
        /// The salt.
        salt: [u8; 4],
    },
    /// A credential of the transport (SCM), which no server wants any more.
    ScmCredential,
    /// GSSAPI is to begin.
    Gss,
    /// GSSAPI or SSPI goes on with these data.
    GssContinue(Bytes),
    /// SSPI is to begin.
    Sspi,
    /// SASL is to begin, by one of these mechanisms.
    Sasl(Vec<Bytes>),
    /// SASL goes on with these data.
    SaslContinue(Bytes),
    /// The last data of SASL.
    SaslFinal(Bytes),
}

pub(super) fn decode(body: Bytes) -> Result<Authentication, WireError> {
    let mut reader = Reader::new(WHAT, body);
    let authentication = match reader.u32("kind")? {
        0 => Authentication::Ok,
        2 => Authentication::KerberosV5,
        3 => Authentication::CleartextPassword,
        5 => {
            let salt = reader.u32("salt")?.to_be_bytes();
            Authentication::Md5Password { salt }
        }
        6 => Authentication::ScmCredential,
        7 => Authentication::Gss,
        8 => Authentication::GssContinue(reader.rest()),
        9 => Authentication::Sspi,
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                let mechanism = reader.text("mechanism")?;
                if mechanism.is_empty() {
                    break Authentication::Sasl(mechanisms);
                }
                mechanisms.push(mechanism);
            }
        }
        11 => Authentication::SaslContinue(reader.rest()),
        12 => Authentication::SaslFinal(reader.rest()),
        kind => return Err(reader.value("kind", kind)),
    };
    reader.end().map(|()| authentication)
}

pub(super) fn encode(
    authentication: &Authentication,
    writer: &mut Writer<'_>,
) -> Result<(), WireError> {
    match authentication {
        Authentication::Ok => writer.u32(0),
        Authentication::KerberosV5 => writer.u32(2),
        Authentication::CleartextPassword => writer.u32(3),
        Authentication::Md5Password { salt } => {
            writer.u32(5);
            writer.bytes(salt);
        }
        Authentication::ScmCredential => writer.u32(6),
        Authentication::Gss => writer.u32(7),
        Authentication::GssContinue(data) => {
            writer.u32(8);
            writer.bytes(data);
        }
        Authentication::Sspi => writer.u32(9),
        Authentication::Sasl(mechanisms) => {
            writer.u32(10);
            for mechanism in mechanisms {
                if mechanism.is_empty() {
                    return Err(WireError::Unencodable { what: WHAT, field: "mechanism", size: 0 });
                }
                writer.text("mechanism", mechanism)?;
            }
            writer.u8(0);
        }
        Authentication::SaslContinue(data) => {
            writer.u32(11);
            writer.bytes(data);
        }
        Authentication::SaslFinal(data) => {
            writer.u32(12);
            writer.bytes(data);
        }
    }
    Ok(())
}
