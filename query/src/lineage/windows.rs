//! The rows of ClickHouse behind a cell, one for each source partition:
//!
//! | column | meaning |
//! |---|---|
//! | view, window_start | the cell's |
//! | topic, partition | whose readings the row holds |
//! | table_name | the table that the view reads it from |
//! | version | the next offset that the row is complete up to |
//! | count, bad, late, texts | its readings with a value, of bad quality, late, and with a text |

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, project_schema};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::cell::Cell;
use crate::views::Views;
use crate::views::scan::ViewScan;
use crate::views::translate::quote;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let count = |name| Field::new(name, DataType::Int64, false);
    let text = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        text("view"),
        Field::new("window_start", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        text("topic"),
        Field::new("partition", DataType::Int32, false),
        // The answer of a subquery, which may be null.
        text("table_name").with_nullable(true),
        count("version"),
        count("count"),
        count("bad"),
        count("late"),
        count("texts"),
    ]))
});

/// The rows behind one cell.
#[derive(Debug)]
pub(crate) struct WindowRows {
    views: Views,
    cell: Cell,
}

impl WindowRows {
    pub(super) fn new(views: Views, cell: Cell) -> Self {
        Self { views, cell }
    }

    /// The SQL of ClickHouse that has these columns.
    fn sql(&self, columns: &SchemaRef) -> String {
        let columns: Vec<String> = columns.fields().iter().map(|field| self.column(field.name())).collect();
        // A count needs rows but no column.
        let columns =
            if columns.is_empty() { "toUInt8(1) AS present".to_owned() } else { columns.join(", ") };
        format!(
            "SELECT {columns} FROM {} WHERE machine = {} AND sensor = {} AND start = {}",
            self.views.path(self.cell.rows()),
            quote(&self.cell.machine),
            quote(&self.cell.sensor),
            time(self.cell.start_us)
        )
    }

    fn column(&self, name: &str) -> String {
        let of = match name {
            "view" => quote(self.cell.view()),
            "window_start" => time(self.cell.start_us),
            "topic" => "toString(topic)".to_owned(),
            "table_name" => self.table(),
            "texts" => "state_count".to_owned(),
            _ => return format!("`{name}`"),
        };
        format!("{of} AS `{name}`")
    }

    fn table(&self) -> String {
        let shown = self.views.path("shown_tables");
        format!("(SELECT any(table_name) FROM {shown} WHERE view = {})", quote(self.cell.view()))
    }
}

fn time(us: i64) -> String {
    format!("fromUnixTimestamp64Micro({us}, 'UTC')")
}

#[async_trait]
impl TableProvider for WindowRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = project_schema(&SCHEMA, projection)?;
        let sql = self.sql(&columns);
        Ok(Arc::new(ViewScan::new(self.views.clone(), self.cell.rows(), columns, sql, None)))
    }
}
