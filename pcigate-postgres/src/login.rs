//! Logging in to a server: from the startup message to the first ReadyForQuery, as a state machine
//! without a socket (manual, "Message Flow, Start-up" and "SASL Authentication").
//!
//! What the server may ask for depends on the transport: a password or its MD5 goes only to a
//! server whose certificate was verified together with its name; SCRAM proves both sides and goes
//! anywhere. GSSAPI, SSPI, Kerberos and SCM are not supported.

mod error;
mod scram;
mod secret;

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

pub use error::LoginError;
pub use scram::{ScramError, verifier};
pub use secret::Secret;

use crate::backend::{Authentication, Message, TransactionStatus};
use crate::error::WireError;
use crate::startup::{Packet, StartupMessage};
use crate::writer;
use scram::{Binding, Exchange, Proven};

/// Settings a server reports before it is ready: it has about 15.
const PARAMETERS_MAX: usize = 256;

/// Iterations of SCRAM that are taken without asking: RFC 7677's least, which is PostgreSQL's
/// default, up to a quarter of a second of work.
pub const ITERATIONS: RangeInclusive<u32> = 4_096..=600_000;

/// What the connection runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// No TLS, or TLS whose other end nobody has verified.
    Unproven,
    /// TLS with a certificate that was verified for the server's name (verify-full).
    Verified,
}

/// What a login needs.
pub struct Options {
    /// The database role.
    pub user: String,
    /// Further parameters of the startup message: `database`, `application_name`, settings.
    pub parameters: Vec<(String, String)>,
    /// As in a startup message, [`crate::startup::VERSION_3_0`] for instance.
    pub version: u32,
    /// The password; `None` where the server lets us in by certificate or trust.
    pub password: Option<Secret>,
    /// What the connection runs over.
    pub transport: Transport,
    /// Over TLS, verified or not: the hash of the server's certificate for tls-server-end-point
    /// (RFC 5929: its DER by the hash of its signature, SHA-256 in place of MD5 and SHA-1). With
    /// it, a server that offers channel binding is bound to the channel.
    pub certificate_hash: Option<Vec<u8>>,
    /// Refuse a server that does not offer channel binding.
    pub require_binding: bool,
    /// Whether the server may let us in without having asked for anything (trust, certificate).
    /// Such a server has proved nothing except by its transport.
    pub allow_unasked: bool,
    /// How many iterations of SCRAM it may ask for; [`ITERATIONS`].
    pub iterations: RangeInclusive<u32>,
    /// Fresh random bytes, used once.
    pub nonce: [u8; 18],
}

/// What to do after a message of the server.
pub enum Step {
    /// Read the next message.
    Read,
    /// Send these bytes, then read on.
    Send(Secret),
    /// The server is ready.
    Done(Session),
}

/// What the server told while it let us in.
#[derive(Clone)]
pub struct Session {
    /// Protocol version that both speak.
    pub version: u32,
    /// The settings it reports, in order.
    pub parameters: Vec<(Bytes, Bytes)>,
    /// The backend, for CancelRequest.
    pub process: u32,
    /// Its key, for CancelRequest. Empty when the server sent none.
    pub cancel_key: Bytes,
}

/// A login on its way.
pub struct Login {
    options: Options,
    state: State,
    session: Session,
}

enum State {
    /// Nothing was asked yet.
    Opened,
    /// A password or its MD5 is sent: the server proves nothing by taking it.
    Handed,
    Scram(Exchange),
    Proven(Proven),
    /// The server has proved that it knows the password.
    Verified,
    /// AuthenticationOk.
    In,
}

