//! The views beside what SQL folds from the archive. A partition's readings are folded in the order of its offsets, and
//! the partitions put together as the views do it.

use crate::stack::Stack;

/// The views of windows, with their widths in µs.
const VIEWS: [(&str, i64); 4] = [
    ("readings_10s", 10_000_000),
    ("readings_1m", 60_000_000),
    ("readings_1h", 3_600_000_000),
    ("readings_1d", 86_400_000_000),
];

/// Those of totals by machine and kind.
const FLEET: [(&str, i64); 3] =
    [("fleet_1m", 60_000_000), ("fleet_1h", 3_600_000_000), ("fleet_1d", 86_400_000_000)];

/// What must be equal to the last bit. The rest is sums, equal to rounding.
const EXACT: [&str; 7] = ["n", "bad", "late", "low", "high", "opening", "closing"];
const ROUNDED: [&str; 3] = ["total", "mean", "spread"];
const EXACT_OF_TOTALS: [&str; 5] = ["n", "bad", "late", "low", "high"];
const ROUNDED_OF_TOTALS: [&str; 2] = ["total", "mean"];

/// Differences that are printed.
const SHOWN: usize = 40;

/// A reading's time, µs, is more than a day past its record's: it does not count as seen.
const IS_EARLY: &str = "cast(time as bigint) > cast(kafka_time as bigint) * 1000 + 86400000000";

/// Every window of every width.
pub(super) fn windows(stack: &Stack) {
    for (view, width_us) in VIEWS {
        let sql = difference(
            &folded(width_us, "sensor", "count(value) > 0"),
            &shown(view),
            &["machine", "sensor", "begun"],
            &EXACT,
            &ROUNDED,
        );
        none(stack, view, &sql);
        let sql = format!("select count(*), cast(sum(late) as bigint), cast(sum(bad) as bigint) from {view}");
        let rows = stack.rows(&sql);
        let [windows, late, bad] = [0, 1, 2].map(|column| rows[0][column].as_i64().unwrap());
        eprintln!(
            "{view}: {windows} windows are those of the archive, with {late} late and {bad} bad readings"
        );
        assert!(windows > 0 && bad > 0, "{view} has something to compare");
    }
}

/// Every total of every width.
pub(super) fn totals(stack: &Stack) {
    for (view, width_us) in FLEET {
        let shown = format!(
            "select machine, kind, cast(time as bigint) as begun, \"count\" as n, bad, late, \"min\" as low, \
             \"max\" as high, \"sum\" as total, \"avg\" as mean from {view}"
        );
        let keys = ["machine", "kind", "begun"];
        let folded = folded(width_us, "kind", "count(value) > 0 or sum(is_bad) > 0");
        none(stack, view, &difference(&folded, &shown, &keys, &EXACT_OF_TOTALS, &ROUNDED_OF_TOTALS));
        let totals = stack.number(&format!("select count(*) from {view}"));
        eprintln!("{view}: {totals} totals are those of the archive");
        assert!(totals > 0, "{view} has something to compare");
    }
}

/// The last reading of every series.
pub(super) fn latest(stack: &Stack) {
    let archive = format!(
        "select machine, sensor, moment, value, said, grade from (\
           select machine, sensor, cast(time as bigint) as moment, value, text as said, quality as grade, \
             row_number() over (partition by machine, sensor order by case when {IS_EARLY} then 1 else 0 end, \
               time desc, \"partition\" desc, \"offset\" desc, \"index\" desc) as place \
           from readings) where place = 1"
    );
    let view = "select machine, sensor, cast(time as bigint) as moment, value, text as said, quality as grade \
                from latest";
    let sql = difference(&archive, view, &["machine", "sensor"], &["moment", "value", "said", "grade"], &[]);
    none(stack, "latest", &sql);
}

/// The archive's readings as windows of each `name` of a machine, sensor or kind, as far as they are shown. `seen` is the
/// largest time that came before in the series' lane.
fn folded(width_us: i64, name: &str, is_shown: &str) -> String {
    format!(
        "select machine, {name}, begun, count(value) as n, sum(is_bad) as bad, \
           sum(case when (has_none = 0 or is_bad = 1) and begun + {width_us} <= seen then 1 else 0 end) as late, \
           min(value) as low, max(value) as high, \
           first_value(value order by has_none, t, lane, o, i) as opening, \
           first_value(value order by has_none, t desc, lane desc, o desc, i desc) as closing, \
           sum(value) as total, avg(value) as mean, stddev_pop(value) as spread \
         from (\
           select machine, {name}, lane, o, i, t, t - t % {width_us} as begun, value, seen, \
             case when value is null then 1 else 0 end as has_none, \
             case when quality >= 2147483648 then 1 else 0 end as is_bad \
           from (\
             select machine, {name}, \"partition\" as lane, \"offset\" as o, \"index\" as i, \
               cast(time as bigint) as t, value, quality, \
               max(case when {IS_EARLY} then null else cast(time as bigint) end) over (\
                 partition by \"partition\", machine, sensor order by \"offset\", \"index\" \
                 rows between unbounded preceding and 1 preceding) as seen \
             from readings)) \
         group by machine, {name}, begun having {is_shown}"
    )
}

fn shown(view: &str) -> String {
    format!(
        "select machine, sensor, cast(time as bigint) as begun, \"count\" as n, bad, late, \"min\" as low, \
         \"max\" as high, \"first\" as opening, \"last\" as closing, \"sum\" as total, \"avg\" as mean, \
         stddev as spread from {view}"
    )
}

/// Rows of the archive and of a view that have the same keys and differ, or that only one of them has.
fn difference(archive: &str, view: &str, keys: &[&str], exact: &[&str], rounded: &[&str]) -> String {
    let each = |names: &[&str], form: fn(&str) -> String, between: &str| {
        names.iter().map(|name| form(name)).collect::<Vec<_>>().join(between)
    };
    let named = each(keys, |key| format!("coalesce(a.{key}, v.{key}) as {key}"), ", ");
    let both = |name: &str| format!("a.{name} as archive_{name}, v.{name} as view_{name}");
    let columns = each(&[exact, rounded].concat(), both, ", ");
    let same = each(keys, |key| format!("a.{key} = v.{key}"), " and ");
    let mut differ = each(exact, |name| format!("(a.{name} is distinct from v.{name})"), " or ");
    for name in rounded {
        // Of sums and squares of values up to `high`.
        differ += &format!(" or abs(a.{name} - v.{name}) > 1e-9 * (abs(a.{name}) + abs(a.high))");
    }
    format!(
        "select {named}, {columns} from ({archive}) a full outer join ({view}) v on {same} \
         where {differ} limit {SHOWN}"
    )
}

fn none(stack: &Stack, view: &str, sql: &str) {
    let rows = stack.rows(sql);
    let rows: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    assert!(rows.is_empty(), "{view} differs, at least in\n{}\nby {sql}", rows.join("\n"));
}
