//! Tells of an outage once per reason, however many letters meet it.

use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Hears why letters wait.
pub type Waiting<'a> = &'a (dyn Fn(&KafkaError) + Send + Sync);

/// The reasons that were told while one batch of letters is on its way.
pub(super) struct Outage<'a> {
    waiting: Waiting<'a>,
    told: Mutex<Vec<Option<RDKafkaErrorCode>>>,
}

impl<'a> Outage<'a> {
    pub(super) fn new(waiting: Waiting<'a>) -> Self {
        Self { waiting, told: Mutex::default() }
    }

    pub(super) fn tell(&self, reason: &KafkaError) {
        let code = reason.rdkafka_error_code();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&code) {
            told.push(code);
            (self.waiting)(reason);
        }
    }
}
