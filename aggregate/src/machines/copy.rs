//! The registry as this process has read it, and what of it ClickHouse has not.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::counter;
use stillwell_schema::Offset;
use stillwell_schema::machines::{Change, VersionKey};
use stillwell_source::machines::{MachineLog, MachineRecord};
use stillwell_source::scan::{End, ScanError};
use stillwell_source::settings::KafkaSettings;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Trouble;
use super::rows::{Keys, Mark, Row, Stored, another, strays};

/// How old the copy may look though nothing is new.
const MARK_EVERY: Duration = Duration::from_secs(10);

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Everything that the topic holds was read.
    Whole,
    /// It was told to stop.
    Stopped,
    /// There is no such topic.
    NoTopic,
}

impl Found {
    /// What the board says.
    pub(super) fn detail(self, topic: &str) -> String {
        match self {
            Self::NoTopic => {
                format!("there is no topic {topic} yet; `stillwell machines import` makes it")
            }
            Self::Whole | Self::Stopped => String::new(),
        }
    }
}

/// The copy.
pub(super) struct LocalCopy {
    log: MachineLog,
    topic: String,
    /// The versions that the registry has.
    keys: Keys,
    /// What ClickHouse has not.
    pending: BTreeMap<VersionKey, Row>,
    /// Whether what ClickHouse had at the start was held against the topic.
    is_compared: bool,
    /// How far the topic was read when ClickHouse was last told, and when that was.
    marked: Option<(BTreeMap<i32, Offset>, Instant)>,
}

impl LocalCopy {
    pub(super) fn new(kafka: &KafkaSettings, topic: &str) -> Result<Self, ScanError> {
        Ok(Self {
            log: MachineLog::new(kafka, topic)?,
            topic: topic.to_owned(),
            keys: Keys::new(),
            pending: BTreeMap::new(),
            is_compared: false,
            marked: None,
        })
    }

    /// Reads what is new in the topic. Blocks.
    pub(super) fn read(&mut self, stop: &CancellationToken) -> Result<Found, ScanError> {
        let (keys, pending, topic) = (&mut self.keys, &mut self.pending, &self.topic);
        let end = self.log.read(stop, |record| take(record, topic, keys, pending));
        match end {
            Ok(End::Whole) => Ok(Found::Whole),
            Ok(End::Stopped) => Ok(Found::Stopped),
            // One that was there and is gone is missed.
            Err(ScanError::NoTopic(_)) if self.log.next().is_empty() => Ok(Found::NoTopic),
            Err(error) => Err(error),
        }
    }

    /// Whether ClickHouse was told further than the topic goes: then it is another topic.
    pub(super) fn check(&self, marks: &[Mark]) -> Result<(), Trouble> {
        for &Mark { partition, position } in marks {
            if let Some(end) = self.next().get(&partition).filter(|end| end.0 < position) {
                return Err(Trouble::MadeAnew { topic: self.topic.clone(), end: end.0, position });
            }
        }
        Ok(())
    }

    /// Takes back what ClickHouse has and the topic does not.
    ///
    /// # Errors
    /// [`Trouble`] where it is rather the topic that is wrong.
    pub(super) fn compare(&mut self, stored: &[Stored]) -> Result<(), Trouble> {
        if let Some((key, offset, stored)) = another(stored, &self.keys, self.next()) {
            return Err(Trouble::Another { topic: self.topic.clone(), key: key.to_string(), offset, stored });
        }
        let strays = strays(stored, &self.keys, self.next());
        let low = self.log.low().values().map(|low| low.0).max().unwrap_or(0);
        if is_expired(strays.len(), stored.len(), low) {
            return Err(Trouble::Expired { topic: self.topic.clone(), low, versions: stored.len() });
        }
        self.pending.extend(strays);
        self.is_compared = true;
        Ok(())
    }

    pub(super) fn is_compared(&self) -> bool {
        self.is_compared
    }

    /// What ClickHouse has not.
    pub(super) fn pending(&self) -> &BTreeMap<VersionKey, Row> {
        &self.pending
    }

    /// Whether ClickHouse is to hear how far the topic was read.
    pub(super) fn is_mark_due(&self) -> bool {
        let is_fresh =
            |(next, at): &(BTreeMap<i32, Offset>, Instant)| next == self.next() && at.elapsed() < MARK_EVERY;
        !self.marked.as_ref().is_some_and(is_fresh)
    }

    /// ClickHouse has all of it, and heard so.
    pub(super) fn marked(&mut self) {
        self.pending.clear();
        self.marked = Some((self.log.next().clone(), Instant::now()));
    }

    pub(super) fn next(&self) -> &BTreeMap<i32, Offset> {
        self.log.next()
    }

    pub(super) fn versions(&self) -> usize {
        self.keys.len()
    }
}

/// Whether a topic that begins at `low` has lost what it said of the versions that are stored, all of which would be
/// taken back.
fn is_expired(strays: usize, stored: usize, low: i64) -> bool {
    low > 0 && stored > 0 && strays == stored
}

fn take(record: MachineRecord, topic: &str, keys: &mut Keys, pending: &mut BTreeMap<VersionKey, Row>) {
    let MachineRecord { partition, offset, change } = record;
    match change {
        Ok(change) => {
            let key = change.key();
            match &change {
                Change::Put(_) => keys.insert(key.clone(), offset),
                Change::TakeBack(_) => keys.remove(&key),
            };
            pending.insert(key, Row { partition, version: offset, change });
        }
        Err(error) => {
            counter!("stillwell_machine_records_refused_total").increment(1);
            tracing::warn!(topic, partition, offset, %error, "a record of the machine registry says nothing and is passed over");
        }
    }
}

#[cfg(test)]
mod tests {
    use stillwell_schema::machines::{MachineError, MachineVersion, Moment};

    use super::*;

    #[test]
    fn a_record_is_a_row_and_one_that_says_nothing_is_none() {
        let (mut keys, mut pending) = (Keys::new(), BTreeMap::new());
        let version = MachineVersion {
            machine: "press".to_owned(),
            site: String::new(),
            line: String::new(),
            model: String::new(),
            valid_from: Moment::from_us(0).unwrap(),
            sensors: BTreeMap::new(),
        };
        let record = |offset, change| MachineRecord { partition: 0, offset, change };
        take(record(3, Ok(Change::Put(version.clone()))), "t", &mut keys, &mut pending);
        assert_eq!(keys, Keys::from([(version.key(), 3)]));
        take(record(4, Err(MachineError::Key("press".to_owned()))), "t", &mut keys, &mut pending);
        take(record(5, Ok(Change::TakeBack(version.key()))), "t", &mut keys, &mut pending);
        assert!(keys.is_empty());
        let row = Row { partition: 0, version: 5, change: Change::TakeBack(version.key()) };
        assert_eq!(pending, BTreeMap::from([(version.key(), row)]));
    }

    #[test]
    fn a_topic_that_lost_everything_to_its_age_takes_nothing_back() {
        assert!(is_expired(3, 3, 1));
        // All was taken back by records that were compacted away; some was; there was nothing.
        assert!(!is_expired(3, 3, 0) && !is_expired(2, 3, 1) && !is_expired(0, 0, 1));
    }
}
