//! A client that costs next to nothing: a socket, and the messages on it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use bytes::{Bytes, BytesMut};
use pcigate_postgres::{
    backend,
    frame::Frame,
    frontend::Message,
    startup::{Packet, StartupMessage, VERSION_3_0},
};
use pcigate_tests::{postgres::DATABASE, wait::DEADLINE};

pub struct Wire {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// Has only connected.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// Has asked to be let in.
    pub fn knocking(address: SocketAddr) -> Self {
        let mut wire = Self::silent(address);
        let parameter = |name: &str, value: &str| (name.to_owned().into(), value.to_owned().into());
        let parameters = vec![parameter("user", "bot"), parameter("database", DATABASE)];
        let mut out = BytesMut::new();
        let startup = StartupMessage { version: VERSION_3_0, parameters };
        Packet::Startup(startup).encode(&mut out).unwrap();
        wire.stream.write_all(&out).unwrap();
        wire
    }

    /// Is let in.
    pub fn open(address: SocketAddr) -> Self {
        let mut wire = Self::knocking(address);
        wire.read_to_ready();
        wire
    }

    pub fn ask(&mut self, sql: &str) {
        let mut out = BytesMut::new();
        Message::Query(Bytes::copy_from_slice(sql.as_bytes())).encode(&mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    /// Leaves in good order.
    pub fn leave(mut self) {
        let mut out = BytesMut::new();
        Message::Terminate.encode(&mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    /// The next message; nothing at the end.
    pub fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut bytes = [0; 64 << 10];
        loop {
            if let Some(frame) =
                backend::next(&mut self.buffer, &backend::Limits::default()).unwrap()
            {
                return Ok(Some(frame));
            }
            let read = self.stream.read(&mut bytes)?;
            if read == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }

    /// All up to ReadyForQuery.
    pub fn read_to_ready(&mut self) -> Vec<backend::Message> {
        let mut all = Vec::new();
        loop {
            let frame = self.next().unwrap().unwrap();
            all.push(backend::Message::decode(&frame).unwrap());
            if matches!(all.last(), Some(backend::Message::ReadyForQuery(_))) {
                return all;
            }
        }
    }

    /// The first value of the one row of an answer.
    pub fn value(&mut self, sql: &str) -> String {
        self.ask(sql);
        self.answered()
    }

    /// The same, for what was asked before.
    pub fn answered(&mut self) -> String {
        let told = self.read_to_ready();
        let row = told.iter().find_map(|message| match message {
            backend::Message::DataRow(values) => Some(values),
            _ => None,
        });
        let names: Vec<&str> = told.iter().map(backend::Message::name).collect();
        let value = row.unwrap_or_else(|| panic!("no row in {names:?}")).iter().next().unwrap();
        String::from_utf8_lossy(value.unwrap()).into_owned()
    }

    /// What the session ends with: SQLSTATE and sentence of the error that says so.
    pub fn last_words(&mut self) -> (String, String) {
        while let Some(frame) = self.next().unwrap() {
            match backend::Message::decode(&frame).unwrap() {
                backend::Message::ErrorResponse(report) if report.ends_session() => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return (text(report.code()), text(report.field(b'M').unwrap()));
                }
                _ => {}
            }
        }
        panic!("the connection was closed without a word");
    }
}
