//! The probe's actions about names: DNS queries made by hand, and the C library's resolver.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use pcigate_tests::dns;

/// An answer that is to come comes at once, but in a virtual machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `HOW,TYPE,NAME@SERVER`
pub fn resolve(text: &str) -> io::Result<()> {
    let (question, server) = split(text, '@')?;
    let (how, question) = split(question, ',')?;
    let (kind, name) = split(question, ',')?;
    let server: SocketAddr = server.parse().map_err(io::Error::other)?;
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let query = dns::query(id, name, kind.parse().map_err(io::Error::other)?);
    if how == "tcp" {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(&dns::framed(&query))?;
        let mut first = [0; 8192];
        stream.read(&mut first).map(drop)?;
        // A server that sends in pieces waits for this; another may be gone.
        let _ = stream.write_all(&[0]).and_then(|()| stream.read(&mut first));
        return Ok(());
    }
    let socket = of_family(server)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send_to(&query, server)?;
    socket.recv(&mut [0; 8192]).map(drop)
}

/// `NAME=ADDRESS@SERVER`: the answer comes from the server's address, by way of this very process.
pub fn forge(text: &str) -> io::Result<()> {
    let (answer, server) = split(text, '@')?;
    let (name, address) = split(answer, '=')?;
    let server: SocketAddr = server.parse().map_err(io::Error::other)?;
    let forger = UdpSocket::bind(server)?;
    let socket = of_family(server)?;
    let query = dns::query(77, name, dns::A);
    socket.send_to(&query, server)?;
    let (_, from) = forger.recv_from(&mut [0; 512])?;
    forger.send_to(&dns::answer(&query, &[dns::address(address)]), from)?;
    socket.recv(&mut [0; 512]).map(drop)
}

/// By way of the C library.
pub fn lookup(name: &str) -> io::Result<()> {
    (name, 443).to_socket_addrs().map(drop)
}

fn of_family(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    UdpSocket::bind((any, 0))
}

fn split(text: &str, at: char) -> io::Result<(&str, &str)> {
    text.split_once(at).ok_or_else(|| io::Error::other(format!("{text} has no {at}")))
}
