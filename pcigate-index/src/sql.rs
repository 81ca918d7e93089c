//! Answers statements, row by row, within limits of rows, time and memory.

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::record_batch::RecordBatch,
    dataframe::DataFrame,
    error::DataFusionError,
    execution::SendableRecordBatchStream,
    prelude::{col, lit},
};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, Permit, error::TrySendError},
    },
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_stream::StreamExt;

use crate::{
    engine::Session,
    error::QueryError,
    index::{Index, Snapshot},
    question::{Column, SqlLimits, Value},
    select::{records, run_and_show},
    statement::{self, Mistake},
    table::Records,
    values,
};

/// Batches of rows on their way; the engine waits when the reader does.
const BATCHES_IN_FLIGHT: usize = 2;
/// Least memory of a statement, bytes.
const MEMORY_MIN: usize = 1 << 20;

/// Rows on their way to the reader, or why there are no more.
type Rows = Result<Vec<Vec<Value>>, QueryError>;

/// The answer to a statement, row by row. Dropping it ends the work.
#[derive(Debug)]
pub struct Answer {
    columns: Vec<Column>,
    batches: mpsc::Receiver<Rows>,
    rows: std::vec::IntoIter<Vec<Value>>,
    left: usize,
    cut: bool,
    _work: JoinSet<()>,
}

impl Answer {
    /// Its columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next row, one value per column; `None` after the last.
    ///
    /// # Errors
    /// A limit, or a damaged file.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, QueryError> {
        loop {
            if let Some(row) = self.rows.next() {
                if self.left == 0 {
                    self.cut = true;
                    self.batches.close();
                    return Ok(None);
                }
                self.left -= 1;
                return Ok(Some(row));
            }
            match self.batches.recv().await {
                Some(batch) if !self.cut => self.rows = batch?.into_iter(),
                _ => return Ok(None),
            }
        }
    }

    /// Whether the limit of rows cut the answer; known after the last row.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.cut
    }
}

/// A statement that has its turn.
struct Running {
    index: Index,
    session: Session,
    snapshot: Arc<Snapshot>,
    size: u64,
    /// Parsed on the engine's threads only: a deep statement needs their stacks.
    text: String,
    /// When the work must be done; what the reader lets it wait is not counted.
    deadline: Instant,
    time: Duration,
    /// Rows the engine makes at most: one more than is shown.
    rows: usize,
    /// Given back while the reader is waited for.
    turn: Option<OwnedSemaphorePermit>,
}

impl Index {
    /// Answers one SELECT over the table `records`, which holds the first `size` leaves.
    ///
    /// # Errors
    /// The statement is not accepted, a limit is reached before the first row, the index is
    /// behind or damaged.
    pub async fn sql(
        &self,
        statement: &str,
        limits: SqlLimits,
        size: u64,
    ) -> Result<Answer, QueryError> {
        let running = self.running(statement, limits, size).await?;
        let (head, mut columns) = mpsc::channel(1);
        let (batches, rows) = mpsc::channel(BATCHES_IN_FLIGHT);
        let mut work = JoinSet::new();
        self.engine().spawn(&mut work, running.answer(head, batches));
        let columns = columns.recv().await;
        let stopped = || QueryError::Engine { text: "it has stopped".to_owned() };
        Ok(Answer {
            columns: columns.ok_or_else(stopped)??,
            batches: rows,
            rows: Vec::new().into_iter(),
            left: limits.rows,
            cut: false,
            _work: work,
        })
    }

    /// How [`Index::sql`] answers: runs it, throws the rows away, and shows which files and row
    /// groups were left out and what each step did.
    ///
    /// # Errors
    /// As for [`Index::sql`].
    pub async fn explain_sql(
        &self,
        statement: &str,
        limits: SqlLimits,
        size: u64,
    ) -> Result<String, QueryError> {
        let running = self.running(statement, limits, size).await?;
        self.engine().run(running.explained()).await
    }

