use super::*;
use crate::views::schemas;
use datafusion::logical_expr::{cast, col, lit};

fn check(expr: Expr, expected: &str) {
    let view = schemas::all().into_iter().find(|view| view.name == "latest").unwrap();
    assert_eq!(filter(&expr, &view.schema).as_deref().unwrap_or("-"), expected, "{expr}");
}

fn at(us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())))
}

fn at_nanos(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
}

fn nanos() -> Expr {
    cast(col("time"), DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))
}

#[test]
fn comparisons_are_translated() {
    check(col("machine").eq(lit("press-07")), "`machine` = 'press-07'");
    check(lit("a").lt(col("machine")), "`machine` > 'a'");
    check(col("quality").not_eq(lit(0u32)), "`quality` != 0");
    check(col("value").lt(lit(2.5)), "`value` < 2.5");
    check(col("value").gt_eq(lit(1e300)), "(`value` >= 1e300 OR isNaN(`value`))");
    check(col("time").gt_eq(at(5)), "`time` >= fromUnixTimestamp64Micro(5, 'UTC')");
    check(col("value").is_null(), "isNull(`value`)");
    check(col("text").is_not_null(), "isNotNull(`text`)");
}

#[test]
fn logic_is_translated_only_whole() {
    let machine = || col("machine").eq(lit("a"));
    check(machine().and(col("value").lt_eq(lit(1.0))), "(`machine` = 'a' AND `value` <= 1.0)");
    check(machine().or(col("sensor").eq(lit("b"))), "(`machine` = 'a' OR `sensor` = 'b')");
    check(Expr::Not(Box::new(machine())), "NOT (`machine` = 'a')");
    check(machine().or(col("machine").eq(col("sensor"))), "-");
}

#[test]
fn lists_ranges_and_patterns_are_translated() {
    check(col("machine").in_list(vec![lit("a"), lit("b")], false), "(`machine` IN ('a', 'b'))");
    check(col("machine").in_list(vec![lit("a")], true), "NOT (`machine` IN ('a'))");
    check(col("text").in_list(vec![lit("a"), lit("b")], true), "NOT (`text` = 'a' OR `text` = 'b')");
    check(
        col("time").between(at(1), at(2)),
        "(`time` >= fromUnixTimestamp64Micro(1, 'UTC') AND `time` <= fromUnixTimestamp64Micro(2, 'UTC'))",
    );
    check(col("machine").like(lit("press-%")), "(`machine` LIKE 'press-%')");
    check(col("machine").not_like(lit("press_")), "NOT (`machine` LIKE 'press_')");
}

#[test]
fn nanoseconds_round_to_the_side_that_keeps_the_meaning() {
    check(nanos().gt_eq(at_nanos(1_001)), "`time` >= fromUnixTimestamp64Micro(2, 'UTC')");
    check(nanos().gt(at_nanos(1_001)), "`time` > fromUnixTimestamp64Micro(1, 'UTC')");
    check(nanos().lt(at_nanos(-1)), "`time` < fromUnixTimestamp64Micro(0, 'UTC')");
    check(nanos().lt_eq(at_nanos(-1)), "`time` <= fromUnixTimestamp64Micro(-1, 'UTC')");
    check(nanos().eq(at_nanos(2_000)), "`time` = fromUnixTimestamp64Micro(2, 'UTC')");
    check(nanos().eq(at_nanos(2_001)), "-");
}

#[test]
fn text_cannot_leave_its_quotes() {
    check(col("machine").eq(lit("a' OR 1=1 --")), r"`machine` = 'a\' OR 1=1 --'");
    check(col("machine").eq(lit(r"a\' OR 1")), r"`machine` = 'a\\\' OR 1'");
    assert_eq!(identifier("a`b"), r"`a\`b`");
}

#[test]
fn what_may_differ_stays_with_the_plan() {
    check(col("value").eq(lit(f64::NAN)), "-");
    check(col("machine").eq(lit(ScalarValue::Utf8(None))), "-");
    check(col("machine").in_list(vec![lit("a"), lit(ScalarValue::Utf8(None))], false), "-");
    check(col("machine").ilike(lit("PRESS%")), "-");
    check(col("machine").like(lit(r"a\%")), "-");
    check(cast(col("quality"), DataType::Utf8).eq(lit("0")), "-");
    check(col("time").gt(lit(ScalarValue::TimestampMicrosecond(Some(1), None))), "-");
}
