//! What dashboards ask: questions of one text for all that are asked, and the statements of the Grafana dashboards.
//!
//! Each time another machine and another sensor are asked for, so that no answer is one that was just given.

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::ask::{self, Route};
use super::grafana::{self, Range, Values};
use crate::shape::{SENSORS, sensor_name};

/// The dashboards that are about a plant; the third is about the pipeline.
const DASHBOARDS: [&str; 2] = [
    include_str!("../../../compose/provision/grafana/dashboards/machine.json"),
    include_str!("../../../compose/provision/grafana/dashboards/overview.json"),
];

/// The ranges that Grafana shows, hours: for the shorter it reads windows of 10 s of a sensor and of 1 min of machines,
/// for the longer those of 1 min and of 1 h.
const RANGES_HOURS: [i64; 2] = [1, 24];

/// What the archive answers, which is not filled.
const OF_ARCHIVE: [&str; 2] = [" FROM readings ", " FROM dead_letters "];

/// Steps that meet all machines, sensors and days in turn, and neighbours late.
const STRIDES: [u64; 3] = [7919, 4733, 2221];

/// What questions are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// Machines there are, and
    pub(super) machines: u64,
    /// those of them, the first ones, that have minutes for all days.
    pub(super) whole: u64,
    /// The end of the last windows.
    pub(super) now: DateTime<Utc>,
    /// Days there are of the other widths.
    pub(super) days: i64,
}

/// A question.
pub(super) struct Question {
    pub(super) name: &'static str,
    /// With `{db}`, `{totals}`, `{machine}`, `{sensor}`, and times in braces.
    text: &'static str,
    /// About a day long ago, by minutes.
    is_of_a_day: bool,
    /// What ClickHouse's own views are asked in its place.
    peer: Peer,
}

/// A question to ClickHouse's own views.
enum Peer {
    /// The same text.
    Same,
    /// Another text that means the same, as they have no rows of machines.
    Text(&'static str),
    /// None: they do not know what it asks for.
    Nothing,
}

/// All questions.
pub(super) const ALL: &[Question] = &[
    Question {
        name: "an hour of a machine by 10 s",
        text: "SELECT time, sensor, avg, min, max FROM {db}readings_10s WHERE machine = '{machine}' AND time >= {hour_ago} ORDER BY sensor, time",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "an hour of a machine by minute",
        text: "SELECT time, sensor, avg, min, max FROM {db}readings_1m WHERE machine = '{machine}' AND time >= {hour_ago} ORDER BY sensor, time",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "an hour of a sensor by 10 s",
        text: "SELECT time, avg, min, max, p95 FROM {db}readings_10s WHERE machine = '{machine}' AND sensor = '{sensor}' AND time >= {hour_ago} ORDER BY time",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "a day of the year of a sensor by minute",
        text: "SELECT time, avg, min, max, p95 FROM {db}readings_1m WHERE machine = '{machine}' AND sensor = '{sensor}' AND time >= {then} AND time < {day_later} ORDER BY time",
        is_of_a_day: true,
        peer: Peer::Nothing,
    },
    Question {
        name: "a week of a sensor by hour",
        text: "SELECT time, avg, min, max, p95 FROM {db}readings_1h WHERE machine = '{machine}' AND sensor = '{sensor}' AND time >= {week_ago} ORDER BY time",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "a year of a sensor by day",
        text: "SELECT time, avg, min, max, p95 FROM {db}readings_1d WHERE machine = '{machine}' AND sensor = '{sensor}' AND time >= {year_ago} ORDER BY time",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "the latest of a machine",
        text: "SELECT sensor, kind, value, unit, time FROM {db}latest WHERE machine = '{machine}' ORDER BY sensor",
        is_of_a_day: false,
        peer: Peer::Same,
    },
    Question {
        name: "the top anomalies of a week",
        text: "SELECT machine, time, peak_score, threshold FROM {db}anomalies WHERE time >= {week_ago} ORDER BY peak_score DESC LIMIT 20",
        is_of_a_day: false,
        peer: Peer::Nothing,
    },
    Question {
        name: "an hour of the fleet by kind, of minutes",
        text: "SELECT kind, sum(count) AS readings, max(max) AS largest FROM {db}{totals}1m WHERE time >= {hour_ago} GROUP BY kind ORDER BY kind",
        is_of_a_day: false,
        peer: Peer::Text(
            "SELECT kind, sum(count) AS readings, max(max) AS largest FROM {db}readings_1m WHERE time >= {hour_ago} GROUP BY kind ORDER BY kind",
        ),
    },
    Question {
        name: "an hour of the fleet by kind, of hours",
        text: "SELECT kind, sum(count) AS readings, max(max) AS largest FROM {db}{totals}1h WHERE time >= {hour_ago} GROUP BY kind ORDER BY kind",
        is_of_a_day: false,
        peer: Peer::Text(
            "SELECT kind, sum(count) AS readings, max(max) AS largest FROM {db}readings_1h WHERE time >= {hour_ago} GROUP BY kind ORDER BY kind",
        ),
    },
];

/// Those that ClickHouse's own views are asked too.
pub(super) fn common() -> impl Iterator<Item = &'static Question> {
    ALL.iter().filter(|question| !matches!(question.peer, Peer::Nothing))
}

