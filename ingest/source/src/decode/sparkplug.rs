//! Sparkplug B: what edge nodes publish over MQTT, brought to Kafka by a bridge.
//!
//! A record's value is a payload ([`payload`]); its MQTT topic ([`topic`]) stands in a header, or is the key. Each
//! metric is a reading: the machine is the group, the edge node and the device, the sensor is the metric's name, kind
//! and unit are properties of its birth. A birth's own values are readings as well.
//!
//! **State.** Data name their metrics by aliases that a birth gave out, and leave out types. A lane keeps the births
//! that it has seen ([`nodes`]); it begins without any after a start or a rebalance, and those before its first
//! offset are not read. What only such a birth could tell is never guessed: a metric whose alias is not known makes
//! its record a data error `unresolved_alias`, one whose integer has no type, `unknown_datatype`. Such records are kept
//! in the archive and the dead letters, and can be sent again after the node's next birth; however many they are, they
//! halt no lane ([`crate::halt`]). A bridge must keep a node's messages in one partition, in order.
//!
//! **Quality**, as OPC UA has it: 192 is good, 0 is bad, 500 (stale) is `UncertainLastUsableValue` ([`payload`]).
//!
//! | what happens | what becomes of it |
//! |---|---|
//! | a number is missing in a node's sequence | until the next birth of the node or device, what is named by an alias is uncertain: a birth may be among what was lost. What is named by itself is as good as it says |
//! | a message comes again, or is older than the last one | it is read, and moves no sequence |
//! | a message is older than the birth that it is read by | what is named by an alias is uncertain |
//! | a node's or device's death | each metric of a value that it had becomes a reading without one, stale, at the time of the death; its births are forgotten. A node's will was written when it connected, so its time is the Kafka record's |
//! | a birth is older than the one that is known | its own values are read, and the newer one holds |
//! | a device's death is older than its birth | nothing |
//! | a death of another session (`bdSeq`) than the last birth's | nothing |
//! | commands, `STATE` | no readings |
//! | data sets, templates, bytes, files, arrays | no reading, counted in `stillwell_sparkplug_skipped_total` |
//!
//! Source: the Sparkplug 3.0 specification, sparkplug.eclipse.org/specification/version/3.0.

use metrics::counter;
use stillwell_schema::quality::{UNCERTAIN, is_bad};

use super::json::time::from_epoch;
use super::rows::{Follow, Measured, Names, Rows};
use super::{DecodeError, DecodeFault, Decoder};
use crate::chunk::RecordRef;
use crate::columns::ReadingColumns;
use crate::series::SeriesTable;
use crate::settings::TimeUnit;

use nodes::{Born, Known, Nodes, Sequence};
use payload::{Metric, Payload, PropertyNames, STALE, Value};
use topic::{Kind, Topic};

mod nodes;
mod payload;
mod topic;

#[cfg(test)]
mod tests;

/// How messages are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkplugSettings {
    /// The header that holds the MQTT topic; a record without it has the topic as its key.
    pub topic_header: String,
    /// The machine's name of a device's messages: text with {group}, {edge} and {device}.
    pub machine: String,
    /// The machine's name of a node's own messages: text with {group} and {edge}.
    pub node_machine: String,
    /// The property that holds a metric's unit.
    pub unit_property: String,
    /// The property that holds its kind.
    pub kind_property: String,
}

impl Default for SparkplugSettings {
    fn default() -> Self {
        Self {
            topic_header: "mqtt.topic".to_owned(),
            machine: "{group}/{edge}/{device}".to_owned(),
            node_machine: "{group}/{edge}".to_owned(),
            unit_property: "engUnit".to_owned(),
            kind_property: "kind".to_owned(),
        }
    }
}

impl SparkplugSettings {
    fn name(&self, topic: &Topic<'_>) -> String {
        let text = if topic.device.is_some() { &self.machine } else { &self.node_machine };
        let mut name = String::new();
        let mut rest = text.as_str();
        // A name that holds braces is not read again.
        while let Some(at) = rest.find('{') {
            name.push_str(&rest[..at]);
            rest = &rest[at..];
            let parts = [
                ("{group}", topic.group),
                ("{edge}", topic.edge),
                ("{device}", topic.device.unwrap_or_default()),
            ];
            match parts.iter().find_map(|(sign, part)| Some((rest.strip_prefix(sign)?, part))) {
                Some((after, part)) => {
                    name.push_str(part);
                    rest = after;
                }
                None => {
                    name.push('{');
                    rest = &rest[1..];
                }
            }
        }
        name + rest
    }
}

