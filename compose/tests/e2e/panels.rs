//! Provisioning: every statement of the Grafana dashboards runs on the real engine, and what the files of
//! `compose/` name (metrics, columns, paths, settings) is there.

mod grafana;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use stillwell::config::Config;
use stillwell_schema::{Clock, SystemClock};

use crate::stack::Stack;
use grafana::{Range, Statement, Values, text};

/// The variables that choose a view by the time range.
const CHOICES: [&str; 4] = ["view", "fleet", "machine_view", "sensors_view"];

/// Ranges in hours, and what each of [`CHOICES`] is for them: together they lead to every view.
const RANGES: [(i64, [&str; 4]); 5] = [
    (1, ["readings_10s", "fleet_1m", "readings_10s", "readings_1m"]),
    (9, ["readings_1m", "fleet_1h", "fleet_1m", "readings_1h"]),
    (30, ["readings_1m", "fleet_1h", "fleet_1h", "readings_1h"]),
    (240, ["readings_1h", "fleet_1h", "fleet_1h", "readings_1h"]),
    (9000, ["readings_1d", "fleet_1d", "fleet_1d", "readings_1d"]),
];

/// Panels that show nothing where all is well, as it is in the plant of this test.
const EMPTY_WHERE_WELL: [&str; 1] = ["Series that were refused"];

/// Views and archive are compared all the time, so that there is something to show of it.
const CONFIG: &str = "[reconcile]\ninterval_s = 2\n";

/// Header and rows of an answer.
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

#[test]
fn every_statement_of_the_dashboards_runs() {
    let folder = tempfile::tempdir().unwrap();
    let stack = plant(folder.path());
    let suspect = text(&stack.rows("select machine from anomalies order by time desc limit 1")[0][0]);
    for (hours, views) in RANGES {
        let range = until_now(hours);
        for (_, dashboard) in dashboards() {
            let values = choose(&stack, &dashboard, range, &suspect, hours == 1);
            for (choice, view) in CHOICES.into_iter().zip(views) {
                if let Some(chosen) = values.get(choice) {
                    assert_eq!(chosen, &[view], "{choice}, {hours} h");
                }
            }
            for statement in grafana::statements(&dashboard) {
                let answer = ask(&stack, &statement, &values, range);
                check(&statement, &answer, range);
            }
            for statement in grafana::annotations(&dashboard) {
                let answer = ask(&stack, &statement, &values, range);
                assert_eq!(answer.columns, ["time", "timeend", "text", "tags"], "{}", statement.place);
                assert!(!answer.rows.is_empty(), "{} shows nothing", statement.place);
            }
            overrides_name_columns(&stack, &dashboard, &values, range);
        }
    }
    let (_, served) = stack.http("GET", "/metrics", "").unwrap();
    for (place, expression) in expressions() {
        check_metrics(&place, &expression, &served);
    }
}

