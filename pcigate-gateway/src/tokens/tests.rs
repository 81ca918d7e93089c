//! Tests of tokens: our own issuer, and the signature of RFC 7515.

use ::ring::rand::SystemRandom;
use ::ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::get_current_timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Signs with P-256 (`kid` "ec") or Ed25519 (`kid` "ed").
struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    fn set(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256",
             "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(self.ed.public_key().as_ref())},
            {"kty": "oct", "kid": "shared", "k": b64(b"everybody knows this one")},
            {"kty": "new", "kid": "unheard of"},
            {"kty": "EC", "crv": "P-384", "kid": "other curve", "x": "AA", "y": "AA"},
        ]})
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let header = b64(header.to_string().as_bytes());
        let text = format!("{header}.{}", b64(claims.to_string().as_bytes()));
        let signature = if text.starts_with(&b64(b"{\"alg\":\"ES256\"")[..16]) {
            self.ec.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            self.ed.sign(text.as_bytes()).as_ref().to_vec()
        };
        format!("{text}.{}", b64(&signature))
    }
}

fn tokens(issuer: &Issuer, required: bool) -> Tokens {
    let token = Token {
        required,
        audience: "cards-db".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        jwks_file: String::new(),
        jwks_secret: None,
        review: false,
    };
    Tokens::new(&token, issuer.set().to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": ["other", "cards-db"], "sub": "bot",
           "exp": get_current_timestamp() + 300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

const EC: &str = r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#;
const ED: &str = r#"{"alg":"EdDSA","kid":"ed"}"#;

fn header(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_token_of_the_issuer_for_us_tells_whom_it_was_given_to() {
    let issuer = Issuer::new();
    for (required, text) in [(true, EC), (false, EC), (true, ED), (false, ED)] {
        let token = issuer.token(&header(text), &claims());
        let identity = tokens(&issuer, required).verify(token.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (identity.subject.as_str(), identity.issuer.as_str()),
            ("bot", "https://issuer.example",)
        );
    }
    let early = with("nbf", json!(get_current_timestamp() + 30));
    let token = issuer.token(&header(EC), &early);
    assert!(tokens(&issuer, true).verify(token.as_bytes()).is_ok(), "clocks differ");
}

#[test]
fn every_wrong_token_is_refused_with_its_reason() {
    let issuer = Issuer::new();
    let now = get_current_timestamp();
    let tokens = tokens(&issuer, true);
    let refused = |head: &str, claims: &Value| {
        let token = issuer.token(&header(head), claims);
        tokens.verify(token.as_bytes()).unwrap_err()
    };
    let mut without = claims();
    for (claim, error) in [
        ("exp", TokenError::Malformed),
        ("sub", TokenError::Malformed),
        ("iss", TokenError::Malformed),
        ("aud", TokenError::Audience),
    ] {
        let kept = without[claim].take();
        without.as_object_mut().unwrap().remove(claim);
        assert_eq!(refused(EC, &without), error, "no {claim}");
        without[claim] = kept;
    }
    assert_eq!(refused(EC, &with("exp", json!(now - 120))), TokenError::Expired);
    assert_eq!(refused(EC, &with("exp", json!("never"))), TokenError::Malformed);
    assert_eq!(refused(EC, &with("nbf", json!(now + 120))), TokenError::Early);
    assert_eq!(refused(EC, &with("aud", json!("other-db"))), TokenError::Audience);
    assert_eq!(refused(EC, &with("iss", json!("https://else.example"))), TokenError::Issuer);
    let two = json!(["https://issuer.example", "https://else.example"]);
    assert_eq!(refused(EC, &with("iss", two)), TokenError::Malformed);
    assert_eq!(refused(EC, &with("sub", json!(""))), TokenError::Malformed);
    assert_eq!(refused(EC, &with("sub", json!("x".repeat(300)))), TokenError::Malformed);
    let unknown = r#"{"alg":"ES256","kid":"nobody"}"#;
    assert_eq!(refused(unknown, &claims()), TokenError::UnknownKey);
    assert_eq!(refused(r#"{"alg":"ES256"}"#, &claims()), TokenError::UnknownKey);
    // A key for one algorithm is none for another: neither a curve's nor a shared secret's.
    assert_eq!(refused(r#"{"alg":"EdDSA","kid":"ec"}"#, &claims()), TokenError::Algorithm);
    assert_eq!(refused(r#"{"alg":"HS256","kid":"ec"}"#, &claims()), TokenError::Algorithm);
    assert_eq!(refused(r#"{"alg":"HS256","kid":"shared"}"#, &claims()), TokenError::UnknownKey);
    assert_eq!(refused(r#"{"alg":"none","kid":"ec"}"#, &claims()), TokenError::NoToken);
    let critical = r#"{"alg":"ES256","kid":"ec","crit":["exp"]}"#;
    assert_eq!(refused(critical, &claims()), TokenError::Malformed);
    // Another issuer's key under the same name.
    let other = Issuer::new().token(&header(EC), &claims());
    assert_eq!(tokens.verify(other.as_bytes()), Err(TokenError::Signature));
    let token = issuer.token(&header(EC), &claims());
    let (text, _) = token.rsplit_once('.').unwrap();
    assert_eq!(tokens.verify(format!("{text}.").as_bytes()), Err(TokenError::Signature));
    assert_eq!(tokens.verify(text.as_bytes()), Err(TokenError::NoToken));
    assert_eq!(tokens.verify(b"hunter2"), Err(TokenError::NoToken));
    assert_eq!(tokens.verify(&vec![b'x'; PASSWORD_MAX + 1]), Err(TokenError::TooLong));
}

proptest! {
    #[test]
    fn a_token_with_any_byte_changed_or_cut_is_no_other_token(
        place in 0_usize..2_000, byte in any::<u8>(), length in 0_usize..2_000,
    ) {
        let issuer = Issuer::new();
        let tokens = tokens(&issuer, true);
        let whole = issuer.token(&header(EC), &claims()).into_bytes();
        let mut changed = whole.clone();
        let place = place % changed.len();
        changed[place] = byte;
        changed.truncate(length.max(place));
        if let Ok(found) = tokens.verify(&changed) {
            prop_assert!(found.is_some_and(|found| found.subject == "bot"));
            // The last digit of base64 may have bits to spare.
            prop_assert!(changed.len() == whole.len());
        }
        let _ = tokens.verify(&whole[..place]);
    }
}

#[test]
fn where_none_is_required_only_a_token_for_us_has_to_be_right() {
    let issuer = Issuer::new();
    let tokens = tokens(&issuer, false);
    assert_eq!(tokens.verify(b"hunter2"), Ok(None));
    assert_eq!(tokens.verify(b""), Ok(None));
    let other = issuer.token(&header(EC), &with("aud", json!("other-db")));
    assert_eq!(tokens.verify(other.as_bytes()), Ok(None));
    let expired = issuer.token(&header(EC), &with("exp", json!(7)));
    assert_eq!(tokens.verify(expired.as_bytes()), Err(TokenError::Expired));
}

#[test]
fn a_key_set_is_read_or_refused_in_words() {
    let issuer = Issuer::new();
    let token = Token {
        required: true,
        audience: "a".to_owned(),
        issuer: "b".to_owned(),
        jwks_file: String::new(),
        jwks_secret: None,
        review: false,
    };
    let new = |text: &str| Tokens::new(&token, text.as_bytes()).err();
    assert_eq!(new("no JSON"), Some(TokensError::Unreadable));
    assert_eq!(new("{}"), Some(TokensError::Unreadable));
    assert_eq!(
        new(r#"{"keys": [{"kty": "oct", "kid": "a", "k": "AA"}]}"#),
        Some(TokensError::NoKey)
    );
    let mut set = issuer.set();
    set["keys"][1]["kid"] = json!("ec");
    assert_eq!(new(&set.to_string()), Some(TokensError::Twice));
    let many = json!({"keys": vec![json!({}); KEYS_MAX + 1]});
    assert_eq!(new(&many.to_string()), Some(TokensError::TooLong));
    assert_eq!(new(&" ".repeat(SET_MAX + 1)), Some(TokensError::TooLong));
    let mut encrypts = json!({"keys": [issuer.set()["keys"][0]]});
    encrypts["keys"][0]["use"] = json!("enc");
    assert_eq!(new(&encrypts.to_string()), Some(TokensError::NoKey));
}

/// RFC 7515, A.2.
#[test]
fn the_signature_of_the_rfc_is_right_and_no_other() {
    const N: &str = "\
        ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt\
        0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSX\
        ndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5\
        IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const TEXT: &str = "\
        eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGx\
        lLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "\
        cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W\
        2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkS\
        jtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnv\
        Wh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    super::ring::install();
    let key = DecodingKey::from_rsa_components(N, "AQAB").unwrap();
    let verify = |text: &str, signature: &str| {
        jsonwebtoken::crypto::verify(signature, text.as_bytes(), &key, Algorithm::RS256).unwrap()
    };
    assert!(verify(TEXT, SIGNATURE));
    assert!(!verify(&TEXT.replace("eyJpc3", "eyJpc4"), SIGNATURE));
    assert!(!verify(TEXT, &SIGNATURE.replace("cC4h", "cC5h")));
}
