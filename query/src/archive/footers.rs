//! Footers, read once and kept as files are read by them: of a schema that is known, with the page index, and without
//! the bounds of float columns.
//!
//! Parquet leaves NaN out of a column's bounds, while the engine counts NaN as the greatest number: by its bounds,
//! a page of 1 and NaN has nothing above 2, and `value > 2` would skip it. Without bounds it is read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetMetaData, DefaultParquetFileReaderFactory, ParquetFileReaderFactory,
};
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::basic::Type;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use stillwell_schema::columns;

use super::ArchiveError;

/// The key by which a footer names the schema of its file.
const SCHEMA_KEY: &str = "stillwell.schema";

/// Reads files whose footers are kept between queries, up to the bound of the cache they are kept in.
#[derive(Debug)]
pub(super) struct Footers {
    store: Arc<dyn ObjectStore>,
    kept: Arc<FileMetadataCache>,
    files: DefaultParquetFileReaderFactory,
}

impl Footers {
    pub(super) fn new(store: Arc<dyn ObjectStore>, kept: Arc<FileMetadataCache>) -> Self {
        Self { files: DefaultParquetFileReaderFactory::new(Arc::clone(&store)), store, kept }
    }
}

impl ParquetFileReaderFactory for Footers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let (store, kept) = (Arc::clone(&self.store), Arc::clone(&self.kept));
        let object = file.object_meta.clone();
        let bytes = self.files.create_reader(partition, file, footer_bytes, metrics)?;
        Ok(Box::new(Reader { bytes, object, footer_bytes, store, kept }))
    }
}

struct Reader {
    bytes: Box<dyn AsyncFileReader + Send>,
    object: ObjectMeta,
    footer_bytes: Option<usize>,
    store: Arc<dyn ObjectStore>,
    kept: Arc<FileMetadataCache>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.bytes.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.bytes.get_byte_ranges(ranges)
    }

    /// With the page index always: without it, each reader of a file would fetch it for itself, into a copy.
    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let (object, kept) = (&self.object, &self.kept);
        let read = DFParquetMetadata::new(&*self.store, object)
            .with_metadata_size_hint(self.footer_bytes)
            .with_page_index_policy(Some(PageIndexPolicy::Optional));
        async move {
            if let Some(footer) = find(&**kept, object) {
                return Ok(footer);
            }
            let footer = read.fetch_metadata().await.map_err(|error| unreadable(error, &object.location))?;
            let path = object.location.clone();
            let task = tokio::task::spawn_blocking(move || {
                check_schema(&footer, &path)?;
                without_float_bounds(footer)
            });
            let footer = task.await.map_err(|error| ParquetError::External(Box::new(error)))??;
            let entry = Arc::new(CachedParquetMetaData::new(Arc::clone(&footer)));
            kept.put(&object.location, CachedFileMetadataEntry::new(object.clone(), entry));
            Ok(footer)
        }
        .boxed()
    }
}

fn find(kept: &FileMetadataCache, object: &ObjectMeta) -> Option<Arc<ParquetMetaData>> {
    let found = kept.get(&object.location).filter(|found| found.is_valid_for(object))?;
    let footer = found.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
    Some(Arc::clone(footer.parquet_metadata()))
}

/// What the store says stays as it is; all else is said of the file.
fn unreadable(error: DataFusionError, path: &Path) -> ParquetError {
    match error.find_root() {
        DataFusionError::ObjectStore(_) => ParquetError::External(Box::new(error)),
        root => {
            ParquetError::General(format!("the footer of {path} cannot be read: {}", root.strip_backtrace()))
        }
    }
}

/// A cover names no schema, so that its files speak for themselves. One that names none is taken as known.
fn check_schema(footer: &ParquetMetaData, path: &Path) -> ParquetResult<()> {
    let stated = footer.file_metadata().key_value_metadata().into_iter().flatten();
    let mut schemas = stated.filter(|one| one.key == SCHEMA_KEY).filter_map(|one| one.value.as_deref());
    schemas.find(|schema| !columns::is_known(schema)).map_or(Ok(()), |schema| {
        let reason =
            format!("it has the schema {schema}, which this version does not know: upgrade stillwell");
        Err(ParquetError::External(Box::new(ArchiveError::Later { path: path.to_string(), reason })))
    })
}

fn without_float_bounds(footer: Arc<ParquetMetaData>) -> ParquetResult<Arc<ParquetMetaData>> {
    let columns = footer.file_metadata().schema_descr().columns();
    let is_float = |at: usize| matches!(columns[at].physical_type(), Type::FLOAT | Type::DOUBLE);
    let floats: Vec<usize> = (0..columns.len()).filter(|at| is_float(*at)).collect();
    if floats.is_empty() {
        return Ok(footer);
    }
    let mut footer = Arc::unwrap_or_clone(footer).into_builder();
    let groups = footer.take_row_groups().into_iter().map(|group| without_bounds(group, &floats));
    let groups = groups.collect::<ParquetResult<Vec<_>>>()?;
    let mut pages = footer.take_column_index();
    for group in pages.iter_mut().flatten() {
        for at in &floats {
            group[*at] = ColumnIndexMetaData::NONE;
        }
    }
    Ok(Arc::new(footer.set_row_groups(groups).set_column_index(pages).build()))
}

fn without_bounds(group: RowGroupMetaData, floats: &[usize]) -> Result<RowGroupMetaData, ParquetError> {
    let mut columns = group.columns().to_vec();
    for at in floats {
        let column = columns[*at].clone().into_builder().clear_statistics();
        // The engine reads the bounds of pages later by these, if they were not yet.
        columns[*at] = column.set_column_index_offset(None).set_column_index_length(None).build()?;
    }
    group.into_builder().set_column_metadata(columns).build()
}
