//! A year of windows, straight into the tables: all series for all days by hour and by day, for the last days by minute,
//! for the last hours by 10 s; and as many machines as fit get all days by minute.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::DATABASE;
use super::questions::Subject;
use crate::http::clickhouse;
use crate::peers::statements;
use crate::result::rounded;
use crate::shape::SENSORS;
use crate::watch::Views;

const WINDOWS: &str = include_str!("windows.sql");
const REST: &str = include_str!("rest.sql");

/// Tables that are emptied first.
const OTHERS: [&str; 5] = ["latest_rows", "anomaly_rows", "scorer_states", "models", "positions"];

/// Rows of one statement: it answers well before its client loses patience.
const ROWS_MAX: u64 = 4_000_000;

const ANOMALIES: u64 = 20_000;
const DAY_S: i64 = 86_400;
const GIB: f64 = (1u64 << 30) as f64;

/// Looks of [`Views::settle`], a minute each, until merges must be over.
const SETTLE_MAX: u32 = 30;

/// How much.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlantArgs {
    /// Series, 50 a machine
    #[arg(long, default_value_t = 10_000)]
    series: u64,
    /// Days by hour and by day for all series, by minute for those that fit
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Days by minute for all series
    #[arg(long, default_value_t = 2)]
    recent_days: i64,
    /// Hours by 10 s for all series
    #[arg(long, default_value_t = 2)]
    recent_hours: i64,
    /// Disk that all of it may take
    #[arg(long, default_value_t = 16.0, value_name = "GIB")]
    gib_max: f64,
    /// Windows of a minute at most, as making them takes its time
    #[arg(long, default_value_t = 150_000_000, value_name = "ROWS")]
    rows_max: u64,
}

/// A width's windows.
struct Width {
    table: &'static str,
    seconds: i64,
    /// Histogram buckets beside the middle one, and the readings in each at the least.
    offsets: &'static [i64],
    counts: &'static [u64],
    /// By one part of so many they may be more.
    noise: u64,
}

const WIDTHS: [Width; 4] = [
    Width { table: "windows_10s", seconds: 10, offsets: &[-2, -1, 1, 2], counts: &[1, 2, 2, 1], noise: 2 },
    Width { table: "windows_1m", seconds: 60, offsets: &[-2, -1, 1, 2], counts: &[4, 14, 14, 4], noise: 2 },
    Width {
        table: "windows_1h",
        seconds: 3600,
        offsets: &[-3, -2, -1, 1, 2, 3],
        counts: &[120, 300, 780, 780, 300, 120],
        noise: 4,
    },
    Width {
        table: "windows_1d",
        seconds: DAY_S,
        offsets: &[-5, -4, -3, -2, -1, 1, 2, 3, 4, 5],
        counts: &[720, 2160, 5400, 10_080, 13_680, 13_680, 10_080, 5400, 2160, 720],
        noise: 4,
    },
];

/// Windows, and their totals by machine and kind.
const FLEET: [(&str, &str); 3] = [
    ("windows_1m", "fleet_windows_1m"),
    ("windows_1h", "fleet_windows_1h"),
    ("windows_1d", "fleet_windows_1d"),
];

/// What is there to be asked for.
pub(super) struct Filled {
    pub(super) subject: Subject,
    /// How much of it, for the result.
    pub(super) told: Value,
}

/// Takes off what would erase windows by their age.
pub(super) fn keep_for_ever(url: &str) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree' \
         AND create_table_query LIKE '% TTL %' FORMAT TabSeparated"
    );
    for table in clickhouse(url, &sql)?.lines() {
        clickhouse(url, &format!("ALTER TABLE {DATABASE}.{table} REMOVE TTL"))?;
    }
    Ok(())
}

