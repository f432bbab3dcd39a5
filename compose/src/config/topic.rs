//! What is read, and what reading it takes beside the bytes: `[[topic]]` and `[registry]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stillwell_source::decode::sparkplug::SparkplugSettings;
use stillwell_source::mapping::MappingSettings;

/// One `[[topic]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Partitions, where `up` creates it.
    pub partitions: i32,
    /// How its records are read where they do not say themselves: json, line, arrow, avro, protobuf or sparkplug.
    pub format: String,
    /// Unit of integer times: s, ms, us or ns; the format's own where empty.
    pub time_unit: String,
    /// Where its undecodable records go; `<name>.dlq` where empty.
    pub dead_letters: String,
    /// The share of a batch, from 0 to 1, that may go there; beyond it the partition stands still and alarms.
    pub dead_letter_share_max: f64,
    /// Files with the schema of Avro records that have no framing, after those that it refers to.
    pub schema_files: Vec<PathBuf>,
    /// File with the schema by which Avro is read; as it was written where empty.
    pub reader_schema: PathBuf,
    /// What of a foreign record is a reading ([`stillwell_source::mapping`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<MappingSettings>,
    /// How messages of Sparkplug B are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparkplug: Option<Sparkplug>,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            name: "readings".into(),
            partitions: 8,
            format: "json".into(),
            time_unit: String::new(),
            dead_letters: String::new(),
            dead_letter_share_max: 0.5,
            mapping: None,
            schema_files: Vec::new(),
            reader_schema: PathBuf::new(),
            sparkplug: None,
        }
    }
}

impl Topic {
    /// The dead letter topic.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        if self.dead_letters.is_empty() { format!("{}.dlq", self.name) } else { self.dead_letters.clone() }
    }
}

/// `[topic.sparkplug]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sparkplug {
    /// The header that holds the MQTT topic; a record without it has the topic as its key.
    pub topic_header: String,
    /// The machine of a device's messages, with {group}, {edge} and {device}.
    pub machine: String,
    /// The machine of a node's own messages, with {group} and {edge}.
    pub node_machine: String,
    /// The property that holds a metric's unit.
    pub unit_property: String,
    /// The property that holds its kind.
    pub kind_property: String,
}

impl Default for Sparkplug {
    fn default() -> Self {
        let SparkplugSettings { topic_header, machine, node_machine, unit_property, kind_property } =
            SparkplugSettings::default();
        Self { topic_header, machine, node_machine, unit_property, kind_property }
    }
}

/// `[registry]`: a Confluent schema registry, or one that speaks its interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// `http[s]://host[:port][/path]`, several separated by commas; empty where there is none.
    pub url: String,
    /// User of basic authentication; none where empty.
    pub user: String,
    /// Its password.
    pub password: String,
    /// File with the password, in the place of `password`.
    pub password_file: PathBuf,
    /// PEM file of the authorities to trust; the system's where empty.
    pub ca_file: PathBuf,
    /// How long a request may take.
    pub timeout_ms: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            timeout_ms: 5000,
        }
    }
}
