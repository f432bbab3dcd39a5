//! The time machine: a view built anew from the archive, beside the one in use: compared, swapped while ingestion
//! goes on, or kept as it was at a moment.
//!
//! Reading order: an [`Order`] says what is asked for; [`Rebuilder::plan`] makes a [`Plan`] of it, which says all that
//! it takes; a [`Rebuild`] does it as a [`crate::saga`], whose steps are in `steps`: `fold` folds the archive, which
//! is behind [`history`], `tables` does what is done to tables, `compare` says what differs.
//!
//! **Invariant:** a lane's windows are built up to an offset that neither the archive nor any table in use was short
//! of when it was planned. So what is taken over later is as far at least, and the lane that goes on from that offset
//! leaves no hole; and as rows know their version, nothing is counted twice.
//!
//! `as of T` is what was durable at T: the entries that were written by then, and of them all readings. What was
//! erased since is not there: windows that it would take are refused.

use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::error::AggregateError;
use crate::fold::Level;
use crate::saga::{Event, Line, Progress, StepError};
use crate::settings::ClickHouseSettings;
use crate::store::{ClickHouse, Store};

mod compare;
mod fold;
pub mod history;
mod plan;
mod scope;
mod steps;
mod tables;
mod views;

pub use compare::{Comparison, Difference, Values};
pub use plan::{KIND, Mode, Order, Plan, PlannedLane};
pub use steps::names;

use history::{Extent, Filter, History, HistoryError};
use plan::Shown;
use tables::Tables;

/// How it goes on, for who waits.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// Records are to be folded, so many more.
    Total(u64),
    /// So many of them were.
    Folded(u64),
    /// It waits.
    Waiting(&'a str),
}

/// Who is told.
pub type Watch = Arc<dyn Fn(Note<'_>) + Send + Sync>;

/// Says whether the table that was built takes the place of the one in use, by what differs; else why it waits.
pub type Approve = Box<dyn Fn(Option<&Comparison>) -> Result<(), String> + Send + Sync>;

/// Why a rebuild was not planned; nothing is changed.
#[derive(Debug, Error)]
pub enum RebuildError {
    /// ClickHouse.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The archive.
    #[error("the archive cannot be read: {0}")]
    History(#[source] HistoryError),
    /// It is no view of windows.
    #[error(
        "{0} is no view of windows; there are readings_10s, readings_1m, readings_1h, readings_1d, fleet_1m, fleet_1h and fleet_1d"
    )]
    View(String),
    /// The archive holds nothing of it.
    #[error("the archive holds nothing to build {0} from")]
    Empty(String),
    /// There are no views to compare it with, or to take the place of.
    #[error(
        "the aggregator has written nothing yet; start it first, or build a view of its own with --as-of"
    )]
    NoLanes,
    /// Readings were erased that it would take.
    #[error(
        "readings before {until} were erased, so windows before cannot be built: say --from {until} or later"
    )]
    Erased {
        /// The first window's start that can be built, RFC 3339.
        until: String,
    },
    /// No window lies in the times.
    #[error("no window of {0} lies between --from and --to")]
    NoWindow(String),
    /// Another rebuild of the view is not at its end.
    #[error(
        "another rebuild of {view} is under way: `stillwell saga resume {saga}` goes on with it, `stillwell saga undo {saga}` takes it back"
    )]
    UnderWay {
        /// The view.
        view: String,
        /// The other's name.
        saga: String,
    },
}

/// Makes plans, and does them.
#[derive(Clone)]
pub struct Rebuilder {
    tables: Tables,
    history: Arc<dyn History>,
}

impl Rebuilder {
    /// From this archive into this ClickHouse.
    #[must_use]
    pub fn new(settings: &ClickHouseSettings, history: Arc<dyn History>) -> Self {
        Self { tables: Tables { store: ClickHouse::new(settings) }, history }
    }

