//! RFC 7677's example, and what a false server might try.

use super::*;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil() -> Secret {
    Secret::new(b"pencil".to_vec())
}

fn proof(server_first: &[u8]) -> Result<Proven, ScramError> {
    let (exchange, _) = Exchange::begin("user", NONCE, Binding::None);
    exchange.prove(server_first, &pencil(), &(4_096..=10_000)).map(|(proven, _)| proven)
}

#[test]
fn the_example_of_rfc_7677_is_followed() {
    let (exchange, first) = Exchange::begin("user", NONCE, Binding::None);
    assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let (proven, last) = exchange.prove(SERVER_FIRST, &pencil(), &(4_096..=4_096)).ok().unwrap();
    assert_eq!(
        std::str::from_utf8(last.bytes()).unwrap(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(proven.verify(SERVER_FINAL), Ok(()));
}

#[test]
fn the_channel_is_bound_by_the_certificate_s_hash() {
    let (exchange, first) = Exchange::begin("", "abc", Binding::ServerEndPoint(&[7; 32]));
    assert_eq!(first, "p=tls-server-end-point,,n=,r=abc");
    let expected = [b"p=tls-server-end-point,,".as_slice(), &[7; 32]].concat();
    assert_eq!(STANDARD.decode(&exchange.bound).unwrap(), expected);
    let (_, first) = Exchange::begin("", "abc", Binding::NotOffered);
    assert_eq!(first, "y,,n=,r=abc");
}

#[test]
fn a_server_that_does_not_know_the_password_is_found_out() {
    let verify = |last: &[u8]| proof(SERVER_FIRST).ok().unwrap().verify(last);
    let false_signature = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(verify(false_signature), Err(ScramError::Signature));
    assert_eq!(verify(b"v="), Err(ScramError::Signature));
    assert_eq!(verify(b""), Err(ScramError::Malformed { field: "v=" }));
    let refused = ScramError::Refused { code: "invalid-proof".to_owned() };
    assert_eq!(verify(b"e=invalid-proof"), Err(refused));
}

#[test]
fn hostile_first_messages_are_refused_before_any_work() {
    let error = |text: &str| proof(text.as_bytes()).err().unwrap();
    let malformed = |field| ScramError::Malformed { field };
    assert_eq!(error("r=someone,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), ScramError::Nonce);
    assert_eq!(error(&format!("r={NONCE},s=W22Z,i=4096")), malformed("r="));
    assert_eq!(error(&format!("r={NONCE}\u{e9},s=W22Z,i=4096")), malformed("r="));
    assert_eq!(error(&format!("r={NONCE}x,s=,i=4096")), malformed("s="));
    assert_eq!(error(&format!("r={NONCE}x,s=W22Z,i=-1")), malformed("i="));
    assert_eq!(error(&format!("m=x,r={NONCE}x,s=W22Z,i=4096")), malformed("r="));
    for asked in [1, 4_095, 10_001, u32::MAX] {
        let text = format!("r={NONCE}x,s=W22Z,i={asked}");
        assert_eq!(error(&text), ScramError::Iterations { asked, least: 4_096, most: 10_000 });
    }
}

#[test]
fn passwords_are_prepared_as_postgresql_prepares_them() {
    assert_eq!(*prepared("I\u{ad}X".as_bytes()), b"IX");
    assert_eq!(*prepared("\u{2168}".as_bytes()), b"IX");
    // What SASLprep forbids, and what is no UTF-8, is taken as it is.
    assert_eq!(*prepared(b"a\x07b"), b"a\x07b");
    assert_eq!(*prepared(&[0xff, 0xfe]), [0xff, 0xfe]);
    // RFC 2104: long keys are hashed. Checked with Python's hmac.
    let long = mac(&[b'k'; 100], &[b"text"]);
    assert_eq!(hex::encode(long), LONG);
}

const LONG: &str = "5964a5c58b736800917a8e85cf03892e9ab8a997a15175b1d876119624a9b699";