impl Question {
    /// Its `n`th form.
    pub(super) fn text(&self, route: &Route, subject: &Subject, n: u64) -> String {
        self.form(self.text, route, subject, n)
    }

    /// Its `n`th form for ClickHouse's own views.
    pub(super) fn peer_text(&self, route: &Route, subject: &Subject, n: u64) -> String {
        let text = match self.peer {
            Peer::Text(text) => text,
            Peer::Same | Peer::Nothing => self.text,
        };
        self.form(text, route, subject, n)
    }

    fn form(&self, text: &str, route: &Route, subject: &Subject, n: u64) -> String {
        let [machine, sensor, day] = STRIDES.map(|stride| n.wrapping_mul(stride));
        let machines = if self.is_of_a_day && subject.whole > 0 { subject.whole } else { subject.machines };
        // Of minutes there is, at the least, the last day.
        let days = if subject.whole > 0 { subject.days.unsigned_abs() } else { 1 };
        let then = subject.now - TimeDelta::days((1 + day % days.max(1)).cast_signed());
        let ago = |span: TimeDelta| route.literal(subject.now - span);
        text.replace("{db}", &route.prefix())
            .replace("{totals}", route.totals())
            .replace("{machine}", &format!("machine-{:03}", machine % machines))
            .replace("{sensor}", &sensor_name(sensor % SENSORS))
            .replace("{hour_ago}", &ago(TimeDelta::hours(1)))
            .replace("{week_ago}", &ago(TimeDelta::days(7)))
            .replace("{year_ago}", &ago(TimeDelta::days(365)))
            .replace("{then}", &route.literal(then))
            .replace("{day_later}", &route.literal(then + TimeDelta::days(1)))
    }
}

/// The statements of the dashboards, with their places and as Grafana sends them. Variables have all values where many
/// may be, else the first.
pub(super) fn of_grafana(http: &str, subject: &Subject) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for text in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(text).context("a dashboard is no JSON")?;
        for hours in RANGES_HOURS {
            let range = Range { from: subject.now - TimeDelta::hours(hours), to: subject.now };
            let values = choose(http, &dashboard, range)?;
            let statements = grafana::statements(&dashboard).into_iter();
            for statement in statements.chain(grafana::annotations(&dashboard)) {
                if OF_ARCHIVE.iter().any(|from| statement.sql.contains(from)) {
                    continue;
                }
                let mut values = values.clone();
                if let Some(one) = statement.repeat.and_then(|name| values.get_mut(&name)) {
                    one.truncate(1);
                }
                let name = format!("{}, {hours} h", statement.place);
                all.push((name, grafana::expand(&statement.sql, &values, range)));
            }
        }
    }
    Ok(all)
}

fn choose(http: &str, dashboard: &Value, range: Range) -> anyhow::Result<Values> {
    let mut values = Values::new();
    for variable in grafana::variables(dashboard) {
        let rows = ask::rows(http, &grafana::expand(&variable.sql, &values, range))?;
        let mut found: Vec<String> =
            rows.iter().filter_map(|row| row[0].as_str().map(str::to_owned)).collect();
        anyhow::ensure!(!found.is_empty(), "variable {} has no values", variable.name);
        if !variable.is_multi {
            found.truncate(1);
        }
        found = variable.all.map_or(found, |all| vec![all]);
        values.insert(variable.name, found);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_leave_no_brace_open_and_are_about_what_is_there() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let subject = Subject { machines: 200, whole: 3, now, days: 365 };
        let routes = [
            Route::ClickHouse { url: String::new(), database: "stillwell" },
            Route::Sql { http: String::new() },
        ];
        for (question, route) in ALL.iter().flat_map(|question| routes.iter().map(move |r| (question, r))) {
            for n in 0..100 {
                for text in [question.text(route, &subject, n), question.peer_text(route, &subject, n)] {
                    assert!(!text.contains(['{', '}']), "{text}");
                    let whole = (0..3).any(|machine| text.contains(&format!("'machine-{machine:03}'")));
                    assert!(whole || !question.is_of_a_day, "{text}");
                }
            }
        }
    }

    #[test]
    fn the_peer_is_asked_for_no_rows_of_machines() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let subject = Subject { machines: 200, whole: 3, now, days: 365 };
        let route = Route::ClickHouse { url: String::new(), database: "peer_views" };
        assert!(common().any(|question| question.text(&route, &subject, 0).contains(".fleet_")));
        for question in common() {
            let text = question.peer_text(&route, &subject, 0);
            assert!(!text.contains("fleet_"), "{text}");
        }
    }

    #[test]
    fn the_last_day_is_asked_for_where_no_machine_has_all_minutes() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let subject = Subject { machines: 200, whole: 0, now, days: 365 };
        let question = ALL.iter().find(|question| question.is_of_a_day).unwrap();
        let text = question.text(&Route::Sql { http: String::new() }, &subject, 9);
        assert!(text.contains("time >= '2025-12-31T00:00:00Z' AND time < '2026-01-01T00:00:00Z'"), "{text}");
    }
}
