//! What Grafana does with a dashboard before it asks a data source: it fills in variables, and its PostgreSQL
//! source expands macros. Written after Grafana's documentation of both; what it does not list is an error here.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

/// The UID of the provisioned PostgreSQL source.
const SOURCE: &str = "stillwell";

/// A statement of a dashboard.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Dashboard, panel and target.
    pub(crate) place: String,
    /// With variables and macros.
    pub(crate) sql: String,
    /// `time_series` or `table`.
    pub(crate) format: String,
    /// The variable whose values the panel is repeated for.
    pub(crate) repeat: Option<String>,
}

/// A variable that is filled by a statement.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) is_multi: bool,
    /// What stands for all values where all are chosen, if it is not the list of them. Grafana writes it as it is: ours
    /// are quoted.
    pub(crate) all: Option<String>,
}

/// Every panel, those inside rows too.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().expect("panels").iter();
    all.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

/// The SQL of all panels.
pub(crate) fn statements(dashboard: &Value) -> Vec<Statement> {
    let title = text(&dashboard["title"]);
    let of_panel = |panel: &Value| -> Vec<Statement> {
        let place = format!("{title} / {}", text(&panel["title"]));
        let targets = panel["targets"].as_array().into_iter().flatten();
        let sql = targets.filter(|target| target["datasource"]["uid"] == SOURCE);
        sql.map(|target| Statement {
            repeat: panel["repeat"].as_str().map(str::to_owned),
            ..statement(&place, target)
        })
        .collect()
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

/// The SQL of all annotations.
pub(crate) fn annotations(dashboard: &Value) -> Vec<Statement> {
    let title = text(&dashboard["title"]);
    let list = dashboard["annotations"]["list"].as_array().expect("annotations").iter();
    let sql = list.filter(|annotation| annotation["datasource"]["uid"] == SOURCE);
    sql.map(|annotation| statement(&format!("{title} / annotation"), &annotation["target"])).collect()
}

fn statement(place: &str, target: &Value) -> Statement {
    Statement {
        place: format!("{place} / {}", text(&target["refId"])),
        sql: text(&target["rawSql"]),
        format: text(&target["format"]),
        repeat: None,
    }
}

/// The variables, in the order in which they are filled.
pub(crate) fn variables(dashboard: &Value) -> Vec<Variable> {
    let list = dashboard["templating"]["list"].as_array().expect("variables").iter();
    list.map(|variable| {
        assert_eq!(variable["type"], "query", "{variable}");
        let (name, sql) = (text(&variable["name"]), text(&variable["query"]));
        let all = variable["allValue"].as_str().map(|all| all.trim_matches('\'').to_owned());
        Variable { name, sql, is_multi: variable["multi"] == true, all }
    })
    .collect()
}

/// The expressions for Prometheus, with their places.
pub(crate) fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let title = text(&dashboard["title"]);
    let targets = panels(dashboard).into_iter().flat_map(|panel| {
        let place = format!("{title} / {}", text(&panel["title"]));
        panel["targets"].as_array().into_iter().flatten().map(move |target| (place.clone(), target))
    });
    let asked = targets.filter_map(|(place, target)| Some((place, target["expr"].as_str()?.to_owned())));
    asked.collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text was expected, not {value}")).to_owned()
}

/// The time range that a dashboard shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
}

/// Values of variables, by name.
pub(crate) type Values = BTreeMap<String, Vec<String>>;

/// The statement as it reaches the server.
pub(crate) fn expand(sql: &str, values: &Values, range: Range) -> String {
    macros(&interpolate(sql, values), range)
}

/// Fills in `${name}` and `${name:sqlstring}`.
fn interpolate(sql: &str, values: &Values) -> String {
    let mut pieces = sql.split("${");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (inside, rest) = piece.split_once('}').unwrap_or_else(|| panic!("${{ without }} in {sql}"));
        let (name, format) = inside.split_once(':').unwrap_or((inside, "raw"));
        let chosen = values.get(name).unwrap_or_else(|| panic!("no variable {name}: {sql}"));
        out += &match format {
            "sqlstring" => {
                let quoted: Vec<String> =
                    chosen.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                quoted.join(",")
            }
            "raw" => {
                assert_eq!(chosen.len(), 1, "{name} has many values, and stands bare in {sql}");
                chosen[0].clone()
            }
            other => panic!("format {other} in {sql}"),
        };
        out += rest;
    }
    out
}

/// Expands `$__name(…)`; arguments end at the first closing parenthesis, as they do in Grafana.
fn macros(sql: &str, range: Range) -> String {
    let mut pieces = sql.split("$__");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let call = piece.split_once('(').and_then(|(name, rest)| Some((name, rest.split_once(')')?)));
        let (name, (arguments, rest)) = call.unwrap_or_else(|| panic!("a macro without call in {sql}"));
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        // A group that a comma follows names itself, as old dashboards expect.
        let name = if name == "timeGroup" && rest.starts_with(',') { "timeGroupAlias" } else { name };
        out += &expansion(name, &arguments, range);
        out += rest;
    }
    out
}

fn expansion(name: &str, arguments: &[&str], range: Range) -> String {
    let time = |time: DateTime<Utc>| format!("'{}'", time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let column = arguments[0];
    match name {
        "time" => format!("{column} AS \"time\""),
        "timeEpoch" => format!("extract(epoch from {column}) as \"time\""),
        "timeFilter" => format!("{column} BETWEEN {} AND {}", time(range.from), time(range.to)),
        "timeFrom" => time(range.from),
        "timeTo" => time(range.to),
        "timeGroup" => {
            let width = seconds(arguments[1]);
            format!("floor(extract(epoch from {column})/{width})*{width}")
        }
        "timeGroupAlias" => format!("{} AS \"time\"", expansion("timeGroup", arguments, range)),
        "unixEpochFrom" => range.from.timestamp().to_string(),
        "unixEpochTo" => range.to.timestamp().to_string(),
        other => panic!("no macro $__{other}"),
    }
}

/// An interval such as `10s` or `5m`.
fn seconds(interval: &str) -> u64 {
    let interval = interval.trim_matches('\'');
    let (number, unit) = interval.split_at(interval.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{interval} is no interval"));
    number
        * match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => panic!("{interval} is no interval"),
        }
}
