//! Runs a view's SQL and streams the Arrow batches that come back.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use clickhouse::query::BytesCursor;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};

use super::client::{Views, ViewsError};
use crate::engine::leaf::one_stream;
use crate::engine::running::Running;

/// Batches that may wait for the plan above.
const BATCHES_AHEAD: usize = 2;

/// The plan's leaf for one view.
#[derive(Debug)]
pub(crate) struct ViewScan {
    views: Views,
    view: &'static str,
    columns: SchemaRef,
    sql: String,
    properties: Arc<PlanProperties>,
}

impl ViewScan {
    pub(crate) fn new(views: Views, view: &'static str, columns: SchemaRef, sql: String) -> Self {
        let properties = one_stream(&columns);
        Self { views, view, columns, sql, properties }
    }
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewScan: {}", self.sql)
    }
}

impl ExecutionPlan for ViewScan {
    fn name(&self) -> &'static str {
        "ViewScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let left = context.session_config().get_extension::<Running>().map(|running| running.left());
        let cursor = self.views.arrow(&self.sql, left).map_err(external)?;
        let mut read = Read::new(cursor, self.view, Arc::clone(&self.columns));
        // It is asked at once, so that the views of one statement answer side by side.
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.columns), BATCHES_AHEAD);
        let batches = stream.tx();
        stream.spawn(async move {
            while let Some(batch) = read.next().await.map_err(external)? {
                if batches.send(Ok(batch)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(stream.build())
    }
}

fn external(error: ViewsError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An answer on its way. Dropping it closes the connection, which cancels the query at the server.
struct Read {
    cursor: BytesCursor,
    decoder: StreamDecoder,
    rest: Buffer,
    view: &'static str,
    columns: SchemaRef,
}

impl Read {
    fn new(cursor: BytesCursor, view: &'static str, columns: SchemaRef) -> Self {
        let rest = Buffer::from(Vec::<u8>::new());
        Self { cursor, decoder: StreamDecoder::new(), rest, view, columns }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, ViewsError> {
        loop {
            while !self.rest.is_empty() {
                match self.decoder.decode(&mut self.rest) {
                    Ok(Some(batch)) => return self.conform(&batch).map(Some),
                    Ok(None) => {}
                    Err(error) => return Err(self.unexpected(&error)),
                }
            }
            match self.cursor.next().await? {
                Some(bytes) => self.rest = Buffer::from(bytes),
                None => {
                    self.decoder.finish().map_err(|error| self.unexpected(&error))?;
                    return Ok(None);
                }
            }
        }
    }

    /// Casts what arrived to the declared columns.
    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, ViewsError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = self.columns.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| cast(array, field.data_type())).collect::<Result<_, _>>();
        columns
            .and_then(|columns| {
                RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)
            })
            .map_err(|error| self.unexpected(&error))
    }

    fn unexpected(&self, error: &arrow::error::ArrowError) -> ViewsError {
        ViewsError::Answer { view: self.view, what: error.to_string().into() }
    }
}
