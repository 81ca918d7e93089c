//! How clients get in: TLS, and the token they bring as their password.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use pcigate_gateway::{Event, Limits};
use pcigate_postgres::login::Options;
use pcigate_tests::{
    issuer::Issuer,
    postgres::{CERTIFICATE, Postgres},
    wait,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::{
    gate::{EVERYTHING, Gate, Setup, schema, text},
    raw,
};

const TLS: &str = "  clientTls: {certFile: /c, keyFile: /k, required: true}";

fn tls_gate(postgres: &Postgres, target: &str) -> Gate {
    let setup = Setup { statements: EVERYTHING, client_tls: true, target, ..Setup::default() };
    Gate::with(postgres, setup)
}

#[test]
fn psql_verifies_the_gateway_and_a_connection_in_the_clear_is_refused() {
    let postgres = Postgres::start("");
    schema(&postgres);
    let gate = tls_gate(&postgres, TLS);
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), &postgres.keys.authority).unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        let mut psql = gate.client(&postgres, "psql");
        psql.env("PGSSLMODE", mode).env("PGSSLROOTCERT", authority.path());
        let output = psql.args(["-XAtq", "-c", "SELECT pan FROM cards WHERE id = 1"]).output();
        assert_eq!(text(&output.unwrap()), "411111******1111\n", "{mode}");
    }
    let mut psql = gate.client(&postgres, "psql");
    psql.env("PGSSLMODE", "disable").args(["-X", "-c", "SELECT 1"]);
    let told = text(&psql.output().unwrap());
    assert!(told.contains("in the clear is refused; set sslmode=require"), "{told}");
    // One that trusts another authority leaves by itself.
    let mut psql = gate.client(&postgres, "psql");
    std::fs::write(authority.path(), &Postgres::start("").keys.authority).unwrap();
    psql.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", authority.path());
    let told = text(&psql.args(["-X", "-c", "SELECT 1"]).output().unwrap());
    assert!(told.contains("SSL error"), "{told}");
    wait::until("their records", || {
        let recorded = gate.recorded();
        (recorded.contains("in the clear is refused") && recorded.contains("TLS with the client"))
            .then_some(())
    });
    let started = |event: &&Event| matches!(event, Event::SessionStarted { client_tls: true, .. });
    assert_eq!(gate.events.lock().unwrap().iter().filter(started).count(), 3);
}

fn direct(gate: &Gate, postgres: &Postgres, names: &[&[u8]]) -> Box<dyn raw::Wire> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(postgres.keys.authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(gate.address).unwrap();
    Box::new(StreamOwned::new(connection, socket))
}

/// As libpq does from PostgreSQL 17 on with `sslnegotiation=direct`.
#[test]
fn tls_may_begin_at_once_where_its_protocol_is_named() {
    let postgres = Postgres::start("");
    let gate = tls_gate(&postgres, TLS);
    let wire = direct(&gate, &postgres, &[b"postgresql"]);
    let options = Options { allow_unasked: true, password: None, ..raw::options("bot") };
    let mut client = raw::Client::login(wire, options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(client.query("SELECT 42")[1], "query: row 42");
    for names in [&[][..], &[&b"http/1.1"[..]]] {
        let mut wire = direct(&gate, &postgres, names);
        let _ = wire.write_all(b"anything");
        assert!(!matches!(wire.read(&mut [0; 64]), Ok(1..)), "{names:?}");
    }
    wait::until("its record", || gate.recorded().contains("without ALPN").then_some(()));
    // Where TLS is not offered, it is said how to do without.
    let plain = Gate::new(&postgres, EVERYTHING);
    let mut socket = TcpStream::connect(plain.address).unwrap();
    socket.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).unwrap();
    assert!(!matches!(socket.read(&mut [0; 64]), Ok(1..)));
    wait::until("its record", || plain.recorded().contains("TLS without SSLRequest").then_some(()));
}

#[test]
fn a_handshake_that_is_garbage_or_never_ends_is_ended_and_recorded() {
    let postgres = Postgres::start("");
    let limits = Limits { opening: std::time::Duration::from_millis(300), ..Limits::default() };
    let setup = Setup { statements: EVERYTHING, client_tls: true, limits, ..Setup::default() };
    let gate = Gate::with(&postgres, setup);
    let ssl_request = [0, 0, 0, 8, 4, 210, 22, 47];
    for handshake in [&b"no handshake at all"[..], &[0x16, 3, 1, 0x40, 0][..], &[][..]] {
        let mut socket = TcpStream::connect(gate.address).unwrap();
        socket.write_all(&ssl_request).unwrap();
        let mut answer = [0];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"S");
        socket.write_all(handshake).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    }
    wait::until("their ends", || (gate.ends.lock().unwrap().len() == 3).then_some(()));
    wait::until("their records", || {
        let ended = |event: &&Event| matches!(event, Event::SessionEnded { .. });
        (gate.events.lock().unwrap().iter().filter(ended).count() == 3).then_some(())
    });
    assert!(gate.recorded().contains("opening the connection"), "{}", gate.recorded());
    // Others are served as before.
    assert_eq!(gate.psql(&postgres, "SELECT 1"), "1\n");
}

