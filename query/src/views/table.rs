//! A view as a table: projection, filters and limit go into its SQL.

use std::sync::Arc;

use arrow::datatypes::{Fields, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, project_schema};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::aggregate::AggregateTable;
use super::client::Views;
use super::parts;
use super::scan::ViewScan;
use super::schemas::View;
use super::translate;

/// One view.
#[derive(Debug)]
pub struct ViewTable {
    views: Views,
    view: View,
}

impl ViewTable {
    /// The table of `view`.
    #[must_use]
    pub fn new(views: Views, view: View) -> Self {
        Self { views, view }
    }

    /// The SQL that reads these columns and rows.
    #[must_use]
    pub fn sql(&self, columns: &SchemaRef, filters: &[Expr]) -> String {
        let names: Vec<String> =
            columns.fields().iter().map(|field| translate::identifier(field.name())).collect();
        // A count needs rows but no column.
        let names = if names.is_empty() { "toUInt8(1) AS present".to_owned() } else { names.join(", ") };
        let filters: Vec<String> = filters.iter().filter_map(|filter| self.filter(filter)).collect();
        format!("SELECT {names} {}", self.rows(self.view.name, &filters))
    }

    /// The table of an aggregate over the rows that pass `filters`, whose `fields` are its groups and then its
    /// aggregates; none where ClickHouse might not mean the same.
    pub(crate) fn aggregate(
        &self,
        groups: &[Expr],
        aggregates: &[Expr],
        filters: &[Expr],
        fields: &Fields,
    ) -> Option<AggregateTable> {
        let schema = &self.view.schema;
        let source = self.view.parts.filter(|_| parts::are_enough(groups, aggregates, filters));
        let groups = groups.iter().map(|group| translate::group(group, schema)).collect::<Option<_>>()?;
        let aggregates =
            aggregates.iter().map(|aggregate| translate::aggregate(aggregate, schema, self.view.finite));
        let aggregates = aggregates.collect::<Option<Vec<_>>>()?;
        let filters = filters.iter().map(|filter| self.filter(filter)).collect::<Option<Vec<_>>>()?;
        let rows = self.rows(source.unwrap_or(self.view.name), &filters);
        Some(AggregateTable::new(self.views.clone(), self.view.name, rows, groups, aggregates, fields))
    }

    fn filter(&self, filter: &Expr) -> Option<String> {
        translate::filter(filter, &self.view.schema)
    }

    /// `FROM` and `WHERE`.
    fn rows(&self, source: &str, filters: &[String]) -> String {
        let from = format!("FROM {}", self.views.path(source));
        if filters.is_empty() { from } else { format!("{from} WHERE {}", filters.join(" AND ")) }
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.view.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let can = |filter: &&Expr| match self.filter(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(can).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = project_schema(&self.view.schema, projection)?;
        let sql = self.sql(&columns, filters);
        Ok(Arc::new(ViewScan::new(self.views.clone(), self.view.name, columns, sql, limit)))
    }
}
