//! ClickHouse's tables as the protocol sees them: of the rows of one key the one of the highest version is read,
//! of equal versions the one that was written last.

use std::collections::BTreeMap;

use super::native::Block;
use super::world::TOPIC;
use crate::lateness::{self, LatenessRow};
use crate::store::{HighRow, SeriesRow, Standing, TablePosition, Targets, WindowRow};
use crate::window::{TABLES, TOTALS};

/// Columns of each kind of row.
const WINDOW_COLUMNS: usize = 34;
const SERIES_COLUMNS: usize = 14;
const HIGH_COLUMNS: usize = 7;
const LATENESS_COLUMNS: usize = 12;
const POSITION_COLUMNS: usize = 8;
const TABLE_POSITION_COLUMNS: usize = 5;

/// Table, partition, machine, sensor and start of a window.
pub(super) type WindowKey = (String, i32, String, String, i64);

/// A row of `positions`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) standing: Standing,
    pub(super) received: i64,
    pub(super) end: i64,
}

/// A row on its way into a table.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Window(WindowKey, Box<WindowRow>),
    Series { partition: i32, version: i64, row: Box<SeriesRow> },
    Position(i32, Position),
    TablePosition(i32, TablePosition),
    High { partition: i32, table: String, row: HighRow },
    Lateness(i32, Box<LatenessRow>),
}

impl Row {
    pub(super) fn partition(&self) -> i32 {
        match self {
            Self::Window((_, partition, ..), _)
            | Self::Series { partition, .. }
            | Self::Position(partition, _)
            | Self::TablePosition(partition, _)
            | Self::High { partition, .. }
            | Self::Lateness(partition, _) => *partition,
        }
    }
}

/// What is stored.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) windows: BTreeMap<WindowKey, WindowRow>,
    /// With the version.
    pub(super) series: BTreeMap<(i32, String, String), (i64, SeriesRow)>,
    pub(super) positions: BTreeMap<i32, Position>,
    pub(super) table_positions: BTreeMap<(i32, String), TablePosition>,
    /// By partition, table, machine and sensor.
    highs: BTreeMap<(i32, String, String, String), HighRow>,
    pub(super) lateness: BTreeMap<(i32, String), LatenessRow>,
    /// The tables in use.
    pub(super) targets: Targets,
}

impl Tables {
    pub(super) fn put(&mut self, row: Row) {
        match row {
            Row::Window(key, row) => replace(&mut self.windows, key, *row, |row| row.version),
            Row::Series { partition, version, row } => {
                let key = (partition, row.machine.clone(), row.sensor.clone());
                replace(&mut self.series, key, (version, *row), |row| row.0);
            }
            Row::Position(partition, row) => {
                replace(&mut self.positions, partition, row, |row| row.standing.position);
            }
            Row::TablePosition(partition, row) => {
                let key = (partition, row.table_name.clone());
                replace(&mut self.table_positions, key, row, |row| row.position);
            }
            Row::High { partition, table, row } => {
                let key = (partition, table, row.machine.clone(), row.sensor.clone());
                replace(&mut self.highs, key, row, |row| row.version);
            }
            Row::Lateness(partition, row) => {
                let key = (partition, row.machine.clone());
                replace(&mut self.lateness, key, *row, |row| row.version);
            }
        }
    }

    pub(super) fn table_positions(&self, partition: i32) -> Vec<TablePosition> {
        let rows = self.table_positions.iter().filter(|((of, _), _)| *of == partition);
        rows.map(|(_, row)| row.clone()).collect()
    }

    pub(super) fn series(&self, partition: i32) -> Vec<SeriesRow> {
        let rows = self.series.iter().filter(|((of, ..), _)| *of == partition);
        rows.map(|(_, (_, row))| row.clone()).collect()
    }

    pub(super) fn lateness(&self, partition: i32) -> Vec<LatenessRow> {
        let rows = self.lateness.iter().filter(|((of, _), _)| *of == partition);
        rows.map(|(_, row)| row.clone()).collect()
    }

    pub(super) fn highs(&self, partition: i32, table: &str) -> Vec<HighRow> {
        let rows = self.highs.iter().filter(|((of, name, ..), _)| *of == partition && name == table);
        rows.map(|(_, row)| row.clone()).collect()
    }

    /// Up to where all tables in use are complete for a partition.
    pub(super) fn complete(&self, partition: i32) -> Option<i64> {
        let of = |table: &str| Some(self.table_positions.get(&(partition, table.to_owned()))?.position);
        self.targets.written(TABLES.len()).map(|table| of(&table)).min().flatten()
    }
}

fn replace<K: Ord, R>(rows: &mut BTreeMap<K, R>, key: K, row: R, version: impl Fn(&R) -> i64) {
    if rows.get(&key).is_none_or(|stored| version(stored) <= version(&row)) {
        rows.insert(key, row);
    }
}

