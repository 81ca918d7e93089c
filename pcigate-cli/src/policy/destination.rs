//! A destination as an argument or a case gives it.

use std::net::{IpAddr, SocketAddr};

use pcigate_policy::decide::IngressRequest;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The host.
    pub to: Host,
    /// IP protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
}

/// An address, or a name whose addresses are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

/// Reads `[tcp|udp|sctp:]ADDRESS|NAME:PORT`.
pub fn destination(text: &str) -> Result<Destination, String> {
    let (protocol, place) = match text.split_once(':') {
        Some(("tcp", place)) => (6, place),
        Some(("udp", place)) => (17, place),
        Some(("sctp", place)) => (132, place),
        _ => (6, text),
    };
    if let Ok(place) = place.parse::<SocketAddr>() {
        return Ok(Destination { to: Host::Address(place.ip()), protocol, port: place.port() });
    }
    let named = place.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse().ok()?;
        let name = name.strip_suffix('.').unwrap_or(name);
        is_name(name).then(|| Destination { to: Host::Name(name.to_owned()), protocol, port })
    });
    named.ok_or_else(|| {
        format!(
            "`{text}` is not a destination: write 10.0.0.5:5432, udp:10.0.0.5:53, [fd00::1]:443 or \
             api.example.com:443"
        )
    })
}

/// A host name, and no address that lacks something.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(fits) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Reads `[tcp|udp|sctp:]SOURCE:PORT`: who asks, and the workload's own port.
pub fn source(text: &str) -> Result<IngressRequest, String> {
    match destination(text) {
        Ok(Destination { to: Host::Address(source), protocol, port }) => {
            Ok(IngressRequest { source, protocol, port })
        }
        _ => Err(format!(
            "`{text}` is not a source and a port: write 10.244.0.7:8080, udp:10.244.0.7:53 or \
             [fd00::7]:8080 (the address of whoever asks, the workload's own port)"
        )),
    }
}

/// As people write it.
pub fn shown(address: IpAddr, protocol: u8, port: u16) -> String {
    let place = SocketAddr::new(address, port);
    match protocol {
        6 => format!("tcp:{place}"),
        17 => format!("udp:{place}"),
        132 => format!("sctp:{place}"),
        other => format!("protocol {other}: {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_with_and_without_protocol() {
        for (text, address, protocol, port) in [
            ("10.0.0.5:5432", "10.0.0.5", 6, 5432),
            ("udp:10.0.0.5:53", "10.0.0.5", 17, 53),
            ("[fd00::1]:443", "fd00::1", 6, 443),
            ("sctp:[fd00::1]:1", "fd00::1", 132, 1),
        ] {
            let address = address.parse().expect("an address");
            let to = Host::Address(address);
            assert_eq!(destination(text), Ok(Destination { to, protocol, port }), "{text}");
        }
        let named = |text: &str| destination(text).map(|found| (found.to, found.protocol));
        let name = || Host::Name("db.payments".to_owned());
        assert_eq!(named("db.payments:5432"), Ok((name(), 6)));
        assert_eq!(named("udp:db.payments.:53"), Ok((name(), 17)));
    }

    #[test]
    fn a_source_is_an_address_with_the_workloads_own_port() {
        let source_of = |text: &str| source(text).map(|found| (found.protocol, found.port));
        assert_eq!(source_of("10.244.0.7:8080"), Ok((6, 8080)));
        assert_eq!(source_of("udp:[fd00::7]:53"), Ok((17, 53)));
        assert!(source_of("prometheus.monitoring:8080").is_err(), "who asks has an address");
    }

    #[test]
    fn what_is_no_destination_is_refused_by_name() {
        for text in
            ["", "10.0.0.5", "icmp:10.0.0.5:1", "fd00::1:443", "10.0.0:1", "db.payments:", "a b:1"]
        {
            assert!(destination(text).is_err_and(|error| error.contains(text)), "{text}");
            assert!(source(text).is_err_and(|error| error.contains(text)), "{text}");
        }
    }
}