impl Login {
    /// Begins one; the bytes are the startup message.
    ///
    /// # Errors
    /// A parameter that no message can carry.
    pub fn begin(options: Options) -> Result<(Self, Bytes), LoginError> {
        let text = |text: &String| Bytes::copy_from_slice(text.as_bytes());
        let mut parameters = vec![(Bytes::from_static(b"user"), text(&options.user))];
        parameters.extend(options.parameters.iter().map(|(name, value)| (text(name), text(value))));
        let version = options.version;
        let packet = Packet::Startup(StartupMessage { version, parameters });
        let mut out = BytesMut::new();
        packet.encode(&mut out).map_err(|source| LoginError::Options { source })?;
        let session =
            Session { version, parameters: Vec::new(), process: 0, cancel_key: Bytes::new() };
        Ok((Self { options, state: State::Opened, session }, out.freeze()))
    }

    /// Takes the next message of the server.
    ///
    /// # Errors
    /// The server refuses, asks for what it must not get, proves nothing, or breaks the protocol.
    pub fn received(&mut self, message: &Message) -> Result<Step, LoginError> {
        match message {
            Message::NoticeResponse(_) => return Ok(Step::Read),
            Message::ErrorResponse(report) => {
                let letters = report.code().iter().filter(|byte| byte.is_ascii_alphanumeric());
                let code = letters.take(5).copied().map(char::from).collect();
                return Err(LoginError::Refused { code, report: report.clone() });
            }
            _ => {}
        }
        match (message, &self.state) {
            (Message::Authentication(demand), state) if !matches!(state, State::In) => {
                self.demanded(demand)
            }
            (Message::NegotiateProtocolVersion(negotiated), State::Opened) => {
                let version = negotiated.version;
                if version >> 16 != 3 || version > self.options.version {
                    let (major, minor) = (version >> 16, version & 0xffff);
                    return Err(LoginError::Version { major, minor });
                }
                self.session.version = version;
                Ok(Step::Read)
            }
            (Message::ParameterStatus { name, value }, State::In) => {
                let limit = PARAMETERS_MAX;
                if self.session.parameters.len() >= limit {
                    return Err(LoginError::TooManyParameters { limit });
                }
                let own = |text: &Bytes| Bytes::copy_from_slice(text);
                self.session.parameters.push((own(name), own(value)));
                Ok(Step::Read)
            }
            (Message::BackendKeyData { process, key }, State::In) => {
                self.session.process = *process;
                self.session.cancel_key = Bytes::copy_from_slice(key);
                Ok(Step::Read)
            }
            (Message::ReadyForQuery(TransactionStatus::Idle), State::In) => {
                Ok(Step::Done(self.session.clone()))
            }
            _ => Err(LoginError::OutOfPlace { message: message.name() }),
        }
    }

    fn demanded(&mut self, demand: &Authentication) -> Result<Step, LoginError> {
        let unsupported = |method| Err(LoginError::Unsupported { method });
        let opened = matches!(self.state, State::Opened);
        match demand {
            Authentication::Ok => return self.let_in(),
            Authentication::KerberosV5 => return unsupported("Kerberos V5"),
            Authentication::ScmCredential => return unsupported("an SCM credential"),
            Authentication::Gss | Authentication::GssContinue(_) => return unsupported("GSSAPI"),
            Authentication::Sspi => return unsupported("SSPI"),
            Authentication::CleartextPassword if opened => {
                let password = self.handed("password")?.bytes();
                let message = password_message(&[password])?;
                self.state = State::Handed;
                return Ok(Step::Send(message));
            }
            Authentication::Md5Password { salt } if opened => {
                let password = self.handed("md5")?.bytes();
                let inner = hex_md5(&[password, self.options.user.as_bytes()]);
                let outer = hex_md5(&[&*inner, salt]);
                let message = password_message(&[b"md5", &*outer])?;
                self.state = State::Handed;
                return Ok(Step::Send(message));
            }
            Authentication::Sasl(mechanisms) if opened => return self.scram(mechanisms),
            Authentication::SaslContinue(data) => {
                if let State::Scram(exchange) = &self.state {
                    let password = self.password("SCRAM-SHA-256")?;
                    let proven = exchange.prove(data, password, &self.options.iterations);
                    let (proven, last) = proven.map_err(|source| LoginError::Scram { source })?;
                    self.state = State::Proven(proven);
                    return sasl_message(|writer| {
                        writer.bytes(last.bytes());
                        Ok(())
                    });
                }
            }
            Authentication::SaslFinal(data) => {
                if let State::Proven(proven) = std::mem::replace(&mut self.state, State::Opened) {
                    proven.verify(data).map_err(|source| LoginError::Scram { source })?;
                    self.state = State::Verified;
                    return Ok(Step::Read);
                }
            }
            _ => {}
        }
        Err(LoginError::OutOfPlace { message: "Authentication" })
    }

