//! Every way in, and every way that has to stay shut.

use pcigate_postgres::{
    login::{LoginError, Options, ScramError, Secret, Transport},
    startup::{VERSION_3_0, VERSION_3_2},
};
use pcigate_tests::postgres::{CERTIFICATE, CLEARTEXT, MD5, Postgres, SCRAM, TRUST};
use sha2::{Digest, Sha256};

use super::client::{Client, options, plain, tls};

fn verified(user: &str, postgres: &Postgres) -> Options {
    let certificate_hash = Some(Sha256::digest(&postgres.keys.server_der).to_vec());
    Options { transport: Transport::Verified, certificate_hash, ..options(user) }
}

fn error(login: Result<Client, LoginError>) -> LoginError {
    login.err().unwrap()
}

#[test]
fn every_method_logs_in_where_it_may_and_nowhere_else() {
    let postgres = Postgres::start("");
    let mut client = Client::login(Box::new(plain(&postgres)), options(SCRAM)).ok().unwrap();
    assert_eq!(client.query("SELECT current_user")[1], format!("query: row {SCRAM}"));
    let session = &client.logged_in;
    assert!(session.process > 0 && session.cancel_key.len() == 4);
    assert!(
        session
            .parameters
            .iter()
            .any(|(name, value)| { name == "server_version" && value.starts_with(b"15.") })
    );
    for user in [CLEARTEXT, MD5] {
        let refused = error(Client::login(Box::new(plain(&postgres)), options(user)));
        assert!(matches!(refused, LoginError::NeedsVerifiedTls { .. }), "{refused}");
        let mut client = Client::login(tls(&postgres, false), verified(user, &postgres))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(client.query("SELECT 1")[1], "query: row 1");
    }
    let refused = error(Client::login(Box::new(plain(&postgres)), options(TRUST)));
    assert!(matches!(refused, LoginError::Unasked), "{refused}");
    assert_eq!(Client::trusted(&postgres).query("SELECT 1")[1], "query: row 1");
    let by_certificate =
        || Options { allow_unasked: true, password: None, ..verified(CERTIFICATE, &postgres) };
    let refused = error(Client::login(tls(&postgres, false), by_certificate()));
    assert!(matches!(&refused, LoginError::Refused { code, .. } if code == "28000"), "{refused}");
    let mut client = Client::login(tls(&postgres, true), by_certificate()).ok().unwrap();
    assert_eq!(client.query("SELECT current_user")[1], format!("query: row {CERTIFICATE}"));
    let wrong = Options { password: Some(Secret::new(b"wrong".to_vec())), ..options(SCRAM) };
    let refused = error(Client::login(Box::new(plain(&postgres)), wrong));
    assert!(matches!(&refused, LoginError::Refused { code, .. } if code == "28P01"), "{refused}");
}

#[test]
fn scram_is_bound_to_the_channel_and_a_false_channel_is_found_out() {
    let postgres = Postgres::start("");
    let required = || Options { require_binding: true, ..verified(SCRAM, &postgres) };
    let mut client =
        Client::login(tls(&postgres, false), required()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(client.query("SELECT 1")[1], "query: row 1");
    // Somebody in the middle has another certificate: the server refuses the proof.
    let elsewhere = Options { certificate_hash: Some(vec![1; 32]), ..required() };
    let refused = error(Client::login(tls(&postgres, false), elsewhere));
    assert!(matches!(refused, LoginError::Refused { .. }), "{refused}");
    // The offer was taken out on the way, and we say that we could have bound: the server, which
    // did offer, refuses. (Over plain TCP it does not offer.)
    let refused = error(Client::login(Box::new(plain(&postgres)), required()));
    assert!(matches!(refused, LoginError::NoBinding), "{refused}");
    let unbound = Options { certificate_hash: None, ..verified(SCRAM, &postgres) };
    assert!(Client::login(tls(&postgres, false), unbound).is_ok());
}

#[test]
fn passwords_of_all_kinds_versions_and_iteration_counts_are_as_the_server_has_them() {
    let postgres = Postgres::start("");
    for password in ["pässwörd", "I\u{ad}X", "\u{2168}", "a\u{7}b", "日本語 \u{a0}x"] {
        postgres.sql(&format!("ALTER ROLE {SCRAM} PASSWORD '{password}'"));
        let given = Options { password: Some(Secret::new(password.into())), ..options(SCRAM) };
        let login = Client::login(Box::new(plain(&postgres)), given);
        assert!(login.is_ok(), "{password:?}: {}", login.err().unwrap());
    }
    // A verifier with fewer iterations than we take: refused before any work.
    let weak = "SCRAM-SHA-256$1000:c2FsdHNhbHRzYWx0c2FsdA==$\
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    postgres.sql(&format!("ALTER ROLE {SCRAM} PASSWORD '{weak}'"));
    let refused = error(Client::login(Box::new(plain(&postgres)), options(SCRAM)));
    let LoginError::Scram { source } = refused else { panic!("{refused}") };
    assert!(matches!(source, ScramError::Iterations { asked: 1_000, .. }), "{source}");
    let newer =
        Options { version: VERSION_3_2, allow_unasked: true, password: None, ..options(TRUST) };
    let client = Client::login(Box::new(plain(&postgres)), newer).ok().unwrap();
    assert_eq!(client.logged_in.version, VERSION_3_0, "15 speaks no newer one");
}
