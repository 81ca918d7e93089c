//! The Evidence service: people ask, and every question is itself a durable record first.

mod filter;
mod outlet;
mod rows;
mod scan;
mod sql;

use std::sync::Arc;

use pcigate_index::QueryError;
use pcigate_ledger::{
    Directory, ProveError, TileKind, TilePath, TileSource, entry, prove_inclusion,
};
use pcigate_proto::{
    LedgerFile, Proof, ProveRequest, QueryReply, QueryRequest, ReadLedgerRequest, SqlReply,
    SqlRequest, evidence_server,
};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};

use crate::{
    identity,
    indexer::{IndexTrouble, Indexer},
    ingest::write_status,
    ledger::Durable,
    metrics::Held,
    records,
    writer::{Job, WriteError, Writer},
};
pub use filter::{Filter, FilterError, LIMIT_DEFAULT, LIMIT_MAX};

use outlet::{Outflow, PATIENCE, outlet};
pub use sql::{ROWS_DEFAULT, ROWS_MAX};

/// Readings of the ledger at a time; one more waits. None lasts longer than a disk needs: nobody
/// waits for a client while it reads.
const READINGS_MAX: usize = 8;

/// The service.
#[derive(Clone)]
pub struct Evidence {
    writer: Writer,
    source: Directory,
    indexer: Indexer,
    stopping: watch::Receiver<bool>,
    readings: Arc<Semaphore>,
}

impl Evidence {
    /// A service that answers from the index and `source`, records every question through
    /// `writer`, and ends its streams when `stopping` turns true.
    #[must_use]
    pub fn new(
        writer: Writer,
        source: Directory,
        indexer: Indexer,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let readings = Arc::new(Semaphore::new(READINGS_MAX));
        Self { writer, source, indexer, stopping, readings }
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
        let permit = Arc::clone(&self.readings).acquire_owned().await.map_err(|_| stopped())?;
        let source = self.source.clone();
        let running = Held::new(&self.writer.metrics().queries_running);
        let work = tokio::task::spawn_blocking(move || {
            let _held = (permit, running);
            read(&source)
        });
        work.await.map_err(|_| stopped())
    }

    /// Answers in the background until done, the client has gone, or the collector stops.
    async fn answering<T>(
        self,
        outlet: outlet::Outlet<T>,
        answer: impl AsyncFnOnce(&Self, &outlet::Outlet<T>) -> Result<(), Status>,
    ) {
        let mut stopping = self.stopping.clone();
        let answered = tokio::select! {
            answered = answer(&self, &outlet) => answered,
            () = outlet.gone() => Ok(()),
            _ = stopping.wait_for(|stopping| *stopping) => Err(write_status(&WriteError::Stopped)),
        };
        outlet.close(answered);
    }
}

#[tonic::async_trait]
impl evidence_server::Evidence for Evidence {
    type QueryStream = Outflow<QueryReply>;

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let person = identity::person(&request)?;
        let request = request.into_inner();
        let filter =
            Filter::new(&request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let durable = self.asked(&person, "records", &filter::text(&request)).await?;
        let (outlet, outflow) = outlet(PATIENCE);
        let question = rows::Question {
            filter: Arc::new(filter),
            size: durable.size,
            explain: request.explain,
            follow: request.follow,
        };
        tokio::spawn(rows::answer(self.clone(), outlet, question));
        Ok(Response::new(outflow))
    }

    type SqlStream = Outflow<SqlReply>;

    async fn sql(&self, request: Request<SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let person = identity::person(&request)?;
        let request = request.into_inner();
        let limits = sql::limits(&request).map_err(Status::invalid_argument)?;
        let durable = self.asked(&person, "sql", &request.statement).await?;
        let (outlet, outflow) = outlet(PATIENCE);
        tokio::spawn(sql::answer(self.clone(), outlet, request, limits, durable.size));
        Ok(Response::new(outflow))
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

/// What a person is told when the index gives no answer. The engine's words may quote the
/// statement or a record: they are masked wherever they go.
fn no_answer(error: &IndexTrouble) -> Status {
    match error {
        IndexTrouble::Query(QueryError::Statement { text }) => {
            Status::invalid_argument(records::masked(text))
        }
        IndexTrouble::Query(QueryError::Limit { text }) => {
            Status::resource_exhausted(records::masked(text))
        }
        IndexTrouble::NotOpen | IndexTrouble::Query(QueryError::Behind { .. }) => {
            Status::unavailable(error.to_string())
        }
        IndexTrouble::Query(error) => {
            tracing::error!(reason = records::masked(&error.to_string()), "a question failed");
            let text = "the index cannot answer this, see the collector's log; the ledger is not \
                        touched, and `pcigate-collector reindex` builds the index anew";
            Status::internal(text)
        }
    }
}
