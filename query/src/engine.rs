//! Plans and runs one statement within its caps.
//!
//! Each statement gets a fresh session over the same tables; memory is shared by all and bounded. What is parsed
//! is within [`bounds`]; what runs has passed [`read_only`]; how long it may run is in the plan itself
//! ([`deadline`]). What ClickHouse can aggregate, it does ([`push`]).

pub(crate) mod bounds;
mod deadline;
pub(crate) mod leaf;
mod params;
mod push;
pub(crate) mod read_only;
pub(crate) mod running;
pub(crate) mod session;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SQLOptions, SessionContext, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use futures::StreamExt;
use serde_json::Value;
use stillwell_schema::paths::FileKind;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::running::{Running, Slot};
use crate::archive::{Catalogue, Pin};
use crate::error::{Position, QueryError};
use crate::lineage::WindowRows;
use crate::machines::Machines;
use crate::settings::{Limits, QuerySettings};
use crate::views::{ViewTable, Views};

/// Nesting beyond which a statement is refused, before the parser's stack is at risk.
const NESTING_MAX: usize = 50;

/// A statement with its own caps, at most the engine's.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The statement.
    pub sql: String,
    /// Values of `$1`, `$2`, ….
    pub params: Vec<Value>,
    /// Rows of the answer.
    pub max_rows: Option<usize>,
    /// Time.
    pub timeout: Option<Duration>,
}

/// Columns and rows.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// How many rows there are.
    pub rows: usize,
    /// Whether more rows were cut off.
    pub truncated: bool,
}

/// A statement that is planned and may run.
pub(crate) struct Planned {
    state: SessionState,
    plan: LogicalPlan,
    /// Whether it reads a view of ClickHouse.
    pub(crate) reads_views: bool,
}

/// SQL over the archive and the views.
#[derive(Debug)]
pub struct Engine {
    state: SessionState,
    pg_state: SessionState,
    slots: Arc<Semaphore>,
    limits: Limits,
}

impl Engine {
    /// An engine over the tables that `settings` name.
    ///
    /// # Errors
    /// [`QueryError::Archive`] if the archive's folder cannot be opened.
    pub fn new(
        settings: &QuerySettings,
        catalogue: &Arc<Catalogue>,
        views: &Views,
        machines: &Arc<Machines>,
    ) -> Result<Self, QueryError> {
        let limits = settings.limits;
        let runtime = session::runtime(settings)?;
        let state = session::state(&limits, Arc::clone(&runtime), catalogue, views, machines)?;
        let pg_state =
            session::with_pg_catalog(session::state(&limits, runtime, catalogue, views, machines)?)?;
        Ok(Self { state, pg_state, slots: Arc::new(Semaphore::new(limits.statements)), limits })
    }

    /// Adds a table, for every way in.
    ///
    /// # Errors
    /// [`QueryError::Statement`] if there is one of that name.
    pub(crate) fn add_table(&self, name: &str, table: &Arc<dyn TableProvider>) -> Result<(), QueryError> {
        for state in [&self.state, &self.pg_state] {
            session::tables_of(state)?.register_table(name.to_owned(), Arc::clone(table))?;
        }
        Ok(())
    }

    /// A session of its own for one connection of the PostgreSQL wire.
    #[must_use]
    pub fn connection(&self) -> SessionContext {
        SessionContext::new_with_state(self.pg_state.clone())
    }

