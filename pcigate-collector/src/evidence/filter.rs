//! Which records a question is about. All conditions that are set must hold.

use std::net::IpAddr;

use pcigate_index::{Destination, Question};
use pcigate_policy::yaml::shown;
use pcigate_proto::{
    QueryRequest, Record, Verdict, Workload,
    record::{self, Event, KINDS, Subject, kind},
};

/// Newest rows kept when a request sets no limit.
pub const LIMIT_DEFAULT: usize = 1_000;
/// Most rows a request may ask for.
pub const LIMIT_MAX: usize = 1_000_000;

/// A mistake in a request, as a sentence for the person.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A kind that does not exist.
    #[error("kinds: there is no kind {kind}; the kinds are {}", KINDS.join(", "))]
    Kind {
        /// As given, fit for a message.
        kind: String,
    },
    /// A verdict that does not exist.
    #[error("verdict: there is no verdict number {number}; ALLOW is 1, GATE 2, ASK 3, DENY 4")]
    Verdict {
        /// As given.
        number: i32,
    },
    /// A destination that cannot be read.
    #[error(
        "destination: {destination} is not ADDRESS, ADDRESS:PORT, [IPV6]:PORT, PREFIX/BITS or :PORT"
    )]
    Destination {
        /// As given, fit for a message.
        destination: String,
    },
    /// Not the beginning of a session's id.
    #[error("session: {session} is not the beginning of an id: up to 32 digits 0-9 and a-f")]
    Session {
        /// As given, fit for a message.
        session: String,
    },
    /// More rows than a request may ask for.
    #[error("limit: {limit} rows are too many; at most {LIMIT_MAX}, or narrow the time range")]
    Limit {
        /// As given.
        limit: u32,
    },
    /// An empty time range.
    #[error("until_unix_nano: the time range ends before it begins")]
    Time,
}

/// One field of a workload.
type Field = fn(&Workload) -> &str;

/// A checked request.
#[derive(Debug)]
pub struct Filter {
    request: QueryRequest,
    destination: Option<Destination>,
    /// Newest rows to keep.
    pub limit: usize,
}

impl Filter {
    /// Checks a request.
    ///
    /// # Errors
    /// The first mistake.
    pub fn new(request: &QueryRequest) -> Result<Self, FilterError> {
        if let Some(kind) = request.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(FilterError::Kind { kind: shown(kind) });
        }
        if Verdict::try_from(request.verdict).is_err() {
            return Err(FilterError::Verdict { number: request.verdict });
        }
        if request.until_unix_nano != 0 && request.until_unix_nano <= request.since_unix_nano {
            return Err(FilterError::Time);
        }
        let wrong = || FilterError::Destination { destination: shown(&request.destination) };
        let destination = match request.destination.as_str() {
            "" => None,
            text => Some(self::destination(text).ok_or_else(wrong)?),
        };
        if request.session.len() > 32 || !request.session.bytes().all(is_digit) {
            return Err(FilterError::Session { session: shown(&request.session) });
        }
        let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
            0 => LIMIT_DEFAULT,
            limit if limit > LIMIT_MAX => {
                return Err(FilterError::Limit { limit: request.limit });
            }
            limit => limit,
        };
        Ok(Self { request: request.clone(), destination, limit })
    }

    /// The same question to the index.
    #[must_use]
    pub fn question(&self) -> Question {
        let asked = &self.request;
        Question {
            since_unix_nano: asked.since_unix_nano,
            until_unix_nano: asked.until_unix_nano,
            kinds: asked.kinds.clone(),
            verdict: Some(asked.verdict()).filter(|verdict| *verdict != Verdict::Unspecified),
            namespace: asked.namespace.clone(),
            pod: asked.pod.clone(),
            service_account: asked.service_account.clone(),
            executable: asked.executable.clone(),
            destination: self.destination.clone(),
            node: asked.node.clone(),
            session: asked.session.clone(),
            limit: self.limit,
        }
    }

    /// Whether a record is asked for. The index must come to the same answers.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        let asked = &self.request;
        let Some(event) = &record.event else { return false };
        let time = record.time_unix_nano;
        let verdict = record.outcome.as_ref().map_or(0, |outcome| outcome.verdict);
        (asked.since_unix_nano..).contains(&time)
            && (asked.until_unix_nano == 0 || time < asked.until_unix_nano)
            && (asked.kinds.is_empty() || asked.kinds.iter().any(|asked| asked == kind(event)))
            && (asked.verdict == 0 || asked.verdict == verdict)
            && self.matches_workload(record)
            && (asked.node.is_empty() || is_about_node(record, event, &asked.node))
            && (asked.session.is_empty() || is_of_session(event, &asked.session))
            && (asked.executable.is_empty() || runs(record, event, &asked.executable))
            && self.destination.as_ref().is_none_or(|destination| goes_to(event, destination))
    }

    fn matches_workload(&self, record: &Record) -> bool {
        let asked = &self.request;
        let conditions: [(&str, Field); 3] = [
            (&asked.namespace, |workload| &workload.namespace),
            (&asked.pod, |workload| &workload.pod),
            (&asked.service_account, |workload| &workload.service_account),
        ];
        let workload = match &record.subject {
            Some(Subject::Workload(workload)) => Some(workload),
            _ => None,
        };
        let holds = |(wanted, field): &(&str, Field)| {
            wanted.is_empty() || workload.is_some_and(|workload| field(workload) == *wanted)
        };
        conditions.iter().all(holds)
    }
}

