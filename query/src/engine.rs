//! Plans and runs one statement within its caps.
//!
//! Each statement gets a fresh session over the same tables; memory is shared by all and bounded. What runs has
//! passed [`read_only`]; how long it may run is in the plan itself ([`deadline`]).

pub mod deadline;
mod params;
pub(crate) mod read_only;
pub(crate) mod session;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::context::{SQLOptions, SessionContext, SessionState};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::archive::{Catalogue, Pin};
use crate::error::QueryError;
use crate::settings::{Limits, QuerySettings};
use crate::views::Views;

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

/// SQL over the archive and the views.
#[derive(Debug)]
pub struct Engine {
    state: SessionState,
    pg_state: SessionState,
    slots: Semaphore,
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
    ) -> Result<Self, QueryError> {
        let limits = settings.limits;
        let runtime = session::runtime(settings)?;
        let state = session::state(&limits, Arc::clone(&runtime), catalogue, views)?;
        let pg_state = session::with_pg_catalog(session::state(&limits, runtime, catalogue, views)?)?;
        Ok(Self { state, pg_state, slots: Semaphore::new(limits.statements), limits })
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
        let time = request.timeout.unwrap_or(self.limits.time).min(self.limits.time);
        let ends = Instant::now() + time;
        let slot = tokio::time::timeout_at(ends, self.slots.acquire()).await;
        let _slot = slot.map_err(|_| QueryError::Busy(time))?;
        let run = self.run_now(request, pin);
        tokio::time::timeout_at(ends, run).await.map_err(|_| QueryError::Timeout(time))?
    }

    async fn run_now(&self, request: &Request, pin: Arc<Pin>) -> Result<Answer, QueryError> {
        let statement = parse(&request.sql)?;
        read_only::check(&statement)?;
        let config = self.state.config().clone().with_extension(pin);
        let state = SessionStateBuilder::new_from_existing(self.state.clone()).with_config(config).build();
        let plan = state.statement_to_plan(statement).await?;
        let allow =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        allow.verify_plan(&plan)?;
        let plan = params::bind(plan, &request.params)?;
        let frame = SessionContext::new_with_state(state).execute_logical_plan(plan).await?;
        let max_rows = request.max_rows.unwrap_or(self.limits.rows).min(self.limits.rows_max);
        self.collect(frame.execute_stream().await?, max_rows).await
    }

    async fn collect(
        &self,
        mut stream: SendableRecordBatchStream,
        max_rows: usize,
    ) -> Result<Answer, QueryError> {
        let schema = stream.schema();
        let mut answer = Answer { schema, batches: Vec::new(), rows: 0, truncated: false };
        let mut bytes = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let room = max_rows - answer.rows;
            let kept = batch.slice(0, batch.num_rows().min(room));
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

/// Bytes that the rows of a batch need by themselves, buffers shared with others not counted.
fn size(batch: &RecordBatch) -> usize {
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
