use arrow::datatypes::IntervalMonthDayNano;
use datafusion::functions::datetime::{date_bin, date_part, date_trunc};
use datafusion::functions::math::floor;
use datafusion::logical_expr::{cast, col, lit, when};

use super::*;
use crate::views::schemas;

fn check(expr: Expr, expected: &str) {
    let view = schemas::all().into_iter().find(|view| view.name == "latest").unwrap();
    assert_eq!(group(&expr, &view.schema).as_deref().unwrap_or("-"), expected, "{expr}");
}

fn every(months: i32, days: i32, nanoseconds: i64) -> Expr {
    let width = IntervalMonthDayNano { months, days, nanoseconds };
    lit(ScalarValue::IntervalMonthDayNano(Some(width)))
}

fn at_nanos(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
}

fn nanos() -> Expr {
    cast(col("time"), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))
}

/// Times rounded down to `width` µs, counted from `origin`.
fn bin(origin: &str, width: i64) -> String {
    let us = "toUnixTimestamp64Micro(`time`)";
    format!("fromUnixTimestamp64Micro({us} - positiveModulo({us}{origin}, toInt64({width})), 'UTC')")
}

#[test]
fn columns_are_groups_unless_they_are_floats_or_lists() {
    check(col("machine"), "`machine`");
    check(col("time").alias("t"), "`time`");
    check(nanos(), "`time`");
    check(col("quality"), "`quality`");
    check(cast(col("quality"), DataType::Int64), "toInt64(`quality`)");
    check(col("score"), "-");
    check(floor().call(vec![col("value")]), "-");
    check(lit(1_i64), "-");
    check(cast(col("time"), DataType::Date32), "-");
}

#[test]
fn bins_are_rounded_down_from_their_origin() {
    let minute = || every(0, 0, 60_000_000_000);
    check(date_bin().call(vec![minute(), col("time")]), &bin("", 60_000_000));
    check(date_bin().call(vec![minute(), nanos()]), &bin("", 60_000_000));
    check(date_bin().call(vec![every(0, 2, 1_000), col("time")]), &bin("", 172_800_000_001));
    check(date_bin().call(vec![minute(), nanos(), at_nanos(5_000)]), &bin(" - 5", 60_000_000));
    check(date_bin().call(vec![minute(), nanos(), at_nanos(-5_000)]), &bin(" - -5", 60_000_000));
    check(date_bin().call(vec![minute(), nanos(), at_nanos(5_001)]), "-");
    for width in [every(1, 0, 0), every(0, 0, 0), every(0, -1, 0), every(0, 0, 1), every(0, i32::MAX, 0)] {
        check(date_bin().call(vec![width, col("time")]), "-");
    }
    check(date_bin().call(vec![minute(), col("machine")]), "-");
}

#[test]
fn truncations_to_units_of_one_length_are_bins() {
    let to = |unit: &str| date_trunc().call(vec![lit(unit), col("time")]);
    check(to("second"), &bin("", 1_000_000));
    check(to("HOUR"), &bin("", 3_600_000_000));
    check(to("week"), &bin(" - -259200000000", 604_800_000_000));
    check(to("month"), "-");
    check(to("nonsense"), "-");
}

#[test]
fn grafanas_groups_are_made_of_seconds() {
    let seconds = |of: Expr| date_part().call(vec![lit("EPOCH"), of]);
    check(
        floor().call(vec![seconds(col("time")) / lit(60.0)]) * lit(60.0),
        "(floor(((toUnixTimestamp64Micro(`time`) / 1000000) / 60.0)) * 60.0)",
    );
    check(seconds(nanos()), "-");
    check(date_part().call(vec![lit("HOUR"), col("time")]), "-");
}

#[test]
fn choices_are_of_one_type() {
    let bad = || col("quality").gt_eq(lit(1_073_741_824_u32));
    check(
        when(bad(), lit("bad")).otherwise(col("machine")).unwrap(),
        "CASE WHEN `quality` >= 1073741824 THEN 'bad' ELSE `machine` END",
    );
    check(when(bad(), lit(1_i64)).end().unwrap(), "CASE WHEN `quality` >= 1073741824 THEN toInt64(1) END");
    check(when(bad(), lit("bad")).otherwise(col("quality")).unwrap(), "-");
    check(when(col("machine").eq(col("sensor")), lit("same")).end().unwrap(), "-");
}
