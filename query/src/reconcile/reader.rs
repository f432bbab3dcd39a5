//! Brings what is compared: windows from the views' server, a bounded number at a time, and the archive's readings
//! of the same machines as a stream.
//!
//! **Invariant:** how far the shown table is, is asked before its windows are read, and the archive's catalogue
//! after: what is read is never older than what is said of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ident, lit};
use futures::StreamExt;
use serde::Deserialize;
use tokio::time::Instant;

use super::books::{Books, ErasedLanes, Lanes, Reading, Refused, WindowRow};
use super::both::Both;
use super::{HOUR_US, Outcome, PASS_TIME_MAX, Pace, Reconciler, Scope, hour_of};
use crate::archive::{Pin, Snapshot};
use crate::error::QueryError;
use crate::views::ViewsError;
use crate::views::translate::quote;

/// The view whose windows are compared, and that of their totals by kind. They are read from the tables that these show,
/// asked for once: another table may be put in the place of one meanwhile.
const VIEW: &str = "readings_1h";
pub(super) const TOTALS: &str = "fleet_1h";

/// Windows that are held at once, a few hundred bytes each.
const WINDOWS_MAX: u64 = 100_000;

/// The longest rest between two batches of readings.
const REST_MAX: Duration = Duration::from_millis(200);

/// Columns of a reading, in the order in which [`enter`] takes them.
const READING: [&str; 7] = ["topic", "partition", "machine", "sensor", "offset", "value", "kind"];

#[derive(clickhouse::Row, Deserialize)]
struct Hour {
    hour: i64,
}

#[derive(clickhouse::Row, Deserialize)]
struct ShownRow {
    table_name: String,
}

/// The tables that the views show. An aggregator of an earlier version shows no totals.
struct Shown {
    windows: String,
    totals: Option<String>,
}

#[derive(clickhouse::Row, Deserialize)]
struct Position {
    topic: String,
    partition: i32,
    position: i64,
}

#[derive(clickhouse::Row, Deserialize)]
struct RefusedRow {
    topic: String,
    partition: i32,
    machine: String,
    since: i64,
    version: i64,
}

#[derive(clickhouse::Row, Deserialize)]
struct Count {
    machine: String,
    windows: u64,
}

/// Some machines of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Machines {
    One(String),
    /// Names after the first, up to and with the second.
    Between(Option<String>, Option<String>),
}

impl Reconciler {
    /// Compares an hour, of one machine or all; `hour_us` is its start.
    ///
    /// # Errors
    /// [`QueryError`] where a side does not answer.
    pub async fn check(
        &self,
        hour_us: i64,
        machine: Option<&str>,
        pace: Pace,
    ) -> Result<Vec<Outcome>, QueryError> {
        let shown = Shown { windows: self.shown_windows().await?, totals: self.shown(TOTALS).await? };
        let parts = match machine {
            Some(machine) => vec![Machines::One(machine.to_owned())],
            None => parts(self.counts(hour_us, &shown.windows).await?),
        };
        let mut outcomes = Vec::new();
        for machines in parts {
            let both = self.compare(hour_us, &machines, &shown, pace).await?;
            outcomes.extend(both.close(hour_us, self.clock.now_us()));
        }
        Ok(outcomes)
    }

    async fn compare(
        &self,
        hour_us: i64,
        machines: &Machines,
        shown: &Shown,
        pace: Pace,
    ) -> Result<Both, QueryError> {
        let positions = self.positions(&shown.windows).await?;
        let windows = self.windows(hour_us, machines, &shown.windows).await?;
        let mut of_totals = None;
        if let Some(table) = &shown.totals {
            let positions = self.positions(table).await?;
            of_totals = Some((positions, self.windows(hour_us, machines, table).await?));
        }
        let refused = self.refused().await?;
        let pin = Arc::new(Pin::default());
        let snapshot = pin.snapshot(&self.catalogue).await?;
        let erased = erased(&snapshot);
        let lanes = |positions| lanes(positions, &snapshot);
        let totals = of_totals
            .map(|(positions, totals)| Books::new(totals, lanes(positions), Refused::new(), erased.clone()));
        let mut both = Both::new(Books::new(windows, lanes(positions), refused, erased.clone()), totals);
        let filter = machines.filter(within(hour_us, hour_us.saturating_add(HOUR_US)));
        let filter = filter.and(ident("value").is_not_null());
        let mut readings = self.engine.readings(&READING, filter, pin, PASS_TIME_MAX).await?;
        let mut began = Instant::now();
        while let Some(batch) = readings.next().await {
            enter(&mut both, &batch?)?;
            if pace == Pace::Half {
                tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
            }
            began = Instant::now();
        }
        Ok(both)
    }