fn token_gate(postgres: &Postgres, issuer: &Issuer, required: bool) -> Gate {
    let target = format!(
        "  clientTls: {{certFile: /c, keyFile: /k}}\n  token: {{required: {required}, audience: \
         cards-db, issuer: \"https://issuer.example\", jwksFile: /j}}"
    );
    let jwks = issuer.set();
    let setup = Setup {
        statements: EVERYTHING,
        client_tls: true,
        target: &target,
        jwks: &jwks,
        service_account: Some("shop/bot"),
        ..Setup::default()
    };
    Gate::with(postgres, setup)
}

fn with_password(gate: &Gate, postgres: &Postgres, mode: &str, password: &str) -> String {
    let mut psql = gate.client(postgres, "psql");
    psql.env("PGSSLMODE", mode).env("PGPASSWORD", password);
    text(&psql.args(["-wXAtq", "-c", "SELECT 'in'"]).output().unwrap())
}

#[test]
fn a_required_token_is_asked_for_over_tls_and_names_who_came() {
    let postgres = Postgres::start("log_connections = on");
    let issuer = Issuer::new();
    let gate = token_gate(&postgres, &issuer, true);
    let good = issuer.token("https://people.example/ann", "cards-db", 300);
    let own = issuer.token("system:serviceaccount:shop:bot", "cards-db", 300);
    for token in [&good, &own] {
        assert_eq!(with_password(&gate, &postgres, "require", token), "in\n");
    }
    let other = issuer.token("system:serviceaccount:shop:other", "cards-db", 300);
    let forged = Issuer::new().token("ann", "cards-db", 300);
    for (mode, password, words) in [
        ("disable", &good, "over TLS only"),
        ("require", &issuer.token("ann", "cards-db", -300), "not valid any more"),
        ("require", &issuer.token("ann", "other", 300), "another audience"),
        ("require", &forged, "signature is wrong"),
        ("require", &other, "another ServiceAccount"),
        ("require", &"hunter2".to_owned(), "the password is no token"),
        ("require", &"x".repeat(20_000), "longer than a token"),
    ] {
        let told = with_password(&gate, &postgres, mode, password);
        assert!(told.contains("FATAL") && told.contains(words), "{words}: {told}");
        wait::until("its record", || gate.recorded().contains(words).then_some(()));
    }
    let recorded = gate.recorded();
    assert!(recorded.contains("https://people.example/ann"), "{recorded}");
    assert!(recorded.contains("https://issuer.example"), "{recorded}");
    for secret in [&good, &own, &forged, &"hunter2".to_owned()] {
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!recorded.contains(signature) && !postgres.log().contains(signature));
    }
    // Two have come in; nobody else has reached the server.
    let started = |event: &&Event| matches!(event, Event::SessionStarted { .. });
    assert_eq!(gate.events.lock().unwrap().iter().filter(started).count(), 2);
}

#[test]
fn where_no_token_is_required_any_password_is_ignored_and_a_token_is_verified() {
    let postgres = Postgres::start("");
    let issuer = Issuer::new();
    let gate = token_gate(&postgres, &issuer, false);
    let other = issuer.token("ann", "other", 300);
    for (mode, password) in
        [("disable", "hunter2"), ("require", "hunter2"), ("require", other.as_str())]
    {
        assert_eq!(with_password(&gate, &postgres, mode, password), "in\n", "{mode}");
    }
    assert!(!gate.recorded().contains("https://issuer.example"));
    let good = issuer.token("ann", "cards-db", 300);
    assert_eq!(with_password(&gate, &postgres, "require", &good), "in\n");
    assert!(gate.recorded().contains("https://issuer.example"));
    let expired = issuer.token("ann", "cards-db", -300);
    let told = with_password(&gate, &postgres, "require", &expired);
    assert!(told.contains("not valid any more"), "{told}");
}

#[test]
fn a_credential_may_be_a_certificate_in_place_of_a_password() {
    let postgres = Postgres::start("");
    schema(&postgres);
    for tls in ["verify-full", "require"] {
        let setup =
            Setup { statements: EVERYTHING, tls: Some(tls), certificate: true, ..Setup::default() };
        let gate = Gate::with(&postgres, setup);
        let told = gate.psql(&postgres, "SELECT session_user, pan FROM cards WHERE id = 1");
        assert_eq!(told, format!("{CERTIFICATE}|411111******1111\n"));
    }
}
