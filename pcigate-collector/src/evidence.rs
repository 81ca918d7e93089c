//! The Evidence service: people ask, and every question is itself a durable record first.

mod filter;
mod scan;

use std::{ops::Range, pin::Pin, sync::Arc};

use pcigate_ledger::{
    Directory, ProveError, TileKind, TilePath, TileSource, entry, prove_inclusion,
};
use pcigate_proto::{
    LedgerFile, Proof, ProveRequest, QueryReply, QueryRequest, ReadLedgerRequest, Row, SqlReply,
    SqlRequest, Summary, evidence_server, query_reply::Message as Reply,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    identity,
    ingest::write_status,
    ledger::Durable,
    metrics::Held,
    records,
    writer::{Job, WriteError, Writer},
};
pub use filter::{Filter, FilterError, LIMIT_DEFAULT, LIMIT_MAX};

/// Rows on their way to a client; a slow client makes its own scan wait.
const ROWS_IN_FLIGHT: usize = 64;
/// Scans of the ledger at a time; one more waits.
const SCANS_MAX: usize = 8;

/// The service.
#[derive(Clone)]
pub struct Evidence {
    writer: Writer,
    source: Directory,
    stopping: watch::Receiver<bool>,
    scans: Arc<Semaphore>,
}

impl Evidence {
    /// A service that reads `source`, records every question through `writer`, and ends its
    /// streams when `stopping` turns true.
    #[must_use]
    pub fn new(writer: Writer, source: Directory, stopping: watch::Receiver<bool>) -> Self {
        Self { writer, source, stopping, scans: Arc::new(Semaphore::new(SCANS_MAX)) }
    }

    /// Makes the question durable, and with it a tree to answer from.
    async fn asked(
        &self,
        person: &str,
        operation: &'static str,
        filter: &str,
    ) -> Result<Arc<Durable>, Status> {
        let record = records::query(self.writer.origin(), person, operation, filter);
        self.writer.metrics().queries.get_or_create(&[("operation", operation)]).inc();
        let done = self.writer.ask(Job::Own(Box::new(record))).await;
        done.map(|done| done.durable).map_err(|error| write_status(&error))
    }

    /// Runs something that reads the ledger, away from the threads that serve connections.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Directory) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let stopped = || write_status(&WriteError::Stopped);
        let permit = Arc::clone(&self.scans).acquire_owned().await.map_err(|_| stopped())?;
        let source = self.source.clone();
        let running = Held::new(&self.writer.metrics().queries_running);
        let work = tokio::task::spawn_blocking(move || {
            let _held = (permit, running);
            read(&source)
        });
        work.await.map_err(|_| stopped())
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<QueryReply, Status>> + Send>>;
type Rows = mpsc::Sender<Result<QueryReply, Status>>;

#[tonic::async_trait]
impl evidence_server::Evidence for Evidence {
    type QueryStream = Replies;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Replies>, Status> {
        let person = identity::person(&request)?;
        let request = request.into_inner();
        let filter =
            Filter::new(&request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let text = filter::text(&request);
        let durable = self.asked(&person, "records", &text).await?;
        let (rows, outward) = mpsc::channel(ROWS_IN_FLIGHT);
        let answer = Answer { service: self.clone(), filter: Arc::new(filter), rows };
        tokio::spawn(answer.run(durable.size, request.follow));
        Ok(Response::new(Box::pin(ReceiverStream::new(outward))))
    }

    type SqlStream = ReceiverStream<Result<SqlReply, Status>>;

    async fn sql(&self, _: Request<SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        Err(Status::unimplemented("sql: not available yet"))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<Proof>, Status> {
        let person = identity::person(&request)?;
        let index = request.into_inner().index;
        let durable = self.asked(&person, "record", &format!("index={index}")).await?;
        let size = durable.size;
        let proved = self
            .reading(move |source| -> Result<_, ProveError> {
                let hashes = prove_inclusion(source, size, index)?;
                Ok((hashes, entry(source, size, index)?))
            })
            .await?;
        let (hashes, record) = proved.map_err(|error| match error {
            ProveError::OutsideTree { .. } => {
                let text = format!("index: leaf {index} is not in the ledger of {size} leaves");
                Status::out_of_range(text)
            }
            error => unreadable(&error),
        })?;
        Ok(Response::new(Proof {
            index,
            record,
            hashes: hashes.into_iter().map(Vec::from).collect(),
            checkpoint: durable.checkpoint.clone(),
            verifier_key: self.writer.verifier_key().to_owned(),
        }))
    }

    async fn read_ledger(
        &self,
        request: Request<ReadLedgerRequest>,
    ) -> Result<Response<LedgerFile>, Status> {
        let person = identity::person(&request)?;
        let path = request.into_inner().path;
        if path == "checkpoint" {
            let durable = self.asked(&person, "ledger", "path=checkpoint").await?;
            return Ok(Response::new(LedgerFile { content: durable.checkpoint.clone() }));
        }
        let Some(tile) = TilePath::parse(&path) else {
            let text = "path: only `checkpoint` and `tile/…` as in C2SP tlog-tiles can be read";
            return Err(Status::invalid_argument(text));
        };
        let absent = || Status::not_found(format!("path: the ledger has no {tile}"));
        let size = self.writer.durable().borrow().size;
        if !tile.is_within(size) {
            return Err(absent());
        }
        if tile.kind == TileKind::Entries {
            // Up to 256 records leave by this answer.
            self.asked(&person, "ledger", &format!("path={tile}")).await?;
        }
        let read = self.reading(move |source| source.read(&tile.to_string())).await?;
        let content = read.map_err(|error| unreadable(&error))?.ok_or_else(absent)?;
        Ok(Response::new(LedgerFile { content }))
    }
}

fn unreadable(error: &dyn std::error::Error) -> Status {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, "the ledger cannot be read");
    Status::internal("the ledger cannot be read; see the collector's log")
}

/// The answer to one query, made in the background.
struct Answer {
    service: Evidence,
    filter: Arc<Filter>,
    rows: Rows,
}

impl Answer {
    async fn run(self, size: u64, follow: bool) {
        let mut stopping = self.service.stopping.clone();
        let answered = tokio::select! {
            answered = self.answer(size, follow) => answered,
            _ = stopping.wait_for(|stopping| *stopping) => {
                Err(write_status(&WriteError::Stopped))
            }
        };
        if let Err(status) = answered {
            // The client may be gone.
            drop(self.rows.send(Err(status)).await);
        }
    }

