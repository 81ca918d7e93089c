//! Parquet files: made durable before anyone names them, deleted when nobody reads them any more.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        error::ArrowError,
    },
    parquet::{
        arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
        basic::{Compression, Encoding, ZstdLevel},
        errors::ParquetError,
        file::properties::{EnabledStatistics, WriterProperties},
        schema::types::ColumnPath,
    },
};

use crate::{
    blocks::Sums,
    manifest::Entry,
    narrow::Narrow,
    schema::{C, SPECS},
};

/// Rows for which a page's smallest and largest values are kept.
const PAGE_ROWS: usize = 8_192;
/// Columns that get a bloom filter: those people name one value of.
const BLOOM: [C; 5] = [C::Pod, C::ContainerId, C::Executable, C::Path, C::Address];
/// Columns whose values mostly rise, or are all different: differences are shorter than a
/// dictionary.
const DELTAS: [C; 5] = [C::Leaf, C::Time, C::Seq, C::KernelSeq, C::ChildStartBoottimeNs];
/// Level of zstd.
const ZSTD_LEVEL: i32 = 3;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("{path}: the index cannot use the file; make room or check its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{path} is damaged; run `pcigate-collector reindex`")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Rows that do not fit together.
    #[error("{path}: the rows do not make a file")]
    Arrow {
        /// The file.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: ArrowError,
    },
    /// Parquet refuses.
    #[error("{path}: Parquet refuses the rows or the file")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: ParquetError,
    },
}

/// A file of the index. The last one who holds it deletes it, if it was replaced.
#[derive(Debug)]
pub struct DataFile {
    /// As in the manifest.
    pub entry: Entry,
    /// Its checksums.
    pub sums: Sums,
    path: PathBuf,
    replaced: AtomicBool,
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if self.replaced.load(Ordering::Acquire)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "a replaced file of the index stays");
        }
    }
}

impl DataFile {
    /// A file named by the manifest, if it is there and its length and its end are right.
    pub fn open(dir: &Path, entry: Entry) -> Result<Self, FileError> {
        let path = dir.join(&entry.path);
        let damaged = || FileError::Damaged { path: path.clone() };
        let sums = Sums::parse(&entry.sums, entry.bytes).ok_or_else(damaged)?;
        let read = |source| FileError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged()),
            Err(error) => return Err(read(error)),
        };
        if file.metadata().map_err(read)?.len() != entry.bytes {
            return Err(damaged());
        }
        let end = sums.around(&(entry.bytes.saturating_sub(1)..entry.bytes));
        let mut content = vec![0; usize::try_from(end.end - end.start).unwrap_or(0)];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut content, end.start).map_err(read)?;
        if !sums.hold(end.start, &content) {
            return Err(damaged());
        }
        Ok(Self { entry, sums, path, replaced: AtomicBool::new(false) })
    }

    /// No longer part of the index: to be deleted when the last query has let go of it.
    pub fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// All its rows, checked.
    pub fn read(&self) -> Result<Vec<Narrow>, FileError> {
        let path = &self.path;
        let content =
            fs::read(path).map_err(|source| FileError::Io { path: path.clone(), source })?;
        if content.len() as u64 != self.entry.bytes || !self.sums.hold(0, &content) {
            return Err(FileError::Damaged { path: path.clone() });
        }
        let parquet = |source| FileError::Parquet { path: path.clone(), source };
        let arrow = |source| FileError::Arrow { path: path.clone(), source };
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content));
        let reader = reader.and_then(|reader| reader.with_batch_size(65_536).build());
        let mut parts = Vec::new();
        for batch in reader.map_err(parquet)? {
            let part = batch.and_then(|batch| Narrow::from_batch(&batch)).map_err(arrow)?;
            parts.extend(part);
        }
        Ok(parts)
    }
}

/// Where a file goes, and how it is laid out.
pub struct Plan<'a> {
    /// The index directory.
    pub dir: &'a Path,
    /// Below it, with `/`.
    pub path: String,
    /// Kind of all rows.
    pub kind: &'a str,
    /// Rows of a row group.
    pub row_group_rows: usize,
}

/// Writes rows of one kind into a new file; durable when this returns.
pub fn write(plan: Plan<'_>, rows: &Narrow) -> Result<DataFile, FileError> {
    let path = plan.dir.join(&plan.path);
    let arrow = |source| FileError::Arrow { path: path.clone(), source };
    let parquet = |source| FileError::Parquet { path: path.clone(), source };
    let batch = rows.sorted().and_then(|rows| rows.file_batch()).map_err(arrow)?;
    let properties = properties(&batch, plan.row_group_rows).map_err(parquet)?;
    let mut content = Vec::new();
    let writer = ArrowWriter::try_new(&mut content, batch.schema(), Some(properties));
    let mut writer = writer.map_err(parquet)?;
    writer.write(&batch).map_err(parquet)?;
    writer.close().map_err(parquet)?;
    let sums = Sums::of(&content);
    durable(plan.dir, &path, &content).map_err(|source| {
        // A torn file is no harm, but room.
        drop(fs::remove_file(&path));
        FileError::Io { path: path.clone(), source }
    })?;
    let entry = Entry {
        path: plan.path,
        kind: plan.kind.to_owned(),
        rows: rows.rows as u64,
        first_leaf: rows.first_leaf,
        last_leaf: rows.last_leaf,
        min_time: rows.min_time,
        max_time: rows.max_time,
        bytes: content.len() as u64,
        sums: sums.text(),
    };
    Ok(DataFile { entry, sums, path, replaced: AtomicBool::new(false) })
}

/// Writes a file and makes it, and every directory above it below `dir`, durable.
fn durable(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(dir);
    fs::create_dir_all(parent)?;
    let mut file = File::create_new(path)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    for directory in parent.ancestors() {
        File::open(directory)?.sync_all()?;
        if directory == dir {
            break;
        }
    }
    Ok(())
}

fn properties(
    batch: &RecordBatch,
    row_group_rows: usize,
) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page);
    for (column, name, ..) in SPECS {
        let path = ColumnPath::from(name);
        if DELTAS.contains(&column) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        let distinct = BLOOM.contains(&column).then(|| batch.column_by_name(name)).flatten();
        if let Some(values) = distinct.and_then(|values| values.as_string_view_opt()) {
            let distinct: HashSet<_> = values.iter().flatten().collect();
            let distinct = (distinct.len() as u64).max(1);
            properties = properties
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), 0.01)
                .set_column_bloom_filter_max_ndv(path, distinct);
        }
    }
    Ok(properties.build())
}
