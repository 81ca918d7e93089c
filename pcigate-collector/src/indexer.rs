//! Keeps the index level with the ledger, beside ingest, which never waits for it.
//!
//! One task follows what is durable and takes it into the index in bounded steps on a blocking
//! thread. The index is derived: whatever is wrong with it is logged once, tried again, and told
//! to whoever asks; nothing else stops.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use pcigate_index::{AdvanceError, Index, QueryError, Settings, Status};
use pcigate_ledger::Directory;
use tokio::{sync::watch, task::JoinHandle};

use crate::ledger::Durable;

/// The index wants to be looked after this often when nothing happens.
const TICK: Duration = Duration::from_secs(5);
/// Between two steps of compaction when the last one found nothing to do.
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// After something went wrong.
const RETRY: Duration = Duration::from_secs(10);
/// How long a question waits for the index to be opened.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// How long the index may go on after the last record, when the collector stops.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// Between two lines of the log while the index is far behind.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Where the index lies below the state directory.
#[must_use]
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("index")
}

/// Why the index gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexTrouble {
    /// It is not open (yet).
    #[error(
        "the index is not open; see the collector's log, and ask again (`pcigate-collector \
         reindex` builds it anew)"
    )]
    NotOpen,
    /// It is open and does not answer.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// A handle to the index for those who ask.
#[derive(Clone, Debug)]
pub struct Indexer {
    opened: watch::Receiver<Option<Index>>,
}

impl Indexer {
    /// The index, once it is open; it may still be behind the ledger.
    ///
    /// # Errors
    /// It could not be opened in time.
    pub async fn index(&self) -> Result<Index, IndexTrouble> {
        let mut opened = self.opened.clone();
        let open = tokio::time::timeout(OPENING_MAX, opened.wait_for(Option::is_some)).await;
        let index = open.ok().and_then(Result::ok).and_then(|index| index.clone());
        index.ok_or(IndexTrouble::NotOpen)
    }

    /// How far it is, once it is open.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.opened.borrow().as_ref().map(Index::status)
    }

    /// How many records of a class before a time (ns since 1970) can be queried in the first
    /// `size` leaves.
    ///
    /// # Errors
    /// The index is not open, or not level with `size`.
    pub async fn count_before(
        &self,
        class: &str,
        before_unix_nano: u64,
        size: u64,
    ) -> Result<u64, IndexTrouble> {
        Ok(self.index().await?.count_before(class, before_unix_nano, size).await?)
    }
}

/// Starts to follow `durable`. The task ends, with the index flushed, when the writer has ended.
#[must_use]
pub fn start(
    state_dir: &Path,
    source: Directory,
    durable: watch::Receiver<Arc<Durable>>,
) -> (Indexer, JoinHandle<()>) {
    let (publish, opened) = watch::channel(None);
    let follower = Follower { dir: directory(state_dir), source, durable, trouble: None };
    (Indexer { opened }, tokio::spawn(follower.run(publish)))
}

struct Follower {
    dir: PathBuf,
    source: Directory,
    durable: watch::Receiver<Arc<Durable>>,
    /// The last thing that was logged as wrong, until it is right again.
    trouble: Option<String>,
}

impl Follower {
    async fn run(mut self, publish: watch::Sender<Option<Index>>) {
        let Some(index) = self.open().await else { return };
        publish.send_replace(Some(index.clone()));
        let mut compact_at = Instant::now() + COMPACT_EVERY;
        loop {
            let level = self.advance(&index, None).await;
            if level && compact_at <= Instant::now() {
                let step = index.clone();
                let more = self.work(move || step.compact(SystemTime::now())).await;
                let pause = if more == Some(true) { Duration::ZERO } else { COMPACT_EVERY };
                compact_at = Instant::now() + pause;
            }
            let pause = match level {
                true if compact_at <= Instant::now() => Duration::ZERO,
                true => TICK,
                false => RETRY,
            };
            if !self.wait(pause, level).await {
                break;
            }
        }
        self.advance(&index, Some(Instant::now() + CLOSING_MAX)).await;
        self.work(move || index.flush()).await;
    }

