//! Bytes of PostgreSQL clients and servers: what is read is written the same; how the bytes were
//! cut does not matter; limits hold; a login with any server ends.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_postgres::login::{ITERATIONS, Login, Options, Secret, Step, Transport};
use pcigate_postgres::{backend, frontend, startup};

const LIMIT: usize = 300;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Before or instead of whole messages.
    raw: &'a [u8],
    messages: Vec<(u8, Body<'a>)>,
    cuts: Vec<u8>,
    verified: bool,
    bound: bool,
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// With a length that is not its own.
    Lying(i32, &'a [u8]),
    /// Pieces that most messages are made of.
    Pieces(Vec<Piece<'a>>),
    /// A demand for authentication.
    Demand(u8, &'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Text(&'a str),
    Short(u16),
    Small(u8),
    Long(u32),
    Null,
    Value(&'a [u8]),
}

fn body(body: &Body<'_>) -> (Option<i32>, Vec<u8>) {
    let mut out = Vec::new();
    match body {
        Body::Bytes(bytes) => return (None, bytes.to_vec()),
        Body::Lying(length, bytes) => return (Some(*length), bytes.to_vec()),
        Body::Demand(kind, bytes) => {
            out.extend([0, 0, 0, kind % 16]);
            out.extend(*bytes);
        }
        Body::Pieces(pieces) => {
            for piece in pieces {
                match piece {
                    Piece::Text(text) => out.extend([text.as_bytes(), &[0]].concat()),
                    Piece::Short(number) => out.extend(number.to_be_bytes()),
                    Piece::Small(number) => out.extend([0, number % 4]),
                    Piece::Long(number) => out.extend(number.to_be_bytes()),
                    Piece::Null => out.extend([255; 4]),
                    Piece::Value(value) => {
                        out.extend((value.len() as u32).to_be_bytes());
                        out.extend(*value);
                    }
                }
            }
        }
    }
    (None, out)
}

fn stream(input: &Input<'_>, tags: &[u8]) -> Vec<u8> {
    let mut out = input.raw.to_vec();
    for (tag, of) in &input.messages {
        let (length, body) = body(of);
        out.push(tags[usize::from(*tag) % tags.len()]);
        out.extend(length.unwrap_or(body.len() as i32 + 4).to_be_bytes());
        out.extend(body);
    }
    out
}

/// Everything `next` takes off the bytes when they come in pieces, and whether it ended in an
/// error.
fn pieces<T, E>(
    bytes: &[u8],
    cuts: &[u8],
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> (Vec<T>, bool) {
    let (mut buffer, mut all, mut rest) = (BytesMut::new(), Vec::new(), bytes);
    let mut cuts = cuts.iter();
    while !rest.is_empty() {
        let cut = cuts.next().map_or(rest.len(), |cut| usize::from(*cut).clamp(1, rest.len()));
        buffer.extend_from_slice(&rest[..cut]);
        rest = &rest[cut..];
        loop {
            match next(&mut buffer) {
                Ok(Some(message)) => all.push(message),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

fn client(input: &Input<'_>) {
    let bytes = stream(input, b"BCdcfDEHFPpQSX");
    let limits = frontend::Limits {
        statement: LIMIT,
        parameters: LIMIT,
        copy: LIMIT,
        password: LIMIT,
        other: LIMIT,
    };
    let whole = pieces(&bytes, &[], |buffer| frontend::next(buffer, &limits));
    let cut = pieces(&bytes, &input.cuts, |buffer| frontend::next(buffer, &limits));
    assert!(whole == cut, "cutting changed what was read");
    for frame in whole.0 {
        assert!(frame.body().len() <= LIMIT);
        let Ok(message) = frontend::Message::decode(&frame) else { continue };
        let mut again = BytesMut::new();
        message.encode(&mut again).expect("what was read can be written");
        assert_eq!(again, frame.bytes());
        if let frontend::Message::Password(body) = message {
            let _ = frontend::password(body.clone());
            if let Ok(initial) = frontend::SaslInitialResponse::decode(body) {
                let mut again = BytesMut::new();
                initial.encode(&mut again).expect("what was read can be written");
                assert_eq!(again, frame.bytes());
            }
        }
    }
}

fn server(input: &Input<'_>) {
    let bytes = stream(input, b"RK23CWdcGHDIEVvnNAtS1sZTRRR");
    let limits = backend::Limits { row: LIMIT, copy: LIMIT, long: LIMIT, other: LIMIT };
    let whole = pieces(&bytes, &[], |buffer| backend::next(buffer, &limits));
    let cut = pieces(&bytes, &input.cuts, |buffer| backend::next(buffer, &limits));
    assert!(whole == cut, "cutting changed what was read");
    let mut login = Some(login(input));
    for frame in whole.0 {
        assert!(frame.body().len() <= LIMIT);
        let Ok(message) = backend::Message::decode(&frame) else { continue };
        let mut again = BytesMut::new();
        message.encode(&mut again).expect("what was read can be written");
        assert_eq!(again, frame.bytes());
        if let backend::Message::DataRow(values) = &message {
            assert_eq!(values.iter().count(), values.len());
            let mut again = BytesMut::new();
            backend::encode_row(values, &mut again).expect("what was read can be written");
            assert_eq!(again, frame.bytes());
        }
        let step = login.as_mut().map(|login| login.received(&message));
        match step {
            Some(Ok(Step::Done(_)) | Err(_)) => login = None,
            Some(Ok(Step::Send(sent))) => {
                let text = String::from_utf8_lossy(sent.bytes()).into_owned();
                assert!(input.verified || !text.contains("secret"), "the password went out");
            }
            Some(Ok(Step::Read)) | None => {}
        }
    }
}

fn login(input: &Input<'_>) -> Login {
    let options = Options {
        user: "app".to_owned(),
        parameters: Vec::new(),
        version: startup::VERSION_3_2,
        password: Some(Secret::new(b"secret".to_vec())),
        transport: if input.verified { Transport::Verified } else { Transport::Unproven },
        certificate_hash: input.bound.then(|| vec![7; 32]),
        require_binding: false,
        allow_unasked: true,
        iterations: 1..=(*ITERATIONS.start()),
        nonce: [1; 18],
    };
    let Ok((login, _)) = Login::begin(options) else { panic!("the options are good") };
    login
}

fuzz_target!(|input: Input<'_>| {
    client(&input);
    server(&input);
    let mut buffer = BytesMut::from(input.raw);
    if let Ok(Some(packet)) = startup::next(&mut buffer, startup::LIMIT) {
        let mut again = BytesMut::new();
        packet.encode(&mut again).expect("what was read can be written");
        let read = Bytes::copy_from_slice(&input.raw[..input.raw.len() - buffer.len()]);
        assert_eq!(again, read);
    }
});
