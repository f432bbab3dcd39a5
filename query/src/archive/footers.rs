//! Footers without the bounds of float columns.
//!
//! Parquet leaves NaN out of a column's bounds, while the engine counts NaN as the greatest number: by its bounds,
//! a page of 1 and NaN has nothing above 2, and `value > 2` would skip it. Without bounds it is read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetFileReaderFactory,
};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::basic::Type;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Reads files whose footers are kept between queries.
#[derive(Debug)]
pub(super) struct Footers(pub(super) CachedParquetFileReaderFactory);

impl ParquetFileReaderFactory for Footers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(Reader(self.0.create_reader(partition, file, footer_bytes, metrics)?)))
    }
}

struct Reader(Box<dyn AsyncFileReader + Send>);

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.0.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { without_float_bounds(self.0.get_metadata(options).await?) }.boxed()
    }
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
