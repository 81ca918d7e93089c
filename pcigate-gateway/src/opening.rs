//! The client's first packets: encryption, a cancel request, or the startup message and what of it
//! goes upstream.

use std::sync::Arc;

use bytes::Bytes;
use pcigate_postgres::startup::{self, CancelRequest, Packet, StartupMessage};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::stream::{Begun, Stream};
use crate::tls::ALPN;

/// The client's connection once it is clear what it wants.
pub(crate) type ClientStream<C> = Stream<C, TlsStream<Begun<C>>>;

/// What a connection wants.
pub(crate) enum Opened<C> {
    Cancel(CancelRequest),
    Session { client: Framed<ClientStream<C>>, startup: StartupMessage, tls: bool },
}

/// Packets before the startup message: GSS and TLS are asked for once each.
const QUESTIONS: usize = 3;

/// Settings a client may bring: none changes how statements are read, or rights.
const SETTINGS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lc_messages",
    "lock_timeout",
    "statement_timeout",
    "timezone",
];

/// Answers the client's questions up to its startup message.
pub(crate) async fn open<C: AsyncRead + AsyncWrite + Unpin>(
    client: C,
    tls: Option<&Arc<ServerConfig>>,
) -> Result<Opened<C>, SessionEnd> {
    let mut client = Framed::new(Stream::Plain(client));
    let mut is_tls = false;
    if let Some(config) = tls
        && begins_tls(&mut client).await?
    {
        client = encrypted(client, config).await?;
        is_tls = true;
        // PostgreSQL 17 and later: what was not asked for must be named.
        let Stream::Tls(stream) = &client.stream else {
            return Err(SessionEnd::Client { source: None });
        };
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            let what = "TLS without SSLRequest and without ALPN".to_owned();
            return Err(SessionEnd::Opening { what, remedy: "set sslnegotiation=postgres" });
        }
    }
    for _ in 0..QUESTIONS {
        match packet(&mut client).await? {
            Packet::Cancel(request) => return Ok(Opened::Cancel(request)),
            Packet::Startup(startup) => {
                return Ok(Opened::Session { client, startup, tls: is_tls });
            }
            Packet::SslRequest if let (Some(config), false) = (tls, is_tls) => {
                // What came in the clear must not be read as if it came in TLS.
                if !client.buffer.is_empty() {
                    let remedy = "wait for the answer to SSLRequest before the handshake";
                    let what = "data behind an unanswered SSLRequest".to_owned();
                    return Err(SessionEnd::Opening { what, remedy });
                }
                tell(&mut client, b"S").await?;
                client = encrypted(client, config).await?;
                is_tls = true;
            }
            Packet::SslRequest | Packet::GssEncRequest => tell(&mut client, b"N").await?,
        }
    }
    let what = "asking for encryption again and again".to_owned();
    Err(SessionEnd::Opening { what, remedy: "take the answer, and send the startup message" })
}

/// Whether the first byte is TLS's: then nothing asks for it.
async fn begins_tls<C>(client: &mut Framed<ClientStream<C>>) -> Result<bool, SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    if client.buffer.is_empty() {
        fill(client).await?;
    }
    Ok(startup::begins_tls(&client.buffer))
}

/// The handshake; what has come of it goes into it. Bounded by the caller's deadline.
async fn encrypted<C>(
    client: Framed<ClientStream<C>>,
    config: &Arc<ServerConfig>,
) -> Result<Framed<ClientStream<C>>, SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Framed { stream: Stream::Plain(stream), buffer: head } = client else {
        return Err(SessionEnd::Client { source: None });
    };
    let begun = Begun { head, stream };
    let accepted = TlsAcceptor::from(Arc::clone(config)).accept(begun).await;
    let stream = accepted.map_err(|source| SessionEnd::ClientTls { source })?;
    Ok(Framed::new(Stream::Tls(Box::new(stream))))
}

async fn fill<C>(client: &mut Framed<ClientStream<C>>) -> Result<(), SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match client.fill().await {
        Ok(0) => Err(SessionEnd::Client { source: None }),
        Ok(_) => Ok(()),
        Err(source) => Err(SessionEnd::Client { source: Some(source) }),
    }
}

async fn packet<C>(client: &mut Framed<ClientStream<C>>) -> Result<Packet, SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if startup::begins_tls(&client.buffer) {
            let what = "TLS without SSLRequest".to_owned();
            return Err(SessionEnd::Opening { what, remedy: "set sslnegotiation=postgres" });
        }
        if let Some(packet) = startup::next(&mut client.buffer, startup::LIMIT)? {
            return Ok(packet);
        }
        fill(client).await?;
    }
}

async fn tell<C>(client: &mut Framed<ClientStream<C>>, answer: &[u8]) -> Result<(), SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let sent = client.send(answer).await;
    sent.map_err(|source| SessionEnd::Client { source: Some(source) })
}

/// What a startup message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub user: String,
    pub database: String,
    pub application: String,
    /// For the startup message upstream, without user and database.
    pub settings: Vec<(String, String)>,
}

