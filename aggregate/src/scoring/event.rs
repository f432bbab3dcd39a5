//! An event: from the row that crosses the threshold to the one that ends it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stillwell_models::{Model, RowScore};
use stillwell_schema::TopicPartition;

use super::rows::Ended;
use crate::alerts::Alert;

/// Hex digits of an id: 128 bits.
const ID_CHARACTERS: usize = 32;

/// An anomaly, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) time_us: i64,
    pub(super) until_us: Option<i64>,
    pub(super) sensors: Vec<String>,
    pub(super) score: f32,
    pub(super) peak: f32,
    pub(super) threshold: f32,
    pub(super) model: String,
    pub(super) offset: i64,
}

impl Event {
    /// The event that begins with a row.
    pub(super) fn new(
        lane: &TopicPartition,
        machine: &str,
        model: &Model,
        row: &Ended,
        scored: &RowScore,
    ) -> Self {
        // The row's place in the log and its machine: whoever folds the log gives it the same id.
        let place = format!("{}/{}/{}/{}/{machine}", lane.topic, lane.partition, row.offset, row.time_us);
        let mut id = hex::encode(Sha256::digest(place));
        id.truncate(ID_CHARACTERS);
        Self {
            id,
            time_us: row.time_us,
            until_us: None,
            sensors: names(model, scored),
            score: scored.score,
            peak: scored.score,
            threshold: model.threshold(),
            model: model.hash().to_owned(),
            offset: row.offset,
        }
    }

    /// Takes the score of a later row of the event; whether that is its highest.
    pub(super) fn rise(&mut self, model: &Model, scored: &RowScore) -> bool {
        if scored.score <= self.peak {
            return false;
        }
        self.peak = scored.score;
        self.sensors = names(model, scored);
        true
    }

    /// As it is told to others, when it begins.
    pub(super) fn alert(&self, lane: &TopicPartition, machine: &str) -> Alert {
        let time = chrono::DateTime::from_timestamp_micros(self.time_us).unwrap_or_default();
        Alert {
            id: self.id.clone(),
            machine: machine.to_owned(),
            time: time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            sensors: self.sensors.clone(),
            score: self.score,
            threshold: self.threshold,
            model: self.model.clone(),
            topic: lane.topic.to_string(),
            partition: lane.partition,
            offset: self.offset,
        }
    }
}

fn names(model: &Model, scored: &RowScore) -> Vec<String> {
    scored.contributors.iter().map(|&(sensor, _)| model.sensors()[sensor].clone()).collect()
}
