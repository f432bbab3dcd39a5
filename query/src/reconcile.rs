//! Holds the views against the archive, hour by hour and machine by machine, and reports differences as data.
//!
//! Of each window of an hour as the views show it (`readings_1h`, and its totals in `fleet_1h`), complete up to its
//! version, count, sum, least and largest value are compared with those of the archive's readings of that series,
//! hour and partition below the same offset. So nothing has to stand still: where the archive has not come as far
//! yet, the window is *pending* and no difference; where the lane's position in the table shown is past a window's
//! version, the window must hold what lies between too; and a reading below that position whose window is missing is
//! a difference, unless series of its machine were refused at its offset, beyond the bounds of series.
//!
//! Totals count each reading for its own kind. Those that an earlier version has left were made of windows, whose
//! readings all count for the kind that their series had last: `stillwell rebuild fleet_1h` makes them right. Hours
//! of machines with readings that were refused are left out of the totals.
//!
//! Retention erases from the archive, not from the views: where the archive holds fewer readings of a window, and the
//! lane's ledger says that readings of its machine and hour have run out, they are *erased* and no difference.
//!
//! Counts and extremes must be equal. Sums may differ by rounding, n · 2⁻⁵² · Σ|x| for n values: twice the bound of
//! recursive summation in whatever order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §4.2), as
//! both sides are rounded. Where a value is not finite, its sums are not compared.
//!
//! [`books`] compares, for windows and totals in [`both`]; [`reader`] brings what it compares; [`results`] keeps what
//! was found, and [`notes`] over a restart; [`rounds`] goes through the hours while the read side runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillwell_schema::Clock;

use crate::archive::{Catalogue, open};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::machines::Machines;
use crate::settings::QuerySettings;
use crate::views::Views;

mod books;
mod both;
mod notes;
mod reader;
pub(crate) mod results;
pub(crate) mod rounds;
mod sums;

/// What is compared at once: a window of the views' third width.
pub const HOUR_US: i64 = 3_600_000_000;

/// How an hour's windows and readings compare, for one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All windows are right.
    Equal,
    /// Those that could be compared are; of others the archive has not come as far.
    Pending,
    /// All windows are right, but there are readings of series that the views' writer has refused, which have none.
    Refused,
    /// The archive holds fewer readings than the views, and tombstones of its ledger say why: retention has erased
    /// readings of this machine and hour.
    Erased,
    /// Some are wrong or missing.
    Differs,
}

impl Verdict {
    /// Its name in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Erased => "erased",
            Self::Differs => "differs",
        }
    }
}

/// What was found of one machine and hour. Counts and sums are of readings with a value, over what was compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The machine.
    pub machine: String,
    /// The hour's start, µs UTC.
    pub hour_us: i64,
    /// Readings in the archive.
    pub archive_count: u64,
    /// Readings in the views.
    pub view_count: u64,
    /// Sum of the values in the archive.
    #[serde(with = "sums")]
    pub archive_sum: f64,
    /// Sum of the values in the views.
    #[serde(with = "sums")]
    pub view_sum: f64,
    /// How they compare.
    pub state: Verdict,
    /// Readings that the views hold and the archive does not, of series that differ in nothing else. Windows that are
    /// built anew lose them.
    #[serde(default)]
    pub lacking: u64,
    /// What differs first, and how many series do; empty where none does.
    pub detail: String,
    /// When it was looked at, µs UTC.
    pub checked_us: i64,
}

/// Which hours and machines are compared on demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Hours that end after this, µs UTC.
    pub from_us: Option<i64>,
    /// Hours that start before this, µs UTC.
    pub until_us: Option<i64>,
    /// One machine alone.
    pub machine: Option<String>,
}

impl Scope {
    /// The starts of the first hour, and of the first after the last, µs.
    fn bounds(&self) -> (i64, i64) {
        let from = self.from_us.map_or(i64::MIN, hour_of);
        let until = self.until_us.map_or(i64::MAX, |until| hour_of(until.saturating_sub(1)) + HOUR_US);
        (from, until)
    }
}

