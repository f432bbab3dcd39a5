//! How long windows are kept: a TTL on when a row was last written, not on its readings' times, so that recordings of
//! long ago do not expire as they come in.
//!
//! A window that has expired is gone for good: what comes late for it begins it anew. It can be rebuilt from the
//! archive, which keeps the readings.

use std::fmt;
use std::str::FromStr;

use clickhouse::Row;
use serde::Deserialize;
use thiserror::Error;

use super::layout::Layout;
use crate::store::quote;
use crate::window::{TABLES, TOTALS};

const HOURS_OF_DAY: u32 = 24;

/// The most that can be kept for a time, 50 years: `written` is a DateTime, which ends in 2106.
const HOURS_MAX: u32 = 50 * 365 * HOURS_OF_DAY;

/// A length of time: a number and `h`, `d`, `w` or `y` (365 days).
///
/// ```
/// let keep: stillwell_aggregate::Keep = "2y".parse().unwrap();
/// assert_eq!(keep, "730d".parse().unwrap());
/// assert!("2 years".parse::<stillwell_aggregate::Keep>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    hours: u32,
}

/// Why a text is no [`Keep`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no length of time such as 12h, 90d, 8w or 2y, from 1h to 50y; leave it empty to keep for ever"
)]
pub struct KeepError(String);

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hours = || {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let hours_each = match unit {
                "h" => 1,
                "d" => HOURS_OF_DAY,
                "w" => 7 * HOURS_OF_DAY,
                "y" => 365 * HOURS_OF_DAY,
                _ => return None,
            };
            let plain = number.bytes().all(|byte| byte.is_ascii_digit());
            let number: u32 = number.parse().ok().filter(|_| plain)?;
            number.checked_mul(hours_each).filter(|hours| (1..=HOURS_MAX).contains(hours))
        };
        hours().map(|hours| Self { hours }).ok_or_else(|| KeepError(text.to_owned()))
    }
}

/// The expression of a TTL, as ClickHouse writes it too.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.hours / HOURS_OF_DAY, self.hours % HOURS_OF_DAY);
        match rest {
            0 => write!(f, "written + toIntervalDay({days})"),
            _ => write!(f, "written + toIntervalHour({})", self.hours),
        }
    }
}

/// A table that holds rows, as the server describes it.
#[derive(Clone, Debug, Row, Deserialize)]
pub(super) struct Stored {
    name: String,
    engine_full: String,
    storage_policy: String,
}

/// The query for all of them.
pub(super) fn stored(database: &str) -> String {
    format!(
        "SELECT name, engine_full, storage_policy FROM system.tables WHERE database = {} AND engine LIKE '%MergeTree'",
        quote(database)
    )
}

/// What has to be changed for the tables to be kept as the layout says.
pub(super) fn changes(tables: &[Stored], layout: &Layout) -> Vec<String> {
    let mut changes = Vec::new();
    for Stored { name, engine_full, storage_policy } in tables {
        let alter = format!("ALTER TABLE {{database}}.{name}{}", layout.on());
        if let Some(policy) = layout.storage_policy.as_ref().filter(|policy| *policy != storage_policy) {
            changes.push(format!("{alter} MODIFY SETTING storage_policy = {}", quote(policy)));
        }
        let Some(width) = width_of(name) else { continue };
        let wanted = layout.keep[width].map(|keep| keep.to_string());
        match (ttl(engine_full), wanted) {
            (Some(found), Some(wanted)) if found == wanted => {}
            // What is stored already follows in the background: it may be much, and nobody waits for it.
            (_, Some(wanted)) => changes.push(format!("{alter} MODIFY TTL {wanted} SETTINGS alter_sync = 0")),
            (Some(_), None) => changes.push(format!("{alter} REMOVE TTL")),
            (None, None) => {}
        }
    }
    changes
}

