use std::sync::Arc;

use arrow::array::AsArray;

use crate::archive::Pin;
use crate::engine::{Engine, Request};
use crate::settings::Limits;

/// Plans statements over the views; no server is asked.
struct Fixture {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { engine: crate::engine::tests::engine(folder.path(), Limits::default()), _folder: folder }
    }

    /// The lines of the plan that is run.
    async fn plan(&self, sql: &str) -> Vec<String> {
        let request = Request { sql: format!("EXPLAIN {sql}"), ..Request::default() };
        let answer = self.engine.run(&request, Arc::new(Pin::default())).await;
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let batch = &answer.batches[0];
        let (kinds, plans) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let plan = kinds.iter().zip(plans).find(|(kind, _)| *kind == Some("physical_plan"));
        plan.unwrap().1.unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    /// What ClickHouse is asked, which must be all that is aggregated.
    async fn check(&self, sql: &str, expected: &str) {
        let plan = self.plan(sql).await;
        assert!(!plan.iter().any(|line| line.contains("AggregateExec")), "{sql}: {plan:#?}");
        let scans: Vec<&str> = plan.iter().filter_map(|line| line.strip_prefix("ViewScan: ")).collect();
        assert_eq!(scans, [expected], "{sql}");
    }
}

/// The group that Grafana's `$__timeGroup(time, 1m)` makes.
const GRAFANA: &str = "floor(extract(epoch from time)/60)*60";

/// The same, as ClickHouse is asked it.
const MINUTES: &str = "(floor(((toUnixTimestamp64Micro(`time`) / 1000000) / 60.0)) * 60.0)";

#[tokio::test]
async fn aggregates_of_views_are_clickhouses() {
    let fixture = Fixture::new();
    let from = "FROM `stillwell`.`readings_1m`";
    for (sql, expected) in [
        (
            "SELECT machine, sum(count) FROM readings_1m WHERE sensor = 'oil' GROUP BY machine",
            format!(
                "SELECT `machine` AS c0, sumOrNull(`count`) AS c1 {from} WHERE `sensor` = 'oil' GROUP BY `machine`"
            ),
        ),
        ("SELECT count(*) FROM readings_1m", format!("SELECT count() AS c0 {from}")),
        ("SELECT count(score) FROM readings_1m", format!("SELECT count(`score`) AS c0 {from}")),
        ("SELECT max(time) FROM readings_1m r", format!("SELECT maxOrNull(`time`) AS c0 {from}")),
        ("SELECT avg(count) FROM readings_1m", format!("SELECT avgOrNull(toFloat64(`count`)) AS c0 {from}")),
        ("SELECT DISTINCT kind FROM readings_1m", format!("SELECT `kind` AS c0 {from} GROUP BY `kind`")),
        (
            "SELECT count(*) FILTER (WHERE kind = 'flow') FROM readings_1m",
            format!("SELECT countIf(`kind` = 'flow') AS c0 {from}"),
        ),
        (
            "SELECT date_bin(INTERVAL '5 minutes', time), sum(bad) FROM readings_1m GROUP BY 1",
            format!(
                "SELECT {five} AS c0, sumOrNull(`bad`) AS c1 {from} GROUP BY {five}",
                five = "fromUnixTimestamp64Micro(toUnixTimestamp64Micro(`time`) - \
                        positiveModulo(toUnixTimestamp64Micro(`time`), toInt64(300000000)), 'UTC')"
            ),
        ),
        (
            "SELECT date_trunc('day', time), sum(late) FROM readings_1m GROUP BY 1",
            format!(
                "SELECT {day} AS c0, sumOrNull(`late`) AS c1 {from} GROUP BY {day}",
                day = "fromUnixTimestamp64Micro(toUnixTimestamp64Micro(`time`) - \
                       positiveModulo(toUnixTimestamp64Micro(`time`), toInt64(86400000000)), 'UTC')"
            ),
        ),
        (
            format!("SELECT {GRAFANA} AS \"time\", sum(late) FROM readings_1m GROUP BY 1 ORDER BY 1")
                .as_str(),
            format!("SELECT {MINUTES} AS c0, sumOrNull(`late`) AS c1 {from} GROUP BY {MINUTES}"),
        ),
    ] {
        fixture.check(sql, &expected).await;
    }
}