    /// Hours of a scope that the views hold.
    pub(super) async fn view_hours(&self, scope: &Scope) -> Result<BTreeSet<i64>, QueryError> {
        let (from, until) = scope.bounds();
        let start = |us| format!("fromUnixTimestamp64Micro({us}, 'UTC')");
        let mut wanted = vec!["1".to_owned()];
        wanted.extend(scope.from_us.map(|_| format!("start >= {}", start(from))));
        wanted.extend(scope.until_us.map(|_| format!("start < {}", start(until))));
        wanted.extend(scope.machine.as_ref().map(|machine| format!("machine = {}", quote(machine))));
        // Of a row that a newer one replaces, the hour is the same: nothing need be merged.
        let sql = format!(
            "SELECT DISTINCT toUnixTimestamp64Micro(start) AS hour FROM {} WHERE {}",
            self.views.path(&self.shown_windows().await?),
            wanted.join(" AND ")
        );
        Ok(self.views.rows::<Hour>(&sql).await?.into_iter().map(|row| row.hour).collect())
    }

    /// Hours of a scope that the archive holds readings of.
    pub(super) async fn archive_hours(&self, scope: &Scope) -> Result<BTreeSet<i64>, QueryError> {
        let (from, until) = scope.bounds();
        let machines = scope.machine.clone().map_or(Machines::Between(None, None), Machines::One);
        let filter = machines.filter(within(from, until)).and(ident("value").is_not_null());
        let pin = Arc::new(Pin::default());
        let mut times = self.engine.readings(&["time"], filter, pin, PASS_TIME_MAX).await?;
        let mut hours = BTreeSet::new();
        let mut last = None;
        while let Some(batch) = times.next().await {
            let batch = batch?;
            let times = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>();
            for &time in times.ok_or_else(|| unexpected("time"))?.values() {
                let hour = hour_of(time);
                if last.replace(hour) != Some(hour) {
                    hours.insert(hour);
                }
            }
        }
        Ok(hours)
    }

    async fn shown_windows(&self) -> Result<String, QueryError> {
        let missing =
            || ViewsError::Unavailable("no table is shown; start the aggregator, which makes it".into());
        Ok(self.shown(VIEW).await?.ok_or_else(missing)?)
    }

    /// The table that a view shows.
    async fn shown(&self, view: &str) -> Result<Option<String>, QueryError> {
        let sql = format!(
            "SELECT table_name FROM {} WHERE view = {}",
            self.views.path("shown_tables"),
            quote(view)
        );
        let shown = self.views.rows::<ShownRow>(&sql).await?.pop().map(|row| row.table_name);
        Ok(shown.filter(|table| !table.is_empty()))
    }

    async fn positions(&self, table: &str) -> Result<Vec<Position>, QueryError> {
        let sql = format!(
            "SELECT topic, partition, position FROM {} FINAL WHERE table_name = {}",
            self.views.path("lane_positions"),
            quote(table)
        );
        Ok(self.views.rows(&sql).await?)
    }

    /// Machines of which series were refused, and at which offsets.
    async fn refused(&self) -> Result<Refused, QueryError> {
        let sql = format!(
            "SELECT topic, partition, machine, since, version FROM {} FINAL",
            self.views.path("refused_series")
        );
        let rows = self.views.rows::<RefusedRow>(&sql).await?.into_iter();
        Ok(rows.map(|row| ((row.topic, row.partition, row.machine), row.since..row.version)).collect())
    }

    /// How many windows each machine has in an hour, by name.
    async fn counts(&self, hour_us: i64, table: &str) -> Result<Vec<Count>, QueryError> {
        let sql = format!(
            "SELECT machine, count() AS windows FROM {} FINAL WHERE {} GROUP BY machine ORDER BY machine",
            self.views.path(table),
            at(hour_us)
        );
        Ok(self.views.rows(&sql).await?)
    }

    async fn windows(
        &self,
        hour_us: i64,
        machines: &Machines,
        table: &str,
    ) -> Result<Vec<WindowRow>, QueryError> {
        let sql = format!(
            "SELECT topic, partition, machine, sensor, version, count, sum, min, max FROM {} FINAL WHERE {}{}",
            self.views.path(table),
            at(hour_us),
            machines.sql()
        );
        Ok(self.views.rows(&sql).await?)
    }
}

impl Machines {
    /// More conditions of ClickHouse's SQL.
    fn sql(&self) -> String {
        match self {
            Self::One(machine) => format!(" AND machine = {}", quote(machine)),
            Self::Between(after, up_to) => {
                let after = after.as_ref().map(|name| format!(" AND machine > {}", quote(name)));
                let up_to = up_to.as_ref().map(|name| format!(" AND machine <= {}", quote(name)));
                after.into_iter().chain(up_to).collect()
            }
        }
    }

