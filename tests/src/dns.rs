//! DNS messages built by hand, right ones and wrong ones, and a server that sends them.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::network::Network;

/// Record type A.
pub const A: u16 = 1;
/// Record type CNAME.
pub const CNAME: u16 = 5;
/// Record type AAAA.
pub const AAAA: u16 = 28;
/// A pointer to the question's name.
pub const QUESTION: [u8; 2] = [0xc0, 12];

/// A name as labels.
#[must_use]
pub fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| {
            let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
            [length].into_iter().chain(label.bytes())
        })
        .collect();
    bytes.push(0);
    bytes
}

/// A query with one question, and EDNS offering 4,096 bytes.
#[must_use]
pub fn query(id: u16, text: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    bytes.extend(name(text));
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Length of the header and the question of a message.
#[must_use]
pub fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while let Some(&length) = message.get(at).filter(|length| **length != 0) {
        at += 1 + usize::from(length);
    }
    at + 5
}

/// One record; its owner may be any bytes.
#[must_use]
pub fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// An address of the question's name, good for a minute.
#[must_use]
pub fn address(text: &str) -> Vec<u8> {
    match text.parse().expect("an address") {
        IpAddr::V4(v4) => record(&QUESTION, A, 60, &v4.octets()),
        IpAddr::V6(v6) => record(&QUESTION, AAAA, 60, &v6.octets()),
    }
}

/// The answer to a query, with these records and EDNS behind them.
#[must_use]
pub fn answer(query: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = query.get(..question_end(query)).unwrap_or_default().to_vec();
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes();
    bytes.splice(2..12, [0x81, 0x80, 0, 1, count[0], count[1], 0, 0, 0, 1]);
    bytes.extend(records.concat());
    bytes.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// What a server sends back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A message.
    Message(Vec<u8>),
    /// A message from the network's second server address (UDP).
    FromOther(Vec<u8>),
    /// These bytes as they are, in two segments (TCP).
    Pieces(Vec<u8>, Vec<u8>),
}

/// A server on port 53 of the network's first server address; it ends when it is dropped.
pub struct Server {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Answers every query over UDP and TCP with what `answers` says.
    ///
    /// # Panics
    /// The port is taken.
    #[must_use]
    pub fn start(
        network: &Network,
        answers: impl Fn(&[u8]) -> Vec<Reply> + Send + Clone + 'static,
    ) -> Self {
        let [first, other] = network.servers;
        let (sockets, listener) = network.outside(|| {
            let udp = [first, other].map(|at| UdpSocket::bind((at, 53)).expect("port 53"));
            (udp, TcpListener::bind((first, 53)).expect("port 53"))
        });
        let ends = Arc::new(AtomicBool::new(false));
        let (end, of_tcp) = (Arc::clone(&ends), answers.clone());
        let udp = std::thread::spawn(move || serve_udp(&sockets, &end, answers));
        let end = Arc::clone(&ends);
        let tcp = std::thread::spawn(move || serve_tcp(&listener, &end, of_tcp));
        Self { ends, threads: vec![udp, tcp] }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How often a server looks whether it should end.
const TURN: Duration = Duration::from_millis(20);

fn serve_udp(sockets: &[UdpSocket; 2], end: &AtomicBool, answers: impl Fn(&[u8]) -> Vec<Reply>) {
    let [socket, other] = sockets;
    socket.set_read_timeout(Some(TURN)).expect("a timeout");
    let mut buffer = [0; 512];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        for reply in answers(buffer.get(..length).unwrap_or_default()) {
            let _ = match reply {
                Reply::Message(bytes) => socket.send_to(&bytes, from),
                Reply::FromOther(bytes) => other.send_to(&bytes, from),
                Reply::Pieces(..) => Ok(0),
            };
        }
    }
}

fn serve_tcp(listener: &TcpListener, end: &AtomicBool, answers: impl Fn(&[u8]) -> Vec<Reply>) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::park_timeout(TURN);
            continue;
        };
        stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true)).expect("a stream");
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            continue;
        }
        for reply in answers(&query) {
            let _ = match reply {
                Reply::Message(bytes) | Reply::FromOther(bytes) => {
                    stream.write_all(&framed(&bytes))
                }
                Reply::Pieces(first, second) => send_apart(&mut stream, &first, &second),
            };
        }
    }
}

/// A message with its length in front, as TCP carries it.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    length.iter().chain(message).copied().collect()
}

/// The second goes only after the first has arrived, so that they are two segments.
fn send_apart(stream: &mut std::net::TcpStream, a: &[u8], b: &[u8]) -> std::io::Result<()> {
    stream.write_all(a)?;
    // The probe sends a byte for the first half.
    stream.read_exact(&mut [0])?;
    stream.write_all(b)
}