/// Reads a row of a table's block.
type ReadRow = fn(&str, &Block, usize) -> Row;

/// The rows of a block that is written into a table.
///
/// # Panics
/// Where the server would refuse it.
pub(super) fn rows(table: &str, bytes: &[u8]) -> Vec<Row> {
    let block = Block::read(bytes);
    let (columns, row): (usize, ReadRow) = match table {
        "latest_rows" => (SERIES_COLUMNS, series),
        "positions" => (POSITION_COLUMNS, position),
        "lane_positions" => (TABLE_POSITION_COLUMNS, table_position),
        "series_highs" => (HIGH_COLUMNS, high),
        lateness::TABLE => (LATENESS_COLUMNS, lateness_row),
        _ => {
            let is_known = TOTALS.iter().flatten().chain(&TABLES).any(|first| table.starts_with(first));
            assert!(is_known, "no table is named {table}");
            (WINDOW_COLUMNS, window)
        }
    };
    assert_eq!(block.width(), columns, "columns of {table}");
    (0..block.rows).map(|at| row(table, &block, at)).collect()
}

fn partition(block: &Block, row: usize) -> i32 {
    assert_eq!(block.text("topic", row), TOPIC);
    i32::try_from(block.int("partition", row)).unwrap()
}

fn window(table: &str, block: &Block, at: usize) -> Row {
    let (int, count, float) =
        (|name| block.int(name, at), |name| block.count(name, at), |name| block.float(name, at));
    let row = WindowRow {
        machine: block.text("machine", at),
        sensor: block.text("sensor", at),
        start: int("start"),
        version: int("version"),
        count: count("count"),
        sum: float("sum"),
        m2: float("m2"),
        min: float("min"),
        max: float("max"),
        first: float("first"),
        first_time: int("first_time"),
        last: float("last"),
        last_time: int("last_time"),
        area_last: float("area_last"),
        area_linear: float("area_linear"),
        increase: float("increase"),
        resets: count("resets"),
        disordered: count("disordered"),
        bad: count("bad"),
        late: count("late"),
        score: block.narrow("score", at),
        histogram: block.buckets("histogram", at),
        state_count: count("state_count"),
        state_first: block.text("state_first", at),
        state_first_time: int("state_first_time"),
        state_last: block.text("state_last", at),
        state_last_time: int("state_last_time"),
        transitions: count("transitions"),
        state_disordered: count("state_disordered"),
        held: block.spans("held", at),
    };
    let (machine, sensor) = (row.machine.clone(), row.sensor.clone());
    let key = (table.to_owned(), partition(block, at), machine, sensor, row.start);
    Row::Window(key, Box::new(row))
}

fn series(_: &str, block: &Block, at: usize) -> Row {
    let row = SeriesRow {
        machine: block.text("machine", at),
        sensor: block.text("sensor", at),
        kind: block.text("kind", at),
        unit: block.text("unit", at),
        time: block.int("time", at),
        value: block.maybe_float("value", at),
        text: block.maybe_text("text", at),
        quality: u32::try_from(block.int("quality", at)).unwrap(),
        score: block.maybe_float("score", at),
        early_from: block.maybe_int("early_from", at),
        early_until: block.maybe_int("early_until", at),
    };
    let version = block.int("version", at);
    Row::Series { partition: partition(block, at), version, row: Box::new(row) }
}

fn position(_: &str, block: &Block, at: usize) -> Row {
    let standing = Standing {
        position: block.int("position", at),
        readings: block.count("readings", at),
        late: block.count("late", at),
    };
    let (received, end) = (block.int("received", at), block.int("end_offset", at));
    Row::Position(partition(block, at), Position { standing, received, end })
}

fn table_position(_: &str, block: &Block, at: usize) -> Row {
    let row = TablePosition { table_name: block.text("table_name", at), position: block.int("position", at) };
    Row::TablePosition(partition(block, at), row)
}

fn high(_: &str, block: &Block, at: usize) -> Row {
    let row = HighRow {
        machine: block.text("machine", at),
        sensor: block.text("sensor", at),
        version: block.int("version", at),
        high: block.int("high", at),
    };
    Row::High { partition: partition(block, at), table: block.text("table_name", at), row }
}

fn lateness_row(_: &str, block: &Block, at: usize) -> Row {
    let row = LatenessRow {
        machine: block.text("machine", at),
        version: block.int("version", at),
        readings: block.count("readings", at),
        late: block.count("late", at),
        lag: block.buckets("lag", at),
        lag_max_us: block.int("lag_max_us", at),
        skew_min_us: block.int("skew_min_us", at),
        skew_last_us: block.int("skew_last_us", at),
        skew: block.buckets("skew", at),
        high: block.maybe_int("high", at),
    };
    Row::Lateness(partition(block, at), Box::new(row))
}