/// Decodes Sparkplug B of one lane.
#[derive(Debug)]
pub struct SparkplugDecoder {
    settings: SparkplugSettings,
    nodes: Nodes,
    follow: Follow,
    /// The number of the table at hand.
    table: u64,
}

impl SparkplugDecoder {
    /// By the topic's settings.
    #[must_use]
    pub fn new(settings: SparkplugSettings) -> Self {
        Self { settings, nodes: Nodes::default(), follow: Follow::default(), table: 0 }
    }

    fn read(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeError> {
        let topic = self.topic(record)?;
        if topic.kind == Kind::Other {
            counter!("stillwell_sparkplug_skipped_total", "what" => "command").increment(1);
            return Ok(());
        }
        let names = PropertyNames { unit: &self.settings.unit_property, kind: &self.settings.kind_property };
        let payload = Payload::parse(record.bytes(), names)?;
        let key = format!("{}/{}", topic.group, topic.edge);
        let machine = self.settings.name(&topic);
        let message =
            Message { machine: &machine, key: &key, topic, payload: &payload, kafka_ms: record.timestamp_ms };
        let mut rows = Rows::new(number, &mut self.follow, table, out);
        let read = match topic.kind {
            Kind::Death => message.death(&mut self.nodes, &mut rows),
            Kind::Birth => self
                .nodes
                .birth(&key, topic.device, &machine, &payload)
                .and_then(|mut old| message.data(&mut self.nodes, old.as_mut(), self.table, &mut rows)),
            _ => message.data(&mut self.nodes, None, self.table, &mut rows),
        };
        if read.is_err() {
            rows.undo();
        }
        read
    }

    fn topic<'r>(&self, record: &RecordRef<'r>) -> Result<Topic<'r>, DecodeError> {
        let header = record.headers().find(|(name, _)| *name == self.settings.topic_header);
        let text = header.and_then(|(_, value)| value).or(record.key);
        let Some(text) = text else {
            let message = format!(
                "there is neither a header {} nor a key to name the MQTT topic",
                self.settings.topic_header
            );
            return Err(DecodeError::new("bad_topic", 0, message));
        };
        Topic::parse(text).map_err(|reason| {
            let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
            DecodeError::new("bad_topic", 0, format!("the MQTT topic {text:?} {reason}"))
        })
    }
}

impl Decoder for SparkplugDecoder {
    fn decode(
        &mut self,
        record: &RecordRef<'_>,
        number: u32,
        table: &mut SeriesTable,
        out: &mut ReadingColumns,
    ) -> Result<(), DecodeFault> {
        Ok(self.read(record, number, table, out)?)
    }

    fn needs_history(&mut self, _record: &RecordRef<'_>) -> bool {
        true
    }

    fn new_table(&mut self) {
        self.follow = Follow::default();
        self.table += 1;
    }

    fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes()
    }
}

/// A message, with all that names it.
struct Message<'m> {
    topic: Topic<'m>,
    key: &'m str,
    machine: &'m str,
    payload: &'m Payload<'m>,
    kafka_ms: i64,
}

