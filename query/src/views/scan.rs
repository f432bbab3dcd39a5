//! Runs a view's SQL and streams the Arrow batches that come back.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use clickhouse::query::BytesCursor;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
    SortOrderPushdownResult,
};

use super::client::{Views, ViewsError};
use super::translate::identifier;
use crate::engine::leaf::one_stream;
use crate::engine::running::Running;

/// Batches that may wait for the plan above.
const BATCHES_AHEAD: usize = 2;

/// The plan's leaf for one view.
#[derive(Clone, Debug)]
pub(crate) struct ViewScan {
    views: Views,
    view: &'static str,
    columns: SchemaRef,
    /// Without an order and a limit.
    sql: String,
    /// `ORDER BY`, if an order is asked for.
    order: Option<String>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl ViewScan {
    pub(crate) fn new(
        views: Views,
        view: &'static str,
        columns: SchemaRef,
        sql: String,
        limit: Option<usize>,
    ) -> Self {
        let properties = one_stream(&columns);
        Self { views, view, columns, sql, order: None, limit, properties }
    }

    /// What the server is asked.
    fn statement(&self) -> String {
        let mut statement = self.sql.clone();
        if let Some(order) = &self.order {
            statement += &format!(" ORDER BY {order}");
        }
        if let Some(limit) = self.limit {
            statement += &format!(" LIMIT {limit}");
        }
        statement
    }

    /// The same in an order; none where ClickHouse might not mean the same by it, as with floats, of which NaN has its
    /// place among the NULLs there. A limit is taken before the order.
    fn in_order(&self, order: &[PhysicalSortExpr]) -> Option<Self> {
        if self.limit.is_some() {
            return None;
        }
        let by = order.iter().map(|expr| self.order_by(expr)).collect::<Option<Vec<_>>>()?;
        let orders = LexOrdering::new(order.iter().cloned())?;
        let properties = EquivalenceProperties::new_with_orderings(Arc::clone(&self.columns), [orders]);
        let properties = self.properties.as_ref().clone().with_eq_properties(properties);
        Some(Self { order: Some(by.join(", ")), properties: Arc::new(properties), ..self.clone() })
    }

    fn order_by(&self, expr: &PhysicalSortExpr) -> Option<String> {
        let column = expr.expr.downcast_ref::<Column>()?;
        let plain = matches!(
            self.columns.fields().get(column.index())?.data_type(),
            DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::Timestamp(..)
        );
        let SortOptions { descending, nulls_first } = expr.options;
        let (way, nulls) =
            (if descending { "DESC" } else { "ASC" }, if nulls_first { "FIRST" } else { "LAST" });
        plain.then(|| format!("{} {way} NULLS {nulls}", identifier(column.name())))
    }
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewScan: {}", self.statement())
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

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let exact = |scan| SortOrderPushdownResult::Exact { inner: Arc::new(scan) as Arc<dyn ExecutionPlan> };
        Ok(self.in_order(order).map_or(SortOrderPushdownResult::Unsupported, exact))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let limit = [self.limit, limit].into_iter().flatten().min();
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let left = context.session_config().get_extension::<Running>().map(|running| running.left());
        let cursor = self.views.arrow(&self.statement(), left).map_err(external)?;
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
