//! `[reconcile]`: how views and archive are held against each other.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stillwell_query::ReconcileSettings;

/// What was found, in the data folder.
const FILE: &str = "reconciliation.jsonl";

/// `[reconcile]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reconcile {
    /// Between two rounds; 0: only on demand.
    pub interval_s: u64,
    /// Hours that are older are compared on demand alone.
    pub look_back_h: u32,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self { interval_s: 300, look_back_h: 168 }
    }
}

impl Reconcile {
    /// As the query side takes it; `data` is where it keeps what it found.
    #[must_use]
    pub fn settings(&self, data: &Path) -> ReconcileSettings {
        ReconcileSettings {
            interval: (self.interval_s > 0).then(|| Duration::from_secs(self.interval_s)),
            look_back: Duration::from_secs(3600 * u64::from(self.look_back_h)),
            file: Some(data.join(FILE)),
        }
    }
}
