//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's side (RFC 5802, RFC 7677; channel binding
//! tls-server-end-point: RFC 5929).

use std::borrow::Cow;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::secret::Secret;

/// The mechanism without channel binding.
pub(super) const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub(super) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Salts are 16 bytes; a server that sends more than this wants something else.
const SALT_MAX: usize = 1024;
/// The same for its part of the nonce.
const NONCE_MAX: usize = 1024;

type HmacSha256 = Hmac<Sha256>;
type Key = Zeroizing<[u8; 32]>;

/// Why the exchange failed. No error holds anything of password, keys or proofs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScramError {
    /// Not as RFC 5802 has it.
    #[error(
        "the server's SCRAM message has no valid {field}; it is not PostgreSQL, or is being \
         tampered with"
    )]
    Malformed {
        /// The attribute.
        field: &'static str,
    },
    /// The nonce does not begin with ours.
    #[error("the server's SCRAM nonce does not begin with ours; somebody replays an older login")]
    Nonce,
    /// Too few are weak, too many are meant to keep us busy.
    #[error(
        "the server asks for {asked} SCRAM iterations, and {least} to {most} are allowed; set \
         its scram_iterations accordingly and the password anew"
    )]
    Iterations {
        /// Asked for.
        asked: u32,
        /// Allowed.
        least: u32,
        /// Allowed.
        most: u32,
    },
    /// The server says that the proof is wrong, or something else.
    #[error("the server ended SCRAM with the error {code:?}; check password and channel binding")]
    Refused {
        /// Of RFC 5802's list, at most 64 letters.
        code: String,
    },
    /// The server does not know the password.
    #[error(
        "the server could not prove that it knows the password; it is not the server we look for"
    )]
    Signature,
}

/// What binds the exchange to the TLS channel under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding<'a> {
    /// No TLS, or the certificate is not known: `n`.
    None,
    /// We could, and the server does not offer it: `y`. A server that did offer it sees by this
    /// that somebody took the offer out.
    NotOffered,
    /// The hash of the server's certificate: `p=tls-server-end-point`.
    ServerEndPoint(&'a [u8]),
}

impl Binding<'_> {
    fn header(self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::ServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// Our side, after our first message.
pub(super) struct Exchange {
    /// Our first message without its header.
    first_bare: String,
    nonce: String,
    /// Base64 of header and certificate hash, which the server checks.
    bound: String,
}

/// Our side, after our last message.
pub(super) struct Proven {
    server_signature: Key,
}

impl Exchange {
    /// Our first message. PostgreSQL takes the user from the startup message and ignores `user`.
    pub(super) fn begin(user: &str, nonce: &str, binding: Binding<'_>) -> (Self, String) {
        let first_bare = format!("n={user},r={nonce}");
        let first = format!("{}{first_bare}", binding.header());
        let mut bound = binding.header().as_bytes().to_vec();
        if let Binding::ServerEndPoint(hash) = binding {
            bound.extend_from_slice(hash);
        }
        let bound = STANDARD.encode(bound);
        (Self { first_bare, nonce: nonce.to_owned(), bound }, first)
    }

    /// Our last message, which proves that we know the password.
    pub(super) fn prove(
        &self,
        server_first: &[u8],
        password: &Secret,
        iterations: &RangeInclusive<u32>,
    ) -> Result<(Proven, Secret), ScramError> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| malformed("encoding"))?;
        let mut attributes = server_first.split(',');
        let mut next = |name: &'static str| {
            attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(malformed(name))
        };
        let nonce = next("r=")?;
        let salt = next("s=")?;
        let count = next("i=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if nonce.len() == self.nonce.len() || nonce.len() > NONCE_MAX || !printable {
            return Err(malformed("r="));
        }
        let salt = STANDARD.decode(salt).map_err(|_| malformed("s="))?;
        if salt.is_empty() || salt.len() > SALT_MAX {
            return Err(malformed("s="));
        }
        let asked: u32 = count.parse().map_err(|_| malformed("i="))?;
        if !iterations.contains(&asked) {
            let (least, most) = (*iterations.start(), *iterations.end());
            return Err(ScramError::Iterations { asked, least, most });
        }
        let salted = salted(password, &salt, asked);
        let without_proof = format!("c={},r={nonce}", self.bound);
        let whole = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = Zeroizing::new(mac(&*salted, &[b"Client Key"]));
        let stored_key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(*client_key)));
        let mut proof = Zeroizing::new(mac(&*stored_key, &[whole.as_bytes()]));
        proof.iter_mut().zip(client_key.iter()).for_each(|(proof, key)| *proof ^= key);
        let server_key = Zeroizing::new(mac(&*salted, &[b"Server Key"]));
        let server_signature = Zeroizing::new(mac(&*server_key, &[whole.as_bytes()]));
        let proof = Zeroizing::new(STANDARD.encode(*proof));
        let last = format!("{without_proof},p={}", *proof);
        Ok((Proven { server_signature }, Secret::new(last.into_bytes())))
    }
}

