//! Answers questions: counts what matches and keeps the newest leaves, in one pass.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::UInt64Type,
    },
    dataframe::DataFrame,
    error::DataFusionError,
    logical_expr::Expr,
    physical_plan::{ExecutionPlan, display::DisplayableExecutionPlan, execute_stream},
    prelude::{SessionContext, col, lit},
};
use tokio_stream::StreamExt;

use crate::{
    engine::Session,
    error::QueryError,
    filter,
    index::{Index, Snapshot},
    question::{Question, Selection},
    table::Records,
};

impl Index {
    /// The newest leaves that match among the first `size`, and how many match. Waits until the
    /// index has come that far.
    ///
    /// # Errors
    /// The index is behind or damaged, too many ask at a time, or memory does not suffice.
    pub async fn select(&self, question: &Question, size: u64) -> Result<Selection, QueryError> {
        let conditions = filter::conditions(question);
        let limit = question.limit;
        let snapshot = self.reached(size).await?;
        let _turn = self.engine().turn().await?;
        let session = self.engine().session(&snapshot.files, self.settings().query_memory_bytes)?;
        self.engine()
            .run(async move {
                let newest = newest(&session, snapshot, size, conditions, limit).await;
                newest.map_err(|error| session.error(&error))
            })
            .await
    }

    /// How many records of a kind have an earlier time, among the first `size` leaves: what a
    /// Deletion at leaf `size` removes.
    ///
    /// # Errors
    /// As for [`Index::select`].
    pub async fn count_before(
        &self,
        class: &str,
        before_unix_nano: u64,
        size: u64,
    ) -> Result<u64, QueryError> {
        let conditions = vec![col("kind").eq(lit(class)), filter::before(before_unix_nano)];
        let snapshot = self.reached(size).await?;
        let _turn = self.engine().turn().await?;
        let session = self.engine().session(&snapshot.files, self.settings().query_memory_bytes)?;
        let counted = async move {
            let newest = newest(&session, snapshot, size, conditions, 0).await;
            newest.map_err(|error| session.error(&error))
        };
        Ok(self.engine().run(counted).await?.matched)
    }

    /// How [`Index::select`] answers: runs it, throws the rows away, and shows which files and
    /// row groups were left out and what each step did.
    ///
    /// # Errors
    /// As for [`Index::select`].
    pub async fn explain(&self, question: &Question, size: u64) -> Result<String, QueryError> {
        let conditions = filter::conditions(question);
        let snapshot = self.reached(size).await?;
        let _turn = self.engine().turn().await?;
        let session = self.engine().session(&snapshot.files, self.settings().query_memory_bytes)?;
        self.engine()
            .run(async move {
                let explained = async {
                    let records = records(&session, snapshot, size);
                    let frame = leaves(&session.context, &records, size, conditions)?;
                    let plan = frame.create_physical_plan().await?;
                    run_and_show(&session, &records, plan).await
                };
                explained.await.map_err(|error| session.error(&error))
            })
            .await
    }
}

/// The table of a query.
pub fn records(session: &Session, snapshot: Arc<Snapshot>, size: u64) -> Arc<Records> {
    let (store, metadata) = (Arc::clone(&session.store), Arc::clone(&session.metadata));
    Arc::new(Records::new(snapshot, size, store, metadata))
}

/// Runs a plan, throws the rows away, and shows it with its figures.
pub async fn run_and_show(
    session: &Session,
    records: &Records,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<String, DataFusionError> {
    let mut stream = execute_stream(Arc::clone(&plan), session.context.task_ctx())?;
    while let Some(batch) = stream.next().await {
        batch?;
    }
    let shown = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string();
    Ok(format!("{}\n{shown}", records.pruning()))
}

/// The column `leaf` of the rows for which all conditions hold.
fn leaves(
    context: &SessionContext,
    records: &Arc<Records>,
    size: u64,
    conditions: Vec<Expr>,
) -> Result<DataFrame, DataFusionError> {
    let mut frame = context.read_table(Arc::clone(records) as _)?;
    if records.exceeds() {
        frame = frame.filter(col("leaf").lt(lit(size)))?;
    }
    for condition in conditions {
        frame = frame.filter(condition)?;
    }
    frame.select(vec![col("leaf")])
}

async fn newest(
    session: &Session,
    snapshot: Arc<Snapshot>,
    size: u64,
    conditions: Vec<Expr>,
    limit: usize,
) -> Result<Selection, DataFusionError> {
    let records = records(session, snapshot, size);
    let frame = leaves(&session.context, &records, size, conditions)?;
    let mut stream = frame.execute_stream().await?;
    let mut newest = BinaryHeap::new();
    let mut matched = 0;
    while let Some(batch) = stream.next().await {
        matched += take(&batch?, limit, &mut newest)?;
    }
    let mut leaves: Vec<_> = newest.into_iter().map(|Reverse(leaf)| leaf).collect();
    leaves.sort_unstable();
    Ok(Selection { leaves, matched })
}

/// Keeps the `limit` largest leaves, the smallest of them on top.
fn take(
    batch: &RecordBatch,
    limit: usize,
    newest: &mut BinaryHeap<Reverse<u64>>,
) -> Result<u64, DataFusionError> {
    let leaves =
        batch.column_by_name("leaf").and_then(|leaves| leaves.as_primitive_opt::<UInt64Type>());
    let leaves = leaves.ok_or_else(|| crate::table::internal("no column leaf"))?;
    for leaf in leaves.values() {
        if newest.len() < limit {
            newest.push(Reverse(*leaf));
        } else if let Some(mut smallest) = newest.peek_mut()
            && smallest.0 < *leaf
        {
            *smallest = Reverse(*leaf);
        }
    }
    Ok(leaves.len() as u64)
}