#[tokio::test]
async fn what_stands_above_an_aggregate_stays_there() {
    let fixture = Fixture::new();
    let from = "FROM `stillwell`.`readings_1m`";
    let by_machine = format!(
        "SELECT `machine` AS c0, sumOrNull(`bad`) AS c1, sumOrNull(`count`) AS c2 {from} GROUP BY `machine`"
    );
    for sql in [
        "SELECT machine, sum(bad) * 1.0 / nullif(sum(count), 0) FROM readings_1m GROUP BY machine",
        "SELECT machine, sum(bad) + sum(count) AS n FROM readings_1m GROUP BY machine ORDER BY n DESC LIMIT 3",
        "SELECT m, b, c FROM (SELECT machine AS m, sum(bad) AS b, sum(count) AS c FROM readings_1m GROUP BY 1) AS t",
        "SELECT machine, sum(bad), sum(count) FROM (SELECT * FROM readings_1m) AS t GROUP BY machine",
        "SELECT machine, sum(bad), sum(count) FROM readings_1m GROUP BY machine HAVING sum(bad) > sum(count)",
    ] {
        fixture.check(sql, &by_machine).await;
    }
    // One that counts groups needs none of their columns.
    let plan =
        fixture.plan("SELECT count(*) FROM (SELECT DISTINCT machine, kind FROM readings_1m) AS t").await;
    let scan = format!("ViewScan: SELECT toUInt8(1) AS present {from} GROUP BY `machine`, `kind`");
    assert!(plan.contains(&scan), "{plan:#?}");
    // Distinct values are groups, which are counted here.
    let plan = fixture.plan("SELECT count(DISTINCT machine) FROM readings_1m").await;
    assert!(
        plan.contains(&format!("ViewScan: SELECT `machine` AS c0 {from} GROUP BY `machine`")),
        "{plan:#?}"
    );
}

