//! Compares what was built with what is in use, window by window of each source partition.
//!
//! **Invariant:** a built row holds the readings of its lane below `until`, the offset up to which it was built, which
//! is never past the position of the table in use. A row in use of version `v` holds all readings below `v`, and none
//! of the window came from `v` up to its table's position, or it would be newer. So where `v <= until`, or there is
//! no row in use, both speak of the same readings, and are the same unless one of them is wrong. A window that was
//! written since, or whose new readings are not built, is not compared, and counted.

use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::scope;
use super::tables::Tables;
use crate::error::AggregateError;

/// Differences that are listed; all are counted.
const LISTED_MAX: usize = 1000;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Windows that speak of the same readings, and were compared.
    pub compared: u64,
    /// Windows with readings that are not built yet.
    pub newer: u64,
    /// Windows that differ.
    pub different: u64,
    /// Some of them.
    pub differences: Vec<Difference>,
}

/// A window that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Machine.
    pub machine: String,
    /// Sensor.
    pub sensor: String,
    /// The window's start, µs UTC.
    pub start_us: i64,
    /// Source topic.
    pub topic: String,
    /// Source partition.
    pub partition: i32,
    /// In what: `missing` (in use), `extra` (in use), `count`, `sum`, `min`, `max`, `first`, `last`, `bad`.
    pub kinds: Vec<String>,
    /// In use.
    pub live: Option<Values>,
    /// Built from the archive.
    pub archive: Option<Values>,
}

/// What a window says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// Readings with a value.
    pub count: u64,
    /// Their sum.
    pub sum: Option<f64>,
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// Earliest.
    pub first: Option<f64>,
    /// Latest.
    pub last: Option<f64>,
    /// Readings of bad quality.
    pub bad: u64,
}

#[derive(Row, Deserialize)]
struct Sums {
    compared: u64,
    newer: u64,
    different: u64,
}

/// A window of both tables; what one has not got is 0.
#[derive(Clone, Debug, Row, Deserialize)]
struct Pair {
    lane_topic: String,
    lane_partition: i32,
    of_machine: String,
    of_sensor: String,
    start_us: i64,
    has_live: u64,
    has_built: u64,
    live_count: u64,
    built_count: u64,
    live_sum: f64,
    built_sum: f64,
    live_min: f64,
    built_min: f64,
    live_max: f64,
    built_max: f64,
    live_first: f64,
    built_first: f64,
    live_last: f64,
    built_last: f64,
    live_bad: u64,
    built_bad: u64,
}

/// What differs, as a condition. Sums differ where rounding cannot make them so: by its share of what was added up.
const DIFFERS: &str = "(has_live != has_built OR live_count != built_count OR live_bad != built_bad OR live_min != built_min OR live_max != built_max OR live_first != built_first OR live_last != built_last OR abs(live_sum - built_sum) > 1e-12 * live_count * greatest(abs(live_min), abs(live_max)))";
/// The same share, of one whose readings cannot be added up exactly.
const ROUNDING: f64 = 1e-12;

const COMPARABLE: &str = "(has_live = 0 OR live_version <= until)";

const VALUES: [&str; 7] = ["count", "sum", "min", "max", "first", "last", "bad"];

/// Compares all windows that were built with those in use.
pub(super) async fn compare(tables: &Tables, plan: &Plan) -> Result<Comparison, AggregateError> {
    let mut all = Comparison::default();
    for month in tables.months(&[&plan.old, &plan.table]).await? {
        let pairs = pairs(tables, plan, month);
        let sums = format!(
            "SELECT countIf({COMPARABLE}) AS compared, countIf(NOT {COMPARABLE}) AS newer, countIf({COMPARABLE} AND {DIFFERS}) AS different FROM ({pairs})"
        );
        let Some(sums) = tables.store.ask::<Sums>(&sums).await?.into_iter().next() else { continue };
        all.compared += sums.compared;
        all.newer += sums.newer;
        all.different += sums.different;
        let room = LISTED_MAX - all.differences.len();
        if sums.different > 0 && room > 0 {
            let listed = format!(
                "SELECT * EXCEPT (live_version, until) FROM ({pairs}) WHERE {COMPARABLE} AND {DIFFERS} ORDER BY of_machine, of_sensor, start_us LIMIT {room}"
            );
            all.differences.extend(tables.store.ask::<Pair>(&listed).await?.into_iter().map(difference));
        }
    }
    Ok(all)
}

