//! The end of a statement, inside the plan: whichever way it came, its stream ends with an error when its time
//! is up or it is cancelled.
//!
//! A task of its own drives the plan, so that the end comes even to a statement whose client no longer reads. A
//! task ends where it yields: the engine's scans do, and what multiplies their rows is made to here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    SendableRecordBatchStream,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::leaf::only_child;
use super::running::Running;

/// Batches that wait for the client.
const BATCHES_AHEAD_MAX: usize = 1;

/// Plans as usual and puts the end on top.
#[derive(Debug)]
pub(crate) struct CappedPlanner {
    /// For a statement that nobody gave an end.
    pub(crate) time: Duration,
}

#[async_trait]
impl QueryPlanner for CappedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let running = session.config().get_extension::<Running>().unwrap_or_else(|| {
            let ends = Instant::now() + self.time;
            Arc::new(Running::new(self.time, ends, CancellationToken::new(), None))
        });
        let planner = DefaultPhysicalPlanner::default();
        let planned = tokio::select! {
            biased;
            cut = running.cut() => return Err(cut.into()),
            planned = planner.create_physical_plan(plan, session) => planned?,
        };
        // One stream, so that one task ends all of it.
        let input = match planned.output_partitioning().partition_count() {
            0 | 1 => planned,
            _ => Arc::new(CoalescePartitionsExec::new(planned)) as Arc<dyn ExecutionPlan>,
        };
        Ok(Arc::new(Deadline { input: yielding(input)?, running }))
    }
}

/// Lets joins and the like yield too: they may turn one batch of a scan into any number.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        let multiplies = node.name().contains("Join") || node.name().contains("Unnest");
        Ok(match multiplies {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    });
    Ok(wrapped?.data)
}

#[derive(Debug)]
struct Deadline {
    input: Arc<dyn ExecutionPlan>,
    running: Arc<Running>,
}

impl DisplayAs for Deadline {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deadline")
    }
}

impl ExecutionPlan for Deadline {
    fn name(&self) -> &'static str {
        "Deadline"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        Ok(Arc::new(Self { input, running: Arc::clone(&self.running) }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(drive(self.input.execute(partition, context)?, &self.running))
    }
}

/// Runs `input` in a task, which drops it at the statement's end or when nobody reads any more.
fn drive(mut input: SendableRecordBatchStream, running: &Running) -> SendableRecordBatchStream {
    let mut built = RecordBatchReceiverStream::builder(input.schema(), BATCHES_AHEAD_MAX);
    let (sender, slot, cut) = (built.tx(), running.slot(), running.cut());
    built.spawn(async move {
        let _slot = slot;
        let forward = async move {
            while let Some(batch) = input.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            cut = cut => Err(cut.into()),
            () = forward => Ok(()),
        }
    });
    built.build()
}
