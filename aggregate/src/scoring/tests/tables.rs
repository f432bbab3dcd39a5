//! The tables that a lane's snapshots are written to, in memory: what ClickHouse would hold.

use std::collections::{BTreeMap, HashMap};

use super::super::restore::{Bytes, CommissioningRow, ModelRow, Rows, StateRow};
use crate::snapshot::Part;

#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub(super) states: BTreeMap<String, StateRow>,
    pub(super) models: BTreeMap<String, ModelRow>,
    pub(super) chunks: BTreeMap<(String, i64, i64), CommissioningRow>,
    /// Ends of anomalies, by id.
    pub(super) until: BTreeMap<String, Option<i64>>,
}

impl Tables {
    /// Writes a snapshot; all of it but the states, where the process dies before.
    pub(super) fn write(&mut self, parts: &[Part], is_whole: bool) {
        for part in parts {
            let block = Block::read(&part.bytes);
            (0..part.rows).for_each(|row| match &*part.table {
                "commissioning" => {
                    let chunk = block.chunk(row);
                    self.chunks.insert((chunk.machine.clone(), chunk.since, chunk.first), chunk);
                }
                "models" => {
                    self.models.insert(block.text("machine", row), block.model(row));
                }
                "anomaly_rows" => {
                    self.until.insert(block.text("id", row), block.maybe_number("until", row));
                }
                "scorer_states" if is_whole => {
                    self.states.insert(block.text("machine", row), block.state(row));
                }
                _ => {}
            });
        }
    }

    pub(super) fn rows(&self) -> Rows {
        let mut chunks: Vec<CommissioningRow> = self.chunks.values().cloned().collect();
        chunks.sort_by_key(|chunk| chunk.first);
        Rows {
            states: self.states.values().cloned().collect(),
            models: self.models.values().cloned().collect(),
            chunks,
        }
    }
}

/// A column of a Native block, by rows: bytes of strings, numbers little-endian, the mark of a missing value
/// first.
type Column = Vec<Vec<u8>>;

struct Block(HashMap<String, Column>);

impl Block {
    fn read(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let (columns, rows) = (length(&mut rest), length(&mut rest));
        let column = |_| {
            let (name, kind) = (string(&mut rest), string(&mut rest));
            (String::from_utf8(name).unwrap(), column(&mut rest, &kind, rows))
        };
        Self((0..columns).map(column).collect())
    }

    fn bytes(&self, column: &str, row: usize) -> Bytes {
        Bytes(self.0[column][row].clone())
    }

    fn text(&self, column: &str, row: usize) -> String {
        String::from_utf8(self.0[column][row].clone()).unwrap()
    }

    fn number(&self, column: &str, row: usize) -> i64 {
        i64::from_le_bytes(self.0[column][row][..].try_into().unwrap())
    }

    fn maybe_number(&self, column: &str, row: usize) -> Option<i64> {
        let (mark, value) = self.0[column][row].split_first().unwrap();
        (*mark == 0).then(|| i64::from_le_bytes(value.try_into().unwrap()))
    }

    fn state(&self, row: usize) -> StateRow {
        StateRow {
            machine: self.text("machine", row),
            version: self.number("version", row),
            rows: self.number("rows", row) as u64,
            phase: self.text("phase", row),
            model: self.text("model", row),
            state: self.bytes("state", row),
        }
    }

    fn model(&self, row: usize) -> ModelRow {
        ModelRow {
            machine: self.text("machine", row),
            effective: self.number("effective", row),
            hash: self.text("hash", row),
            created: self.number("created", row),
            bytes: self.bytes("bytes", row),
        }
    }

    fn chunk(&self, row: usize) -> CommissioningRow {
        CommissioningRow {
            machine: self.text("machine", row),
            since: self.number("since", row),
            first: self.number("first", row),
            next: self.number("next", row),
            rows: self.bytes("rows", row),
        }
    }
}

fn column(rest: &mut &[u8], kind: &[u8], rows: usize) -> Column {
    match kind {
        b"String" => (0..rows).map(|_| string(rest)).collect(),
        b"Int32" => (0..rows).map(|_| take(rest, 4)).collect(),
        b"Int64" | b"UInt64" | b"Float64" | b"DateTime64(6, 'UTC')" => {
            (0..rows).map(|_| take(rest, 8)).collect()
        }
        b"Nullable(DateTime64(6, 'UTC'))" => {
            let marks = take(rest, rows);
            marks.into_iter().map(|mark| [vec![mark], take(rest, 8)].concat()).collect()
        }
        b"Array(String)" => {
            let ends: Vec<u64> =
                (0..rows).map(|_| u64::from_le_bytes(take(rest, 8).try_into().unwrap())).collect();
            (0..ends.last().copied().unwrap_or(0)).for_each(|_| drop(string(rest)));
            vec![Vec::new(); rows]
        }
        other => panic!("no column of {}", String::from_utf8_lossy(other)),
    }
}

fn string(rest: &mut &[u8]) -> Vec<u8> {
    let len = length(rest);
    take(rest, len)
}

fn take(rest: &mut &[u8], len: usize) -> Vec<u8> {
    let (head, tail) = rest.split_at(len);
    *rest = tail;
    head.to_vec()
}

/// LEB128.
fn length(rest: &mut &[u8]) -> usize {
    let (mut len, mut shift) = (0, 0);
    loop {
        let byte = take(rest, 1)[0];
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return len;
        }
    }
}
