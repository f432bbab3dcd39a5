//! What a lane knows of the edge nodes that it heard: the metrics of their births, and where their sequences are.
//!
//! Names, never codes of a table, so that it outlives tables; the code of a metric's series is kept beside it, and
//! forgotten with its table.

use std::collections::HashMap;

use super::super::DecodeError;
use super::super::mapped::NAME_BYTES_MAX;
use super::payload::{Content, Metric, Payload};
use crate::series::SeriesCode;

/// Bytes that a lane's births may take: some 400,000 metrics.
const BIRTHS_BYTES_MAX: usize = 64 << 20;
/// What a birth takes beside its names.
const BIRTH_BYTES: usize = 512;
/// What a metric takes beside its names.
const METRIC_BYTES: usize = 160;

/// The edge nodes of a lane.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: HashMap<Box<str>, Node>,
    bytes: usize,
}

/// An edge node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The node itself, by an empty name, and its devices, as long as their births hold.
    born: HashMap<Box<str>, Born>,
    seq: Option<u8>,
    /// The time of the last message that counted, ms.
    time_ms: u64,
    /// Which session its last birth began.
    bd_seq: Option<u64>,
}

/// What a birth says.
#[derive(Debug, Default)]
pub(super) struct Born {
    pub(super) machine: String,
    time_ms: u64,
    /// Whether a message of the node was lost since, which may have said otherwise.
    pub(super) is_doubtful: bool,
    pub(super) metrics: Vec<Known>,
    by_alias: HashMap<u64, usize>,
    by_name: HashMap<Box<str>, usize>,
    bytes: usize,
}

/// A metric of a birth.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: Box<str>,
    pub(super) datatype: Option<u32>,
    pub(super) kind: Box<str>,
    pub(super) unit: Box<str>,
    /// Its series' code, with the number of its table.
    pub(super) code: Option<(u64, SeriesCode)>,
}

/// How a message follows the last one of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    /// As it must, or nothing was known, or it has no number.
    Next,
    /// It came again, or comes late, such as out of the dead letters.
    Old,
    /// Others before it are missing.
    Broken,
}

impl Born {
    /// The metric that a message means.
    pub(super) fn find(&self, metric: &Metric<'_>) -> Option<usize> {
        match (metric.name, metric.alias) {
            (Some(name), _) => self.by_name.get(name).copied(),
            (None, Some(alias)) => self.by_alias.get(&alias).copied(),
            (None, None) => None,
        }
    }

    /// Whether a message is older than this.
    pub(super) fn is_after(&self, payload: &Payload<'_>) -> bool {
        payload.timestamp.is_some_and(|sent_ms| sent_ms < self.time_ms)
    }

    fn of(payload: &Payload<'_>, machine: &str) -> Result<Self, DecodeError> {
        let mut born = Self {
            machine: machine.to_owned(),
            time_ms: payload.timestamp.unwrap_or_default(),
            bytes: machine.len() + BIRTH_BYTES,
            ..Self::default()
        };
        let check = |name: &str, at: usize| match name.len() {
            0 => Err(DecodeError::new("empty_name", at, "a metric's or machine's name is empty")),
            1..=NAME_BYTES_MAX => Ok(()),
            len => Err(DecodeError::new(
                "bad_name",
                at,
                format!("a name of {len} bytes; {NAME_BYTES_MAX} at most"),
            )),
        };
        check(machine, 0)?;
        for metric in &payload.metrics {
            let Some(name) = metric.name else {
                return Err(DecodeError::new("missing_field", metric.at, "a metric of a birth has no name"));
            };
            check(name, metric.at)?;
            let [kind, unit] =
                [metric.properties.kind, metric.properties.unit].map(Option::unwrap_or_default);
            let i = born.metrics.len();
            born.metrics.push(Known {
                name: name.into(),
                datatype: metric.datatype,
                kind: kind.into(),
                unit: unit.into(),
                code: None,
            });
            born.bytes += 2 * name.len() + kind.len() + unit.len() + METRIC_BYTES;
            born.by_name.insert(name.into(), i);
            if let Some(alias) = metric.alias
                && born.by_alias.insert(alias, i).is_some()
            {
                let message = format!("a birth gives the alias {alias} to two metrics");
                return Err(DecodeError::new("duplicate_alias", metric.at, message));
            }
        }
        Ok(born)
    }
}

