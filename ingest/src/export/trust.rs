//! The keys that may have signed what a pack is made of, and the acts that they signed.

use std::cell::RefCell;

use stillwell_schema::key_change::{KeyRing, KeyUseError, KeyWatch};
use stillwell_schema::ledger::{Deed, Erase, SignedAct, Span, View};
use stillwell_schema::{TopicPartition, paths};

use super::{ExportError, Query, Site};
use crate::evidence;
use crate::life::ledger::read_view_seeing;
use crate::manifest::expect_entry;
use crate::proof::{key_changes, key_ring};
use crate::store::ArchiveStore;
use crate::verify::{Problem, ProblemKind};

/// The archive's keys, as far as they are connected with the trusted one.
pub(super) struct Trust<'a> {
    store: &'a dyn ArchiveStore,
    trusted: String,
    ring: RefCell<KeyRing>,
}

impl<'a> Trust<'a> {
    /// Reads them. Where no key is `trusted` beforehand, the archive's own word is taken; none comes back where it holds
    /// nothing that is signed.
    pub(super) fn read(
        store: &'a dyn ArchiveStore,
        trusted: Option<&str>,
    ) -> Result<Option<Self>, ExportError> {
        let Some(current) = evidence::current_key(store)? else { return Ok(None) };
        let ring = evidence::key_ring(store)?.unwrap_or_else(|| KeyRing::of(&*current));
        let trusted = trusted.map_or(current, str::to_owned);
        connected(&ring, &trusted)?;
        Ok(Some(Self { store, trusted, ring: RefCell::new(ring) }))
    }

    /// Takes the key of the next object of the chain that `keys` watches.
    pub(super) fn check(&self, keys: &mut KeyWatch, object: &str, key: &str) -> Result<(), ExportError> {
        if self.ring.borrow().position(key).is_none() {
            // It may have come into use meanwhile.
            self.follow()?;
        }
        let object = object.to_owned();
        keys.check(&self.ring.borrow(), key).map_err(|error| match error {
            KeyUseError::Unknown(found) => ExportError::Untrusted { object, found },
            KeyUseError::Replaced(found) => ExportError::Replaced { object, found },
        })
    }

    /// The objects of all changes of key, and the newest key, hex.
    pub(super) fn changes(&self) -> Result<(Vec<String>, String), ExportError> {
        let changes = key_changes(self.store)?;
        let ring = key_ring(&changes, &self.trusted).map_err(|error| {
            let (kind, message) = (ProblemKind::Altered, error.to_string());
            ExportError::Damaged(Box::new(Problem::new(kind, paths::KEY_CHANGES, message)))
        })?;
        let newest = ring.keys().last().unwrap_or(&self.trusted).clone();
        Ok((changes, newest))
    }

    /// Brings the keys up to date.
    fn follow(&self) -> Result<(), ExportError> {
        let Some(ring) = evidence::key_ring(self.store)? else { return Ok(()) };
        connected(&ring, &self.trusted)?;
        *self.ring.borrow_mut() = ring;
        Ok(())
    }
}

/// The trusted key is one of the ring.
fn connected(ring: &KeyRing, trusted: &str) -> Result<(), ExportError> {
    if ring.position(trusted).is_some() {
        return Ok(());
    }
    let found = ring.keys().last().cloned().unwrap_or_default();
    Err(ExportError::Untrusted { object: "the archive".into(), found })
}

/// A lane's ledger, every act of it signed by a key that may.
pub(super) struct Ledger {
    pub(super) view: View,
    tombstones: Vec<SignedAct>,
}

impl Ledger {
    pub(super) fn read(site: &Site<'_>, lane: &TopicPartition) -> Result<Self, ExportError> {
        let (mut keys, mut tombstones) = (KeyWatch::default(), Vec::new());
        let view = read_view_seeing::<ExportError>(site.store, lane, &mut |path, signed| {
            site.trust.check(&mut keys, path, &signed.act.key)?;
            if matches!(signed.act.deed, Deed::Erase(_)) {
                tombstones.push(signed.clone());
            }
            Ok(())
        })?;
        Ok(Self { view, tombstones })
    }

    /// The tombstones, in order.
    pub(super) fn tombstones(&self) -> impl Iterator<Item = (&SignedAct, &Erase)> {
        self.tombstones.iter().filter_map(|signed| match &signed.act.deed {
            Deed::Erase(erase) => Some((signed, erase)),
            _ => None,
        })
    }

    /// Whether what is asked for may have been erased from these entries, by the rules that tombstones state.
    pub(super) fn may_have_erased(&self, query: &Query, span: &Span) -> bool {
        self.tombstones().any(|(_, erase)| {
            let of = &erase.cover.span;
            of.first_seq < span.next_seq && span.first_seq < of.next_seq && may_erase(query, erase)
        })
    }
}

/// Readings of a rule's class were erased where they were older than its time.
fn may_erase(query: &Query, erase: &Erase) -> bool {
    erase.rules.iter().any(|rule| query.from_us < rule.until_us)
}

/// How many tombstones may have erased what is asked for, by what the entries that they are of state.
pub(super) fn tombstones(site: &Site<'_>) -> Result<u64, ExportError> {
    let mut count = 0;
    for lane in evidence::lanes(site.store, site.query.topic.as_deref())? {
        for (_, erase) in Ledger::read(site, &lane)?.tombstones() {
            if !may_erase(site.query, erase) {
                continue;
            }
            let mut is_concerned = false;
            for seq in erase.cover.span.first_seq..erase.cover.span.next_seq {
                is_concerned |= site.query.concerns(&expect_entry(site.store, &lane, seq)?.entry);
            }
            count += u64::from(is_concerned);
        }
    }
    Ok(count)
}