    /// Opens the index; tries again until that works or the writer has ended.
    async fn open(&mut self) -> Option<Index> {
        loop {
            let (dir, source) = (self.dir.clone(), self.source.clone());
            let durable = Arc::clone(&self.durable.borrow());
            let open =
                move || Index::open(&dir, source, durable.size, durable.root, Settings::default());
            if let Some(index) = self.work(open).await {
                return Some(index);
            }
            if !self.wait(RETRY, false).await {
                return None;
            }
        }
    }

    /// Takes in what is durable, step by step; whether the index is level with it now.
    async fn advance(&mut self, index: &Index, deadline: Option<Instant>) -> bool {
        let mut said = Instant::now();
        loop {
            let size = self.durable.borrow_and_update().size;
            let step = index.clone();
            let Some(indexed) = self.work(move || step.advance(size)).await else { return false };
            if indexed >= size {
                return true;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            if said.elapsed() >= PROGRESS_EVERY {
                tracing::info!(indexed, size, "the index catches up with the ledger");
                said = Instant::now();
            }
            if deadline.is_none() && self.durable.has_changed().is_err() {
                // The writer has ended: the rest has a deadline.
                return false;
            }
        }
    }

    /// Waits for a time, or, where that is wanted, for more to take in; `false` when the writer
    /// has ended.
    async fn wait(&mut self, pause: Duration, until_more: bool) -> bool {
        let paused = tokio::time::sleep(pause);
        tokio::pin!(paused);
        loop {
            tokio::select! {
                () = &mut paused => return self.durable.has_changed().is_ok(),
                changed = self.durable.changed() => match changed {
                    Ok(()) if until_more => return true,
                    Ok(()) => {}
                    Err(_) => return false,
                },
            }
        }
    }

    /// Runs a step on a thread that may block. What goes wrong is logged when it is new.
    async fn work<T, E>(
        &mut self,
        step: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let wrong = match tokio::task::spawn_blocking(step).await {
            Ok(Ok(done)) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the index works again");
                }
                return Some(done);
            }
            Ok(Err(error)) => {
                let source = error.source().map(|source| format!(": {source}"));
                format!("{error}{}", source.unwrap_or_default())
            }
            Err(error) if error.is_cancelled() => return None,
            Err(_) => "a step of the index ended unexpectedly".to_owned(),
        };
        if self.trouble.as_ref() != Some(&wrong) {
            tracing::error!(
                reason = wrong,
                "the index does not come further; records are still taken and kept, questions \
                 may get no answer"
            );
            self.trouble = Some(wrong);
        }
        None
    }
}

/// Builds the index anew from the ledger, telling `progress` how far it is (leaves).
///
/// # Errors
/// The old one cannot be removed, or the new one not be built.
pub fn rebuild(
    dir: &Path,
    source: Directory,
    durable: &Durable,
    mut progress: impl FnMut(u64),
) -> Result<(), ReindexError> {
    let remove = |source| ReindexError::Remove { dir: dir.display().to_string(), source };
    pcigate_index::remove(dir).map_err(remove)?;
    let index = Index::open(dir, source, durable.size, durable.root, Settings::default())
        .map_err(|source| ReindexError::Open { source })?;
    let build = |source| ReindexError::Build { source };
    let mut indexed = 0;
    while indexed < durable.size {
        indexed = index.advance(durable.size).map_err(build)?;
        progress(indexed);
    }
    index.flush().map_err(build)?;
    while index.compact(SystemTime::now()).map_err(build)? {}
    Ok(())
}

/// Why an index cannot be built anew.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// The old files cannot be removed.
    #[error("the old index in {dir} cannot be removed: remove it by hand")]
    Remove {
        /// The directory.
        dir: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The directory cannot be used.
    #[error("the new index cannot be begun")]
    Open {
        /// Why.
        #[source]
        source: pcigate_index::OpenError,
    },
    /// Ledger or disk fail on the way.
    #[error("the index cannot be built")]
    Build {
        /// Why.
        #[source]
        source: AdvanceError,
    },
}
