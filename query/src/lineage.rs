//! From a cell of a view to what it was made of: two table functions.
//!
//! `lineage_windows(machine, sensor, at [, view])` has a row for each row of ClickHouse behind the cell, one for each
//! source partition ([`windows`]). `lineage(machine, sensor, at [, view])` has one for each reading of the archive
//! whose time lies in the cell's window:
//!
//! | column | meaning |
//! |---|---|
//! | view, window_start | the cell's |
//! | topic, partition | the reading's |
//! | version | the next offset that the partition's row of the window is complete up to; null where it has none |
//! | visible | whether the reading is in that row: its offset is below the version |
//! | offset, index, time, value, text, quality | the reading's |
//! | seq, file, row | the entry that committed it; its file as it is today, and its row in there, from 0 |
//! | trace_id | of its record's `traceparent` header; null where there is none |
//!
//! Arguments are literals: `at` is a time anywhere in the window; `view` is `readings_10s` where it is left out.

mod cell;
mod windows;

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::datasource::{ViewTable as PlannedView, provider_as_source};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, lit};

use self::cell::Cell;
pub(crate) use self::windows::WindowRows;
use crate::archive::{Catalogue, WindowReadings};
use crate::views::Views;

const READINGS: &str = "lineage";
const WINDOWS: &str = "lineage_windows";

/// The two sides of the join, by which its columns are told apart.
const HELD: &str = "held";
const ARCHIVED: &str = "archived";

/// Makes both functions known.
pub(crate) fn register(state: &mut SessionState, catalogue: &Arc<Catalogue>, views: &Views) {
    let readings = Lineage { catalogue: Arc::clone(catalogue), views: views.clone() };
    state.register_udtf(READINGS, Arc::new(readings));
    state.register_udtf(WINDOWS, Arc::new(LineageWindows { views: views.clone() }));
}

/// `lineage`.
#[derive(Debug)]
struct Lineage {
    catalogue: Arc<Catalogue>,
    views: Views,
}

impl TableFunctionImpl for Lineage {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let cell = Cell::of(args.exprs(), READINGS)?;
        Ok(Arc::new(PlannedView::new(self.plan(&cell)?, None)))
    }
}

impl Lineage {
    /// The readings, each beside its partition's row of the window.
    fn plan(&self, cell: &Cell) -> Result<LogicalPlan> {
        let readings =
            WindowReadings::new(Arc::clone(&self.catalogue), &*cell.machine, &*cell.sensor, cell.times_us());
        let readings = LogicalPlanBuilder::scan(ARCHIVED, provider_as_source(Arc::new(readings)), None)?;
        let rows = WindowRows::new(self.views.clone(), cell.clone());
        let rows = LogicalPlanBuilder::scan(HELD, provider_as_source(Arc::new(rows)), None)?;
        let keys = |side: &str| ["topic", "partition"].map(|name| Column::new(Some(side), name)).to_vec();
        // The few rows of the window are what is kept in memory to join with.
        let joined =
            rows.join(readings.build()?, JoinType::Right, (keys(HELD), keys(ARCHIVED)), None::<Expr>)?;
        joined.project(columns(cell))?.build()
    }
}

fn columns(cell: &Cell) -> Vec<Expr> {
    let of = |side: &str, name: &str| Expr::Column(Column::new(Some(side), name));
    let archived = |name: &&str| of(ARCHIVED, name);
    let visible = of(ARCHIVED, "offset").lt(of(HELD, "version")).is_true();
    let mut columns = vec![lit(cell.view()).alias("view"), lit(cell.start()).alias("window_start")];
    columns.extend(["topic", "partition"].iter().map(archived));
    columns.extend([of(HELD, "version"), visible.alias("visible")]);
    let reading = ["offset", "index", "time", "value", "text", "quality"];
    columns.extend(reading.iter().chain(&["seq", "file", "row", "trace_id"]).map(archived));
    columns
}

/// `lineage_windows`.
#[derive(Debug)]
struct LineageWindows {
    views: Views,
}

impl TableFunctionImpl for LineageWindows {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let cell = Cell::of(args.exprs(), WINDOWS)?;
        Ok(Arc::new(WindowRows::new(self.views.clone(), cell)))
    }
}