/// A stack whose plant has sent the hour before now, with faults and records that nobody can read.
fn plant(folder: &Path) -> Stack {
    let config = folder.join("stillwell.toml");
    fs::write(&config, CONFIG).unwrap();
    let stack = Stack::start(&["--config", config.to_str().unwrap()]);
    let size = ["--machines", "4", "--sensors", "4", "--rate", "0", "--count", "64000"];
    let faults = ["--faults-every", "2m", "--faults-after", "20m", "--malformed", "0.02"];
    let out = stack.run(&[&["generate", "--quiet"], &size[..], &faults[..]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let archived = stack.wait_number("select count(*) from readings", "archived", |n| n >= 60_000);
    for view in
        ["readings_10s", "readings_1m", "readings_1h", "readings_1d", "fleet_1m", "fleet_1h", "fleet_1d"]
    {
        let readings = format!("select cast(sum(count) as bigint) from {view}");
        stack.wait_number(&readings, "in views", |n| n >= archived);
    }
    stack.wait_number("select count(*) from dead_letters", "dead letters", |n| n > 0);
    stack.wait_number("select count(*) from machines_scored where model <> ''", "models", |n| n == 4);
    stack.wait_number(
        "select count(*) from anomalies where time > now() - interval '50 minutes'",
        "anomalies",
        |n| n > 0,
    );
    for view in ["fleet_1m", "fleet_1h", "fleet_1d"] {
        let scores = format!("select count(*) from {view} where score is not null");
        stack.wait_number(&scores, "scores", |n| n > 0);
    }
    stack.wait_number("select count(*) from reconciliation", "compared machines and hours", |n| n > 0);
    stack
}

fn until_now(hours: i64) -> Range {
    let to = DateTime::<Utc>::from_timestamp_micros(SystemClock.now_us()).unwrap();
    Range { from: to - TimeDelta::hours(hours), to }
}

/// Fills the variables in their order: all values where many may be, at once where `is_all` and that can be said, or one
/// by one; else the first, or the machine that had an anomaly, as links lead to it.
fn choose(stack: &Stack, dashboard: &Value, range: Range, suspect: &str, is_all: bool) -> Values {
    let mut values = Values::new();
    for variable in grafana::variables(dashboard) {
        let answer = psql(stack, &grafana::expand(&variable.sql, &values, range), &variable.name);
        let mut found: Vec<String> = answer.rows.into_iter().map(|row| row[0].clone()).collect();
        assert!(!found.is_empty(), "variable {} has no values", variable.name);
        if !variable.is_multi {
            found.retain(|value| variable.name != "machine" || value == suspect);
            found.truncate(1);
        }
        let all = variable.all.filter(|_| is_all);
        values.insert(variable.name, all.map_or(found, |all| vec![all]));
    }
    values
}

fn ask(stack: &Stack, statement: &Statement, values: &Values, range: Range) -> Answer {
    let mut values = values.clone();
    if let Some(name) = &statement.repeat {
        values.get_mut(name).expect("the repeated variable").truncate(1);
    }
    psql(stack, &grafana::expand(&statement.sql, &values, range), &statement.place)
}

/// Whether the answer is what its panel needs.
fn check(statement: &Statement, answer: &Answer, range: Range) {
    let Statement { place, format, .. } = statement;
    let may_be_empty = EMPTY_WHERE_WELL.iter().any(|title| place.contains(title));
    assert!(may_be_empty || !answer.rows.is_empty(), "{place} shows nothing");
    let names: BTreeSet<&String> = answer.columns.iter().collect();
    assert_eq!(names.len(), answer.columns.len(), "{place}: two columns share a name");
    if format != "time_series" {
        assert_eq!(format, "table", "{place}");
        return;
    }
    assert_eq!(answer.columns[0], "time", "{place}");
    let times: Vec<f64> = answer.rows.iter().map(|row| epoch(&row[0])).collect();
    assert!(times.is_sorted(), "{place}: Grafana needs time series in ascending order");
    // A point begins with its window, up to a day before the range.
    let (from, to) = (range.from.timestamp() - 86_400, range.to.timestamp() + 1);
    #[allow(clippy::cast_precision_loss)]
    let within = times.iter().all(|&time| (from as f64..=to as f64).contains(&time));
    assert!(within, "{place}: {times:?}");
    for (at, name) in answer.columns.iter().enumerate().skip(1).filter(|(_, name)| *name != "metric") {
        let number = |row: &Vec<String>| row[at].is_empty() || row[at].parse::<f64>().is_ok();
        assert!(answer.rows.iter().all(number), "{place}: {name} is no number");
    }
}

/// Seconds since the epoch, of a group's number or of a timestamp.
fn epoch(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| {
        let time = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z");
        #[allow(clippy::cast_precision_loss)]
        time.map(|time| time.timestamp_micros() as f64 / 1e6).unwrap_or_else(|_| panic!("{text} is no time"))
    })
}

/// What a panel sets for a column by its name is set for one that is there.
fn overrides_name_columns(stack: &Stack, dashboard: &Value, values: &Values, range: Range) {
    let statements = grafana::statements(dashboard);
    for panel in grafana::panels(dashboard) {
        let place = format!("{} / {} / ", text(&dashboard["title"]), text(&panel["title"]));
        let mut columns: Vec<String> = Vec::new();
        for statement in statements.iter().filter(|statement| statement.place.starts_with(&place)) {
            columns.extend(ask(stack, statement, values, range).columns);
        }
        let targets = panel["targets"].as_array().into_iter().flatten();
        columns.extend(targets.filter_map(|target| target["legendFormat"].as_str().map(str::to_owned)));
        for set in panel["fieldConfig"]["overrides"].as_array().into_iter().flatten() {
            assert_eq!(set["matcher"]["id"], "byName");
            let name = text(&set["matcher"]["options"]);
            assert!(columns.contains(&name), "{place}: {name} is set, and is none of {columns:?}");
        }
    }
}

/// What Grafana's PostgreSQL source speaks: one simple query.
fn psql(stack: &Stack, sql: &str, place: &str) -> Answer {
    let address = stack.endpoint("pg").trim_start_matches("postgres://").trim_end_matches("/stillwell");
    let (host, port) = address.split_once(':').unwrap();
    let out = Command::new("psql")
        .args(["-X", "--csv", "-h", host, "-p", port, "-U", "grafana", "-d", "stillwell", "-c", sql])
        .env("PGCONNECT_TIMEOUT", "20")
        .output()
        .expect("psql is needed for this test: apt-get install postgresql-client");
    assert!(out.status.success(), "{place}: {sql}\n{}", String::from_utf8_lossy(&out.stderr));
    let mut reader = csv::Reader::from_reader(&out.stdout[..]);
    let columns = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    Answer { columns, rows }
}

/// Every metric that an expression names is served, or is one of those that the sources count only when it
/// happens; every label that it asks for is there.
fn check_metrics(place: &str, expression: &str, served: &str) {
    for metric in metrics(expression) {
        let lines: Vec<&str> =
            served.lines().filter(|line| line.split(['{', ' ']).next() == Some(&metric)).collect();
        if lines.is_empty() {
            let name = metric.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
            assert!(in_sources(&format!("\"{name}\"")), "{place}: nobody counts {metric}");
            continue;
        }
        for (at, _) in expression.match_indices(&format!("{metric}{{")) {
            let matchers = expression[at + metric.len() + 1..].split('}').next().unwrap();
            let ours = matchers
                .split(", ")
                .filter(|matcher| !matcher.starts_with("job=") && !matcher.contains("!="));
            let ours: Vec<&str> = ours.filter(|matcher| !matcher.is_empty()).collect();
            let some = lines.iter().any(|line| ours.iter().all(|matcher| line.contains(matcher)));
            assert!(some, "{place}: no {metric} with {matchers}");
        }
    }
}

/// The names of our metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("stillwell_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Those of the dashboards, and those of the alerts.
fn expressions() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        dashboards().iter().flat_map(|(_, dashboard)| grafana::expressions(dashboard)).collect();
    let alerts = read("provision/prometheus/alerts.yml");
    for rule in alerts.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let expression = rule.split("expr:").nth(1).and_then(|rest| rest.split("labels:").next());
        all.push((name.to_owned(), expression.expect("an expression").to_owned()));
    }
    assert!(all.len() > 30, "{} expressions", all.len());
    all
}

