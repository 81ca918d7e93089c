//! The files of one snapshot as the query engine reads them: only those, only checked bytes.

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, local::LocalFileSystem, path::Path,
};
use tokio_stream::Stream;

use crate::files::DataFile;

type Listed<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Reads the files of one query, and keeps them from being deleted.
#[derive(Debug)]
pub struct Checked {
    inner: Arc<LocalFileSystem>,
    files: HashMap<Path, Arc<DataFile>>,
    damaged: OnceLock<String>,
}

impl Checked {
    /// Over the files of a snapshot.
    pub fn new<'a>(
        inner: Arc<LocalFileSystem>,
        files: impl IntoIterator<Item = &'a Arc<DataFile>>,
    ) -> Self {
        let files = files.into_iter();
        let files = files.map(|file| (Path::from(file.entry.path.as_str()), Arc::clone(file)));
        Self { inner, files: files.collect(), damaged: OnceLock::new() }
    }

    /// The first file that was found damaged or unreadable.
    pub fn damaged(&self) -> Option<&str> {
        self.damaged.get().map(String::as_str)
    }

    async fn read(&self, location: &Path, file: &DataFile, range: &Range<u64>) -> Result<Bytes> {
        let around = file.sums.around(range);
        let content = self.inner.get_range(location, around.clone()).await;
        let content = content.inspect_err(|error| {
            tracing::error!(file = %location, %error, "a file of the index cannot be read");
            self.note(location);
        })?;
        let whole = content.len() as u64 == around.end - around.start;
        if !whole || !file.sums.hold(around.start, &content) {
            tracing::error!(file = %location, "a file of the index is damaged");
            self.note(location);
            return Err(refused("its checksum is wrong"));
        }
        let from = usize::try_from(range.start - around.start).unwrap_or(usize::MAX);
        let to = usize::try_from(range.end - around.start).unwrap_or(usize::MAX);
        if from > to || to > content.len() {
            return Err(refused("there is no such range"));
        }
        Ok(content.slice(from..to))
    }

    fn note(&self, location: &Path) {
        self.damaged.get_or_init(|| location.to_string());
    }
}

fn refused(why: &'static str) -> Error {
    Error::Generic { store: "index", source: why.into() }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("index")
    }
}

#[async_trait]
impl ObjectStore for Checked {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused("queries only read"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("queries only read"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let file =
            self.files.get(location).ok_or_else(|| refused("it is not part of the index"))?;
        let size = file.entry.bytes;
        let range = match &options.range {
            None => 0..size,
            Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
            Some(GetRange::Offset(offset)) => *offset..size,
            Some(GetRange::Suffix(length)) => size.saturating_sub(*length)..size,
        };
        if range.start > range.end {
            return Err(refused("there is no such range"));
        }
        let content = match options.head {
            true => Bytes::new(),
            false => self.read(location, file, &range).await?,
        };
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(Box::pin(tokio_stream::once(Ok(content))));
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    fn delete_stream(&self, _: Listed<Path>) -> Listed<Path> {
        Box::pin(tokio_stream::once(Err(refused("queries only read"))))
    }

    fn list(&self, _: Option<&Path>) -> Listed<ObjectMeta> {
        Box::pin(tokio_stream::once(Err(refused("the manifest lists the files"))))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused("the manifest lists the files"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("queries only read"))
    }
}
