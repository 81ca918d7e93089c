//! A client made of the crate under test and a blocking socket.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use pcigate_postgres::{
    backend,
    backend::{Report, TransactionStatus},
    frontend::{Bind, Execute, Message, Parse, Target},
    login::{Login, LoginError, Options, Step},
    session::{About, Kind, Limits, Origin, Refusal, RowShape, Session},
    startup::{Packet, VERSION_3_0},
    values::{Format, Formats, Values},
};
use pcigate_tests::postgres::{DATABASE, PASSWORD, Postgres};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// A connection, plain or under TLS.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// What logging in needs, in the plainest form.
pub fn options(user: &str) -> Options {
    Options {
        user: user.to_owned(),
        parameters: vec![("database".to_owned(), DATABASE.to_owned())],
        version: VERSION_3_0,
        password: Some(pcigate_postgres::login::Secret::new(PASSWORD.into())),
        transport: pcigate_postgres::login::Transport::Unproven,
        certificate_hash: None,
        require_binding: false,
        allow_unasked: false,
        iterations: pcigate_postgres::login::ITERATIONS,
        nonce: *b"a nonce of a test!",
    }
}

/// A TCP connection.
pub fn plain(postgres: &Postgres) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap();
    // Batches go out message by message.
    socket.set_nodelay(true).unwrap();
    socket
}

