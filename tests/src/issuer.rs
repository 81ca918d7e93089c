//! An issuer of tokens (RFC 7519) of a test's own.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

/// One that signs tokens.
pub struct Issuer(EcdsaKeyPair);

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// With a key of its own.
    ///
    /// # Panics
    /// Never: nothing comes from outside.
    #[must_use]
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).expect("a fresh key"))
    }

    /// Its keys, as a JWK Set.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn set(&self) -> String {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y}]}).to_string()
    }

    /// A token for so many seconds from now on.
    ///
    /// # Panics
    /// The clock stands before 1970.
    #[must_use]
    pub fn token(&self, subject: &str, audience: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let expires = i64::try_from(now).expect("few seconds") + seconds;
        let claims = json!({"iss": "https://issuer.example", "aud": audience, "sub": subject,
                            "exp": expires});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "one"})), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).expect("random numbers");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
