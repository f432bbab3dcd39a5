//! The copy's rows: to ClickHouse as Native blocks, and back at the start.

use std::collections::BTreeMap;

use bytes::Bytes;
use clickhouse::Row as ClickHouseRow;
use serde::Deserialize;
use stillwell_schema::Offset;
use stillwell_schema::machines::{Change, MachineVersion, Moment, VersionKey};

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

/// The versions of a registry, each with the offset of its last record.
pub(super) type Keys = BTreeMap<VersionKey, i64>;

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

impl Stored {
    fn key(&self) -> Option<VersionKey> {
        let valid_from = Moment::from_us(self.valid_from_us)?;
        Some(VersionKey { machine: self.machine.clone(), valid_from })
    }

    /// What another process read beyond `next` is not for this one to judge.
    fn is_read(&self, next: &BTreeMap<i32, Offset>) -> bool {
        next.get(&self.partition).is_some_and(|next| self.version < next.0)
    }
}

/// A version that ClickHouse has from behind its last record in the topic, read to `next`, with both offsets: that one
/// first. Records do not go from a topic while an older one of their key stays, so it is another topic.
pub(super) fn another(
    stored: &[Stored],
    keys: &Keys,
    next: &BTreeMap<i32, Offset>,
) -> Option<(VersionKey, i64, i64)> {
    stored.iter().filter(|row| row.is_read(next)).find_map(|row| {
        let key = row.key()?;
        let offset = *keys.get(&key)?;
        (offset < row.version).then_some((key, offset, row.version))
    })
}

/// Rows that take back what ClickHouse has though the topic, read to `next`, knows nothing of it. The record that took
/// it back was compacted away; it stood behind the row's own, and whatever says something of that key later stands
/// behind it.
pub(super) fn strays(
    stored: &[Stored],
    keys: &Keys,
    next: &BTreeMap<i32, Offset>,
) -> BTreeMap<VersionKey, Row> {
    let stray = |row: &Stored| {
        let key = row.key()?;
        let is_stray = row.is_read(next) && !keys.contains_key(&key);
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
        let keys = Keys::from([(version("known", 7).key(), 5)]);
        let next = BTreeMap::from([(0, Offset(10))]);
        let all =
            [stored("known", 0, 3), stored("gone", 0, 9), stored("new", 0, 10), stored("foreign", 1, 2)];
        let key = version("gone", 7).key();
        let row = Row { partition: 0, version: 10, change: Change::TakeBack(key.clone()) };
        assert_eq!(strays(&all, &keys, &next), BTreeMap::from([(key, row)]));
    }

    #[test]
    fn a_version_from_behind_its_last_record_is_of_another_topic() {
        let keys = Keys::from([(version("known", 7).key(), 5)]);
        let next = BTreeMap::from([(0, Offset(10))]);
        let check = |at, expected| {
            let found = another(&[stored("gone", 0, 9), stored("known", 0, at)], &keys, &next);
            assert_eq!(found.map(|(_, offset, stored)| (offset, stored)), expected, "{at}");
        };
        check(4, None);
        check(5, None);
        check(6, Some((5, 6)));
        // Another process is further on.
        check(10, None);
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
