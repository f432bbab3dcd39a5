//! What a lane's readers see: which act covers which entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{Offset, TopicPartition};

use super::{ActError, Cover, Deed, Erase, Hold, LedgerHead, Merge, SignedAct};

/// The sum of a lane's acts.
///
/// An act covers whole entries and whole covers: it may supersede earlier ones, never a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    head: LedgerHead,
    /// By their first entry; they do not overlap.
    covers: BTreeMap<u64, Standing>,
    /// First entries by first offset.
    firsts: BTreeMap<Offset, u64>,
    holds: BTreeMap<String, Hold>,
}

/// A cover that no later act supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The act's seq.
    pub act: u64,
    /// When it was written, µs UTC: since then the files it supersedes are in no view.
    pub written_us: i64,
    /// The files.
    pub cover: Arc<Cover>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            head: LedgerHead::genesis(),
            covers: BTreeMap::new(),
            firsts: BTreeMap::new(),
            holds: BTreeMap::new(),
        }
    }
}

impl View {
    /// The end of the ledger.
    #[must_use]
    pub fn head(&self) -> &LedgerHead {
        &self.head
    }

    /// The cover of entry number `seq`; none where its own files are read.
    #[must_use]
    pub fn covering(&self, seq: u64) -> Option<&Standing> {
        let (_, standing) = self.covers.range(..=seq).next_back()?;
        standing.cover.span.contains(seq).then_some(standing)
    }

    /// The cover of the entry that `offset` lies in; none where there is none, or its own files are read.
    #[must_use]
    pub fn covering_offset(&self, offset: Offset) -> Option<&Standing> {
        let standing = self.covers.get(self.firsts.range(..=offset).next_back()?.1)?;
        standing.cover.span.range.contains(offset).then_some(standing)
    }

    /// All covers in the order of their entries.
    pub fn covers(&self) -> impl DoubleEndedIterator<Item = &Standing> {
        self.covers.values()
    }

    /// The holds that are not released, by name.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// Applies the next act of `lane`; returns the covers that it supersedes. On error nothing changes.
    ///
    /// # Errors
    /// [`ActError`] where it does not follow, or covers what it must not.
    pub fn apply(&mut self, lane: &TopicPartition, act: &SignedAct) -> Result<Vec<Standing>, ActError> {
        self.head.check(lane, &act.act)?;
        let superseded = match &act.act.deed {
            Deed::Merge(Merge { cover }) | Deed::Erase(Erase { cover, .. }) => {
                let superseded = self.superseded(cover);
                let superseded = superseded.map_err(|reason| ActError::Cover { seq: act.act.seq, reason })?;
                let standing = Standing {
                    act: act.act.seq,
                    written_us: act.act.written_us,
                    cover: Arc::new(cover.clone()),
                };
                for old in &superseded {
                    self.covers.remove(&old.cover.span.first_seq);
                    self.firsts.remove(&old.cover.span.range.first);
                }
                self.firsts.insert(cover.span.range.first, cover.span.first_seq);
                self.covers.insert(cover.span.first_seq, standing);
                superseded
            }
            Deed::Hold(hold) => {
                self.holds.insert(hold.id.clone(), hold.clone());
                Vec::new()
            }
            // A release that was written twice, by one who did not hear the first answer, is no damage.
            Deed::Release(release) => {
                self.holds.remove(&release.id);
                Vec::new()
            }
        };
        self.head = act.head();
        Ok(superseded)
    }

    fn superseded(&self, new: &Cover) -> Result<Vec<Standing>, String> {
        let mut superseded = Vec::new();
        for old in self.covers.range(..new.span.next_seq).rev().map(|(_, standing)| standing) {
            let (was, is) = (&old.cover.span, &new.span);
            if was.next_seq <= is.first_seq {
                break;
            }
            let whole = is.first_seq <= was.first_seq && was.next_seq <= is.next_seq;
            if !whole {
                return Err(format!("it covers a part of act {}", old.act));
            }
            if let Some(lost) = old.cover.leaves.iter().find(|leaves| !new.leaves.contains(leaves)) {
                return Err(format!("it drops the leaves of erased records in {}", lost.file.path));
            }
            superseded.push(old.clone());
        }
        superseded.reverse();
        Ok(superseded)
    }
}