    /// What it takes to do what is asked for; `sagas` are the lines of all sagas so far.
    ///
    /// # Errors
    /// [`RebuildError`] names the remedy.
    pub async fn plan<'a>(
        &self,
        order: &Order,
        sagas: impl IntoIterator<Item = &'a Vec<Line>>,
    ) -> Result<Plan, RebuildError> {
        let view = || order.view.clone();
        let Shown { width, base, .. } = Shown::by(&order.view).ok_or_else(|| RebuildError::View(view()))?;
        let earlier: Vec<(Plan, Progress)> = sagas
            .into_iter()
            .filter_map(|lines| planned(lines))
            .filter(|(plan, _)| plan.view == order.view)
            .collect();
        if let Some((plan, _)) = earlier.iter().find(|(_, progress)| progress.phase.is_open()) {
            return Err(RebuildError::UnderWay { view: view(), saga: plan.id() });
        }
        let generation = self.tables.generation(base).await?;
        let number =
            earlier.iter().map(|(plan, _)| plan.number).max().unwrap_or(0).max(generation.generation) + 1;
        let filter = Filter { machines: order.machines.clone(), from_us: None };
        let extents = self.extents(order.as_of_us, filter).await?;
        if extents.is_empty() {
            return Err(RebuildError::Empty(view()));
        }
        let from_us = from(order, width, &extents)?;
        let to_us = order.to_us.map(|to_us| plan::ceil(width, to_us));
        if from_us.zip(to_us).is_some_and(|(from_us, to_us)| from_us >= to_us) {
            return Err(RebuildError::NoWindow(view()));
        }
        let lanes: Vec<PlannedLane> = match order.mode {
            Mode::AsOf => extents.iter().map(as_of).collect(),
            Mode::Swap | Mode::Diff => live(&self.tables, &extents).await?,
        };
        if lanes.is_empty() {
            return Err(RebuildError::NoLanes);
        }
        let suffix = if order.mode == Mode::AsOf { "asof_" } else { "g" };
        Ok(Plan {
            kind: KIND.to_owned(),
            view: view(),
            number,
            mode: order.mode,
            machines: order.machines.clone(),
            from_us,
            to_us,
            as_of_us: order.as_of_us,
            old: generation.table_name,
            table: format!("{base}_{suffix}{number}"),
            lanes,
        })
    }

    /// A plan as a saga; `comparison` is what came of comparing, where that was done before.
    #[must_use]
    pub fn rebuild(
        &self,
        plan: Plan,
        comparison: Option<Comparison>,
        approve: Approve,
        watch: Watch,
    ) -> Rebuild {
        Rebuild {
            tables: self.tables.clone(),
            history: Arc::clone(&self.history),
            plan,
            approve,
            watch,
            comparison: Mutex::new(comparison),
        }
    }

    async fn extents(&self, as_of_us: Option<i64>, filter: Filter) -> Result<Vec<Extent>, RebuildError> {
        let history = Arc::clone(&self.history);
        let read = spawn_blocking(move || history.extents(as_of_us, &filter)).await;
        read.unwrap_or_else(|error| Err(Box::new(error))).map_err(RebuildError::History)
    }
}

/// The plan of a saga and how far it is; none where it is no rebuild.
#[must_use]
pub fn planned(lines: &[Line]) -> Option<(Plan, Progress)> {
    let line = lines.iter().find(|line| line.event == Event::Planned)?;
    let plan: Plan = serde_json::from_value(line.detail.clone()).ok()?;
    let progress = Progress::of(lines, names(plan.mode));
    (plan.kind == KIND).then_some((plan, progress))
}

/// What came of comparing, where it was done.
#[must_use]
pub fn comparison(lines: &[Line]) -> Option<Comparison> {
    let done = lines.iter().rev().find(|line| line.step == "compare" && line.event == Event::Done)?;
    serde_json::from_value(done.detail.clone()).ok()
}

/// The first window that is built: not one that takes what was erased.
fn from(order: &Order, width: usize, extents: &[Extent]) -> Result<Option<i64>, RebuildError> {
    let asked = order.from_us.map(|from_us| plan::floor(width, from_us));
    let erased = extents.iter().filter_map(|extent| extent.erased_until_us).max();
    let Some(least) = erased.map(|until_us| plan::ceil(width, until_us)) else { return Ok(asked) };
    match asked {
        Some(asked) if asked < least => {
            let until = chrono::DateTime::from_timestamp_micros(least);
            let until = until.map_or_else(|| least.to_string(), |until| until.to_rfc3339());
            Err(RebuildError::Erased { until })
        }
        Some(asked) => Ok(Some(asked)),
        None => Ok(Some(least)),
    }
}

/// The lanes that have windows, each up to where the archive and all tables in use have it.
async fn live(tables: &Tables, extents: &[Extent]) -> Result<Vec<PlannedLane>, AggregateError> {
    let targets = tables.store.targets().await?;
    let mut least: Option<std::collections::BTreeMap<_, i64>> = None;
    for table in targets.written(Level::All.widths()) {
        let positions = tables.positions(&table).await?;
        least = Some(match least {
            None => positions,
            // A lane that one of them has nothing of begins anew by itself.
            Some(least) => least
                .into_iter()
                .filter_map(|(lane, at)| positions.get(&lane).map(|other| (lane.clone(), at.min(*other))))
                .collect(),
        });
    }
    let lane = |(lane, position): (stillwell_schema::TopicPartition, i64)| {
        let range = extents.iter().find(|extent| extent.lane == lane).map(|extent| extent.range);
        let built = range.filter(|range| range.first.0 < range.next.0.min(position));
        PlannedLane {
            topic: lane.topic.to_string(),
            partition: lane.partition,
            first: built.map_or(position, |range| range.first.0),
            until: built.map_or(position, |range| range.next.0.min(position)),
            is_copied: built.is_none(),
        }
    };
    Ok(least.unwrap_or_default().into_iter().map(lane).collect())
}

fn as_of(extent: &Extent) -> PlannedLane {
    PlannedLane {
        topic: extent.lane.topic.to_string(),
        partition: extent.lane.partition,
        first: extent.range.first.0,
        until: extent.range.next.0,
        is_copied: false,
    }
}

/// A rebuild, as a [`crate::saga::Saga`].
pub struct Rebuild {
    tables: Tables,
    history: Arc<dyn History>,
    plan: Plan,
    approve: Approve,
    watch: Watch,
    comparison: Mutex<Option<Comparison>>,
}

impl Rebuild {
    /// What it does.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What differs between what was built and what is in use, once it was compared.
    pub fn comparison(&self) -> Option<Comparison> {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn compared(&self, comparison: Comparison) {
        *self.comparison.lock().unwrap_or_else(PoisonError::into_inner) = Some(comparison);
    }
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StepError> {
    spawn_blocking(work).await.map_err(|error| StepError::Elsewhere(Box::new(error)))
}

#[cfg(test)]
mod tests;