impl Nodes {
    /// Takes note of a birth. One that is older than what is known, such as out of the dead letters, changes nothing
    /// and is given back, to read its own values by. Neither does a fault change anything.
    pub(super) fn birth(
        &mut self,
        key: &str,
        device: Option<&str>,
        machine: &str,
        payload: &Payload<'_>,
    ) -> Result<Option<Born>, DecodeError> {
        let born = Born::of(payload, machine)?;
        let is_old = self.nodes.get(key).is_some_and(|node| match device {
            // Devices are born after their node.
            None => node.born.values().any(|known| known.is_after(payload)),
            Some(device) => node.born.get(device).is_some_and(|known| known.is_after(payload)),
        });
        if is_old {
            return Ok(Some(born));
        }
        let freed = self.nodes.get(key).map_or(0, |node| match device {
            None => node.born.values().map(|born| born.bytes).sum(),
            Some(device) => node.born.get(device).map_or(0, |born| born.bytes),
        });
        let bytes = self.bytes - freed + born.bytes;
        if bytes > BIRTHS_BYTES_MAX {
            let message = format!("the births of this partition take more than {BIRTHS_BYTES_MAX} bytes");
            return Err(DecodeError::new("too_large", 0, message));
        }
        self.bytes = bytes;
        let node = self.nodes.entry(key.into()).or_default();
        if device.is_none() {
            // A node's birth ends all that was: its devices are born again after it.
            node.born.clear();
            node.bd_seq = bd_seq(payload);
        }
        node.born.insert(device.unwrap_or_default().into(), born);
        Ok(None)
    }

    /// Bytes of memory that births hold.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// What is known of a node's metrics, or a device's.
    pub(super) fn born(&mut self, key: &str, device: Option<&str>) -> Option<&mut Born> {
        self.nodes.get_mut(key)?.born.get_mut(device.unwrap_or_default())
    }

    /// Takes away what a death ends: the node with its devices, or a device. Nothing where it is of a session
    /// before the node's last birth, or older than the device's.
    pub(super) fn death(&mut self, key: &str, device: Option<&str>, payload: &Payload<'_>) -> Vec<Born> {
        let Some(node) = self.nodes.get_mut(key) else { return Vec::new() };
        let dead: Vec<Born> = match device {
            Some(device) => {
                if node.born.get(device).is_some_and(|born| born.is_after(payload)) {
                    return Vec::new();
                }
                node.born.remove(device).into_iter().collect()
            }
            None => {
                let of = bd_seq(payload);
                if of.is_some() && node.bd_seq.is_some() && of != node.bd_seq {
                    return Vec::new();
                }
                let mut dead: Vec<(Box<str>, Born)> = node.born.drain().collect();
                dead.sort_by(|a, b| a.0.cmp(&b.0));
                dead.into_iter().map(|(_, born)| born).collect()
            }
        };
        if node.born.is_empty() {
            self.nodes.remove(key);
        }
        self.bytes -= dead.iter().map(|born| born.bytes).sum::<usize>();
        dead
    }

    /// Takes note of a message's number.
    pub(super) fn follow(&mut self, key: &str, is_node_birth: bool, payload: &Payload<'_>) -> Sequence {
        let Some(seq) = payload.seq else { return Sequence::Next };
        let Some(node) = self.nodes.get_mut(key) else { return Sequence::Next };
        let time_ms = payload.timestamp.unwrap_or(node.time_ms);
        let Some(last) = node.seq.filter(|_| !is_node_birth) else {
            (node.seq, node.time_ms) = (Some(seq), time_ms);
            return Sequence::Next;
        };
        if time_ms < node.time_ms || (seq == last && time_ms == node.time_ms) {
            return Sequence::Old;
        }
        (node.seq, node.time_ms) = (Some(seq), time_ms);
        if seq == last.wrapping_add(1) {
            return Sequence::Next;
        }
        node.born.values_mut().for_each(|born| born.is_doubtful = true);
        Sequence::Broken
    }
}

/// The number of a session, in births and deaths of nodes.
fn bd_seq(payload: &Payload<'_>) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name == Some("bdSeq"))?;
    match metric.content? {
        Content::Int(number) => Some(number.into()),
        Content::Long(number) => Some(number),
        _ => None,
    }
}
