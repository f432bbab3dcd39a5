//! The step above the scan of a window's readings: adds the entry that committed each, and the trace of its record.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};
use stillwell_schema::Offset;
use stillwell_schema::paths::FileKind;

use super::entries::Entries;
use super::{SEQ, TRACE_ID, traceparents};
use crate::archive::files::Files;
use crate::archive::places::{Origin, Places};
use crate::archive::{ArchiveError, Catalogue};
use crate::engine::leaf::only_child;

/// Where it looks.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) places: Places,
    pub(super) files: Files,
}

/// The plan's step.
#[derive(Debug)]
pub(super) struct TraceExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    sources: Arc<Sources>,
    properties: Arc<PlanProperties>,
}

impl TraceExec {
    /// `schema` is what comes out: columns of `input` by their names, and those that are added.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef, sources: Arc<Sources>) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            input.properties().output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { input, schema, sources, properties }
    }
}

impl DisplayAs for TraceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceExec: entries and traces of readings")
    }
}

impl ExecutionPlan for TraceExec {
    fn name(&self) -> &'static str {
        "TraceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Batches that are dealt out to several streams would have each of them read the same records.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_child(children)?;
        Ok(Arc::new(Self::new(input, Arc::clone(&self.schema), Arc::clone(&self.sources))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let trace = Trace {
            input: self.input.execute(partition, Arc::clone(&context))?,
            schema: Arc::clone(&self.schema),
            entries: Entries::new(Arc::clone(&self.sources.catalogue)),
            sources: Arc::clone(&self.sources),
            context,
        };
        let batches = stream::try_unfold(trace, |mut trace| async move {
            trace.next().await.map(|batch| batch.map(|batch| (batch, trace)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

/// One stream on its way. It is never shared, so that all its steps borrow it mutably.
struct Trace {
    input: SendableRecordBatchStream,
    schema: SchemaRef,
    entries: Entries,
    sources: Arc<Sources>,
    context: Arc<TaskContext>,
}

/// A reading's record.
struct Row {
    /// Which of the batch's origins is its own.
    origin: usize,
    offset: i64,
}

impl Trace {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.input.next().await.transpose()? else { return Ok(None) };
        let (origins, rows) = place(&batch, &self.sources.places)?;
        let schema = Arc::clone(&self.schema);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let column: ArrayRef = match field.name().as_str() {
                SEQ => Arc::new(self.seqs(&origins, &rows).await?),
                TRACE_ID => Arc::new(self.trace_ids(&origins, &rows).await?),
                name => Arc::clone(&batch[name]),
            };
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(schema, columns, &options)?))
    }

    async fn seqs(&mut self, origins: &[Origin], rows: &[Row]) -> Result<Int64Array> {
        let mut seqs = Vec::with_capacity(rows.len());
        for row in rows {
            let origin = &origins[row.origin];
            let Some(lane) = origin.id() else { return Err(nowhere(row.offset)) };
            let seq = self.entries.committing(lane, origin.seqs(), Offset(row.offset)).await;
            seqs.push(i64::try_from(seq.map_err(external)?).unwrap_or(i64::MAX));
        }
        Ok(Int64Array::from(seqs))
    }

    async fn trace_ids(&mut self, origins: &[Origin], rows: &[Row]) -> Result<StringArray> {
        let mut all = Vec::with_capacity(origins.len());
        for (at, origin) in origins.iter().enumerate() {
            let own = rows.iter().filter(|row| row.origin == at).map(|row| row.offset);
            all.push(self.trace_ids_of(origin, &own.collect()).await?);
        }
        Ok(rows.iter().map(|row| all[row.origin].get(&row.offset)).collect())
    }

    /// Those of these records of one origin that have one.
    async fn trace_ids_of(
        &mut self,
        origin: &Origin,
        offsets: &BTreeSet<i64>,
    ) -> Result<HashMap<i64, String>> {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(HashMap::new()) };
        let mut ids = HashMap::new();
        for (range, file) in origin.files(FileKind::Records, *first..=*last) {
            let within: Arc<[i64]> = offsets.range(range.first.0..range.next.0).copied().collect();
            if within.is_empty() {
                continue;
            }
            let context = Arc::clone(&self.context);
            ids.extend(traceparents::trace_ids(&self.sources.files, file, &within, context).await?);
        }
        Ok(ids)
    }
}

/// The origins of a batch's readings, and which is whose.
fn place(batch: &RecordBatch, places: &Places) -> Result<(Vec<Origin>, Vec<Row>)> {
    let topics = batch["topic"].as_string_view();
    let partitions = batch["partition"].as_primitive::<Int32Type>().values();
    let offsets = batch["offset"].as_primitive::<Int64Type>().values();
    let (mut origins, mut rows) = (Vec::<Origin>::new(), Vec::with_capacity(batch.num_rows()));
    for (at, &offset) in offsets.iter().enumerate() {
        let origin = places.origin(topics.value(at), partitions[at], offset);
        let origin = origin.ok_or_else(|| nowhere(offset))?;
        let known = origins.iter().position(|known| known == origin);
        let origin = known.unwrap_or_else(|| {
            origins.push(origin.clone());
            origins.len() - 1
        });
        rows.push(Row { origin, offset });
    }
    Ok((origins, rows))
}

fn nowhere(offset: i64) -> DataFusionError {
    DataFusionError::Internal(format!("no commit holds offset {offset} of a reading"))
}

fn external(error: ArchiveError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
