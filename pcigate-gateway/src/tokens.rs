//! Tokens that clients bring as their password: JSON Web Tokens (RFC 7519), signed with one of the
//! keys of one issuer (JWK Set, RFC 7517). Algorithms: RS256, ES256, EdDSA (RFC 7518, RFC 8037);
//! `none` and the symmetric ones are none of them.

mod ring;

use std::collections::{HashMap, HashSet};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous, decode, decode_header};
use pcigate_policy::document::Token;
use serde::Deserialize;

/// Bytes of a password that is looked at.
pub(crate) const PASSWORD_MAX: usize = 16 << 10;
/// Bytes of a key set, and keys in it.
const SET_MAX: usize = 256 << 10;
const KEYS_MAX: usize = 64;
/// Bytes of a subject.
const SUBJECT_MAX: usize = 256;
/// How far clocks may differ, seconds.
const SKEW: u64 = 60;

/// The keys of one issuer, for tokens to one audience.
pub struct Tokens {
    pub(crate) audience: String,
    pub(crate) issuer: String,
    required: bool,
    keys: HashMap<String, (Algorithm, DecodingKey)>,
}

/// Who a token was given to, by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub subject: String,
    /// `iss`, or who else said so.
    pub issuer: String,
}

/// A key set that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokensError {
    /// It is no JWK Set.
    #[error("the key set is no JSON with a list `keys`; check jwksFile")]
    Unreadable,
    /// Too much.
    #[error("the key set is over {SET_MAX} bytes or {KEYS_MAX} keys; check jwksFile")]
    TooLong,
    /// One name for two keys.
    #[error("the key set has two keys with one `kid`; name each differently in jwksFile")]
    Twice,
    /// None is usable.
    #[error("the key set has no key for RS256, ES256 or EdDSA with a `kid`; add one to jwksFile")]
    NoKey,
}

/// Why a token is refused. No text holds anything of it.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    #[error("the password is no token")]
    NoToken,
    #[error("the token is longer than tokens are")]
    TooLong,
    #[error("the token cannot be read, or lacks a claim")]
    Malformed,
    #[error("the token is signed with a key that the issuer's key set does not have")]
    UnknownKey,
    #[error("the token is signed by another algorithm than its key is for")]
    Algorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is not valid any more")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is of another issuer")]
    Issuer,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    iss: String,
}

impl Tokens {
    /// Those of a Target; `jwks` is the content of its `jwksFile`. Keys for other algorithms are
    /// left out.
    ///
    /// # Errors
    /// A key set that cannot be read, is too long, ambiguous, or has no usable key.
    pub fn new(token: &Token, jwks: &[u8]) -> Result<Self, TokensError> {
        ring::install();
        if jwks.len() > SET_MAX {
            return Err(TokensError::TooLong);
        }
        let set: serde_json::Value =
            serde_json::from_slice(jwks).map_err(|_| TokensError::Unreadable)?;
        let set = set.get("keys").and_then(serde_json::Value::as_array);
        let set = set.ok_or(TokensError::Unreadable)?;
        if set.len() > KEYS_MAX {
            return Err(TokensError::TooLong);
        }
        let mut keys = HashMap::new();
        let mut names = HashSet::new();
        for key in set {
            let Ok(key) = Jwk::deserialize(key) else { continue };
            let Some(name) = key.common.key_id.clone() else { continue };
            if !names.insert(name.clone()) {
                return Err(TokensError::Twice);
            }
            if let (Some(algorithm), Ok(decoding)) = (algorithm(&key), DecodingKey::from_jwk(&key))
            {
                keys.insert(name, (algorithm, decoding));
            }
        }
        if keys.is_empty() {
            return Err(TokensError::NoKey);
        }
        let Token { audience, issuer, required, .. } = token.clone();
        Ok(Self { audience, issuer, required, keys })
    }

    /// Who a password proves its bearer to be. Nothing where it is no token for us and none is
    /// required.
    pub(crate) fn verify(&self, password: &[u8]) -> Result<Option<Identity>, TokenError> {
        let optional = |error| if self.required { Err(error) } else { Ok(None) };
        if password.len() > PASSWORD_MAX {
            return Err(TokenError::TooLong);
        }
        let Ok(header) = decode_header(password) else {
            return optional(TokenError::NoToken);
        };
        // Other systems' tokens are passwords like any other; only what claims to be for us counts.
        if !claims(password, &self.audience) {
            return optional(TokenError::Audience);
        }
        let key = header.kid.as_ref().and_then(|name| self.keys.get(name));
        let Some((algorithm, key)) = key else { return Err(TokenError::UnknownKey) };
        if header.alg != *algorithm {
            return Err(TokenError::Algorithm);
        }
        // RFC 7515, 4.1.11: what must be understood and is not.
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let mut validation = Validation::new(*algorithm);
        validation.leeway = SKEW;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let token = decode::<Claims>(password, key, &validation).map_err(|e| why(e.kind()))?;
        let Claims { sub: subject, iss: issuer } = token.claims;
        if subject.is_empty() || subject.len() > SUBJECT_MAX {
            return Err(TokenError::Malformed);
        }
        Ok(Some(Identity { subject, issuer }))
    }
}

/// Whether a token claims to be for an audience. Before anything is proven: only to tell our tokens
/// from others.
pub(crate) fn claims(token: &[u8], audience: &str) -> bool {
    let Ok(token) = dangerous::insecure_decode::<serde_json::Value>(token) else {
        return false;
    };
    match token.claims.get("aud") {
        Some(serde_json::Value::String(one)) => one == audience,
        Some(serde_json::Value::Array(all)) => all.iter().any(|one| one == audience),
        _ => false,
    }
}

/// What a key is for; nothing where that is none of ours, or not to verify with.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let common = &key.common;
    let signs = common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let said = common.key_algorithm.map(|said| said.to_string());
    let fits = said.is_none_or(|said| said == format!("{algorithm:?}"));
    (signs && fits).then_some(algorithm)
}

fn why(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::Early,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
