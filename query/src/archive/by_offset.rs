//! The rows of some records, read from one file: pages and rows of other offsets are left out.

mod among;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};

use self::among::among;
use super::STORE_URL;
use super::commits::File;
use super::files::Files;

/// The rows of `file`, one of `schema`, whose offsets are among `offsets`, which ascend, with these columns.
pub(super) fn rows(
    files: &Files,
    file: &File,
    schema: &SchemaRef,
    columns: &[&str],
    offsets: &Arc<[i64]>,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let source = files.source(schema).with_pushdown_filters(true);
    let source = source.with_predicate(among(offsets, schema)?);
    let mut wanted = Vec::with_capacity(columns.len());
    for name in columns {
        wanted.push(schema.index_of(name)?);
    }
    let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, Arc::new(source))
        .with_file(PartitionedFile::new(&*file.path, file.bytes))
        .with_projection_indices(Some(wanted))?;
    DataSourceExec::from_data_source(scan.build()).execute(0, context)
}
