//! The answer to a query: the index says which leaves, the ledger gives their bytes. So what is
//! shown is what can be proved.

use std::{ops::Range, sync::Arc};

use pcigate_index::Selection;
use pcigate_ledger::TILE_WIDTH;
use pcigate_proto::{QueryReply, Row, Summary, query_reply::Message as Reply};
use tonic::Status;

use super::{Evidence, filter::Filter, no_answer, outlet::Outlet, scan, unreadable};
use crate::{ingest::write_status, records, writer::WriteError};

/// Leaves read at a time, before they are sent.
const LEAVES_AT_A_TIME: usize = 256;

/// What is asked, of which tree.
pub struct Question {
    pub filter: Arc<Filter>,
    /// Leaves of the tree.
    pub size: u64,
    /// Only how it would be answered.
    pub explain: bool,
    /// Then what comes after these leaves.
    pub follow: bool,
}

/// Answers until done, the client has gone, or the collector stops.
pub async fn answer(service: Evidence, outlet: Outlet<QueryReply>, question: Question) {
    let answer = async move |service: &Evidence, outlet: &Outlet<QueryReply>| {
        if question.explain {
            return explain(service, outlet, &question).await;
        }
        stored(service, outlet, &question).await?;
        if question.follow { follow(service, outlet, &question).await } else { Ok(()) }
    };
    service.answering(outlet, answer).await;
}

async fn explain(
    service: &Evidence,
    outlet: &Outlet<QueryReply>,
    question: &Question,
) -> Result<(), Status> {
    let index = service.indexer.index().await.map_err(|error| no_answer(&error))?;
    let plan = index.explain(&question.filter.question(), question.size).await;
    let plan = plan.map_err(|error| no_answer(&error.into()))?;
    outlet.send(reply(Reply::Plan(records::masked_whole(&plan)))).await
}

/// The newest rows of the tree, and the summary.
async fn stored(
    service: &Evidence,
    outlet: &Outlet<QueryReply>,
    question: &Question,
) -> Result<(), Status> {
    let size = question.size;
    let index = service.indexer.index().await.map_err(|error| no_answer(&error))?;
    let selected = index.select(&question.filter.question(), size).await;
    let Selection { leaves, matched } = selected.map_err(|error| no_answer(&error.into()))?;
    let mut rest = leaves.as_slice();
    while !rest.is_empty() {
        let next = rest.get(..LEAVES_AT_A_TIME).unwrap_or(rest).to_vec();
        let read = service.reading(move |source| scan::read(source, size, &next)).await?;
        let rows = read.map_err(|error| unreadable(&error))?;
        rest = rest.get(rows.len().max(1)..).unwrap_or_default();
        send(outlet, rows).await?;
    }
    let summary = Summary { matched, scanned: size, tree_size: size };
    outlet.send(reply(Reply::Summary(summary))).await
}

/// What becomes durable after the tree, as it does.
async fn follow(
    service: &Evidence,
    outlet: &Outlet<QueryReply>,
    question: &Question,
) -> Result<(), Status> {
    let (mut from, mut durable) = (question.size, service.writer.durable());
    loop {
        let grown = durable.wait_for(|durable| durable.size > from).await;
        let size = grown.map_err(|_| write_status(&WriteError::Stopped))?.size;
        for bundle in from / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
            let leaves = bundle * TILE_WIDTH..(bundle + 1) * TILE_WIDTH;
            let fresh: Range<u64> = leaves.start.max(from)..leaves.end.min(size);
            let filter = Arc::clone(&question.filter);
            let read = move |source: &_| scan::matching(source, size, fresh, &filter);
            let rows = service.reading(read).await?.map_err(|error| unreadable(&error))?;
            send(outlet, rows).await?;
        }
        from = size;
    }
}

async fn send(outlet: &Outlet<QueryReply>, rows: Vec<Row>) -> Result<(), Status> {
    for row in rows {
        outlet.send(reply(Reply::Row(row))).await?;
    }
    Ok(())
}

fn reply(message: Reply) -> QueryReply {
    QueryReply { message: Some(message) }
}
