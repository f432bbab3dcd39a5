//! An aggregate over a view as a table: ClickHouse groups and aggregates, and only the groups come over the wire.

use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, project_schema};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::client::Views;
use super::scan::ViewScan;

/// One aggregate. Its columns are `c0`, `c1`, …, which no view has: ClickHouse would take the name of one in the
/// conditions for what is selected under it.
#[derive(Debug)]
pub(crate) struct AggregateTable {
    views: Views,
    view: &'static str,
    /// `FROM` and `WHERE`.
    rows: String,
    /// What is grouped by.
    groups: Vec<String>,
    /// The groups and then the aggregates, each with its name.
    columns: Vec<String>,
    schema: SchemaRef,
}

impl AggregateTable {
    /// The aggregate of `rows`, whose `fields` are those of `groups` and then of `aggregates`, all in ClickHouse's
    /// SQL.
    pub(super) fn new(
        views: Views,
        view: &'static str,
        rows: String,
        groups: Vec<String>,
        aggregates: Vec<String>,
        fields: &Fields,
    ) -> Self {
        let expressions = groups.iter().cloned().chain(aggregates).enumerate();
        let columns = expressions.map(|(at, expression)| format!("{expression} AS c{at}")).collect();
        let named = |(at, field): (usize, &Arc<Field>)| field.as_ref().clone().with_name(format!("c{at}"));
        let schema = Arc::new(Schema::new(fields.iter().enumerate().map(named).collect::<Vec<_>>()));
        Self { views, view, rows, groups, columns, schema }
    }

    /// The SQL that reads these of the columns.
    fn sql(&self, projection: Option<&Vec<usize>>) -> String {
        let columns = match projection {
            None => self.columns.join(", "),
            // A count of groups needs them but no column; without groups there is one row in any case.
            Some(chosen) if chosen.is_empty() && self.groups.is_empty() => "count() AS present".to_owned(),
            Some(chosen) if chosen.is_empty() => "toUInt8(1) AS present".to_owned(),
            Some(chosen) => chosen.iter().map(|&at| self.columns[at].as_str()).collect::<Vec<_>>().join(", "),
        };
        let groups = match self.groups.as_slice() {
            [] => String::new(),
            groups => format!(" GROUP BY {}", groups.join(", ")),
        };
        format!("SELECT {columns} {}{groups}", self.rows)
    }
}

#[async_trait]
impl TableProvider for AggregateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = project_schema(&self.schema, projection)?;
        let sql = self.sql(projection);
        Ok(Arc::new(ViewScan::new(self.views.clone(), self.view, columns, sql, limit)))
    }
}