/// How hard it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Full,
    /// It rests as long as it works, so that statements come first.
    Half,
}

/// Compares hours.
pub struct Reconciler {
    engine: Arc<Engine>,
    catalogue: Arc<Catalogue>,
    views: Views,
    clock: Arc<dyn Clock>,
}

impl Reconciler {
    /// One of its own, over the archive and the views that `settings` name.
    ///
    /// # Errors
    /// [`QueryError::Archive`] if the archive cannot be opened.
    pub fn new(settings: &QuerySettings, clock: Arc<dyn Clock>) -> Result<Self, QueryError> {
        let catalogue = Arc::new(Catalogue::new(open(settings)?, settings.topics.clone()));
        let views = Views::new(&settings.clickhouse, &settings.limits);
        let machines = Arc::new(Machines::open(None, Arc::clone(&clock)));
        let engine = Arc::new(Engine::new(settings, &catalogue, &views, &machines)?);
        Ok(Self::over(engine, catalogue, views, clock))
    }

    /// One over what the read side has open.
    pub(crate) fn over(
        engine: Arc<Engine>,
        catalogue: Arc<Catalogue>,
        views: Views,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { engine, catalogue, views, clock }
    }

    /// The hours of a scope that views or archive hold anything of, the newest first. All times of the archive
    /// within the scope are read for it.
    ///
    /// # Errors
    /// [`QueryError`] where a side does not answer.
    pub async fn hours(&self, scope: &Scope) -> Result<Vec<i64>, QueryError> {
        let mut hours = self.view_hours(scope).await?;
        hours.extend(self.archive_hours(scope).await?);
        Ok(hours.into_iter().rev().collect())
    }

    /// The hours that start within `from_us..until_us` and that views or archive may hold something of, the newest
    /// first; of the archive only its catalogue is asked.
    pub(crate) async fn hours_within(&self, from_us: i64, until_us: i64) -> Result<Vec<i64>, QueryError> {
        let scope = Scope { from_us: Some(from_us), until_us: Some(until_us), machine: None };
        let mut hours = self.view_hours(&scope).await?;
        let (from, until) = scope.bounds();
        for (min, max) in self.catalogue.refresh().await?.commits().filter_map(|commit| commit.time_us) {
            hours.extend(steps(hour_of(min).max(from), hour_of(max).min(until - HOUR_US)));
        }
        Ok(hours.into_iter().rev().collect())
    }
}

/// The hours from `first` to `last`.
fn steps(first: i64, last: i64) -> BTreeSet<i64> {
    std::iter::successors(Some(first), |hour| hour.checked_add(HOUR_US))
        .take_while(|hour| *hour <= last)
        .collect()
}

/// The start of the hour that holds a time, µs.
#[must_use]
pub fn hour_of(time_us: i64) -> i64 {
    time_us.div_euclid(HOUR_US).saturating_mul(HOUR_US)
}

/// What a pass over the archive's readings of an hour may take.
const PASS_TIME_MAX: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_holds_whole_hours() {
        let check = |from_us, until_us, expected| {
            let scope = Scope { from_us, until_us, machine: None };
            assert_eq!(scope.bounds(), expected, "{scope:?}");
        };
        check(None, None, (i64::MIN, i64::MAX));
        check(Some(1), Some(HOUR_US + 1), (0, 2 * HOUR_US));
        check(Some(-1), Some(HOUR_US), (-HOUR_US, HOUR_US));
    }

    #[test]
    fn hours_follow_each_other() {
        assert_eq!(steps(0, 2 * HOUR_US).into_iter().collect::<Vec<_>>(), [0, HOUR_US, 2 * HOUR_US]);
        assert!(steps(HOUR_US, 0).is_empty());
    }
}
