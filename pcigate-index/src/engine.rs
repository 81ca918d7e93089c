//! The query engine: threads of its own, memory and turns that are bounded, only known functions.
//!
//! Queries run on at most half the processors, so that ingest always has the others; the
//! operating system shares what both want.

use std::{
    fmt,
    future::Future,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use datafusion::{
    error::DataFusionError,
    execution::{
        SessionState, SessionStateBuilder, SessionStateDefaults,
        cache::cache_manager::FileMetadataCache,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        object_store::ObjectStoreUrl,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::{SessionConfig, SessionContext},
};
use object_store::local::LocalFileSystem;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    error::{OpenError, QueryError},
    functions,
    settings::Settings,
    store::Checked,
};

/// Bytes of footers kept decoded.
const METADATA_BYTES: usize = 64 << 20;
/// Stack of an engine thread: the planner recurses over expressions. Only touched pages count.
const STACK_BYTES: usize = 64 << 20;
/// Threads that read files.
const READERS: usize = 8;

/// Threads, turns and shared parts of all queries.
pub struct Engine {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    turns: Arc<Semaphore>,
    wait_max: Duration,
    partitions: usize,
    store: Arc<LocalFileSystem>,
    metadata: Arc<FileMetadataCache>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Also where blocking is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One query's view: its memory, its files.
pub struct Session {
    /// The engine's context.
    pub context: SessionContext,
    /// The files it may read.
    pub store: Arc<Checked>,
    /// Footers shared with other queries.
    pub metadata: Arc<FileMetadataCache>,
    memory: usize,
}

/// The address of [`Checked`] within a session.
pub fn store_url() -> Result<ObjectStoreUrl, DataFusionError> {
    ObjectStoreUrl::parse("index://records")
}

impl Engine {
    /// Starts the threads.
    pub fn start(dir: &Path, settings: &Settings) -> Result<Self, OpenError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let partitions = (processors / 2).max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(partitions)
            .max_blocking_threads(READERS)
            .thread_stack_size(STACK_BYTES)
            .thread_name("index-query")
            .enable_all()
            .build()
            .map_err(|source| OpenError::Threads { source })?;
        let store = LocalFileSystem::new_with_prefix(dir);
        let failed = |source| OpenError::Store { path: dir.to_path_buf(), source };
        let shared = RuntimeEnvBuilder::new().with_metadata_cache_limit(METADATA_BYTES);
        let metadata = shared.build().map(|shared| shared.cache_manager.get_file_metadata_cache());
        let metadata = metadata.map_err(|error| OpenError::Threads {
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Self {
            runtime: Some(runtime),
            turns: Arc::new(Semaphore::new(settings.queries_max.max(1))),
            wait_max: settings.wait_max,
            partitions,
            store: Arc::new(store.map_err(failed)?),
            metadata,
        })
    }

    /// The right to run one query.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(self.wait_max, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(QueryError::Limit {
                text: "too many questions at a time: none of those before has ended; ask again"
                    .to_owned(),
            }),
        }
    }

    /// Runs work on the engine's threads; ends it when the set is dropped.
    pub fn spawn<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        work: impl Future<Output = T> + Send + 'static,
    ) {
        if let Some(runtime) = &self.runtime {
            tasks.spawn_on(work, runtime.handle());
        }
    }

    /// Runs work on the engine's threads to its end; ends it when the caller is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let mut tasks = JoinSet::new();
        self.spawn(&mut tasks, work);
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(QueryError::Engine { text: error.to_string() }),
            None => Err(QueryError::Engine { text: "it has stopped".to_owned() }),
        }
    }

    /// A session over the files of one query with at most `memory` bytes.
    pub fn session<'a>(
        &self,
        files: impl IntoIterator<Item = &'a Arc<crate::files::DataFile>>,
        memory: usize,
    ) -> Result<Session, QueryError> {
        let store = Arc::new(Checked::new(Arc::clone(&self.store), files));
        let failed = |error: DataFusionError| QueryError::Engine { text: error.to_string() };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build_arc()
            .map_err(failed)?;
        runtime
            .register_object_store(store_url().map_err(failed)?.as_ref(), Arc::clone(&store) as _);
        let context = SessionContext::new_with_state(self.state(runtime));
        Ok(Session { context, store, metadata: Arc::clone(&self.metadata), memory })
    }

    fn state(&self, runtime: Arc<RuntimeEnv>) -> SessionState {
        static FUNCTIONS: OnceLock<functions::Functions> = OnceLock::new();
        let known = FUNCTIONS.get_or_init(functions::Functions::known);
        let mut config = SessionConfig::new().with_target_partitions(self.partitions);
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.enable_page_index = true;
        options.execution.parquet.bloom_filter_on_read = true;
        options.execution.time_zone = Some("UTC".to_owned());
        options.execution.enable_recursive_ctes = false;
        options.sql_parser.enable_options_value_normalization = false;
        SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(known.scalar.clone())
            .with_aggregate_functions(known.aggregate.clone())
            .build()
    }
}

impl Session {
    /// What an error of the engine means to the person who asked.
    pub fn error(&self, error: &DataFusionError) -> QueryError {
        if let Some(file) = self.store.damaged() {
            return QueryError::Damaged { file: file.to_owned() };
        }
        let root = error.find_root();
        match root {
            DataFusionError::ResourcesExhausted(_) => QueryError::Limit {
                text: format!(
                    "the answer needs more than {} MiB of memory; narrow it, or group by fewer \
                     values",
                    self.memory >> 20
                ),
            },
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Execution(_)
            | DataFusionError::Diagnostic(..)
            | DataFusionError::Configuration(_)
            | DataFusionError::ArrowError(..) => QueryError::Statement {
                text: format!("statement: {}", first_line(&root.strip_backtrace())),
            },
            _ => QueryError::Engine { text: first_line(&error.strip_backtrace()) },
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(400).collect()
}
