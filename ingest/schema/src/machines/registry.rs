//! All versions of all machines, and which of them holds when.

use std::collections::BTreeMap;

use super::moment::Moment;
use super::version::{Change, MachineVersion, VersionKey};

/// What the topic says: its records, applied in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineRegistry {
    versions: BTreeMap<VersionKey, MachineVersion>,
}

impl MachineRegistry {
    /// Does what a record says. False where that was so already.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Put(version) if self.get(&version.key()) == Some(&version) => false,
            Change::Put(version) => {
                self.versions.insert(version.key(), version);
                true
            }
            Change::TakeBack(key) => self.versions.remove(&key).is_some(),
        }
    }

    /// Number of versions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether it knows no machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The version of that name.
    #[must_use]
    pub fn get(&self, key: &VersionKey) -> Option<&MachineVersion> {
        self.versions.get(key)
    }

    /// Every version, by machine and then time.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = &MachineVersion> {
        self.versions.values()
    }

    /// Every version with the time at which the machine's next one takes its place, by machine and then time.
    pub fn history(&self) -> impl Iterator<Item = (&MachineVersion, Option<Moment>)> {
        let next = self.versions.values().skip(1).map(Some).chain([None]);
        self.versions.values().zip(next).map(|(version, next)| {
            let next = next.filter(|next| next.machine == version.machine);
            (version, next.map(|next| next.valid_from))
        })
    }

    /// The version of each machine that holds at `time_us`, µs UTC, by machine.
    pub fn at(&self, time_us: i64) -> impl Iterator<Item = &MachineVersion> {
        let holds = move |(version, until): &(&MachineVersion, Option<Moment>)| {
            version.valid_from.us() <= time_us && until.is_none_or(|until| time_us < until.us())
        };
        self.history().filter(holds).map(|(version, _)| version)
    }
}

impl FromIterator<MachineVersion> for MachineRegistry {
    /// Of two of one name the later counts.
    fn from_iter<I: IntoIterator<Item = MachineVersion>>(versions: I) -> Self {
        Self { versions: versions.into_iter().map(|version| (version.key(), version)).collect() }
    }
}