fn in_sources(needle: &str) -> bool {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = ["compose/src", "ingest/src", "ingest/source/src", "aggregate/src", "query/src"];
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| crates.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if fs::read_to_string(path).is_ok_and(|source| source.contains(needle)) {
            return true;
        }
    }
    false
}

#[test]
fn dashboards_hang_together() {
    let sources = read("provision/grafana/provisioning/datasources/stillwell.yaml");
    let all = dashboards();
    let uids: BTreeSet<String> = all.iter().map(|(_, dashboard)| text(&dashboard["uid"])).collect();
    assert_eq!(uids.len(), all.len());
    for (name, dashboard) in &all {
        let panels = grafana::panels(dashboard);
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: panels share an id");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            assert!(
                !text(&panel["description"]).is_empty(),
                "{name}: {} says nothing of itself",
                panel["title"]
            );
            let targets = panel["targets"].as_array().unwrap().iter().map(|target| &target["datasource"]);
            for source in targets.chain([&panel["datasource"]]) {
                let (kind, uid) = (text(&source["type"]), text(&source["uid"]));
                assert!(sources.contains(&format!("uid: {uid}\n    type: {kind}\n")), "{name}: {source}");
            }
        }
        let file = dashboard.to_string();
        for (at, _) in file.match_indices("\"/d/") {
            let uid = file[at + 4..].split(['?', '"']).next().unwrap();
            assert!(uids.contains(uid), "{name} links to {uid}");
        }
    }
}