/// Empties the tables and fills them up to `until_s`, seconds since the epoch.
pub(super) fn fill(args: &PlantArgs, url: &str, until_s: i64) -> anyhow::Result<Filled> {
    ensure!(
        args.series >= SENSORS && args.series.is_multiple_of(SENSORS),
        "--series is a multiple of {SENSORS}"
    );
    ensure!(
        (1..=args.days).contains(&args.recent_days),
        "--recent-days is at least one, and no more than --days"
    );
    let fleet = FLEET.map(|(_, table)| table);
    for table in WIDTHS.iter().map(|width| width.table).chain(fleet).chain(OTHERS) {
        clickhouse(url, &format!("TRUNCATE TABLE {DATABASE}.{table}"))?;
    }
    let started = Instant::now();
    let machines = args.series / SENSORS;
    let [tens, minutes, hours, days] = &WIDTHS;
    let recent_s = until_s - args.recent_days * DAY_S;
    let from_s = until_s - args.days * DAY_S;
    tens.fill(url, 0..machines, until_s - args.recent_hours * 3600, until_s)?;
    minutes.fill(url, 0..machines, recent_s, until_s)?;
    hours.fill(url, 0..machines, from_s, until_s)?;
    days.fill(url, 0..machines, from_s - from_s % DAY_S, until_s)?;
    for statement in statements(&rest(args, machines, until_s)) {
        clickhouse(url, &statement)?;
    }
    let whole = args.whole(&Tables::read(url)?, machines)?;
    minutes.fill(url, 0..whole, from_s, recent_s)?;
    total(url)?;
    let seconds = started.elapsed().as_secs_f64();
    settle(url)?;
    let subject = Subject { machines, whole, now: super::time(until_s)?, days: args.days };
    let tables = Tables::read(url)?;
    let each: Map<String, Value> = tables.0.iter().map(Table::describe).collect();
    let told = json!({
        "series": args.series,
        "days": args.days,
        "series_with_all_days_by_minute": whole * SENSORS,
        "days_by_minute_of_all_series": args.recent_days,
        "hours_by_10s_of_all_series": args.recent_hours,
        "gib": rounded(tables.bytes() as f64 / GIB),
        "tables": each,
        "fill_s": rounded(seconds),
    });
    Ok(Filled { subject, told })
}

impl PlantArgs {
    /// Machines whose older minutes fit on the disk and into the time.
    fn whole(&self, tables: &Tables, machines: u64) -> anyhow::Result<u64> {
        let minutes = tables.0.iter().find(|table| table.name == WIDTHS[1].table);
        let minutes = minutes.context("there are minutes")?;
        let of_machine = (self.days - self.recent_days).unsigned_abs() * 1440 * SENSORS;
        if of_machine == 0 {
            return Ok(machines);
        }
        let bytes_left = self.gib_max * GIB - tables.bytes() as f64;
        let bytes_of_machine = minutes.bytes as f64 / minutes.rows as f64 * of_machine as f64;
        let by_disk = (bytes_left / bytes_of_machine).max(0.0) as u64;
        let by_rows = self.rows_max.saturating_sub(minutes.rows) / of_machine;
        Ok(machines.min(by_disk).min(by_rows))
    }
}

impl Width {
    /// The windows of some machines from `from_s` up to `until_s`, slice by slice.
    fn fill(
        &self,
        url: &str,
        machines: std::ops::Range<u64>,
        from_s: i64,
        until_s: i64,
    ) -> anyhow::Result<()> {
        let series = (machines.end - machines.start) * SENSORS;
        let windows = ((until_s - from_s) / self.seconds).unsigned_abs();
        if series == 0 {
            return Ok(());
        }
        let started = Instant::now();
        let slice = (ROWS_MAX / series).max(1);
        let mut done = 0;
        while done < windows {
            let some = slice.min(windows - done);
            let at_s = from_s + done.cast_signed() * self.seconds;
            for statement in statements(&self.text(machines.start * SENSORS, series, at_s, some)) {
                clickhouse(url, &statement)?;
            }
            done += some;
        }
        let rows = series * windows;
        eprintln!("{}: {rows} rows in {:.0} s", self.table, started.elapsed().as_secs_f64());
        Ok(())
    }

    fn text(&self, first_series: u64, series: u64, from_s: i64, windows: u64) -> String {
        WINDOWS
            .replace("{table}", self.table)
            .replace("{first_series}", &first_series.to_string())
            .replace("{windows}", &windows.to_string())
            .replace("{from_s}", &from_s.to_string())
            .replace("{width}", &self.seconds.to_string())
            .replace("{offsets}", &format!("{:?}", self.offsets))
            .replace("{counts}", &format!("{:?}", self.counts))
            .replace("{noise}", &self.noise.to_string())
            .replace("{rows}", &(series * windows).to_string())
    }
}