/// A TLS connection whose other end was verified, with or without the client's certificate.
pub fn tls(postgres: &Postgres, with_certificate: bool) -> Box<dyn Wire> {
    let mut socket = plain(postgres);
    let mut out = BytesMut::new();
    Packet::SslRequest.encode(&mut out).unwrap();
    socket.write_all(&out).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let keys = &postgres.keys;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(keys.authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if with_certificate {
        let certificate = CertificateDer::from_pem_slice(keys.client.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(keys.client_key.as_bytes()).unwrap();
        config.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(StreamOwned::new(connection, socket))
}

/// A session with the server; its tags are ours to find requests again.
pub struct Client {
    wire: Box<dyn Wire>,
    buffer: BytesMut,
    pub session: Session<&'static str>,
    pub logged_in: pcigate_postgres::login::Session,
}

/// One message of the server, with what the session said about it.
pub struct Told {
    pub message: backend::Message,
    pub kind: Option<Kind>,
    pub tag: &'static str,
    pub index: u32,
    pub refused: bool,
    pub shape: Option<RowShape>,
    pub skipped: Vec<&'static str>,
}

impl Client {
    /// Logs in.
    pub fn login(mut wire: Box<dyn Wire>, options: Options) -> Result<Self, LoginError> {
        let (mut login, first) = Login::begin(options)?;
        wire.write_all(&first).unwrap();
        let mut buffer = BytesMut::new();
        loop {
            let message = read(&mut *wire, &mut buffer);
            match login.received(&message)? {
                Step::Read => {}
                Step::Send(message) => {
                    wire.write_all(message.bytes()).unwrap();
                    wire.flush().unwrap();
                }
                Step::Done(logged_in) => {
                    let session = Session::new(Limits::default());
                    return Ok(Self { wire, buffer, session, logged_in });
                }
            }
        }
    }

    /// Without a password, over TCP.
    pub fn trusted(postgres: &Postgres) -> Self {
        let user = pcigate_tests::postgres::TRUST;
        let options = Options { allow_unasked: true, password: None, ..options(user) };
        Self::login(Box::new(plain(postgres)), options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a message on, whatever it is about.
    pub fn send(&mut self, message: &Message, tag: &'static str) {
        self.session.sent(message, Origin::Client, tag).unwrap();
        self.write(message);
    }

    /// Sends, in the message's place, one that fails at the server.
    pub fn refuse(&mut self, message: &Message, tag: &'static str) {
        let Refusal { instead, .. } = self.session.refused(message, Origin::Client, tag).unwrap();
        self.write(&instead);
    }

    /// Sends without telling the session, which is to drop it.
    pub fn write(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        message.encode(&mut out).unwrap();
        self.wire.write_all(&out).unwrap();
        self.wire.flush().unwrap();
    }

    pub fn drops(&self, message: &Message) -> bool {
        matches!(self.session.about(message), Ok(About::Drop))
    }

    /// The next message.
    pub fn read(&mut self) -> Told {
        let message = read(&mut *self.wire, &mut self.buffer);
        let answer = self.session.received(&message).unwrap_or_else(|error| panic!("{error}"));
        let request = answer.request;
        Told {
            kind: request.map(|request| request.kind),
            tag: request.map_or("", |request| request.tag),
            index: request.map_or(0, |request| request.index),
            refused: request.is_some_and(|request| request.refused),
            shape: answer.shape.cloned(),
            skipped: answer.skipped.iter().map(|request| request.tag).collect(),
            message,
        }
    }

    /// The next messages, without telling the session.
    pub fn read_raw(&mut self, count: usize) -> Vec<backend::Message> {
        (0..count).map(|_| read(&mut *self.wire, &mut self.buffer)).collect()
    }

    /// All messages up to the next ReadyForQuery, that one included.
    pub fn read_to_ready(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            all.push(self.read());
            if matches!(all.last().unwrap().message, backend::Message::ReadyForQuery(_)) {
                return all;
            }
        }
    }

    /// Runs a string of statements; the answers in short.
    pub fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(&Message::Query(Bytes::copy_from_slice(sql.as_bytes())), "query");
        self.read_to_ready().iter().map(short).collect()
    }
}

/// Reads one message, and checks that writing it gives the same bytes.
fn read(wire: &mut dyn Wire, buffer: &mut BytesMut) -> backend::Message {
    loop {
        if let Some(frame) = backend::next(buffer, &backend::Limits::default()).unwrap() {
            let message = backend::Message::decode(&frame).unwrap();
            let mut again = BytesMut::new();
            message.encode(&mut again).unwrap();
            assert_eq!(again, frame.bytes(), "{}", message.name());
            return message;
        }
        let mut bytes = [0; 8192];
        let count = wire.read(&mut bytes).unwrap();
        assert!(count > 0, "the server has hung up");
        buffer.extend_from_slice(&bytes[..count]);
    }
}

/// A message in a few words, with the tag of the request it answers.
pub fn short(told: &Told) -> String {
    use backend::Message as M;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let what = match &told.message {
        M::DataRow(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|value| value.map_or("NULL".into(), |v| String::from_utf8_lossy(v).into()))
                .collect();
            format!("row {}", values.join(","))
        }
        M::CommandComplete(tag) => text(tag),
        M::ErrorResponse(report) => format!("error {}", code(report)),
        M::ReadyForQuery(TransactionStatus::Idle) => "ready".to_owned(),
        M::ReadyForQuery(TransactionStatus::Open) => "ready, open".to_owned(),
        M::ReadyForQuery(TransactionStatus::Failed) => "ready, failed".to_owned(),
        other => other.name().to_owned(),
    };
    if told.tag.is_empty() { what } else { format!("{}: {what}", told.tag) }
}

pub fn code(report: &Report) -> String {
    String::from_utf8_lossy(report.code()).into_owned()
}

pub fn parse(statement: &'static str, sql: &'static str) -> Message {
    Message::Parse(Parse {
        statement: statement.into(),
        sql: sql.into(),
        parameter_types: Vec::new(),
    })
}

pub fn bind(portal: &'static str, statement: &'static str, parameters: &[&[u8]]) -> Message {
    Message::Bind(Bind {
        portal: portal.into(),
        statement: statement.into(),
        parameter_formats: Formats::default(),
        parameters: Values::new(parameters.iter().map(|value| Some(*value))).unwrap(),
        result_formats: Formats::new(&[Format::Text]),
    })
}

pub fn execute(portal: &'static str, max_rows: i32) -> Message {
    Message::Execute(Execute { portal: portal.into(), max_rows })
}

pub fn describe(name: &'static str) -> Message {
    Message::Describe(Target::Statement(name.into()))
}

pub fn describe_portal(name: &'static str) -> Message {
    Message::Describe(Target::Portal(name.into()))
}
