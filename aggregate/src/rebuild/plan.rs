//! What a rebuild is to do, as far as another process needs it to go on.

use serde::{Deserialize, Serialize};
use stillwell_schema::TopicPartition;

use super::history::Filter;
use crate::window::{TABLES, TOTALS, WIDTHS_US, start_of};

/// The kind of saga, as its plan states it.
pub const KIND: &str = "rebuild";

/// What becomes of the table that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is compared, and takes the place of the one in use.
    Swap,
    /// It is compared, and dropped.
    Diff,
    /// It stays beside the one in use, for SQL.
    AsOf,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The view, such as `readings_1h` or `fleet_1h`.
    pub view: String,
    /// What becomes of it.
    pub mode: Mode,
    /// Patterns of machines; all where there is none.
    pub machines: Vec<String>,
    /// Windows from the one that holds this time on, µs UTC.
    pub from_us: Option<i64>,
    /// Windows that begin before this time.
    pub to_us: Option<i64>,
    /// What was durable at this time, and no more.
    pub as_of_us: Option<i64>,
}

/// A lane of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLane {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The first offset that is folded.
    pub first: i64,
    /// The offset up to which the new table is complete when it is built: never past the live ones.
    pub until: i64,
    /// Whether the archive has nothing of it, so that its windows are taken as they are.
    pub is_copied: bool,
}

impl PlannedLane {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }
}

/// All that a rebuild needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`KIND`].
    pub kind: String,
    /// The view.
    pub view: String,
    /// Its number among the view's rebuilds.
    pub number: u64,
    /// What becomes of the table.
    pub mode: Mode,
    /// Patterns of machines.
    pub machines: Vec<String>,
    /// The first window's start, µs UTC; none for all.
    pub from_us: Option<i64>,
    /// The first window's start that is not meant any more.
    pub to_us: Option<i64>,
    /// The moment.
    pub as_of_us: Option<i64>,
    /// The table in use when it was planned.
    pub old: String,
    /// The table that is built.
    pub table: String,
    /// The lanes.
    pub lanes: Vec<PlannedLane>,
}

impl Plan {
    /// The saga's name.
    #[must_use]
    pub fn id(&self) -> String {
        let word = if self.mode == Mode::AsOf { "asof" } else { KIND };
        format!("{word}-{}-{}", width_name(&self.view), self.number)
    }

    /// The view over the table, where it is kept for SQL.
    #[must_use]
    pub fn as_of_view(&self) -> String {
        format!("{}_asof_{}", self.view, self.number)
    }

    /// Which windows its view shows. A plan is made for a view of windows alone.
    pub(super) fn shown(&self) -> Shown {
        let first = Shown { width: 0, is_of_totals: false, base: TABLES[0] };
        Shown::by(&self.view).unwrap_or(first)
    }

    /// Whether the windows are totals by machine and kind.
    #[must_use]
    pub fn is_of_totals(&self) -> bool {
        self.shown().is_of_totals
    }

    /// The name under which lanes look for the table in use.
    #[must_use]
    pub fn base(&self) -> &'static str {
        self.shown().base
    }

    /// Whether all windows of the lanes that are folded are built.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.machines.is_empty() && self.from_us.is_none() && self.to_us.is_none()
    }

    pub(super) fn filter(&self) -> Filter {
        Filter { machines: self.machines.clone(), from_us: self.from_us }
    }

    pub(super) fn built(&self) -> impl Iterator<Item = &PlannedLane> {
        self.lanes.iter().filter(|lane| !lane.is_copied)
    }

    pub(super) fn copied(&self) -> impl Iterator<Item = &PlannedLane> {
        self.lanes.iter().filter(|lane| lane.is_copied)
    }
}

/// What a view of windows shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Index of the width.
    pub(super) width: usize,
    /// Whether they are totals by machine and kind.
    pub(super) is_of_totals: bool,
    /// The first of their tables.
    pub(super) base: &'static str,
}

impl Shown {
    /// By a view of this name; none where it is no view of windows.
    pub(super) fn by(view: &str) -> Option<Self> {
        let find = |prefix: &str, tables: [Option<&'static str>; 4], is_of_totals| {
            let name = view.strip_prefix(prefix)?;
            let is_named = |base: &str| base.rsplit('_').next() == Some(name);
            let width = tables.iter().position(|base| base.is_some_and(is_named))?;
            tables[width].map(|base| Self { width, is_of_totals, base })
        };
        find("readings_", TABLES.map(Some), false).or_else(|| find("fleet_", TOTALS, true))
    }
}

fn width_name(view: &str) -> &str {
    view.strip_prefix("readings_").unwrap_or(view)
}

/// The start of the window that holds a time.
pub(super) fn floor(width: usize, time_us: i64) -> i64 {
    start_of(time_us, WIDTHS_US[width])
}

/// The start of the first window that begins at a time or later.
pub(super) fn ceil(width: usize, time_us: i64) -> i64 {
    start_of(time_us.saturating_add(WIDTHS_US[width] - 1), WIDTHS_US[width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_windows_are_meant() {
        assert_eq!(
            (floor(0, 19_999_999), ceil(0, 10_000_001), ceil(0, 10_000_000)),
            (10_000_000, 20_000_000, 10_000_000)
        );
        assert_eq!((floor(0, -1), ceil(0, -1)), (-10_000_000, 0));
    }

    #[test]
    fn a_view_says_what_it_shows() {
        let shown = Shown { width: 2, is_of_totals: false, base: "windows_1h" };
        assert_eq!(Shown::by("readings_1h"), Some(shown));
        let shown = Shown { width: 3, is_of_totals: true, base: "fleet_windows_1d" };
        assert_eq!(Shown::by("fleet_1d"), Some(shown));
        assert!(
            ["fleet_10s", "readings_2h", "latest", "readings_", ""]
                .iter()
                .all(|view| Shown::by(view).is_none())
        );
    }
}