    fn let_in(&mut self) -> Result<Step, LoginError> {
        match self.state {
            State::Opened if !self.options.allow_unasked => Err(LoginError::Unasked),
            State::Opened if self.options.require_binding => Err(LoginError::NoBinding),
            State::Opened | State::Handed | State::Verified => {
                self.state = State::In;
                // Nobody needs it any more.
                self.options.password = None;
                Ok(Step::Read)
            }
            // SCRAM was begun, and the server does not want to end it: it has proved nothing.
            State::Scram(_) | State::Proven(_) => {
                Err(LoginError::Scram { source: ScramError::Signature })
            }
            State::In => Err(LoginError::OutOfPlace { message: "Authentication" }),
        }
    }

    fn scram(&mut self, mechanisms: &[Bytes]) -> Result<Step, LoginError> {
        let offers = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
        let hash = self.options.certificate_hash.as_deref();
        let (mechanism, binding) = match hash {
            Some(hash) if offers(scram::PLUS) => (scram::PLUS, Binding::ServerEndPoint(hash)),
            _ if self.options.require_binding => return Err(LoginError::NoBinding),
            _ if !offers(scram::PLAIN) => {
                return Err(LoginError::Unsupported { method: "SASL other than SCRAM-SHA-256" });
            }
            Some(_) => (scram::PLAIN, Binding::NotOffered),
            None => (scram::PLAIN, Binding::None),
        };
        self.password(mechanism)?;
        let nonce = STANDARD.encode(self.options.nonce);
        let (exchange, first) = Exchange::begin("", &nonce, binding);
        self.state = State::Scram(exchange);
        sasl_message(|writer| {
            writer.text("mechanism", mechanism.as_bytes())?;
            writer.value(Some(first.as_bytes()))
        })
    }

    fn password(&self, method: &'static str) -> Result<&Secret, LoginError> {
        self.options.password.as_ref().ok_or(LoginError::NoPassword { method })
    }

    /// The password, for a method that hands it over.
    fn handed(&self, method: &'static str) -> Result<&Secret, LoginError> {
        if self.options.require_binding {
            return Err(LoginError::NoBinding);
        }
        if self.options.transport != Transport::Verified {
            return Err(LoginError::NeedsVerifiedTls { method });
        }
        self.password(method)
    }
}

fn hex_md5(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    let digit = |digit: u8| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    let digits = |byte: u8| [byte >> 4, byte & 15].map(digit);
    Zeroizing::new(digest.finalize().into_iter().flat_map(digits).collect())
}

/// A PasswordMessage of a text in parts, written once into memory that will be overwritten.
fn password_message(parts: &[&[u8]]) -> Result<Secret, LoginError> {
    let text = Zeroizing::new(parts.concat());
    message(text.len(), |writer| writer.text("password", &text))
}

fn sasl_message(
    fields: impl FnOnce(&mut writer::Writer<'_>) -> Result<(), WireError>,
) -> Result<Step, LoginError> {
    message(512, fields).map(Step::Send)
}

fn message(
    room: usize,
    fields: impl FnOnce(&mut writer::Writer<'_>) -> Result<(), WireError>,
) -> Result<Secret, LoginError> {
    // With room enough it never moves, and leaves no copy behind.
    let mut out = BytesMut::with_capacity(room + 64);
    writer::message("PasswordMessage", Some(b'p'), &mut out, fields)
        .map_err(|source| LoginError::Options { source })?;
    Ok(Secret::new(Vec::from(out)))
}

#[cfg(test)]
mod tests;