/// The windows of a month in both tables, side by side. A row that holds a score alone is none.
fn pairs(tables: &Tables, plan: &Plan, month: u32) -> String {
    let side = |number: u8, table: &str| {
        format!(
            "SELECT {number} AS side, topic, partition, machine, sensor, start, version, {} FROM {} FINAL WHERE toYYYYMM(start) = {month} AND {} AND (count > 0 OR bad > 0 OR state_count > 0)",
            VALUES.join(", "),
            tables.store.named(table),
            scope::inside(plan)
        )
    };
    let both = |name: &str| {
        format!("anyIf({name}, side = 0) AS live_{name}, anyIf({name}, side = 1) AS built_{name}")
    };
    format!(
        "SELECT toString(topic) AS lane_topic, partition AS lane_partition, toString(machine) AS of_machine, toString(sensor) AS of_sensor, toInt64(toUnixTimestamp64Micro(start)) AS start_us, countIf(side = 0) AS has_live, countIf(side = 1) AS has_built, {}, anyIf(version, side = 0) AS live_version, {} AS until FROM ({} UNION ALL {}) GROUP BY topic, partition, machine, sensor, start",
        VALUES.map(both).join(", "),
        scope::until(plan),
        side(0, &plan.old),
        side(1, &plan.table)
    )
}

fn difference(pair: Pair) -> Difference {
    let values = |has: u64, count: u64, bad: u64, [sum, min, max, first, last]: [f64; 5]| {
        let number = |value: f64| (count > 0 && value.is_finite()).then_some(value);
        let [sum, min, max, first, last] = [sum, min, max, first, last].map(number);
        (has > 0).then_some(Values { count, sum, min, max, first, last, bad })
    };
    let p = &pair;
    let numbers = [p.live_sum, p.live_min, p.live_max, p.live_first, p.live_last];
    let live = values(p.has_live, p.live_count, p.live_bad, numbers);
    let numbers = [p.built_sum, p.built_min, p.built_max, p.built_first, p.built_last];
    let archive = values(p.has_built, p.built_count, p.built_bad, numbers);
    let kinds = kinds(p).into_iter().map(str::to_owned).collect();
    Difference {
        machine: pair.of_machine,
        sensor: pair.of_sensor,
        start_us: pair.start_us,
        topic: pair.lane_topic,
        partition: pair.lane_partition,
        kinds,
        live,
        archive,
    }
}

#[allow(clippy::float_cmp, clippy::cast_precision_loss, reason = "they are the same bits, or they differ")]
fn kinds(p: &Pair) -> Vec<&'static str> {
    if p.has_live == 0 {
        return vec!["missing"];
    }
    if p.has_built == 0 {
        return vec!["extra"];
    }
    let rounding = ROUNDING * p.live_count as f64 * p.live_min.abs().max(p.live_max.abs());
    let all = [
        ("count", p.live_count != p.built_count),
        ("sum", (p.live_sum - p.built_sum).abs() > rounding),
        ("min", p.live_min != p.built_min),
        ("max", p.live_max != p.built_max),
        ("first", p.live_first != p.built_first),
        ("last", p.live_last != p.built_last),
        ("bad", p.live_bad != p.built_bad),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(kind, _)| kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair {
            lane_topic: "t".into(),
            lane_partition: 0,
            of_machine: "m".into(),
            of_sensor: "s".into(),
            start_us: 0,
            has_live: 1,
            has_built: 1,
            live_count: 3,
            built_count: 3,
            live_sum: 0.6,
            built_sum: 0.600_000_000_000_000_1,
            live_min: 0.1,
            built_min: 0.1,
            live_max: 0.3,
            built_max: 0.3,
            live_first: 0.1,
            built_first: 0.1,
            live_last: 0.3,
            built_last: 0.3,
            live_bad: 0,
            built_bad: 0,
        }
    }

    #[test]
    fn what_differs_is_named_and_rounding_is_none() {
        assert_eq!(kinds(&pair()), Vec::<&str>::new());
        assert_eq!(kinds(&Pair { built_sum: 0.7, built_count: 4, ..pair() }), ["count", "sum"]);
        let missing = difference(Pair { has_live: 0, live_count: 0, ..pair() });
        assert_eq!((missing.kinds, missing.live.is_none()), (vec!["missing".to_owned()], true));
        assert_eq!(kinds(&Pair { has_built: 0, ..pair() }), ["extra"]);
    }
}