#[test]
fn the_compose_file_fits_what_it_mounts() {
    let file = read("compose.yaml");
    let value = |key: &str| {
        let lines = file.lines().map(str::trim);
        lines.filter_map(|line| Some(line.strip_prefix(key)?.trim().to_owned())).collect::<Vec<_>>()
    };
    let images = value("image: ");
    assert_eq!(images.len(), 5);
    for image in images {
        let (name, tag) = image.split_once(':').expect("a pinned version");
        assert!(tag != "latest" && name.matches('/').count() <= 1, "{image}");
    }
    for mount in value("- ./") {
        let path = mount.split(':').next().unwrap();
        assert!(folder().join(path).exists(), "{path} is mounted, and is not there");
    }
    for port in value("- 127.0.0.1:") {
        assert_eq!(port.split(':').count(), 2, "{port}");
    }
    let provider = read("provision/grafana/provisioning/dashboards/stillwell.yaml");
    let dashboards = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    assert!(file.contains(&format!("./provision/grafana/dashboards:{dashboards}:ro")), "{dashboards}");
}

#[test]
fn the_containers_config_fits_its_servers() {
    let path = folder().join("provision/stillwell.toml");
    let env = [("STILLWELL_CLICKHOUSE_PASSWORD".to_owned(), "secret".to_owned())];
    let config = Config::load(Some(&path), env).unwrap();
    let compose = read("compose.yaml");
    assert!(compose.contains(&format!("KAFKA_ADVERTISED_LISTENERS: INSIDE://{},", config.kafka.brokers)));
    assert!(compose.contains(&format!("CLICKHOUSE_USER: {}\n", config.clickhouse.user)));
    assert_eq!(
        (config.clickhouse.password.as_str(), config.clickhouse.url.as_str()),
        ("secret", "http://clickhouse:8123")
    );
    for (address, port) in [(&config.query.http, 8080), (&config.query.pg, 5433)] {
        assert_eq!(address, &format!("0.0.0.0:{port}"));
        assert!(compose.contains(&format!("- 127.0.0.1:{port}:{port}\n")));
    }
    assert!(read("provision/prometheus/prometheus.yml").contains("stillwell:8080"));
    assert!(
        read("provision/grafana/provisioning/datasources/stillwell.yaml").contains("url: stillwell:5433\n")
    );
    let budget = config.ingest.memory_bytes_max;
    assert_eq!(budget, config.aggregate.memory_bytes_max);
    assert!(read("provision/prometheus/alerts.yml").contains(&format!("0.85 * {budget}\n")));
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboards() -> Vec<(String, Value)> {
    let read = |name: &str| {
        let text = read(&format!("provision/grafana/dashboards/{name}.json"));
        (name.to_owned(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    ["overview", "machine", "pipeline"].map(read).into()
}