#[tokio::test]
async fn panels_are_aggregated_by_clickhouse() {
    let fixture = Fixture::new();
    let among = "time BETWEEN '2026-11-25T06:00:00Z' AND '2026-11-25T12:00:00Z' AND machine IN ('a','b')";
    for sql in [
        format!("SELECT coalesce(sum(count), 0) AS readings FROM readings_1m WHERE {among}"),
        format!(
            "SELECT coalesce(sum(bad) * 1.0 / nullif(sum(count), 0), 0) AS bad FROM readings_1m WHERE {among}"
        ),
        format!(
            "SELECT {GRAFANA} AS \"time\", sum(sum) / nullif(sum(count), 0) AS avg, min(min) AS min, \
             max(max) AS max, max(p95) AS p95 FROM readings_1m WHERE {among} AND count > 0 GROUP BY 1 ORDER BY 1"
        ),
        format!(
            "SELECT {GRAFANA} AS \"time\", max(score) AS score FROM readings_1m \
             WHERE {among} AND score IS NOT NULL GROUP BY 1 ORDER BY 1"
        ),
        format!(
            "SELECT {GRAFANA} AS \"time\", machine AS metric, sum(count) * 1.0 / 60 AS rate FROM readings_1m \
             WHERE {among} GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        format!("SELECT count(*) AS sensors FROM latest WHERE {among}"),
        format!(
            "SELECT machine, count(*) AS anomalies FROM anomalies WHERE {among} GROUP BY machine \
             ORDER BY anomalies DESC, machine LIMIT 12"
        ),
        "SELECT machine, max(time) AS last_seen, count(*) AS sensors, max(score) AS score, \
         sum(CASE WHEN quality >= 1073741824 THEN 1 ELSE 0 END) AS not_good FROM latest GROUP BY machine"
            .to_owned(),
    ] {
        let plan = fixture.plan(&sql).await;
        assert!(!plan.iter().any(|line| line.contains("AggregateExec")), "{sql}: {plan:#?}");
    }
}

#[tokio::test]
async fn what_may_differ_is_aggregated_here() {
    let fixture = Fixture::new();
    let doubling = (0..8).fold("SELECT count AS n FROM readings_1m".to_owned(), |inner, _| {
        format!("SELECT n + n AS n FROM ({inner}) AS t")
    });
    for sql in [
        "SELECT machine, stddev(avg) FROM readings_1m GROUP BY machine",
        "SELECT avg, count(*) FROM readings_1m GROUP BY avg",
        "SELECT date_trunc('month', time), count(*) FROM readings_1m GROUP BY 1",
        "SELECT extract(hour from time), count(*) FROM readings_1m GROUP BY 1",
        "SELECT date_trunc('day', time AT TIME ZONE 'Europe/Berlin'), count(*) FROM readings_1m GROUP BY 1",
        "SELECT machine, count(*) FROM readings_1m GROUP BY ROLLUP (machine)",
        "SELECT machine, sum(count) FROM (SELECT * FROM readings_1m LIMIT 9) AS t GROUP BY machine",
        "SELECT machine, sum(count) FROM readings_1m WHERE upper(sensor) = 'OIL' GROUP BY machine",
        "SELECT machine, last_value(avg ORDER BY time) FROM readings_1m GROUP BY machine",
        "SELECT machine, sum(count) FILTER (WHERE upper(sensor) = 'OIL') FROM readings_1m GROUP BY machine",
        "SELECT r.machine, count(*) FROM readings_1m r JOIN latest l ON l.machine = r.machine GROUP BY 1",
        format!("SELECT sum(n) FROM ({doubling}) AS t").as_str(),
    ] {
        let plan = fixture.plan(sql).await;
        assert!(plan.iter().any(|line| line.contains("AggregateExec")), "{sql}: {plan:#?}");
    }
}

#[tokio::test]
async fn what_adds_up_is_asked_of_the_parts_of_totals() {
    let fixture = Fixture::new();
    for sql in [
        "SELECT kind, sum(count), max(max), min(min) FROM fleet_1m WHERE machine = 'a' GROUP BY kind",
        "SELECT sum(bad) * 1.0 / nullif(sum(count), 0), sum(late) FROM fleet_1m",
        "SELECT machine, max(score) FROM fleet_1m WHERE score IS NOT NULL GROUP BY machine",
        "SELECT machine, min(time), sum(count) FROM fleet_1m WHERE machine IN ('a', 'b') GROUP BY machine",
        "SELECT count(DISTINCT machine), sum(count) FILTER (WHERE kind = 'flow') FROM fleet_1m",
        "SELECT DISTINCT kind FROM fleet_1m",
    ] {
        let plan = fixture.plan(sql).await.join(" ");
        assert!(plan.contains("`fleet_parts_1m`") && !plan.contains("`fleet_1m`"), "{sql}: {plan}");
    }
    for sql in [
        "SELECT kind, count(*) FROM fleet_1m GROUP BY kind",
        "SELECT kind, avg(count) FROM fleet_1m GROUP BY kind",
        "SELECT kind, max(avg) FROM fleet_1m GROUP BY kind",
        "SELECT kind, max(min) FROM fleet_1m GROUP BY kind",
        "SELECT kind, max(count) FROM fleet_1m GROUP BY kind",
        "SELECT kind, sum(count) FROM fleet_1m WHERE count > 1 GROUP BY kind",
        "SELECT kind, sum(count) FROM fleet_1m WHERE score IS NOT NULL GROUP BY kind",
        "SELECT kind, max(max) FROM fleet_1m WHERE score IS NOT NULL GROUP BY kind",
        "SELECT DISTINCT machine FROM fleet_1m WHERE score IS NOT NULL AND max IS NOT NULL",
        "SELECT kind, sum(count) FILTER (WHERE bad = 0) FROM fleet_1m GROUP BY kind",
        "SELECT count, sum(bad) FROM fleet_1m GROUP BY count",
        "SELECT sum(DISTINCT count) FROM fleet_1m",
        "SELECT * FROM fleet_1m",
    ] {
        let plan = fixture.plan(sql).await.join(" ");
        assert!(!plan.contains("fleet_parts"), "{sql}: {plan}");
    }
}

#[tokio::test]
async fn orders_of_views_are_clickhouses() {
    let fixture = Fixture::new();
    for (sql, order) in [
        (
            "SELECT * FROM latest ORDER BY sensor, time DESC",
            "ORDER BY `sensor` ASC NULLS LAST, `time` DESC NULLS FIRST",
        ),
        ("SELECT time AS t FROM readings_1m ORDER BY t LIMIT 3", "ORDER BY `time` ASC NULLS LAST LIMIT 3"),
        ("SELECT time FROM anomalies ORDER BY until NULLS FIRST", "ORDER BY `until` ASC NULLS FIRST"),
        (
            "SELECT machine, sum(count) FROM readings_1m GROUP BY machine ORDER BY 1",
            "ORDER BY `c0` ASC NULLS LAST",
        ),
    ] {
        let plan = fixture.plan(sql).await;
        assert!(!plan.iter().any(|line| line.contains("SortExec")), "{sql}: {plan:#?}");
        let scan = plan.iter().find(|line| line.starts_with("ViewScan: ")).unwrap();
        assert!(scan.ends_with(order), "{sql}: {scan}");
    }
    for sql in [
        // NaN has its place among the NULLs there.
        "SELECT * FROM readings_1m ORDER BY avg",
        "SELECT * FROM readings_1m ORDER BY machine, avg DESC LIMIT 3",
        "SELECT * FROM readings_1m ORDER BY upper(machine)",
        "SELECT * FROM (SELECT * FROM latest LIMIT 3) AS some ORDER BY machine",
    ] {
        let plan = fixture.plan(sql).await;
        assert!(plan.iter().any(|line| line.contains("SortExec")), "{sql}: {plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("ORDER BY")), "{sql}: {plan:#?}");
    }
}
