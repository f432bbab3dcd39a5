//! What was found lately, and the table `reconciliation` that shows it.
//!
//! | column | meaning |
//! |---|---|
//! | `machine`, `hour` | what was compared |
//! | `archive_count`, `view_count`, `archive_sum`, `view_sum` | readings with a value, and their sums |
//! | `state` | `equal`, `pending` (the archive has not come as far everywhere), `refused` (right, but for series beyond the bounds), `erased` (the archive holds fewer, by retention) or `differs` |
//! | `detail` | what differs first |
//! | `checked_at` | when it was looked at |

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::{Outcome, Verdict};
use crate::engine::leaf::held;
use crate::views::schemas::{count, number, text, time};

/// The table's name.
pub(crate) const NAME: &str = "reconciliation";

/// Outcomes that are kept of what does not differ, some 300 bytes each. Without one nothing is wrong.
const QUIET_MAX: usize = 100_000;

/// Differences that are kept: those of a day of ten thousand machines.
const DIFFERENCES_MAX: usize = 240_000;

/// The last outcomes of each hour.
pub(super) type Known = BTreeMap<i64, Vec<Outcome>>;

/// The last outcome of each machine and hour.
#[derive(Debug, Default)]
pub(crate) struct Results(RwLock<Known>);

impl Results {
    /// Puts what was found of an hour in the place of all that was known of it. Above what may be kept, the oldest
    /// outcomes go, and differences only where there are too many of them alone.
    pub(super) fn put(&self, hour_us: i64, outcomes: Vec<Outcome>) {
        let mut hours = self.0.write().unwrap_or_else(PoisonError::into_inner);
        hours.insert(hour_us, outcomes);
        forget(&mut hours, QUIET_MAX, |outcome| outcome.state != Verdict::Differs);
        let forgotten = forget(&mut hours, DIFFERENCES_MAX, |outcome| outcome.state == Verdict::Differs);
        if forgotten > 0 {
            tracing::warn!(
                forgotten,
                "views and archive differ in more machine-hours than are kept; the oldest are forgotten, `stillwell reconcile` finds them again"
            );
        }
        hours.retain(|_, outcomes| !outcomes.is_empty());
    }

    /// All of them, hour by hour.
    pub(super) fn known(&self) -> Known {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The hours in which something differs, the newest first.
    pub(super) fn differing_hours(&self) -> Vec<i64> {
        let hours = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let differs = |outcomes: &[Outcome]| outcomes.iter().any(|outcome| outcome.state == Verdict::Differs);
        hours.iter().rev().filter(|(_, outcomes)| differs(outcomes)).map(|(&hour_us, _)| hour_us).collect()
    }

    /// All of them, by hour and machine.
    pub(super) fn all(&self) -> Vec<Outcome> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }

    /// How many differ, and the newest of them.
    pub(super) fn differing(&self) -> (usize, Option<Outcome>) {
        let hours = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let differs = || hours.values().flatten().filter(|outcome| outcome.state == Verdict::Differs);
        (differs().count(), differs().next_back().cloned())
    }
}

/// Drops the oldest of the outcomes that are meant, until `max` of them are left; says how many went.
fn forget(hours: &mut Known, max: usize, is_meant: impl Fn(&Outcome) -> bool) -> usize {
    let meant = hours.values().flatten().filter(|outcome| is_meant(outcome)).count();
    let too_many = meant.saturating_sub(max);
    let mut left = too_many;
    for outcomes in hours.values_mut() {
        if left == 0 {
            break;
        }
        outcomes.retain(|outcome| {
            let goes = left > 0 && is_meant(outcome);
            left -= usize::from(goes);
            !goes
        });
    }
    too_many
}

/// The table.
#[derive(Debug)]
pub(crate) struct ResultsTable {
    results: Arc<Results>,
    schema: SchemaRef,
}

impl ResultsTable {
    pub(crate) fn new(results: Arc<Results>) -> Self {
        Self { results, schema: schema() }
    }
}

#[async_trait]
impl TableProvider for ResultsTable {
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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        held(batch(&self.schema, &self.results.all())?, projection)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("machine"),
        time("hour"),
        count("archive_count"),
        count("view_count"),
        number("archive_sum"),
        number("view_sum"),
        text("state"),
        text("detail"),
        time("checked_at"),
    ]))
}

fn batch(schema: &SchemaRef, all: &[Outcome]) -> Result<RecordBatch> {
    let texts = |of: fn(&Outcome) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(of)))
    };
    let counts = |of: fn(&Outcome) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(all.iter().map(|one| of(one).cast_signed())))
    };
    let sums = |of: fn(&Outcome) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(all.iter().map(of)))
    };
    let times = |of: fn(&Outcome) -> i64| -> ArrayRef {
        let times = TimestampMicrosecondArray::from_iter_values(all.iter().map(of));
        Arc::new(times.with_timezone("UTC"))
    };
    let columns = vec![
        texts(|one| one.machine.as_str()),
        times(|one| one.hour_us),
        counts(|one| one.archive_count),
        counts(|one| one.view_count),
        sums(|one| one.archive_sum),
        sums(|one| one.view_sum),
        texts(|one| one.state.name()),
        texts(|one| one.detail.as_str()),
        times(|one| one.checked_us),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::reconcile) fn outcome(hour_us: i64, machine: &str, state: Verdict) -> Outcome {
        Outcome {
            machine: machine.to_owned(),
            hour_us,
            archive_count: 2,
            view_count: 2,
            archive_sum: 0.5,
            view_sum: 0.5,
            state,
            lacking: 0,
            detail: String::new(),
            checked_us: 9,
        }
    }

    #[test]
    fn an_hours_outcomes_replace_those_before() {
        let results = Results::default();
        results.put(7, vec![outcome(7, "a", Verdict::Differs), outcome(7, "b", Verdict::Equal)]);
        results.put(8, vec![outcome(8, "a", Verdict::Differs)]);
        let (count, newest) = results.differing();
        assert_eq!((count, newest.map(|one| one.hour_us)), (2, Some(8)));
        results.put(8, vec![outcome(8, "a", Verdict::Equal)]);
        results.put(7, vec![outcome(7, "b", Verdict::Equal)]);
        assert_eq!(results.differing().0, 0);
        let batch = batch(&schema(), &results.all()).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (2, 9));
    }

    #[test]
    fn the_oldest_hours_go_first_and_what_differs_stays() {
        let results = Results::default();
        for hour in 1..4 {
            results.put(hour, vec![outcome(hour, "a", Verdict::Equal); QUIET_MAX / 2]);
        }
        assert_eq!(results.all().iter().map(|one| one.hour_us).min(), Some(2));
        results.put(0, vec![outcome(0, "a", Verdict::Equal), outcome(0, "b", Verdict::Differs)]);
        assert_eq!(results.known()[&0], [outcome(0, "b", Verdict::Differs)]);
        assert_eq!((results.differing().0, results.differing_hours()), (1, vec![0]));
        assert_eq!(results.all().len(), QUIET_MAX + 1);
    }

    #[test]
    fn of_too_many_differences_the_oldest_go() {
        let differ = |hour: i64, machine: &str| outcome(hour, machine, Verdict::Differs);
        let mut hours = Known::from([(1, vec![differ(1, "a"), differ(1, "b")]), (2, vec![differ(2, "a")])]);
        assert_eq!(forget(&mut hours, 2, |_| true), 1);
        assert_eq!(hours, Known::from([(1, vec![differ(1, "b")]), (2, vec![differ(2, "a")])]));
        assert_eq!(forget(&mut hours, 2, |_| true), 0);
    }
}