/// The conditions of a request in words, for the Query record.
#[must_use]
pub fn text(request: &QueryRequest) -> String {
    let set = |flag: bool| if flag { "true".to_owned() } else { String::new() };
    let number = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    let verdict = Verdict::try_from(request.verdict).ok().filter(|v| *v != Verdict::Unspecified);
    let words = [
        ("since_unix_nano", number(request.since_unix_nano)),
        ("until_unix_nano", number(request.until_unix_nano)),
        ("namespace", request.namespace.clone()),
        ("pod", request.pod.clone()),
        ("service_account", request.service_account.clone()),
        ("kinds", request.kinds.join(",")),
        ("verdict", verdict.map(|v| v.as_str_name().to_owned()).unwrap_or_default()),
        ("executable", request.executable.clone()),
        ("destination", request.destination.clone()),
        ("node", request.node.clone()),
        ("session", request.session.clone()),
        ("limit", number(request.limit.into())),
        ("follow", set(request.follow)),
        ("explain", set(request.explain)),
    ];
    let given = words.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Made by the node, or made by the collector about it.
fn is_about_node(record: &Record, event: &Event, node: &str) -> bool {
    let about = match event {
        Event::Gap(gap) => gap.node.as_str(),
        Event::Received(received) => received.node.as_str(),
        Event::Conflict(conflict) => conflict.node.as_str(),
        Event::Enrollment(asked) => asked.node.as_str(),
        _ => "",
    };
    about == node || record.origin.as_ref().is_some_and(|origin| origin.node == node)
}

/// `beginning` has two digits a byte, and may end within one.
fn is_of_session(event: &Event, beginning: &str) -> bool {
    record::session(event).is_some_and(|id| {
        let digits = id.iter().flat_map(|byte| format!("{byte:02x}").into_bytes());
        digits.take(beginning.len()).eq(beginning.bytes())
    })
}

fn runs(record: &Record, event: &Event, pattern: &str) -> bool {
    let acting = record.process.as_ref().map(|process| process.executable.as_str());
    let asked = match event {
        Event::Exec(exec) => Some(exec.path.as_str()),
        _ => None,
    };
    acting.into_iter().chain(asked).any(|path| wildcard(pattern.as_bytes(), path.as_bytes()))
}

/// Whether the whole text fits the pattern, in which `*` stands for any characters. Linear in
/// pattern times text: only the last `*` is ever reconsidered.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, from)) = retry {
            retry = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

fn destination(text: &str) -> Option<Destination> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    if let Some(text) = text.strip_prefix(':')
        && let Some(port) = port(text)
    {
        return Some(Destination { network: None, port: Some(port.into()) });
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        let network = Some((address.ip().to_canonical(), 128));
        return Some(Destination { network, port: Some(address.port().into()) });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Destination { network: Some((address.to_canonical(), 128)), port: None });
    }
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, port(bits)?);
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = u32::from(bits);
    (bits <= width).then_some(Destination { network: Some((address, bits)), port: None })
}

fn goes_to(event: &Event, destination: &Destination) -> bool {
    let Event::Egress(egress) = event else { return false };
    let within = |(network, bits): (IpAddr, u32)| {
        egress.address.parse().is_ok_and(|address| contains(network, bits, address))
    };
    destination.port.is_none_or(|port| port == egress.port)
        && destination.network.is_none_or(within)
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
