//! The copy's rows: to ClickHouse as Native blocks, and back at the start.

use std::collections::BTreeMap;

use bytes::Bytes;
use clickhouse::Row as ClickHouseRow;
use serde::Deserialize;
use stillwell_schema::Offset;
use stillwell_schema::machines::{Change, MachineRegistry, MachineVersion, Moment, VersionKey};

use crate::error::AggregateError;
use crate::native::Block;
use crate::store::{ClickHouse, quote};

/// Rows of a block: a version may take a megabyte.
const BLOCK_ROWS: usize = 64;

/// What the last record of a key says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) partition: i32,
    /// The record's offset.
    pub(super) version: i64,
    pub(super) change: Change,
}

impl Row {
    /// The version that it puts there, if it does.
    fn put(&self) -> Option<&MachineVersion> {
        match &self.change {
            Change::Put(version) => Some(version),
            Change::TakeBack(_) => None,
        }
    }
}

/// How far ClickHouse was told that a partition of the topic was read.
#[derive(Clone, Debug, PartialEq, Eq, ClickHouseRow, Deserialize)]
pub(super) struct Mark {
    pub(super) partition: i32,
    /// The next offset.
    pub(super) position: i64,
}

/// A version that ClickHouse has.
#[derive(Clone, Debug, PartialEq, Eq, ClickHouseRow, Deserialize)]
pub(super) struct Stored {
    pub(super) machine: String,
    pub(super) valid_from_us: i64,
    pub(super) partition: i32,
    pub(super) version: i64,
}

/// How far the topic was read before.
pub(super) async fn marks(store: &ClickHouse, topic: &str) -> Result<Vec<Mark>, AggregateError> {
    let sql = format!(
        "SELECT partition, position FROM {{database}}.machine_registry_state FINAL WHERE topic = {}",
        quote(topic)
    );
    store.rows(&sql).await
}

/// The versions of the topic that ClickHouse has.
pub(super) async fn stored(store: &ClickHouse, topic: &str) -> Result<Vec<Stored>, AggregateError> {
    let sql = format!(
        "SELECT machine, toUnixTimestamp64Micro(valid_from) AS valid_from_us, partition, version \
         FROM {{database}}.machine_rows FINAL WHERE deleted = 0 AND topic = {}",
        quote(topic)
    );
    store.rows(&sql).await
}

/// Rows that take back what ClickHouse has though the topic, read to `next`, knows nothing of it. The record that took
/// it back was compacted away; it stood behind the row's own, and whatever says something of that key later stands
/// behind it.
pub(super) fn strays(
    stored: &[Stored],
    registry: &MachineRegistry,
    next: &BTreeMap<i32, Offset>,
) -> BTreeMap<VersionKey, Row> {
    let stray = |row: &Stored| {
        let valid_from = Moment::from_us(row.valid_from_us)?;
        let key = VersionKey { machine: row.machine.clone(), valid_from };
        // What another process read beyond `next` is not for this one to judge.
        let is_read = next.get(&row.partition).is_some_and(|next| row.version < next.0);
        let is_stray = is_read && registry.get(&key).is_none();
        let taken_back =
            Row { partition: row.partition, version: row.version + 1, change: Change::TakeBack(key.clone()) };
        is_stray.then_some((key, taken_back))
    };
    stored.iter().filter_map(stray).collect()
}

/// Blocks of `machine_rows`, made as they are asked for.
pub(super) fn blocks(
    topic: &str,
    rows: &BTreeMap<VersionKey, Row>,
    updated_us: i64,
) -> impl Iterator<Item = Bytes> {
    let rows: Vec<_> = rows.iter().collect();
    let count = rows.len();
    (0..count).step_by(BLOCK_ROWS).map(move |at| {
        let end = (at + BLOCK_ROWS).min(count);
        block(topic, &rows[at..end], updated_us)
    })
}

fn block(topic: &str, rows: &[(&VersionKey, &Row)], updated_us: i64) -> Bytes {
    let versions: Vec<Option<&MachineVersion>> = rows.iter().map(|(_, row)| row.put()).collect();
    let sensors: Vec<String> = versions
        .iter()
        .map(|version| version.map_or_else(|| "{}".to_owned(), MachineVersion::sensors_json))
        .collect();
    let text = |of: fn(&MachineVersion) -> &str| versions.iter().map(move |version| version.map_or("", of));
    let mut block = Block::new(11, rows.len());
    block.strings("topic", rows.iter().map(|_| topic));
    block.strings("machine", rows.iter().map(|(key, _)| key.machine.as_str()));
    block.times("valid_from", rows.iter().map(|(key, _)| key.valid_from.us()));
    block.i64s("version", rows.iter().map(|(_, row)| row.version));
    block.i32s("partition", rows.iter().map(|(_, row)| row.partition));
    block.strings("site", text(|version| version.site.as_str()));
    block.strings("line", text(|version| version.line.as_str()));
    block.strings("model", text(|version| version.model.as_str()));
    block.strings("sensors", sensors.iter().map(String::as_str));
    block.u8s("deleted", versions.iter().map(|version| u8::from(version.is_none())));
    block.times("updated", rows.iter().map(|_| updated_us));
    block.finish()
}

/// A block of `machine_registry_state`: the topic was read to `next`, its end, at `updated_us`.
pub(super) fn mark(topic: &str, next: &BTreeMap<i32, Offset>, updated_us: i64) -> Bytes {
    let mut block = Block::new(4, next.len());
    block.strings("topic", next.iter().map(|_| topic));
    block.i32s("partition", next.keys().copied());
    block.i64s("position", next.values().map(|next| next.0));
    block.times("updated", next.iter().map(|_| updated_us));
    block.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(machine: &str, from: i64) -> MachineVersion {
        MachineVersion {
            machine: machine.to_owned(),
            site: "Linz".to_owned(),
            line: String::new(),
            model: String::new(),
            valid_from: Moment::from_us(from).unwrap(),
            sensors: BTreeMap::new(),
        }
    }

    fn stored(machine: &str, partition: i32, version: i64) -> Stored {
        Stored { machine: machine.to_owned(), valid_from_us: 7, partition, version }
    }

    #[test]
    fn what_the_topic_forgot_is_taken_back_and_what_it_has_not_shown_yet_is_kept() {
        let registry: MachineRegistry = [version("known", 7)].into_iter().collect();
        let next = BTreeMap::from([(0, Offset(10))]);
        let all =
            [stored("known", 0, 3), stored("gone", 0, 9), stored("new", 0, 10), stored("foreign", 1, 2)];
        let key = version("gone", 7).key();
        let row = Row { partition: 0, version: 10, change: Change::TakeBack(key.clone()) };
        assert_eq!(strays(&all, &registry, &next), BTreeMap::from([(key, row)]));
    }

    #[test]
    fn blocks_hold_every_row_once() {
        let rows: BTreeMap<VersionKey, Row> = (0..150)
            .map(|n| {
                let version = version("press", n);
                (version.key(), Row { partition: 0, version: n, change: Change::Put(version) })
            })
            .collect();
        let counts: Vec<u8> = blocks("t", &rows, 0).map(|block| block[1]).collect();
        assert_eq!(counts, [64, 64, 22]);
        assert_eq!(blocks("t", &BTreeMap::new(), 0).count(), 0);
    }
}