impl Proven {
    /// Whether the server knows the password, too.
    pub(super) fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        if let Some(code) = server_final.strip_prefix(b"e=") {
            let letters =
                code.iter().copied().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
            let code = letters.take(64).map(char::from).collect();
            return Err(ScramError::Refused { code });
        }
        let signature = server_final.strip_prefix(b"v=").ok_or(malformed("v="))?;
        let signature = STANDARD.decode(signature).map_err(|_| malformed("v="))?;
        // Comparing through a hash of both takes the same time wherever they differ.
        let same = Sha256::digest(signature) == Sha256::digest(*self.server_signature);
        if same { Ok(()) } else { Err(ScramError::Signature) }
    }
}

/// What a server keeps of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (manual,
/// "pg_authid"). Given to `CREATE ROLE` in its place, the password itself is in no log.
#[must_use]
pub fn verifier(password: &Secret, salt: &[u8; 16], iterations: u32) -> Zeroizing<String> {
    let salted = salted(password, salt, iterations);
    let client_key = Zeroizing::new(mac(&*salted, &[b"Client Key"]));
    let stored_key = STANDARD.encode(Sha256::digest(*client_key));
    let server_key = Zeroizing::new(mac(&*salted, &[b"Server Key"]));
    let (salt, server_key) = (STANDARD.encode(salt), STANDARD.encode(*server_key));
    Zeroizing::new(format!("SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}"))
}

fn malformed(field: &'static str) -> ScramError {
    ScramError::Malformed { field }
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted(password: &Secret, salt: &[u8], iterations: u32) -> Key {
    let prepared = prepared(password.bytes());
    let keyed = keyed(&prepared);
    let mut round = Zeroizing::new(finish(keyed.clone(), &[salt, &1_u32.to_be_bytes()]));
    let mut sum = round.clone();
    for _ in 1..iterations {
        *round = finish(keyed.clone(), &[&*round]);
        sum.iter_mut().zip(round.iter()).for_each(|(sum, round)| *sum ^= round);
    }
    sum
}

/// SASLprep as PostgreSQL does it: what it cannot prepare is used as it is.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    Zeroizing::new(match text {
        Some(Cow::Owned(prepared)) => prepared.into_bytes(),
        Some(Cow::Borrowed(_)) | None => password.to_vec(),
    })
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    finish(keyed(key), parts)
}

fn finish(mut mac: HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// RFC 2104: a key longer than a block is hashed, a shorter one filled up with zeros.
fn keyed(key: &[u8]) -> HmacSha256 {
    let mut block = Zeroizing::new([0_u8; 64]);
    let hashed;
    let key = if key.len() > block.len() {
        hashed = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
        hashed.as_slice()
    } else {
        key
    };
    block.iter_mut().zip(key).for_each(|(place, byte)| *place = *byte);
    <HmacSha256 as Mac>::new((&*block).into())
}

#[cfg(test)]
mod tests;
