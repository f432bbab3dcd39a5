//! How the archive's Parquet files are read: by the session's options (page index, bloom filters, filters evaluated
//! while decoding), with footers kept between queries.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;

use super::STORE_URL;
use super::footers::Footers;

/// What all scans of a statement share.
#[derive(Debug)]
pub(super) struct Files {
    options: TableParquetOptions,
    footers: Arc<dyn ParquetFileReaderFactory>,
}

impl Files {
    pub(super) fn of(state: &dyn Session) -> Result<Self> {
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let store = state.runtime_env().object_store(ObjectStoreUrl::parse(STORE_URL)?)?;
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        Ok(Self { options, footers: Arc::new(Footers::new(store, cache)) })
    }

    /// Reads files as rows of `schema`.
    pub(super) fn source(&self, schema: &SchemaRef) -> ParquetSource {
        self.source_of(schema.into())
    }

    /// The same with columns that files do not hold, such as their rows' numbers.
    pub(super) fn source_of(&self, schema: TableSchema) -> ParquetSource {
        ParquetSource::new(schema)
            .with_table_parquet_options(self.options.clone())
            .with_parquet_file_reader_factory(Arc::clone(&self.footers))
    }
}
