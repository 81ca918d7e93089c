//! Logins with servers that are honest, careless or false.

use super::*;
use crate::backend::Report;

fn options(transport: Transport) -> Options {
    Options {
        user: "app".to_owned(),
        parameters: vec![("database".to_owned(), "shop".to_owned())],
        version: crate::startup::VERSION_3_2,
        password: Some(Secret::new(b"secret".to_vec())),
        transport,
        certificate_hash: None,
        require_binding: false,
        allow_unasked: false,
        iterations: ITERATIONS,
        nonce: [1; 18],
    }
}

fn begin(options: Options) -> Login {
    Login::begin(options).ok().unwrap().0
}

fn demand(login: &mut Login, demand: Authentication) -> Result<Step, LoginError> {
    login.received(&Message::Authentication(demand))
}

fn sent(step: Result<Step, LoginError>) -> Vec<u8> {
    let Ok(Step::Send(message)) = step else { panic!("nothing to send") };
    message.bytes().to_vec()
}

fn scram(offers: &[&'static str]) -> Authentication {
    Authentication::Sasl(offers.iter().map(|offer| Bytes::from_static(offer.as_bytes())).collect())
}

#[test]
fn a_password_goes_only_to_a_server_that_was_verified() {
    for ask in [Authentication::CleartextPassword, Authentication::Md5Password { salt: [1; 4] }] {
        let error = demand(&mut begin(options(Transport::Unproven)), ask).err().unwrap();
        assert!(matches!(error, LoginError::NeedsVerifiedTls { .. }), "{error}");
    }
    let mut login = begin(options(Transport::Verified));
    assert_eq!(sent(demand(&mut login, Authentication::CleartextPassword)), b"p\0\0\0\x0bsecret\0");
    // The same question again is one too many.
    assert!(demand(&mut login, Authentication::CleartextPassword).is_err());
    let mut login = begin(options(Transport::Verified));
    let message = sent(demand(&mut login, Authentication::Md5Password { salt: [1, 2, 3, 4] }));
    // Checked with Python's hashlib.
    assert_eq!(&message[5..], b"md5911f527656472583a006e7727877b33e\0");
}

#[test]
fn a_server_that_asks_for_nothing_is_refused_unless_that_is_expected() {
    let error = demand(&mut begin(options(Transport::Verified)), Authentication::Ok).err().unwrap();
    assert!(matches!(error, LoginError::Unasked));
    let allowed = Options { allow_unasked: true, password: None, ..options(Transport::Unproven) };
    let mut login = begin(allowed);
    assert!(matches!(demand(&mut login, Authentication::Ok), Ok(Step::Read)));
    let key = Message::BackendKeyData { process: 7, key: Bytes::from_static(b"0123456789") };
    assert!(matches!(login.received(&key), Ok(Step::Read)));
    let setting = |name: &'static str| Message::ParameterStatus {
        name: name.into(),
        value: Bytes::from_static(b"on"),
    };
    assert!(matches!(login.received(&setting("integer_datetimes")), Ok(Step::Read)));
    let ready = Message::ReadyForQuery(TransactionStatus::Idle);
    let Ok(Step::Done(session)) = login.received(&ready) else { panic!("not let in") };
    assert_eq!((session.process, &session.cancel_key[..]), (7, &b"0123456789"[..]));
    assert_eq!(session.parameters.len(), 1);
    let many = (0..300).map(|_| login.received(&setting("x")).err()).find_map(|error| error);
    assert!(matches!(many, Some(LoginError::TooManyParameters { .. })));
}

