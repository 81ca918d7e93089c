//! One connection of a client from its first byte to its last record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pcigate_postgres::backend::{Authentication, Message, TransactionStatus};
use pcigate_postgres::login;
use pcigate_postgres::startup::{CancelRequest, StartupMessage, VERSION_3_2};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::admission;
use crate::cancel::{self, Held, Keys};
use crate::engine::{Engine, Parts, Tally, masked};
use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::known::{self, AsOf};
use crate::opening::{self, ClientStream, Opened, Wish};
use crate::plan::{Dial, Plan};
use crate::record::{Door, Entry, Event, NotRecorded};
use crate::rows::report;
use crate::session_role::Role;
use crate::tokens::Identity;
use crate::upstream::{self, As, ServerStream};

/// Bytes of a cancel key from protocol 3.2 on; before, 4.
const KEY: usize = 32;

/// A client's connection.
pub struct Client<C> {
    /// Its bytes. TCP keepalive is the caller's: a client that is silent while the server works
    /// cannot be told from one that is gone otherwise.
    pub stream: C,
    /// Where it comes from, for the record.
    pub address: String,
    /// Send a reason here to end the session: a grant that is over. Dropping it ends nothing.
    pub end: oneshot::Receiver<String>,
}

/// What a client asks for, and the role it gets.
struct Asked {
    wish: Wish,
    startup: StartupMessage,
    role: Role,
}

/// A session that is open.
struct Open<C, U> {
    client: Framed<ClientStream<C>>,
    server: Framed<ServerStream<U>>,
    session: login::Session,
    known: AsOf,
    sql: pcigate_sql::Session,
    held: Held,
}

/// Serves one connection to its end: a session, or a request to cancel what another does.
///
/// # Errors
/// Why it ended, unless the client has left in good order. It has been told and recorded already;
/// the error is for the log.
pub async fn serve<C, U>(
    client: Client<C>,
    plan: &Plan,
    dial: &Dial<U>,
    keys: &Arc<Keys>,
    door: &Door,
) -> Result<(), SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = plan.limits.opening;
    let slow = || SessionEnd::Slow { what: "opening the connection", seconds: limit.as_secs() };
    let deadline = tokio::time::Instant::now() + limit;
    let Client { stream, address, end } = client;
    let opening = opening::open(stream, plan.client_tls.as_ref());
    let opened = tokio::time::timeout_at(deadline, opening).await;
    let opened = match opened.unwrap_or(Err(slow())) {
        Ok(opened) => opened,
        Err(end) => {
            finish(door, &Tally::default(), &end.to_string(), Duration::ZERO).await;
            return Err(end);
        }
    };
    let (mut client, startup, tls) = match opened {
        Opened::Session { client, startup, tls } => (client, startup, tls),
        Opened::Cancel(request) => {
            let sent = cancel_upstream(plan, dial, keys, &request);
            let sent = tokio::time::timeout_at(deadline, sent).await;
            return sent.unwrap_or(Err(slow()));
        }
    };
    let admitting = async {
        let wish = opening::wish(&startup, &plan.databases)?;
        let identity = admission::admit(&mut client, plan, tls).await?;
        Ok((wish, identity))
    };
    let admitted = tokio::time::timeout_at(deadline, admitting).await;
    let (wish, identity) = match admitted.unwrap_or(Err(slow())) {
        Ok(admitted) => admitted,
        Err(end) => {
            let end = turn_away(&mut client, end).await;
            finish(door, &Tally::default(), &end.to_string(), Duration::ZERO).await;
            return Err(end);
        }
    };
    let asked = Asked { role: Role::of(plan, &wish), wish, startup };
    let started = started(&asked, &address, tls, identity.as_ref());
    let reaching = reach(plan, dial, keys, door, &asked, started);
    let reached = match tokio::time::timeout_at(deadline, reaching).await {
        Ok(reached) => reached,
        Err(_) => Err(slow()),
    };
    let began = Instant::now();
    let (server, session, known, sql, held) = match reached {
        Ok(reached) => reached,
        Err(end) => {
            let end = turn_away(&mut client, end).await;
            let left = asked.role.end(plan, dial, &asked.wish).await.unwrap_or_default();
            finish(door, &Tally::default(), &format!("{end}{left}"), began.elapsed()).await;
            return Err(end);
        }
    };
    let open = Open { client, server, session, known, sql, held };
    run(open, plan, dial, door, asked, end).await
}

async fn cancel_upstream<U: AsyncRead + AsyncWrite + Unpin>(
    plan: &Plan,
    dial: &Dial<U>,
    keys: &Arc<Keys>,
    request: &CancelRequest,
) -> Result<(), SessionEnd> {
    // Never answered, whether it is right or not.
    let Some(upstream) = keys.upstream(&plan.scope, request) else { return Ok(()) };
    let mut stream = dial().await.map_err(|source| SessionEnd::Dial { source })?;
    let sent = cancel::send(&mut stream, upstream).await;
    sent.map_err(|source| SessionEnd::Server { source: Some(source) })
}

type Reached<U> = (Framed<ServerStream<U>>, login::Session, AsOf, pcigate_sql::Session, Held);