    /// The same over the archive, beside `more`.
    fn filter(&self, more: Expr) -> Expr {
        let name = |name: &String| lit(ScalarValue::Utf8View(Some(name.clone())));
        match self {
            Self::One(machine) => more.and(ident("machine").eq(name(machine))),
            Self::Between(after, up_to) => {
                let after = after.as_ref().map(|after| ident("machine").gt(name(after)));
                let up_to = up_to.as_ref().map(|up_to| ident("machine").lt_eq(name(up_to)));
                after.into_iter().chain(up_to).fold(more, Expr::and)
            }
        }
    }
}

/// All machines, those that views know of as those that they do not, in parts whose windows can be held at once.
fn parts(counts: Vec<Count>) -> Vec<Machines> {
    let mut parts = Vec::new();
    let (mut after, mut held, mut last) = (None, 0, None);
    for Count { machine, windows } in counts {
        if held > 0 && held + windows > WINDOWS_MAX {
            parts.push(Machines::Between(after, last.clone()));
            (after, held) = (last, 0);
        }
        held += windows;
        last = Some(machine);
    }
    parts.push(Machines::Between(after, None));
    parts
}

fn at(hour_us: i64) -> String {
    format!("start = fromUnixTimestamp64Micro({hour_us}, 'UTC')")
}

fn within(from_us: i64, until_us: i64) -> Expr {
    let time = |us| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
    ident("time").gt_eq(time(from_us)).and(ident("time").lt(time(until_us)))
}

fn lanes(positions: Vec<Position>, snapshot: &Snapshot) -> Lanes {
    let mut lanes = Lanes::new();
    for Position { topic, partition, position } in positions {
        lanes.entry((topic, partition)).or_default().shown = Some(position);
    }
    for head in snapshot.heads() {
        let lane = (head.lane.topic.to_string(), head.lane.partition);
        lanes.entry(lane).or_default().archived = Some(head.range.next.0);
    }
    lanes
}

/// What has run out in each lane.
fn erased(snapshot: &Snapshot) -> ErasedLanes {
    let lanes = snapshot.lanes().filter_map(|lane| {
        let head = lane.head()?;
        Some(((head.lane.topic.to_string(), head.lane.partition), lane.erased().clone()))
    });
    lanes.collect()
}

/// Enters a batch of the columns [`READING`]; a reading without a kind counts for the one without a name.
fn enter(both: &mut Both, batch: &RecordBatch) -> Result<(), QueryError> {
    let text = |at: usize| batch.column(at).as_string_view_opt().ok_or_else(|| unexpected(READING[at]));
    let (topic, machine, sensor, kind) = (text(0)?, text(2)?, text(3)?, text(6)?);
    let partition = batch.column(1).as_primitive_opt::<Int32Type>().ok_or_else(|| unexpected(READING[1]))?;
    let offset = batch.column(4).as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(READING[4]))?;
    let value = batch.column(5).as_primitive_opt::<Float64Type>().ok_or_else(|| unexpected(READING[5]))?;
    for row in (0..batch.num_rows()).filter(|&row| value.is_valid(row)) {
        let reading = Reading {
            topic: topic.value(row),
            partition: partition.value(row),
            machine: machine.value(row),
            sensor: sensor.value(row),
            offset: offset.value(row),
            value: value.value(row),
        };
        both.add(reading, if kind.is_valid(row) { kind.value(row) } else { "" });
    }
    Ok(())
}

fn unexpected(column: &str) -> QueryError {
    QueryError::Internal(format!("column {column} of the archive's readings has another type than its table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(machine: &str, windows: u64) -> Count {
        Count { machine: machine.to_owned(), windows }
    }

    #[test]
    fn parts_leave_out_no_name_and_hold_no_more_than_they_may() {
        let name = |name: &str| Some(name.to_owned());
        let check = |counts: Vec<Count>, expected: &[Machines]| assert_eq!(parts(counts), expected);
        check(Vec::new(), &[Machines::Between(None, None)]);
        check(vec![count("a", 1), count("b", 2)], &[Machines::Between(None, None)]);
        let counts = vec![count("a", WINDOWS_MAX - 1), count("b", 2), count("c", WINDOWS_MAX), count("d", 1)];
        let expected = [
            Machines::Between(None, name("a")),
            Machines::Between(name("a"), name("b")),
            Machines::Between(name("b"), name("c")),
            Machines::Between(name("c"), None),
        ];
        check(counts, &expected);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(Machines::One("o'x".into()).sql(), r" AND machine = 'o\'x'");
        let both = Machines::Between(Some("a".into()), Some("b".into()));
        assert_eq!(both.sql(), " AND machine > 'a' AND machine <= 'b'");
        assert_eq!(Machines::Between(None, None).sql(), "");
    }
}
