//! The machine registry in SQL, from the copy on disk: nothing listens where ClickHouse should be.

mod common;

use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use common::{Both, Lane, Row};
use stillwell_query::{Limits, QuerySettings};
use stillwell_schema::health::{Board, State};

const COPY: &str = r#"{"format":1,"read_until_us":30000000,"copied_us":31000000,"versions":[
{"machine":"press","site":"Linz","line":"L1","model":"HP","valid_from":"1970-01-01T00:00:10Z",
 "sensors":{"oil":{"unit":"°C","low":20,"high":85.5},"door":{"unit":"","description":"0 open"}}},
{"machine":"press","site":"Linz","line":"L2","model":"HP","valid_from":"1970-01-01T00:00:20Z","sensors":{}},
{"machine":"press","site":"Graz","line":"L3","model":"HP","valid_from":"2200-01-01T00:00:00Z","sensors":{}},
{"machine":"saw","site":"Linz","line":"L1","model":"S","valid_from":"1970-01-01T00:00:00Z","sensors":{}}]}"#;

fn row(machine: &str, second: i64) -> Row {
    let (machine, sensor) = (machine.to_owned(), "oil".to_owned());
    Row { machine, sensor, time_us: second * 1_000_000, value: Some(second as f64), quality: 0 }
}

/// The copy, and readings around the times at which it changes.
fn both(folder: &Path) -> Both {
    std::fs::write(folder.join("machines.json"), COPY).unwrap();
    let times = [9, 10, 19, 20, 25];
    let mut rows: Vec<Row> = times.into_iter().map(|second| row("press", second)).collect();
    rows.push(row("unknown", 12));
    let batch = Lane::new(folder, 0).commit(&rows);
    Both::new(folder, "readings", vec![batch])
}

/// Rows as texts, cells by `|`.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let table = pretty_format_batches(batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    lines.map(cells).collect()
}

#[tokio::test]
async fn a_reading_joins_the_version_of_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let found = both(folder.path())
        .archive(
            "SELECT r.machine, cast(r.value AS int) AS at, h.line FROM readings r LEFT JOIN machines_history h \
             ON r.machine = h.machine AND r.time >= h.valid_from \
             AND (h.valid_until IS NULL OR r.time < h.valid_until) ORDER BY 1, 2",
        )
        .await;
    let expected = ["press|9|", "press|10|L1", "press|19|L1", "press|20|L2", "press|25|L2", "unknown|12|"];
    assert_eq!(texts(&found), expected);
}

#[tokio::test]
async fn machines_are_shown_as_known_now_with_their_sensors_and_their_age() {
    let folder = tempfile::tempdir().unwrap();
    let both = both(folder.path());
    let check = async |sql: &str, expected: &[&str]| {
        assert_eq!(texts(&both.archive(sql).await), expected, "{sql}");
    };
    check(
        "SELECT machine, site, line, model, valid_from, sensors FROM machines ORDER BY machine",
        &["press|Linz|L2|HP|1970-01-01T00:00:20Z|0", "saw|Linz|L1|S|1970-01-01T00:00:00Z|0"],
    )
    .await;
    check("SELECT count(*) FROM machines_history WHERE machine = 'press'", &["3"]).await;
    check(
        "SELECT sensor, unit, low, high, description FROM machine_sensors ORDER BY sensor",
        &["door||||0 open", "oil|°C|20.0|85.5|"],
    )
    .await;
    check(
        "SELECT versions, read_until, copied_at, age_s > 1000000 AS old FROM machines_registry",
        &["4|1970-01-01T00:00:30Z|1970-01-01T00:00:31Z|true"],
    )
    .await;
    check("SELECT min(line) FROM machines m JOIN readings r ON r.machine = m.machine", &["L2"]).await;
}

#[tokio::test]
async fn without_a_registry_nobody_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("machines.json"), COPY).unwrap();
    for has_machines in [true, false] {
        let settings = QuerySettings { has_machines, ..common::settings(folder.path(), Limits::default()) };
        let board = Board::default();
        let _server = common::server_of(settings, board.clone()).await;
        let says = async |name: &str, state: State| {
            while board.read().get(name).is_none_or(|status| status.state != state) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        says("query", State::Ok).await;
        if has_machines {
            // The views' server is away, which keeps the copy from being fresh.
            says("query/machines", State::Waiting).await;
        } else {
            assert!(!board.read().contains_key("query/machines"));
        }
    }
}
