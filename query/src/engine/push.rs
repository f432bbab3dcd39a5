//! Aggregates over views, computed by ClickHouse: the plan's aggregate and the scan below it become one scan, whose
//! rows are the groups.
//!
//! It is one or nothing: where a filter stays between the two, a limit is below, or one group or aggregate is not
//! sure to mean the same in ClickHouse (`views/translate.rs`), the plan stays as it is. What stands above the
//! aggregate (HAVING, arithmetic over aggregates, sorting) stays above.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, TableScan, TableScanBuilder};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::views::ViewTable;
use crate::views::aggregate::AggregateTable;

/// Nodes of one expression over a view's columns. Each of nested subqueries may use a column of the next one twice,
/// so that what the outermost means in full doubles with each.
const NODES_MAX: usize = 256;

/// The rule; it comes after those that bring filters into scans.
#[derive(Debug)]
pub(super) struct PushAggregates;

impl OptimizerRule for PushAggregates {
    fn name(&self) -> &str {
        "push_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let pushed = match &plan {
            LogicalPlan::Aggregate(aggregate) => pushed(aggregate)?,
            _ => None,
        };
        Ok(pushed.map_or_else(|| Transformed::no(plan), Transformed::yes))
    }
}

/// The scan of the aggregate's groups, under the names that the plan above has for their columns.
fn pushed(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some(below) = Below::of(&aggregate.input) else { return Ok(None) };
    let Some(table) = below.table(aggregate) else { return Ok(None) };
    let source = provider_as_source(Arc::new(table));
    let scan = TableScanBuilder::new(below.scan.table_name.clone(), source).build()?;
    let columns = scan.projected_schema.columns().into_iter().zip(aggregate.schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| {
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name().as_str())
    });
    let columns = columns.collect();
    let input = Arc::new(LogicalPlan::TableScan(scan));
    let named = Projection::try_new_with_schema(columns, input, Arc::clone(&aggregate.schema))?;
    Ok(Some(LogicalPlan::Projection(named)))
}

/// What an aggregate is over: a scan, and the columns of the plan above it as expressions over the scan's own.
struct Below<'a> {
    scan: &'a TableScan,
    schema: &'a DFSchema,
    columns: Vec<Expr>,
}

impl<'a> Below<'a> {
    fn of(plan: &'a LogicalPlan) -> Option<Self> {
        let schema = plan.schema().as_ref();
        match plan {
            LogicalPlan::TableScan(scan) => {
                let own = |name: &str| Expr::Column(Column::from_name(name));
                let columns = schema.fields().iter().map(|field| own(field.name())).collect();
                Some(Self { scan, schema, columns })
            }
            LogicalPlan::SubqueryAlias(alias) => Some(Self { schema, ..Self::of(&alias.input)? }),
            LogicalPlan::Projection(projection) => {
                let below = Self::of(&projection.input)?;
                let columns = projection.expr.iter().map(|expr| below.over(expr));
                let columns = columns.map(|expr| expr.map(Expr::unalias)).collect::<Option<_>>()?;
                Some(Self { scan: below.scan, schema, columns })
            }
            _ => None,
        }
    }

    /// `expr` over the scan's own columns.
    fn over(&self, expr: &Expr) -> Option<Expr> {
        let replaced = expr.clone().transform_up(|expr| {
            let column = match &expr {
                Expr::Column(column) => self.columns.get(self.schema.index_of_column(column)?).cloned(),
                _ => None,
            };
            Ok(column.map_or_else(|| Transformed::no(expr), Transformed::yes))
        });
        let replaced = replaced.ok()?.data;
        let mut nodes = 0;
        let is_large = replaced.exists(|_| {
            nodes += 1;
            Ok(nodes > NODES_MAX)
        });
        is_large.is_ok_and(|is_large| !is_large).then_some(replaced)
    }

    /// The table of the aggregate's groups.
    fn table(&self, aggregate: &Aggregate) -> Option<AggregateTable> {
        if self.scan.fetch.is_some() {
            return None;
        }
        let provider = source_as_provider(&self.scan.source).ok()?;
        let view = provider.downcast_ref::<ViewTable>()?;
        let all_over = |exprs: &[Expr]| exprs.iter().map(|expr| self.over(expr)).collect::<Option<Vec<_>>>();
        let groups = all_over(&aggregate.group_expr)?;
        let aggregates = all_over(&aggregate.aggr_expr)?;
        view.aggregate(&groups, &aggregates, &self.scan.filters, aggregate.schema.fields())
    }
}

#[cfg(test)]
mod tests;