/// The TTLs of a database that was just made.
pub(super) fn of_new(layout: &Layout) -> Vec<String> {
    let local = if layout.cluster.is_some() { "_local" } else { "" };
    let tables = TABLES.into_iter().chain(TOTALS.into_iter().flatten());
    let tables = tables.map(|name| Stored {
        name: format!("{name}{local}"),
        engine_full: String::new(),
        storage_policy: layout.storage_policy.clone().unwrap_or_default(),
    });
    changes(&tables.collect::<Vec<_>>(), layout)
}

/// Which width's windows or totals a table holds: the first one, or one of a later generation (`<name>_g<N>`).
fn width_of(table: &str) -> Option<usize> {
    let name = table.strip_suffix("_local").unwrap_or(table);
    let is_later = |rest: &str| {
        let number = rest.strip_prefix("_g");
        number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_of = |first: &str| name.strip_prefix(first).is_some_and(|rest| rest.is_empty() || is_later(rest));
    let totals = TOTALS.iter().position(|first| first.is_some_and(is_of));
    totals.or_else(|| TABLES.iter().position(|first| is_of(first)))
}

/// The TTL in an engine's description.
fn ttl(engine_full: &str) -> Option<&str> {
    let (_, after) = engine_full.split_once(" TTL ")?;
    Some(after.split_once(" SETTINGS ").map_or(after, |(ttl, _)| ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_strictly() {
        for (text, expected) in [
            ("12h", "written + toIntervalHour(12)"),
            ("36h", "written + toIntervalHour(36)"),
            ("48h", "written + toIntervalDay(2)"),
            ("90d", "written + toIntervalDay(90)"),
            ("8w", "written + toIntervalDay(56)"),
            ("50y", "written + toIntervalDay(18250)"),
        ] {
            assert_eq!(text.parse::<Keep>().unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "+1d",
            "1.5d",
            "90 d",
            " 90d",
            "90D",
            "3m",
            "51y",
            "9999999999d",
            "9é",
        ] {
            let error = text.parse::<Keep>().unwrap_err().to_string();
            assert!(error.contains("90d") && error.contains("empty"), "{text}: {error}");
        }
    }

    fn table(name: &str, ttl: &str) -> Stored {
        Stored {
            name: name.to_owned(),
            engine_full: format!(
                "ReplacingMergeTree(version) PARTITION BY toYYYYMM(start) ORDER BY (machine, start){ttl} \
                 SETTINGS index_granularity = 8192"
            ),
            storage_policy: "default".to_owned(),
        }
    }

    #[test]
    fn only_what_differs_is_changed() {
        let layout = Layout { keep: [Some("90d".parse().unwrap()), None, None, None], ..Layout::default() };
        let same = " TTL written + toIntervalDay(90)";
        let tables = [
            table("windows_10s", same),
            table("windows_10s_g2", ""),
            table("windows_10s_g3", " TTL written + toIntervalDay(9)"),
            table("windows_10s_asof_4", same),
            table("windows_1h", same),
            table("windows_1d", ""),
            table("fleet_windows_1d", same),
            table("fleet_windows_1d_g2", same),
            table("positions", ""),
        ];
        assert_eq!(
            changes(&tables, &layout),
            [
                "ALTER TABLE {database}.windows_10s_g2 MODIFY TTL written + toIntervalDay(90) SETTINGS alter_sync = 0",
                "ALTER TABLE {database}.windows_10s_g3 MODIFY TTL written + toIntervalDay(90) SETTINGS alter_sync = 0",
                "ALTER TABLE {database}.windows_1h REMOVE TTL",
                "ALTER TABLE {database}.fleet_windows_1d REMOVE TTL",
                "ALTER TABLE {database}.fleet_windows_1d_g2 REMOVE TTL",
            ]
        );
        assert_eq!(changes(&tables, &Layout::default()).len(), 5, "for ever, where nothing is said");
        let moved = Layout { storage_policy: Some("cold".to_owned()), ..Layout::default() };
        assert_eq!(
            changes(&[table("positions", "")], &moved),
            ["ALTER TABLE {database}.positions MODIFY SETTING storage_policy = 'cold'"]
        );
    }
}
