//! What our parts of plans have in common: leaves, the archive's, the views', and those that are held in memory, and
//! what stands above one other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{ExecutionPlan, Partitioning, PlanProperties};

/// One stream of `schema` that ends, in no order.
pub(crate) fn one_stream(schema: &SchemaRef) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// The rows of a table that is small and at hand.
pub(crate) fn held(batch: RecordBatch, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = batch.schema();
    Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, projection.cloned())?)
}

/// The one child of a part of a plan, or of an expression, that has one.
pub(crate) fn only_child<T>(children: Vec<T>) -> Result<T> {
    let [child] = <[_; 1]>::try_from(children).map_err(|children| {
        DataFusionError::Internal(format!("{} children, expected one", children.len()))
    })?;
    Ok(child)
}
