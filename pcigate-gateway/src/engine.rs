//! One open session: messages both ways, decided, recorded and masked, until it ends.

pub(crate) mod ask;
mod budget;
mod client;
mod decide;
mod fresh;
mod pipe;
mod server;
mod traffic;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pcigate_postgres::frame::Frame;
use pcigate_postgres::startup::CancelRequest;
use pcigate_postgres::{frontend, session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::cancel;
use crate::error::SessionEnd;
use crate::known::{AsOf, Known};
use crate::opening::Wish;
use crate::plan::{Dial, Maskers, Plan};
use crate::record::{Door, Entry, Event, MaskedCounts, NotRecorded};
use crate::rows::Columns;
use crate::rows::copy::CopyOut;
use crate::rows::value::Look;
use ask::Ask;
use budget::Budget;
use fresh::Fresh;
use pipe::{End, Pipe};
use traffic::Traffic;

pub(crate) use decide::masked;

/// Bytes of texts that a session remembers, so that what comes again is not parsed again.
const CACHE: usize = 128 << 10;
/// How long a session that has ended takes what its client still sends, at most, and while nothing
/// comes.
const HEARD: Duration = Duration::from_secs(2);
const LULL: Duration = Duration::from_millis(100);

/// What an open session is made of.
pub(crate) struct Parts<'p, C, U> {
    pub plan: &'p Plan,
    pub door: &'p Door,
    pub known: AsOf,
    pub wish: &'p Wish,
    pub sql: pcigate_sql::Session,
    pub client: (C, BytesMut),
    pub server: (U, BytesMut),
    pub upstream: CancelRequest,
    /// Ends the session from outside, with the reason.
    pub end: oneshot::Receiver<String>,
}

/// One open session.
pub(crate) struct Engine<'p, C, U, D> {
    plan: &'p Plan,
    dial: &'p Dial<D>,
    door: &'p Door,
    known: Arc<Known>,
    wish: &'p Wish,
    fresh: Fresh<'p>,
    pipe: Pipe<C, U>,
    protocol: session::Session<Arc<Ask>>,
    sql: pcigate_sql::Session,
    cache: pcigate_sql::Cache,
    /// The settings when the server was last ready outside of a transaction.
    at_ready: pcigate_sql::Settings,
    /// Transactions were ended within the text that runs.
    ended_inside: bool,
    /// A message that waits for answers.
    parked: Option<(Frame, frontend::Message)>,
    /// Requests on their way that change what later texts mean, or give names to texts.
    unsettled: usize,
    naming: usize,
    /// When the message that is decided was taken up.
    taken_up: Instant,
    /// Grows with everything that changes what texts or names mean.
    epoch: u64,
    batch: Batch,
    budget: Budget<'p>,
    answering: Answering<'p>,
    /// After an error of ours in place of a success: to the next ReadyForQuery.
    muted: bool,
    upstream: CancelRequest,
    cancelling: Option<Pin<Box<dyn Future<Output = ()> + Send + 'p>>>,
    /// Nothing once nobody can end it from outside any more.
    end: Option<oneshot::Receiver<String>>,
    entries: Vec<Entry>,
    traffic: Traffic<'p>,
    nothing: Arc<Ask>,
    /// The client has said Terminate, or its connection has ended.
    leaving: bool,
    pub tally: Tally,
}

/// Messages that go upstream together, once their records are on disk.
#[derive(Default)]
struct Batch {
    held: BytesMut,
    /// One of them needs a record first.
    recorded: bool,
    prepared: Vec<Arc<Ask>>,
    waiting: Option<oneshot::Receiver<Result<(), NotRecorded>>>,
}

/// The answer that comes now.
#[derive(Default)]
struct Answering<'p> {
    of: Option<(session::RequestId, u32)>,
    columns: Option<Columns>,
    copy: Option<CopyOut<'p>>,
    rows: u64,
    bytes: u64,
    masked: MaskedCounts,
    /// Its budget is used up: what the client is told.
    over: Option<String>,
}

/// What the session has done.
#[derive(Default)]
pub(crate) struct Tally {
    pub statements: u64,
    pub refused: u64,
    pub rows: u64,
    pub bytes: u64,
    pub masked: MaskedCounts,
}