#[test]
fn a_server_that_ends_scram_without_a_proof_is_refused() {
    let mut login = begin(options(Transport::Unproven));
    let first = sent(demand(&mut login, scram(&["SCRAM-SHA-256"])));
    let response = crate::frontend::SaslInitialResponse::decode(Bytes::from(first).slice(5..));
    let response = response.unwrap().response.unwrap();
    assert!(response.starts_with(b"n,,n=,r="), "no channel binding without TLS");
    let early = demand(&mut login, Authentication::Ok).err().unwrap();
    assert!(matches!(early, LoginError::Scram { source: ScramError::Signature }));
    let nonce = std::str::from_utf8(&response[8..]).unwrap();
    let server_first = format!("r={nonce}server,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let last = sent(demand(&mut login, Authentication::SaslContinue(server_first.into())));
    assert!(last.starts_with(b"p"));
    let early = demand(&mut login, Authentication::Ok).err().unwrap();
    assert!(matches!(early, LoginError::Scram { source: ScramError::Signature }));
    let false_end = Authentication::SaslFinal(Bytes::from_static(b"v=AAAA"));
    let error = demand(&mut login, false_end).err().unwrap();
    assert!(matches!(error, LoginError::Scram { source: ScramError::Signature }));
}

#[test]
fn channel_binding_is_used_where_offered_and_a_missing_offer_is_told() {
    let first = |offers: &[&'static str], binding: bool, require: bool| {
        let mut login = begin(Options {
            certificate_hash: binding.then(|| vec![7; 32]),
            require_binding: require,
            ..options(Transport::Verified)
        });
        let message = sent(demand(&mut login, scram(offers)));
        String::from_utf8_lossy(&message[5..]).replace('\0', " ")
    };
    let both = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    let plus = first(&both, true, true);
    assert!(
        plus.starts_with("SCRAM-SHA-256-PLUS ") && plus.contains("p=tls-server-end-point,,n=,r=")
    );
    assert!(first(&both[1..], true, false).contains("y,,n=,r="));
    assert!(first(&both, false, false).contains("n,,n=,r="));
    let required = || Options {
        certificate_hash: Some(vec![7; 32]),
        require_binding: true,
        ..options(Transport::Verified)
    };
    for ask in [
        scram(&both[1..]),
        Authentication::CleartextPassword,
        Authentication::Md5Password { salt: [0; 4] },
    ] {
        let error = demand(&mut begin(required()), ask).err().unwrap();
        assert!(matches!(error, LoginError::NoBinding), "{error}");
    }
}

#[test]
fn what_is_not_spoken_is_named() {
    for (ask, name) in [
        (Authentication::Gss, "GSSAPI"),
        (Authentication::Sspi, "SSPI"),
        (Authentication::KerberosV5, "Kerberos"),
        (scram(&["OAUTHBEARER"]), "SASL"),
    ] {
        let error = demand(&mut begin(options(Transport::Verified)), ask).err().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    let mut login = begin(Options { password: None, ..options(Transport::Verified) });
    let error = demand(&mut login, scram(&["SCRAM-SHA-256"])).err().unwrap();
    assert!(matches!(error, LoginError::NoPassword { .. }));
}

#[test]
fn a_refusal_says_its_code_and_no_more() {
    let report = Report::fatal("28P01", "no user 4111111111111111").with(b'H', "x");
    let mut login = begin(options(Transport::Verified));
    let error = login.received(&Message::ErrorResponse(report)).err().unwrap();
    assert!(error.to_string().contains("28P01"));
    assert!(!format!("{error} {error:?}").contains("4111"));
}

#[test]
fn an_older_server_is_followed_and_a_newer_one_refused() {
    let negotiate = |version| {
        let unknown = Vec::new();
        let message = crate::backend::NegotiateProtocolVersion { version, unknown };
        begin(options(Transport::Verified)).received(&Message::NegotiateProtocolVersion(message))
    };
    assert!(matches!(negotiate(crate::startup::VERSION_3_0), Ok(Step::Read)));
    assert!(matches!(negotiate(3 << 16 | 3), Err(LoginError::Version { .. })));
    assert!(matches!(negotiate(2 << 16), Err(LoginError::Version { .. })));
}