/// Records that it begins, logs in, learns what must be known, and keeps a key for cancelling.
async fn reach<U: AsyncRead + AsyncWrite + Unpin>(
    plan: &Plan,
    dial: &Dial<U>,
    keys: &Arc<Keys>,
    door: &Door,
    asked: &Asked,
    started: Event,
) -> Result<Reached<U>, SessionEnd> {
    let Asked { wish, startup, role } = asked;
    let (durable, waiting) = oneshot::channel();
    let not_recorded = |source| SessionEnd::NotRecorded { source };
    let entry = Entry { event: started, durable: Some(durable) };
    door.send(entry).await.map_err(|_| not_recorded(NotRecorded))?;
    waiting.await.unwrap_or(Err(NotRecorded)).map_err(not_recorded)?;
    role.make(plan, dial, wish).await?;
    let client = As::client(plan, wish, role);
    let (mut server, session) = upstream::log_in(plan, dial, client).await?;
    for (name, wanted) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
        let mut told = session.parameters.iter().filter(|(known, _)| known == name);
        if !told.all(|(_, value)| value == wanted) {
            return Err(SessionEnd::Unknown { why: format!("{name} is not {wanted}") });
        }
    }
    let at = Instant::now();
    let (known, path) = known::read(&mut server, &plan.limits.backend, &plan.target).await?;
    let known = plan.knowledge.share(&wish.database, known, at);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let sql = pcigate_sql::Session::new(role.name(), &path);
    let upstream = CancelRequest { process: session.process, key: session.cancel_key.clone() };
    let length = if startup.version >= VERSION_3_2 { KEY } else { 4 };
    let held = keys.hold(&plan.scope, upstream, length).ok_or(SessionEnd::Full)?;
    Ok((server, session, known, sql, held))
}

fn started(asked: &Asked, address: &str, client_tls: bool, identity: Option<&Identity>) -> Event {
    let Asked { wish, role, .. } = asked;
    Event::SessionStarted {
        database: masked(&wish.database),
        user: masked(&wish.user),
        role: masked(role.name()),
        application: masked(&wish.application),
        client: masked(address),
        client_tls,
        identity: identity.map(|of| Box::new((masked(&of.subject), masked(&of.issuer)))),
    }
}

/// Lets the client in, and runs the session.
async fn run<C, U>(
    mut open: Open<C, U>,
    plan: &Plan,
    dial: &Dial<U>,
    door: &Door,
    asked: Asked,
    end: oneshot::Receiver<String>,
) -> Result<(), SessionEnd>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    U: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Instant::now();
    let Asked { wish, startup, role } = asked;
    let welcome = welcome(&open, plan, &startup)?;
    let sent = open.client.send(&welcome).await;
    if let Err(source) = sent {
        let end = SessionEnd::Client { source: Some(source) };
        drop(open);
        let left = role.end(plan, dial, &wish).await.unwrap_or_default();
        finish(door, &Tally::default(), &format!("{end}{left}"), began.elapsed()).await;
        return Err(end);
    }
    let upstream =
        CancelRequest { process: open.session.process, key: open.session.cancel_key.clone() };
    let parts = Parts {
        plan,
        door,
        known: open.known,
        wish: &wish,
        sql: open.sql,
        client: (open.client.stream, open.client.buffer),
        server: (open.server.stream, open.server.buffer),
        upstream,
        end,
    };
    let mut engine = Engine::new(parts, dial);
    let result = engine.run().await;
    if let Err(end) = &result {
        engine.farewell(end).await;
        engine.stop(end).await;
        engine.hear_out().await;
    }
    for entry in engine.rest() {
        let _ = tokio::time::timeout(plan.limits.stalled, door.send(entry)).await;
    }
    let why = match &result {
        Ok(()) => "the client left".to_owned(),
        Err(end) => end.to_string(),
    };
    let tally = std::mem::take(&mut engine.tally);
    // Closes both connections.
    drop(engine);
    let left = role.end(plan, dial, &wish).await.unwrap_or_default();
    finish(door, &tally, &format!("{why}{left}"), began.elapsed()).await;
    drop(open.held);
    result
}

/// What the client reads before its first statement.
fn welcome<C, U>(
    open: &Open<C, U>,
    plan: &Plan,
    startup: &StartupMessage,
) -> Result<BytesMut, SessionEnd> {
    let mut out = BytesMut::new();
    if let Some(negotiated) = startup.negotiate(VERSION_3_2) {
        Message::NegotiateProtocolVersion(negotiated).encode(&mut out)?;
    }
    Message::Authentication(Authentication::Ok).encode(&mut out)?;
    for (name, value) in open.session.parameters.iter().cloned() {
        let status = Message::ParameterStatus { name, value };
        let mut counts = crate::record::MaskedCounts::new();
        let masked = report::masked(&status, &plan.masker.values, &open.known.known, &mut counts);
        masked.unwrap_or(status).encode(&mut out)?;
    }
    let (process, key) = (open.held.process, open.held.secret.clone());
    Message::BackendKeyData { process, key }.encode(&mut out)?;
    Message::ReadyForQuery(TransactionStatus::Idle).encode(&mut out)?;
    Ok(out)
}

/// Tells a client why it is not let in.
async fn turn_away<C>(client: &mut Framed<ClientStream<C>>, end: SessionEnd) -> SessionEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    end.farewell(&mut out);
    let _ = tokio::time::timeout(Duration::from_secs(2), client.send(&out)).await;
    end
}

/// The last record.
async fn finish(door: &Door, tally: &Tally, why: &str, duration: Duration) {
    let event = Event::SessionEnded {
        why: masked(why),
        statements: tally.statements,
        refused: tally.refused,
        rows: tally.rows,
        bytes: tally.bytes,
        masked: tally.masked.clone(),
        duration,
    };
    let entry = Entry { event, durable: None };
    let _ = tokio::time::timeout(Duration::from_secs(10), door.send(entry)).await;
}