impl Message<'_> {
    /// The readings of a birth or of data; of an old birth, by itself.
    fn data(
        &self,
        nodes: &mut Nodes,
        old: Option<&mut Born>,
        table: u64,
        rows: &mut Rows<'_>,
    ) -> Result<(), DecodeError> {
        let is_node_birth = self.topic.kind == Kind::Birth && self.topic.device.is_none();
        // What is older than the births that are known has no place in what came after them.
        if old.is_none() && nodes.follow(self.key, is_node_birth, self.payload) == Sequence::Broken {
            counter!("stillwell_sparkplug_sequence_breaks_total").increment(1);
            if self.topic.kind == Kind::Birth
                && let Some(born) = nodes.born(self.key, self.topic.device)
            {
                born.is_doubtful = false;
            }
        }
        let mut born = match old {
            Some(old) => Some(old),
            None => nodes.born(self.key, self.topic.device),
        };
        let is_doubtful = born.as_ref().is_some_and(|born| born.is_doubtful || born.is_after(self.payload));
        for metric in &self.payload.metrics {
            let at = metric.at;
            let known = born.as_mut().and_then(|born| {
                let i = born.find(metric)?;
                Some(&mut born.metrics[i])
            });
            if known.is_none() && metric.name.is_none() {
                return Err(self.unresolved(metric));
            }
            let datatype = metric.datatype.or(known.as_ref().and_then(|known| known.datatype));
            let (value, text) = match metric.value(datatype)? {
                None => (None, None),
                Some(Value::Number(number)) => (Some(number), None),
                Some(Value::Text(text)) => (None, Some(text)),
                Some(Value::Other) => {
                    counter!("stillwell_sparkplug_skipped_total", "what" => "metric").increment(1);
                    rows.skip(at)?;
                    continue;
                }
            };
            let mut quality = metric.properties.quality.unwrap_or_default();
            if metric.name.is_none() && is_doubtful && !is_bad(quality) {
                quality |= UNCERTAIN;
            }
            let time_us = self.time_us(metric)?;
            let measured = Measured { time_us, value, text, quality };
            match known {
                Some(known) => {
                    let code = match known.code {
                        Some((of, code)) if of == table => code,
                        _ => {
                            let code = rows.intern(known.names(self.machine), at)?;
                            known.code = Some((table, code));
                            code
                        }
                    };
                    rows.push_coded(code, measured, at)?;
                }
                None => {
                    let name = metric.name.unwrap_or_default();
                    let [kind, unit] = [metric.properties.kind, metric.properties.unit];
                    let names = Names {
                        machine: self.machine.as_bytes(),
                        sensor: name.as_bytes(),
                        kind: kind.unwrap_or_default().as_bytes(),
                        unit: unit.unwrap_or_default().as_bytes(),
                    };
                    rows.push(names, measured, at)?;
                }
            }
        }
        Ok(())
    }

    /// All metrics of the dead are stale.
    fn death(&self, nodes: &mut Nodes, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
        if self.topic.device.is_some() && nodes.follow(self.key, false, self.payload) == Sequence::Broken {
            counter!("stillwell_sparkplug_sequence_breaks_total").increment(1);
        }
        let kafka = from_epoch(self.kafka_ms, TimeUnit::Millis).filter(|_| self.kafka_ms >= 0);
        let sent = self.payload.timestamp.and_then(epoch_us);
        let time_us = if self.topic.device.is_some() { sent.or(kafka) } else { kafka.or(sent) };
        let Some(time_us) = time_us else {
            return Err(DecodeError::new("bad_time", 0, "neither the death nor its record has a time"));
        };
        for born in nodes.death(self.key, self.topic.device, self.payload) {
            for known in born.metrics.iter().filter(|known| payload::is_value(known.datatype)) {
                let measured = Measured { time_us, quality: STALE, ..Measured::default() };
                rows.push(known.names(&born.machine), measured, 0)?;
            }
        }
        Ok(())
    }

    fn time_us(&self, metric: &Metric<'_>) -> Result<i64, DecodeError> {
        let Some(ms) = metric.timestamp.or(self.payload.timestamp) else {
            return from_epoch(self.kafka_ms, TimeUnit::Millis).filter(|_| self.kafka_ms >= 0).ok_or_else(
                || DecodeError::new("bad_time", metric.at, "neither metric, payload nor record has a time"),
            );
        };
        epoch_us(ms).ok_or_else(|| {
            DecodeError::new("bad_time", metric.at, format!("{ms} ms is not within the years 1678 to 2262"))
        })
    }

    fn unresolved(&self, metric: &Metric<'_>) -> DecodeError {
        match metric.alias {
            Some(alias) => {
                let message = format!("no birth of {} that was seen gives the alias {alias}", self.machine);
                DecodeError::new("unresolved_alias", metric.at, message)
            }
            None => DecodeError::new("missing_field", metric.at, "a metric has neither a name nor an alias"),
        }
    }
}

impl Known {
    fn names<'k>(&'k self, machine: &'k str) -> Names<'k> {
        Names {
            machine: machine.as_bytes(),
            sensor: self.name.as_bytes(),
            kind: self.kind.as_bytes(),
            unit: self.unit.as_bytes(),
        }
    }
}

fn epoch_us(ms: u64) -> Option<i64> {
    from_epoch(i64::try_from(ms).ok()?, TimeUnit::Millis)
}
