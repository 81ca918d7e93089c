//! The table `records` of one query: the files that may matter, and the rows in memory.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{ArrayRef, BooleanArray, StringViewArray, TimestampNanosecondArray, UInt64Array},
        datatypes::{Schema, SchemaRef},
    },
    catalog::{Session, TableProvider, memory::MemorySourceConfig},
    common::{Column, DFSchema, pruning::PruningStatistics},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetSource,
            parquet::CachedParquetFileReaderFactory,
        },
        source::DataSourceExec,
    },
    error::{DataFusionError, Result},
    execution::cache::cache_manager::FileMetadataCache,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_optimizer::pruning::PruningPredicateBuilder,
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
    scalar::ScalarValue,
};

use crate::{
    engine::store_url,
    files::DataFile,
    index::Snapshot,
    rows::KIND_UNKNOWN,
    schema::{C, table},
    store::Checked,
};

/// The rows of leaves `0..size`, but that the files may hold later ones: [`Records::exceeds`].
#[derive(Debug)]
pub struct Records {
    snapshot: Arc<Snapshot>,
    size: u64,
    store: Arc<Checked>,
    metadata: Arc<FileMetadataCache>,
    opened: AtomicUsize,
}

impl Records {
    /// Over a snapshot that holds the first `size` leaves.
    pub fn new(
        snapshot: Arc<Snapshot>,
        size: u64,
        store: Arc<Checked>,
        metadata: Arc<FileMetadataCache>,
    ) -> Self {
        Self { snapshot, size, store, metadata, opened: AtomicUsize::new(0) }
    }

    /// Whether a file holds leaves from `size` on, which the query must filter out.
    pub fn exceeds(&self) -> bool {
        self.snapshot.files.iter().any(|file| file.entry.last_leaf >= self.size)
    }

    /// What was left of the files by the manifest alone, in words.
    pub fn pruning(&self) -> String {
        let (opened, all) = (self.opened.load(Ordering::Relaxed), self.snapshot.files.len());
        let tail = self.snapshot.tail_rows();
        format!("files: {opened} of {all} by kind, time and leaf; rows in memory: {tail}")
    }

    /// The files that may hold rows for which the filters hold.
    fn relevant(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<&Arc<DataFile>>> {
        let files = self.snapshot.files.iter();
        let files = files
            .filter(|file| file.entry.first_leaf < self.size && file.entry.kind != KIND_UNKNOWN);
        let files: Vec<_> = files.collect();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files) };
        let schema = DFSchema::try_from(table())?;
        let filter = state.create_physical_expr(filter, &schema)?;
        let keep = PruningPredicateBuilder::new().with_file_schema(table()).try_build(filter)?;
        let keep = keep.prune(&Ranges { files: &files })?;
        Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        files: &[&Arc<DataFile>],
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let readers = CachedParquetFileReaderFactory::new(
            Arc::clone(&self.store) as _,
            Arc::clone(&self.metadata),
        );
        let options = state.table_options().parquet.clone();
        let source = ParquetSource::new(table())
            .with_table_parquet_options(options)
            .with_pushdown_filters(true)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let groups = state.config().target_partitions().clamp(1, files.len().max(1));
        let mut parts = vec![Vec::new(); groups];
        for (number, file) in files.iter().enumerate() {
            let part = PartitionedFile::new(file.entry.path.clone(), file.entry.bytes);
            if let Some(parts) = parts.get_mut(number % groups) {
                parts.push(part);
            }
        }
        let config = FileScanConfigBuilder::new(store_url()?, Arc::new(source))
            .with_projection_indices(projection.cloned())?
            .with_file_groups(parts.into_iter().map(FileGroup::new).collect())
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn scan_tail(
        &self,
        projection: Option<&Vec<usize>>,
        schema: &SchemaRef,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let all: Vec<usize> = (0..table().fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let known = self.snapshot.tail.iter().filter(|(kind, _)| **kind != KIND_UNKNOWN);
        let mut batches = Vec::new();
        for part in known.flat_map(|(_, parts)| parts) {
            if let Some(part) = part.before(self.size)? {
                batches.push(part.projected(schema, projection)?);
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let plan = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(schema), None)?;
        Ok(Some(plan))
    }
}

#[async_trait]
impl TableProvider for Records {
    fn schema(&self) -> SchemaRef {
        table()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(table().project(projection)?),
            None => table(),
        };
        let files = self.relevant(state, filters)?;
        self.opened.fetch_add(files.len(), Ordering::Relaxed);
        let mut parts = Vec::new();
        if !files.is_empty() {
            parts.push(self.scan_files(state, &files, projection)?);
        }
        parts.extend(self.scan_tail(projection, &schema)?);
        match (parts.pop(), parts.pop()) {
            (None, _) => Ok(Arc::new(EmptyExec::new(schema))),
            (Some(only), None) => Ok(only),
            (Some(tail), Some(files)) => UnionExec::try_new(vec![files, tail]),
        }
    }
}

/// What the manifest knows about the values of each file.
struct Ranges<'a> {
    files: &'a [&'a Arc<DataFile>],
}

impl Ranges<'_> {
    fn values(
        &self,
        column: &Column,
        leaf: impl Fn(&DataFile) -> u64,
        time: impl Fn(&DataFile) -> u64,
    ) -> Option<ArrayRef> {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(table);
        let place = Schema::index_of(&SCHEMA, &column.name).ok()?;
        let time = |file: &&Arc<DataFile>| i64::try_from(time(file)).unwrap_or(i64::MAX);
        let files = self.files.iter();
        let values: ArrayRef = match place {
            place if place == C::Leaf as usize => {
                Arc::new(files.map(|file| Some(leaf(file))).collect::<UInt64Array>())
            }
            place if place == C::Time as usize => {
                let times: TimestampNanosecondArray = files.map(|file| Some(time(file))).collect();
                Arc::new(times.with_timezone("UTC"))
            }
            place if place == C::Kind as usize => {
                let kinds = files.map(|file| Some(file.entry.kind.as_str()));
                Arc::new(kinds.collect::<StringViewArray>())
            }
            _ => return None,
        };
        Some(values)
    }
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.entry.first_leaf, |file| file.entry.min_time)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file| file.entry.last_leaf, |file| file.entry.max_time)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| Some(file.entry.rows)).collect::<UInt64Array>()))
    }

    fn contained(
        &self,
        _: &Column,
        _: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}

/// The engine's error for a mistake of ours.
pub fn internal(text: &str) -> DataFusionError {
    DataFusionError::Internal(text.to_owned())
}
