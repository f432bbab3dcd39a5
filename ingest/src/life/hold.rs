//! Legal hold: readings of some machines and times, and the records they came in, are not erased while it stands.
//!
//! A hold is an act in the ledger of every lane of its topic. It holds as long as one lane has it, also in lanes that
//! came later: one that was added half way holds, and so does one that was released half way. Lanes that know
//! different holds by one name, as two processes may leave them, are each taken at their word: all of them hold.

use serde::Serialize;
use stillwell_schema::TopicPartition;
use stillwell_schema::ledger::{Deed, Hold, Release, View};

use super::LifeError;
use super::ledger::{Pen, follow, read_view};
use crate::evidence::lanes;
use crate::manifest::ManifestError;
use crate::store::ArchiveStore;

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What is held.
    pub hold: Hold,
    /// The partitions whose ledgers say so.
    pub partitions: Vec<i32>,
}

/// The holds of a topic that stand in at least one lane, by name. Those of one name that differ are all there.
///
/// # Errors
/// [`ManifestError`].
pub fn list(store: &dyn ArchiveStore, topic: &str) -> Result<Vec<Standing>, ManifestError> {
    let mut all = Vec::<Standing>::new();
    for lane in lanes(store, Some(topic))? {
        for hold in read_view(store, &lane)?.holds() {
            match all.iter_mut().find(|standing| standing.hold == *hold) {
                Some(standing) => standing.partitions.push(lane.partition),
                None => all.push(Standing { hold: hold.clone(), partitions: vec![lane.partition] }),
            }
        }
    }
    all.sort_by(|one, other| one.hold.id.cmp(&other.hold.id));
    Ok(all)
}

/// Adds a hold to every lane of a topic that has none of its name; returns to how many. Blocks.
///
/// # Errors
/// [`LifeError`]; it stands in the lanes before. Adding it again completes it. [`LifeError::HoldTaken`] where any lane
/// has another hold of its name.
pub fn add(pen: &Pen, topic: &str, hold: &Hold) -> Result<usize, LifeError> {
    let lacks = |lane: &TopicPartition, view: &View| {
        let Some(there) = view.holds().find(|one| one.id == hold.id) else {
            return Ok(Some(Deed::Hold(hold.clone())));
        };
        if there == hold {
            return Ok(None);
        }
        Err(LifeError::HoldTaken {
            lane: lane.clone(),
            id: hold.id.clone(),
            machines: there.machines.clone(),
        })
    };
    // No lane gets it before all are known to take it.
    for lane in lanes(&*pen.store, Some(topic))? {
        lacks(&lane, &read_view(&*pen.store, &lane)?)?;
    }
    each_lane(pen, topic, lacks)
}

/// Ends a hold in every lane of a topic that has it; returns in how many. Blocks.
///
/// # Errors
/// [`LifeError`]; it holds until it is ended in all lanes. Releasing it again completes it.
pub fn release(pen: &Pen, topic: &str, release: &Release) -> Result<usize, LifeError> {
    each_lane(pen, topic, |_, view| {
        let is_there = view.holds().any(|one| one.id == release.id);
        Ok(is_there.then(|| Deed::Release(release.clone())))
    })
}

/// Adds the act that a lane lacks, if it lacks one; one that lost its number to another is tried again.
fn each_lane(
    pen: &Pen,
    topic: &str,
    lacks: impl Fn(&TopicPartition, &View) -> Result<Option<Deed>, LifeError>,
) -> Result<usize, LifeError> {
    let mut added = 0;
    for lane in lanes(&*pen.store, Some(topic))? {
        let mut view = read_view(&*pen.store, &lane)?;
        while let Some(deed) = lacks(&lane, &view)? {
            match pen.add(&lane, &mut view, deed) {
                Ok(_) => added += 1,
                Err(LifeError::Raced(_)) => follow(&*pen.store, &lane, &mut view)?,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(added)
}

/// Whether a hold is about this source time. A record whose machines nobody knows may be of any, so this alone holds it.
pub(super) fn holds_time(hold: &Hold, time_us: i64) -> bool {
    hold.from_us.is_none_or(|from| from <= time_us) && hold.until_us.is_none_or(|until| time_us < until)
}

/// The lane's topic's holds, now.
pub(super) fn of(pen: &Pen, lane: &TopicPartition) -> Result<Vec<Hold>, ManifestError> {
    Ok(list(&*pen.store, &lane.topic)?.into_iter().map(|standing| standing.hold).collect())
}
