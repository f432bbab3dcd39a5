//! Records with their original bytes, whatever their files hold of them.
//!
//! A file of records may name a template in place of a value (see [`stillwell_schema::original`]). Where a statement
//! wants values, its scan reads the template too, and what places a record; this step then puts every value in its
//! place. [`super::places`] says where the readings of a record lie, [`pieces`] cuts batches into what is rebuilt at
//! once, [`super::by_offset`] reads what that takes, and [`rebuild`] does it.
//!
//! **Architecture invariant:** no condition on `value` reaches a file: what a file holds of it, and the statistics of
//! that, say nothing of what the record's value is.

mod pieces;
mod rebuild;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
    SortOrderPushdownResult,
};
use futures::stream;
use stillwell_schema::columns;
use stillwell_schema::paths::FileKind;

use self::rebuild::Rebuild;
use super::files::Files;
use super::places::Places;
use crate::engine::leaf::only_child;

const VALUE: &str = "value";

/// What places a record, and what its value is rebuilt by.
const BESIDE: [&str; 5] = ["topic", "partition", "offset", "readings", "template"];

/// What a scan of [`columns::STORED_RECORDS`] must have, where the columns `wanted` of [`columns::RECORDS`] are asked
/// for: these, and behind them what else their values take. None where no value is wanted.
pub(super) fn stored(kind: FileKind, wanted: Option<&Vec<usize>>) -> Result<Option<Vec<usize>>> {
    let mut scanned = match wanted {
        Some(wanted) => wanted.clone(),
        None => (0..columns::RECORDS.fields().len()).collect(),
    };
    if kind != FileKind::Records || !scanned.contains(&columns::RECORDS.index_of(VALUE)?) {
        return Ok(None);
    }
    for name in BESIDE {
        let at = columns::STORED_RECORDS.index_of(name)?;
        if !scanned.contains(&at) {
            scanned.push(at);
        }
    }
    Ok(Some(scanned))
}

/// The step above a scan of what [`stored`] says: its first columns, every value in its place.
#[derive(Debug)]
pub(super) struct RestoreExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    places: Arc<Places>,
    files: Arc<Files>,
    properties: Arc<PlanProperties>,
}

impl RestoreExec {
    /// `schema` is what comes out: the first columns of `input`.
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        places: Arc<Places>,
        files: Arc<Files>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            input.properties().output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { input, schema, places, files, properties }
    }

    fn above(&self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let (schema, places) = (Arc::clone(&self.schema), Arc::clone(&self.places));
        Arc::new(Self::new(input, schema, places, Arc::clone(&self.files)))
    }
}

impl DisplayAs for RestoreExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestoreExec: value, from readings where a template stands for it")
    }
}

impl ExecutionPlan for RestoreExec {
    fn name(&self) -> &'static str {
        "RestoreExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// It does, but to say so would have a sort by values put below, where there are none yet.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    /// Batches that are dealt out to several streams would have each of them read the same readings.
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
        Ok(self.above(input))
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let columns = self.schema.fields().iter().enumerate();
        let as_stored: HashSet<usize> =
            columns.filter(|(_, field)| field.name() != VALUE).map(|(at, _)| at).collect();
        let scan = ChildFilterDescription::from_child_with_allowed_indices(&filters, as_stored, &self.input)?;
        Ok(FilterDescription::new().with_child(scan))
    }

    /// So that what is wanted first is read first, and a limit spares the rest. The columns below have the same places.
    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let by_value = |by: &PhysicalSortExpr| collect_columns(&by.expr).iter().any(|of| of.name() == VALUE);
        if order.iter().any(by_value) {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let sorted = self.input.try_pushdown_sort(order)?;
        Ok(sorted.into_inexact().map(|input| self.above(input)))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let Some(input) = inputs.first() else { return Ok(Arc::new(Statistics::new_unknown(&self.schema))) };
        let mut statistics = Statistics::clone(input);
        statistics.total_byte_size = Precision::Absent;
        statistics.column_statistics.truncate(self.schema.fields().len());
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let (schema, places) = (Arc::clone(&self.schema), Arc::clone(&self.places));
        let rebuild = Rebuild::new(input, schema, places, Arc::clone(&self.files), context)?;
        let batches = stream::try_unfold(rebuild, |mut rebuild| async move {
            rebuild.next().await.map(|batch| batch.map(|batch| (batch, rebuild)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}