    /// The caps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs a statement to its end or its caps, noting in `pin` what it saw of the archive. Dropping the future
    /// cancels it.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn run(&self, request: &Request, pin: Arc<Pin>) -> Result<Answer, QueryError> {
        let running = self.begin(request.timeout, CancellationToken::new()).await?;
        let run = async {
            let planned = self.plan(request, pin, &running).await?;
            self.collect(planned, request.max_rows).await
        };
        running.cap(run).await
    }

    /// Waits for a slot to run in, for at most the time that the statement has.
    pub(crate) async fn begin(
        &self,
        time: Option<Duration>,
        cancelled: CancellationToken,
    ) -> Result<Arc<Running>, QueryError> {
        let time = time.unwrap_or(self.limits.time).min(self.limits.time);
        let ends = Instant::now() + time;
        let slot = tokio::select! {
            slot = tokio::time::timeout_at(ends, Arc::clone(&self.slots).acquire_owned()) => slot,
            () = cancelled.cancelled() => return Err(QueryError::Cancelled),
        };
        let slot = slot.ok().and_then(Result::ok).map(Slot::new).ok_or(QueryError::Busy(time))?;
        Ok(Arc::new(Running::new(time, ends, cancelled, Some(slot))))
    }

    /// Plans a statement that only reads.
    pub(crate) async fn plan(
        &self,
        request: &Request,
        pin: Arc<Pin>,
        running: &Arc<Running>,
    ) -> Result<Planned, QueryError> {
        let statement = parse(&request.sql)?;
        read_only::check(&statement)?;
        let config = self.state.config().clone().with_extension(pin).with_extension(Arc::clone(running));
        let state = SessionStateBuilder::new_from_existing(self.state.clone()).with_config(config).build();
        let plan = state.statement_to_plan(statement).await?;
        let allow =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        allow.verify_plan(&plan)?;
        let plan = params::bind(plan, &request.params)?;
        let reads_views = reads_views(&plan)?;
        Ok(Planned { state, plan, reads_views })
    }

    /// Streams columns of the archive's readings that pass `filter`, as `pin` sees them: for work of the house's
    /// own, which takes no statement's slot and ends after `time`.
    pub(crate) async fn readings(
        &self,
        columns: &[&str],
        filter: Expr,
        pin: Arc<Pin>,
        time: Duration,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let running = Running::new(time, Instant::now() + time, CancellationToken::new(), None);
        let config = self.state.config().clone().with_extension(pin).with_extension(Arc::new(running));
        let state = SessionStateBuilder::new_from_existing(self.state.clone()).with_config(config).build();
        let readings = SessionContext::new_with_state(state).table(FileKind::Readings.name()).await?;
        let frame = readings.filter(filter)?.select_columns(columns)?;
        Ok(frame.execute_stream().await?)
    }

    /// Runs what is planned; the answer has `max_rows` at most.
    pub(crate) async fn collect(
        &self,
        planned: Planned,
        max_rows: Option<usize>,
    ) -> Result<Answer, QueryError> {
        let max_rows = max_rows.unwrap_or(self.limits.rows).min(self.limits.rows_max);
        let frame = SessionContext::new_with_state(planned.state).execute_logical_plan(planned.plan).await?;
        let mut stream = frame.execute_stream().await?;
        let mut answer = Answer { schema: stream.schema(), batches: Vec::new(), rows: 0, truncated: false };
        let mut bytes = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let kept = batch.slice(0, batch.num_rows().min(max_rows - answer.rows));
            bytes += size(&kept);
            if bytes > self.limits.bytes {
                return Err(QueryError::TooLarge { limit: self.limits.bytes });
            }
            answer.rows += kept.num_rows();
            answer.truncated = kept.num_rows() < batch.num_rows();
            answer.batches.push(kept);
            if answer.truncated {
                break;
            }
        }
        Ok(answer)
    }
}

/// Where the engine sees a mistake in `sql`, for doors that plan another wording of it.
pub(crate) async fn locate(state: &SessionState, sql: &str) -> Option<Position> {
    let error = match parse(sql) {
        Ok(statement) => QueryError::from(state.statement_to_plan(statement).await.err()?),
        Err(error) => error,
    };
    error.position()
}

fn reads_views(plan: &LogicalPlan) -> Result<bool, QueryError> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            found |= provider.is::<ViewTable>() || provider.is::<WindowRows>();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Bytes that the rows of a batch need by themselves, buffers shared with others not counted.
pub(crate) fn size(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => views_size(column.as_string_view().lengths()),
        DataType::BinaryView => views_size(column.as_binary_view().lengths()),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    });
    columns.sum()
}

fn views_size(lengths: impl Iterator<Item = u32>) -> usize {
    lengths.map(|length| 16 + length as usize).sum()
}

/// Parses exactly one statement.
fn parse(sql: &str) -> Result<Statement, QueryError> {
    bounds::check(sql)?;
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(NESTING_MAX)
        .build()?
        .parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(QueryError::statement("the statement is empty")),
        (Some(_), more) => {
            Err(QueryError::statement(format!("one statement at a time, {} were given", more + 1)))
        }
    }
}

#[cfg(test)]
mod tests;
