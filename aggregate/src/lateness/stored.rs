//! Machines as rows of ClickHouse, out and back.

use clickhouse::Row;
use serde::Deserialize;
use stillwell_schema::TopicPartition;
use stillwell_source::series::{NameCode, SeriesTable};

use super::MACHINES_MAX;
use super::machine::Machine;
use crate::histogram::Histogram;
use crate::native::Block;
use crate::snapshot::Part;
use crate::store::is;

/// Where they are kept.
pub(crate) const TABLE: &str = "machine_lateness_rows";

/// A machine of a lane as it is kept.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub(crate) struct LatenessRow {
    pub(crate) machine: String,
    pub(crate) version: i64,
    pub(crate) readings: u64,
    pub(crate) late: u64,
    pub(crate) lag: Vec<(i32, u64)>,
    pub(crate) lag_max_us: i64,
    pub(crate) skew_min_us: i64,
    pub(crate) skew_last_us: i64,
    pub(crate) skew: Vec<(i32, u64)>,
    pub(crate) high: Option<i64>,
}

/// The statement that reads a lane's rows, as many as there is room for.
pub(crate) fn select(lane: &TopicPartition) -> String {
    format!(
        "SELECT machine, version, readings, late, lag, lag_max_us, skew_min_us, skew_last_us, skew, high \
         FROM {{database}}.{TABLE} FINAL WHERE {} ORDER BY machine LIMIT {MACHINES_MAX}",
        is(lane)
    )
}

pub(super) fn machine(name: NameCode, row: LatenessRow) -> Machine {
    let skews = Histogram::from_buckets(row.skew);
    let skew_min_us = if skews.buckets().is_empty() { i64::MAX } else { row.skew_min_us };
    Machine {
        version: row.version,
        readings: row.readings,
        late: row.late,
        lags: Histogram::from_buckets(row.lag),
        lag_max_us: row.lag_max_us,
        skew_min_us,
        skew_last_us: row.skew_last_us,
        skews,
        high_us: row.high,
        ..Machine::new(name)
    }
}

/// A block of machines; none where there are none.
pub(super) fn part(lane: &TopicPartition, machines: &[&Machine], table: &SeriesTable) -> Option<Part> {
    if machines.is_empty() {
        return None;
    }
    let all = || machines.iter().copied();
    // Without a sample there is no least one, and what stands for none is past what is ever measured.
    let skew_min = |machine: &Machine| match machine.skews.buckets() {
        [] => 0,
        _ => machine.skew_min_us,
    };
    let mut block = Block::new(12, machines.len());
    block.strings("topic", all().map(|_| &*lane.topic));
    block.i32s("partition", all().map(|_| lane.partition));
    block.strings("machine", all().map(|machine| table.name(machine.name)));
    block.i64s("version", all().map(|machine| machine.version));
    block.u64s("readings", all().map(|machine| machine.readings));
    block.u64s("late", all().map(|machine| machine.late));
    block.histograms("lag", all().map(|machine| machine.lags.buckets()));
    block.i64s("lag_max_us", all().map(|machine| machine.lag_max_us));
    block.i64s("skew_min_us", all().map(skew_min));
    block.i64s("skew_last_us", all().map(|machine| machine.skew_last_us));
    block.histograms("skew", all().map(|machine| machine.skews.buckets()));
    block.maybe_times("high", &all().map(|machine| machine.high_us).collect::<Vec<_>>());
    Some(Part { table: TABLE.into(), rows: machines.len(), bytes: block.finish() })
}
