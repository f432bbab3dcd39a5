//! The cap on time, inside the plan: whichever way a statement came, its stream ends with an error when its
//! time is up.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream, SendableRecordBatchStream,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use futures::Stream;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// The statement's time is up.
#[derive(Clone, Copy, Debug, Error)]
#[error("the statement took longer than {0:?}")]
pub struct TimeCap(pub Duration);

/// Plans as usual and puts the cap on top.
#[derive(Debug)]
pub(crate) struct CappedPlanner {
    pub(crate) time: Duration,
}

#[async_trait]
impl QueryPlanner for CappedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let started = Instant::now();
        let planner = DefaultPhysicalPlanner::default();
        let planned = planner.create_physical_plan(plan, session);
        let Ok(input) = tokio::time::timeout(self.time, planned).await else { return Err(up(self.time)) };
        Ok(Arc::new(Deadline { input: input?, time: self.time, ends: started + self.time }))
    }
}

fn up(time: Duration) -> DataFusionError {
    DataFusionError::External(Box::new(TimeCap(time)))
}

#[derive(Debug)]
struct Deadline {
    input: Arc<dyn ExecutionPlan>,
    time: Duration,
    ends: Instant,
}

impl DisplayAs for Deadline {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline: {:?}", self.time)
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
        let [input] = <[_; 1]>::try_from(children).map_err(|children| {
            DataFusionError::Internal(format!("{} children, expected one", children.len()))
        })?;
        Ok(Arc::new(Self { input, time: self.time, ends: self.ends }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let sleep = Box::pin(tokio::time::sleep_until(self.ends));
        Ok(Box::pin(Capped { input, sleep, time: self.time, ended: false }))
    }
}

struct Capped {
    input: SendableRecordBatchStream,
    sleep: Pin<Box<Sleep>>,
    time: Duration,
    ended: bool,
}

impl Stream for Capped {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            self.ended = true;
            return Poll::Ready(Some(Err(up(self.time))));
        }
        self.input.as_mut().poll_next(cx)
    }
}

impl RecordBatchStream for Capped {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
