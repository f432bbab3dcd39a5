use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, max, median, min, sum};
use datafusion::logical_expr::{ExprFunctionExt, cast, col, lit, when};

use super::*;
use crate::views::schemas;

fn check(expr: Expr, expected: &str) {
    let view = schemas::all().into_iter().find(|view| view.name == "readings_1m").unwrap();
    assert_eq!(aggregate(&expr, &view.schema, view.finite).as_deref().unwrap_or("-"), expected, "{expr}");
}

fn float(expr: Expr) -> Expr {
    cast(expr, DataType::Float64)
}

#[test]
fn counts_are_of_rows_or_of_what_is_not_null() {
    check(count(lit(1_i64)), "count()");
    check(count(lit(1_i64)).alias("count(*)"), "count()");
    check(count(col("score")), "count(`score`)");
    check(count_distinct(col("machine")), "uniqExact(`machine`)");
    check(count_distinct(col("score")), "-");
    check(count(lit(ScalarValue::Int64(None))), "-");
}

#[test]
fn aggregates_of_nothing_are_null() {
    check(sum(col("count")), "sumOrNull(`count`)");
    check(sum(col("sum")), "sumOrNull(`sum`)");
    check(avg(col("avg")), "avgOrNull(`avg`)");
    check(avg(float(col("count"))), "avgOrNull(toFloat64(`count`))");
    check(min(col("time")), "minOrNull(`time`)");
    check(max(col("machine")), "maxOrNull(`machine`)");
    check(max(col("count")), "maxOrNull(`count`)");
}

#[test]
fn nan_is_above_all_numbers() {
    check(max(col("sum")), "if(countIf(isNaN(`sum`)) > 0, nan, maxOrNullIf(`sum`, NOT isNaN(`sum`)))");
    check(
        min(col("sum")),
        "ifNull(minOrNullIf(`sum`, NOT isNaN(`sum`)), if(countIf(isNaN(`sum`)) > 0, nan, NULL))",
    );
    check(max(col("max")), "maxOrNull(`max`)");
    check(min(col("p95")), "minOrNull(`p95`)");
}

#[test]
fn arithmetic_has_the_engines_types() {
    check(sum(col("avg") * lit(2.5)), "sumOrNull((`avg` * 2.5))");
    check(sum(col("count") - col("bad")), "sumOrNull((toInt64(`count`) - toInt64(`bad`)))");
    check(sum(float(col("count")) / col("avg")), "sumOrNull((toFloat64(`count`) / `avg`))");
    check(sum(col("count") / lit(2_i64)), "-");
    check(sum(col("avg") * lit(f64::INFINITY)), "-");
    check(
        sum(when(col("bad").gt(lit(0_i64)), lit(1_i64)).otherwise(lit(0_i64)).unwrap()),
        "sumOrNull(CASE WHEN `bad` > 0 THEN toInt64(1) ELSE toInt64(0) END)",
    );
}

#[test]
fn conditions_are_taken_along() {
    let flows = |of: Expr| of.filter(col("kind").eq(lit("flow"))).build().unwrap();
    check(flows(count(lit(1_i64))), "countIf(`kind` = 'flow')");
    check(flows(count(col("score"))), "countIf(`score`, `kind` = 'flow')");
    check(flows(sum(col("count"))), "sumOrNullIf(`count`, `kind` = 'flow')");
    let machines = count(col("machine")).distinct().filter(col("kind").eq(lit("flow"))).build().unwrap();
    check(machines, "uniqExactIf(`machine`, `kind` = 'flow')");
    check(
        flows(max(col("sum"))),
        "if(countIf(isNaN(`sum`) AND `kind` = 'flow') > 0, nan, \
         maxOrNullIf(`sum`, NOT isNaN(`sum`) AND `kind` = 'flow'))",
    );
    check(sum(col("count")).filter(col("kind").eq(col("unit"))).build().unwrap(), "-");
}

#[test]
fn what_may_differ_stays_with_the_plan() {
    check(median(col("avg")), "-");
    check(sum(col("nope")), "-");
    check(sum(col("count")).distinct().build().unwrap(), "-");
    check(max(col("avg")).order_by(vec![col("time").sort(true, false)]).build().unwrap(), "-");
}