/// Reads and checks it.
pub(crate) fn wish(startup: &StartupMessage, databases: &[String]) -> Result<Wish, SessionEnd> {
    let mut pairs = Vec::new();
    let (mut user, mut database) = (String::new(), String::new());
    for (name, value) in &startup.parameters {
        let value = text(value)?;
        match text(name)?.to_lowercase().as_str() {
            "user" => user = value,
            "database" => database = value,
            "replication" if is_off(&value) => {}
            "replication" => {
                let remedy = "a gate is for statements; replicate past it with a Target of its own";
                return Err(refused("the replication protocol", remedy));
            }
            "options" => pairs.extend(options(&value)?),
            name if name.starts_with("_pq_.") => {}
            name => pairs.push((name.to_owned(), value)),
        }
    }
    if user.is_empty() {
        return Err(refused("a startup message without a user", "name one"));
    }
    if database.is_empty() {
        database.clone_from(&user);
    }
    if !databases.is_empty() && !databases.contains(&database) {
        return Err(refused("this database", "name one that the gate rule allows"));
    }
    let mut application = String::new();
    let mut settings = Vec::new();
    for (name, value) in pairs {
        match name.as_str() {
            "client_encoding" if is_utf8(&value) => {}
            "standard_conforming_strings" if value == "on" => {}
            "application_name" => {
                application.clone_from(&value);
                settings.push((name, value));
            }
            known if SETTINGS.contains(&known) => settings.push((name, value)),
            _ => {
                let shown: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
                let what = format!("the setting {shown} in the startup message");
                let remedy = "leave it out, or SET it later where a rule allows that";
                return Err(SessionEnd::Opening { what, remedy });
            }
        }
    }
    Ok(Wish { user, database, application, settings })
}

fn refused(what: &str, remedy: &'static str) -> SessionEnd {
    SessionEnd::Opening { what: what.to_owned(), remedy }
}

fn text(bytes: &Bytes) -> Result<String, SessionEnd> {
    let text = std::str::from_utf8(bytes).map(str::to_owned);
    text.map_err(|_| refused("a startup message that is not UTF-8", "send UTF-8"))
}

fn is_off(value: &str) -> bool {
    ["off", "false", "no", "0"].iter().any(|off| off.eq_ignore_ascii_case(value))
}

/// As the server compares names of encodings; `auto` is libpq's, which then says what it found.
fn is_utf8(value: &str) -> bool {
    let letters = value.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    name == "utf8" || name == "unicode"
}

/// `-c name=value`, `-cname=value` and `--name=value`, with backslashes before spaces (manual,
/// "options" of libpq). Anything else is a switch of the server.
fn options(value: &str) -> Result<Vec<(String, String)>, SessionEnd> {
    let mut words = vec![String::new()];
    let mut chars = value.chars();
    while let Some(letter) = chars.next() {
        match letter {
            '\\' => words.last_mut().into_iter().for_each(|word| word.extend(chars.next())),
            letter if letter.is_ascii_whitespace() => words.push(String::new()),
            letter => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
    }
    let mut pairs = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => Some(setting.to_owned()),
            None if word == "-c" => words.next(),
            None => word.strip_prefix("-c").map(str::to_owned),
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            let remedy = "write `-c name=value`, or set it later";
            return Err(refused("a switch of the server in `options`", remedy));
        };
        pairs.push((name.to_lowercase().replace('-', "_"), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(pairs: &[(&str, &str)]) -> StartupMessage {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters = pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        StartupMessage { version: startup::VERSION_3_0, parameters }
    }

    #[test]
    fn ordinary_settings_go_upstream_and_the_rest_is_refused_by_name() {
        let asked = startup(&[
            ("user", "bot"),
            ("application_name", "psql"),
            ("client_encoding", "utf-8"),
            ("options", "-c statement_timeout=5s --jit=off -cDateStyle=ISO\\,\\ MDY"),
        ]);
        let wish = wish(&asked, &[]).unwrap();
        assert_eq!((wish.user.as_str(), wish.database.as_str()), ("bot", "bot"));
        let names = wish.settings.iter().map(|(name, value)| format!("{name}={value}"));
        let names: Vec<String> = names.collect();
        let wanted =
            ["application_name=psql", "statement_timeout=5s", "jit=off", "datestyle=ISO, MDY"];
        assert_eq!(names, wanted);
        for (name, value) in [
            ("search_path", "evil"),
            ("options", "-csearch_path=evil"),
            ("options", "-c role=postgres"),
            ("options", "-F"),
            ("client_encoding", "SJIS"),
            ("standard_conforming_strings", "off"),
            ("replication", "database"),
        ] {
            assert!(super::wish(&startup(&[("user", "bot"), (name, value)]), &[]).is_err());
        }
    }

    #[test]
    fn only_the_databases_of_the_rule_are_opened() {
        let asked = startup(&[("user", "bot"), ("database", "other")]);
        assert!(wish(&asked, &["cards".to_owned()]).is_err());
        assert!(wish(&asked, &["cards".to_owned(), "other".to_owned()]).is_ok());
    }
}