    async fn answer(&self, size: u64, follow: bool) -> Result<(), Status> {
        let (filter, rows) = (Arc::clone(&self.filter), self.rows.clone());
        let stopping = self.service.stopping.clone();
        let gone = move || rows.is_closed() || *stopping.borrow();
        let newest = move |source: &Directory| scan::newest(source, size, &filter, &gone);
        let found = self.service.reading(newest).await?.map_err(|error| unreadable(&error))?;
        let rows = self.rows.clone();
        let send = move |source: &Directory| {
            scan::read(source, size, &found.rows, |index, record| send_row(&rows, index, record))
        };
        self.service.reading(send).await?.map_err(|error| unreadable(&error))?;
        let summary = Summary { matched: found.matched, scanned: size, tree_size: size };
        if self.rows.send(Ok(reply(Reply::Summary(summary)))).await.is_err() || !follow {
            return Ok(());
        }
        self.follow(size).await
    }

    async fn follow(&self, from: u64) -> Result<(), Status> {
        let (mut from, mut durable) = (from, self.service.writer.durable());
        loop {
            let size = tokio::select! {
                () = self.rows.closed() => return Ok(()),
                grown = durable.wait_for(|durable| durable.size > from) => match grown {
                    Ok(durable) => durable.size,
                    Err(_) => return Err(write_status(&WriteError::Stopped)),
                },
            };
            self.send_matching(from..size).await?;
            from = size;
        }
    }

    async fn send_matching(&self, range: Range<u64>) -> Result<(), Status> {
        let (filter, rows, size) = (Arc::clone(&self.filter), self.rows.clone(), range.end);
        let work = move |source: &Directory| {
            let gone = || rows.is_closed();
            scan::matching(source, size, range, &filter, &gone, |index, record| {
                send_row(&rows, index, record)
            })
        };
        self.service.reading(work).await?.map_err(|error| unreadable(&error))
    }
}

/// Sends a row from a thread that may block; `false` when the client is gone.
fn send_row(rows: &Rows, index: u64, record: &[u8]) -> bool {
    let row = Row { index, record: record.to_vec() };
    rows.blocking_send(Ok(reply(Reply::Row(row)))).is_ok()
}

fn reply(message: Reply) -> QueryReply {
    QueryReply { message: Some(message) }
}