/// The totals of the windows that are there, month by month.
fn total(url: &str) -> anyhow::Result<()> {
    for (windows, totals) in FLEET {
        let started = Instant::now();
        let months = format!(
            "SELECT DISTINCT toYYYYMM(start) FROM {DATABASE}.{windows} ORDER BY 1 FORMAT TabSeparated"
        );
        for month in clickhouse(url, &months)?.lines() {
            clickhouse(
                url,
                &format!(
                    "INSERT INTO {DATABASE}.{totals} (topic, partition, machine, sensor, start, version, kind, \
                     count, sum, min, max, bad, late, score) \
                     SELECT topic, partition, machine, kind, start, max(version), kind, sum(count), sum(sum), \
                     min(min), max(max), sum(bad), sum(late), max(score) FROM {DATABASE}.{windows} \
                     WHERE toYYYYMM(start) = {month} GROUP BY topic, partition, machine, kind, start \
                     SETTINGS max_bytes_before_external_group_by = 400000000"
                ),
            )?;
        }
        eprintln!("{totals}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn rest(args: &PlantArgs, machines: u64, until_s: i64) -> String {
    REST.replace("{until_s}", &until_s.to_string())
        .replace("{series}", &args.series.to_string())
        .replace("{machines}", &machines.to_string())
        .replace("{days}", &args.days.to_string())
        .replace("{anomalies}", &ANOMALIES.to_string())
}

/// Waits until nothing is merged any more.
fn settle(url: &str) -> anyhow::Result<()> {
    let views = Views { clickhouse: url.to_owned(), topic: String::new(), partitions: 0 };
    for _ in 0..SETTLE_MAX {
        views.settle()?;
        if clickhouse(url, "SELECT count() FROM system.merges FORMAT TabSeparated")?.trim() == "0" {
            break;
        }
    }
    Ok(())
}

/// What a table holds.
struct Table {
    name: String,
    rows: u64,
    bytes: u64,
    parts: u64,
}

impl Table {
    fn describe(&self) -> (String, Value) {
        let bytes_per_row = rounded(self.bytes as f64 / self.rows as f64);
        (self.name.clone(), json!({ "rows": self.rows, "parts": self.parts, "bytes_per_row": bytes_per_row }))
    }
}

struct Tables(Vec<Table>);

impl Tables {
    fn read(url: &str) -> anyhow::Result<Self> {
        let sql = format!(
            "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts \
             WHERE database = '{DATABASE}' AND active GROUP BY table HAVING sum(rows) > 0 FORMAT TabSeparated"
        );
        let answer = clickhouse(url, &sql)?;
        let table = |line: &str| -> anyhow::Result<Table> {
            let mut cells = line.split('\t');
            let name = cells.next().context("a table has a name")?.to_owned();
            let mut number =
                || -> anyhow::Result<u64> { Ok(cells.next().context("a table's size")?.parse()?) };
            Ok(Table { name, rows: number()?, bytes: number()?, parts: number()? })
        };
        Ok(Self(answer.lines().map(table).collect::<anyhow::Result<_>>()?))
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|table| table.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_histogram_holds_its_readings_whatever_the_noise() {
        for width in &WIDTHS {
            assert_eq!(width.offsets.len(), width.counts.len());
            let most: u64 = width.counts.iter().map(|count| count + count / width.noise).sum();
            assert!(most <= width.seconds.unsigned_abs(), "{}: {most}", width.table);
        }
    }

    #[test]
    fn statements_leave_no_brace_open() {
        let args = PlantArgs {
            series: 10_000,
            days: 365,
            recent_days: 2,
            recent_hours: 2,
            gib_max: 16.0,
            rows_max: 150_000_000,
        };
        let windows = statements(&WIDTHS[0].text(0, 50, 1_767_225_600, 360));
        assert_eq!(windows.len(), 1);
        let rest = statements(&rest(&args, 200, 1_767_225_600));
        assert_eq!(rest.len(), OTHERS.len());
        for statement in windows.iter().chain(&rest) {
            assert!(
                statement.starts_with("INSERT INTO stillwell.") && !statement.contains(['{', '}']),
                "{statement}"
            );
        }
    }

    #[test]
    fn as_many_machines_get_all_days_as_fit() {
        let mut args = PlantArgs {
            series: 10_000,
            days: 365,
            recent_days: 2,
            recent_hours: 2,
            gib_max: 16.0,
            rows_max: 150_000_000,
        };
        let rows = 10_000 * 2880;
        let minutes = Table { name: "windows_1m".into(), rows, bytes: 40 * rows, parts: 1 };
        let tables = Tables(vec![minutes]);
        assert_eq!(args.whole(&tables, 200).unwrap(), 4, "by rows");
        args.gib_max = 3.5;
        assert_eq!(args.whole(&tables, 200).unwrap(), 2, "by disk");
        args.gib_max = 1.0;
        assert_eq!(args.whole(&tables, 200).unwrap(), 0);
        args.days = 2;
        assert_eq!(args.whole(&tables, 200).unwrap(), 200);
    }
}