impl<'p, C, U, D> Engine<'p, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(crate) fn new(parts: Parts<'p, C, U>, dial: &'p Dial<D>) -> Self {
        let at_ready = parts.sql.settings();
        Self {
            plan: parts.plan,
            dial,
            door: parts.door,
            known: parts.known.known,
            wish: parts.wish,
            fresh: Fresh::new(parts.known.at),
            pipe: Pipe {
                client: End::new(parts.client.0, parts.client.1),
                server: End::new(parts.server.0, parts.server.1),
            },
            protocol: session::Session::new(parts.plan.limits.session),
            sql: parts.sql,
            cache: pcigate_sql::Cache::new(CACHE),
            at_ready,
            ended_inside: false,
            parked: None,
            unsettled: 0,
            naming: 0,
            taken_up: Instant::now(),
            epoch: 0,
            batch: Batch::default(),
            budget: Budget::new(&parts.plan.budgets, parts.plan.limits.idle),
            answering: Answering::default(),
            muted: false,
            upstream: parts.upstream,
            cancelling: None,
            end: Some(parts.end),
            entries: Vec::new(),
            traffic: Traffic::new(parts.plan.limits.traffic, &parts.plan.masker.mixed),
            nothing: Arc::new(Ask::nothing()),
            leaving: false,
            tally: Tally::default(),
        }
    }

    /// Runs until somebody ends it; the client's leave is no error.
    pub(crate) async fn run(&mut self) -> Result<(), SessionEnd> {
        loop {
            self.take_server()?;
            self.take_client()?;
            self.traffic.close(&mut self.entries);
            if self.traffic.truncated() && self.plan.limits.end_when_truncated {
                return Err(SessionEnd::Truncated);
            }
            self.deliver().await?;
            if self.leaving && self.batch.waiting.is_none() {
                return self.leave().await;
            }
            // Also where it never has to wait.
            if let Some((_, end)) =
                self.budget.deadline(false).filter(|(at, _)| at.elapsed() > Duration::ZERO)
            {
                return Err(end);
            }
            let pipe = &self.pipe;
            if pipe.server.closed && pipe.client.outgoing.is_empty() {
                return Err(SessionEnd::Server { source: None });
            }
            self.wait().await?;
        }
    }

    /// Waits until something happens, as long as it may.
    async fn wait(&mut self) -> Result<(), SessionEnd> {
        let once = poll_fn(|cx| Poll::Ready(self.poll(cx))).await;
        if let Poll::Ready(result) = once {
            return result;
        }
        let pipe = &self.pipe;
        let stalled = !pipe.client.outgoing.is_empty()
            || !pipe.server.outgoing.is_empty()
            || self.batch.waiting.is_some();
        let idle = !stalled && self.protocol.outstanding().next().is_none();
        let stalled = stalled.then(|| {
            let limit = self.plan.limits.stalled;
            let what = "taking what was sent";
            (Instant::now() + limit, SessionEnd::Slow { what, seconds: limit.as_secs() })
        });
        let ends = self.budget.deadline(idle).into_iter().chain(stalled);
        let end = ends.min_by_key(|(at, _)| *at);
        let more = poll_fn(|cx| self.poll(cx));
        let Some((at, end)) = end else { return more.await };
        tokio::time::timeout_at(at.into(), more).await.unwrap_or(Err(end))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionEnd>> {
        if let Some(end) = &mut self.end
            && let Poll::Ready(told) = Pin::new(end).poll(cx)
        {
            self.end = None;
            if let Ok(why) = told {
                return Poll::Ready(Err(SessionEnd::Ended { why }));
            }
        }
        let mut moved = false;
        if let Some(waiting) = &mut self.batch.waiting
            && let Poll::Ready(answer) = Pin::new(waiting).poll(cx)
        {
            self.batch.waiting = None;
            let answer = answer.unwrap_or(Err(NotRecorded));
            answer.map_err(|source| SessionEnd::NotRecorded { source })?;
            let held = std::mem::take(&mut self.batch.held);
            send(&mut self.pipe.server.outgoing, held);
            moved = true;
        }
        if let Some(cancelling) = &mut self.cancelling
            && cancelling.as_mut().poll(cx).is_ready()
        {
            self.cancelling = None;
            moved = true;
        }
        if let Poll::Ready(read) = self.poll_fresh(cx) {
            read?;
            moved = true;
        }
        let limit = self.plan.limits.buffer;
        let read_server = !self.fresh.holds() && self.pipe.client.outgoing.len() < limit;
        let read_client = self.reads_client() && self.pipe.server.outgoing.len() < limit;
        match self.pipe.poll(cx, read_client, read_server) {
            Poll::Pending if !moved => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Whether the client's next message may be looked at.
    fn reads_client(&self) -> bool {
        self.batch.waiting.is_none()
            && self.cancelling.is_none()
            && self.parked.is_none()
            && !self.leaving
    }

    /// Hands the records over; waits while there is no room for them.
    async fn deliver(&mut self) -> Result<(), SessionEnd> {
        for entry in std::mem::take(&mut self.entries) {
            let stalled = self.plan.limits.stalled;
            let sent = tokio::time::timeout(stalled, self.door.send(entry)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return Err(SessionEnd::NotRecorded { source: NotRecorded });
            }
        }
        Ok(())
    }

    /// Says Terminate upstream, and the rest of what came from there to the client.
    async fn leave(&mut self) -> Result<(), SessionEnd> {
        let held = std::mem::take(&mut self.batch.held);
        send(&mut self.pipe.server.outgoing, held);
        let pipe = &mut self.pipe;
        let last = poll_fn(|cx| {
            let client = pipe.client.poll_send(cx).is_ready();
            let server = pipe.server.poll_send(cx).is_ready();
            if client && server { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(Duration::from_secs(5), last).await;
        Ok(())
    }

    /// Tells the client why it ends, as far as it listens.
    pub(crate) async fn farewell(&mut self, end: &SessionEnd) {
        let client = &mut self.pipe.client;
        end.farewell(&mut client.outgoing);
        let last = poll_fn(|cx| client.poll_send(cx));
        let _ = tokio::time::timeout(Duration::from_secs(2), last).await;
    }

    /// Takes what a client is still sending: the kernel resets a connection that is closed with
    /// something unread, and the client would not hear why it was.
    pub(crate) async fn hear_out(&mut self) {
        let until = Instant::now() + HEARD;
        let client = &mut self.pipe.client;
        let mut before = client.heard;
        loop {
            let pause = poll_fn(|cx| client.poll_discard(cx));
            let over = tokio::time::timeout(LULL, pause).await.is_ok();
            if over || client.heard == before || Instant::now() > until {
                return;
            }
            before = client.heard;
        }
    }

    /// Stops what still runs upstream. Not where the client is gone: then its last statement is
    /// done as the server would do it.
    pub(crate) async fn stop(&mut self, end: &SessionEnd) {
        let gone = matches!(end, SessionEnd::Client { .. } | SessionEnd::Server { .. });
        if gone || self.protocol.outstanding().next().is_none() {
            return;
        }
        self.cancel();
        if let Some(cancelling) = self.cancelling.take() {
            let _ = tokio::time::timeout(Duration::from_secs(5), cancelling).await;
        }
    }

    /// The records that are left when it ends.
    pub(crate) fn rest(&mut self) -> Vec<Entry> {
        self.traffic.close(&mut self.entries);
        std::mem::take(&mut self.entries)
    }

    fn record(&mut self, event: Event) {
        self.entries.push(Entry { event, durable: None });
    }

    /// Stops what the server does, on a connection of its own.
    fn cancel(&mut self) {
        if self.cancelling.is_some() {
            return;
        }
        let (dial, request) = (self.dial, self.upstream.clone());
        let limit = self.plan.limits.opening;
        self.cancelling = Some(Box::pin(async move {
            let sent = async {
                let mut stream = dial().await?;
                cancel::send(&mut stream, request).await
            };
            // Not to be told: then the answer is read to its end, and nothing of it goes on.
            let _ = tokio::time::timeout(limit, sent).await;
        }));
    }

    fn since(&self, began: Instant) -> Duration {
        began.elapsed()
    }
}

/// Look for card data in values.
fn look<'a>(plan: &'a Plan, known: &'a Known) -> Look<'a> {
    let Maskers { values: masker, mixed } = &*plan.masker;
    Look { masker, mixed, types: &known.types, style: plan.target.mask.style }
}

/// Appends, and takes over where there is nothing yet.
fn send(outgoing: &mut BytesMut, bytes: BytesMut) {
    if outgoing.is_empty() {
        *outgoing = bytes;
    } else {
        outgoing.extend_from_slice(&bytes);
    }
}
