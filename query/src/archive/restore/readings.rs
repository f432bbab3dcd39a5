//! The readings of some records, read from one file: pages and rows of other offsets are left out.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use stillwell_schema::columns;
use stillwell_schema::original::READING_COLUMNS;

use super::among::among;
use crate::archive::STORE_URL;
use crate::archive::commits::File;
use crate::archive::files::Files;

/// The rows of `file` whose offsets are among `offsets`, which ascend, with the columns [`READING_COLUMNS`].
pub(super) fn of_records(
    files: &Files,
    file: &File,
    offsets: &Arc<[i64]>,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let source = files.source(&columns::READINGS).with_pushdown_filters(true);
    let source = source.with_predicate(among(offsets, &columns::READINGS)?);
    let mut wanted = Vec::with_capacity(READING_COLUMNS.len());
    for name in READING_COLUMNS {
        wanted.push(columns::READINGS.index_of(name)?);
    }
    let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE_URL)?, Arc::new(source))
        .with_file(PartitionedFile::new(&*file.path, file.bytes))
        .with_projection_indices(Some(wanted))?;
    DataSourceExec::from_data_source(scan.build()).execute(0, context)
}