    async fn running(
        &self,
        text: &str,
        limits: SqlLimits,
        size: u64,
    ) -> Result<Running, QueryError> {
        let snapshot = self.reached(size).await?;
        let turn = self.engine().turn().await?;
        let memory = limits.memory.min(self.settings().query_memory_bytes).max(MEMORY_MIN);
        Ok(Running {
            index: self.clone(),
            session: self.engine().session(&snapshot.files, memory)?,
            snapshot,
            size,
            text: text.to_owned(),
            deadline: Instant::now() + limits.time,
            time: limits.time,
            rows: limits.rows.saturating_add(1),
            turn: Some(turn),
        })
    }
}

impl Running {
    async fn answer(
        mut self,
        head: mpsc::Sender<Result<Vec<Column>, QueryError>>,
        batches: mpsc::Sender<Rows>,
    ) {
        // Nobody listens any more where sending fails.
        let mut stream = match self.begin().await {
            Ok((_, stream)) => stream,
            Err(error) => return drop(head.send(Err(error)).await),
        };
        if head.send(Ok(values::columns(&stream.schema()))).await.is_err() {
            return;
        }
        loop {
            let rows = match self.next(&mut stream).await {
                Ok(Some(batch)) => values::rows(&batch).map_err(|error| self.failed(&error)),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last = rows.is_err();
            let Some(place) = self.place(&batches).await else { return };
            place.send(rows);
            if last {
                return;
            }
            if self.turn.is_none() {
                match self.index.engine().turn().await {
                    Ok(turn) => self.turn = Some(turn),
                    // Whoever reads so slowly waits once more for its reason.
                    Err(error) => return drop(batches.send(Err(error)).await),
                }
            }
        }
    }

    /// Room for one batch; `None` when nobody reads any more. Whoever makes it wait lets the
    /// others have its turn.
    async fn place<'a>(&mut self, batches: &'a mpsc::Sender<Rows>) -> Option<Permit<'a, Rows>> {
        match batches.try_reserve() {
            Ok(place) => Some(place),
            Err(TrySendError::Closed(())) => None,
            Err(TrySendError::Full(())) => {
                self.turn = None;
                let began = Instant::now();
                let place = batches.reserve().await.ok()?;
                self.deadline += began.elapsed();
                Some(place)
            }
        }
    }

    async fn explained(self) -> Result<String, QueryError> {
        let (records, frame) = self.in_time(self.frame()).await??;
        let shown = async {
            let plan = frame.create_physical_plan().await?;
            run_and_show(&self.session, &records, plan).await
        };
        self.in_time(shown).await?.map_err(|error| self.failed(&error))
    }

    async fn begin(&self) -> Result<(Arc<Records>, SendableRecordBatchStream), QueryError> {
        let (records, frame) = self.in_time(self.frame()).await??;
        let stream = self.in_time(frame.execute_stream()).await?;
        Ok((records, stream.map_err(|error| self.failed(&error))?))
    }

    async fn frame(&self) -> Result<(Arc<Records>, DataFrame), QueryError> {
        let failed = |error: DataFusionError| self.failed(&error);
        let parsed = statement::parse(&self.text)?;
        let context = &self.session.context;
        let records = records(&self.session, Arc::clone(&self.snapshot), self.size);
        let mut table = Arc::clone(&records) as _;
        if records.exceeds() {
            let all = context.read_table(table).map_err(failed)?;
            table = all.filter(col("leaf").lt(lit(self.size))).map_err(failed)?.into_view();
        }
        context.register_table("records", table).map_err(failed)?;
        let plan = statement::plan(&context.state(), parsed).await;
        let plan = plan.map_err(|mistake| match mistake {
            Mistake::Refused(error) => error,
            Mistake::Engine(error) => self.failed(&error),
        })?;
        let frame = context.execute_logical_plan(plan).await.map_err(failed)?;
        Ok((records, frame.limit(0, Some(self.rows)).map_err(failed)?))
    }

    async fn next(
        &self,
        stream: &mut SendableRecordBatchStream,
    ) -> Result<Option<RecordBatch>, QueryError> {
        let batch = self.in_time(stream.next()).await?;
        batch.transpose().map_err(|error| self.failed(&error))
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, QueryError> {
        timeout_at(self.deadline, work).await.map_err(|_| QueryError::Limit {
            text: format!(
                "the answer took longer than {:?}; narrow it, first of all by time",
                self.time
            ),
        })
    }

    fn failed(&self, error: &DataFusionError) -> QueryError {
        self.session.error(error)
    }
}

#[cfg(test)]
mod tests;
