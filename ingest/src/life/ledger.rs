//! Reads a lane's ledger into its view, and adds acts to it.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use stillwell_schema::ledger::{Deed, SignedAct, View};
use stillwell_schema::{Clock, TopicPartition, paths};

use super::LifeError;
use crate::evidence;
use crate::manifest::ManifestError;
use crate::store::{self, ArchiveStore};

/// What it takes to add acts.
#[derive(Clone)]
pub struct Pen {
    /// Where the archive lies.
    pub store: Arc<dyn ArchiveStore>,
    /// Signs the acts.
    pub key: SigningKey,
    /// Who writes, as acts state it: a name and a UUID made at process start.
    pub writer: String,
    /// Dates the acts.
    pub clock: Arc<dyn Clock>,
}

/// The view of a lane now.
///
/// # Errors
/// [`ManifestError`]; of the kind [`ManifestError::Missing`] where later acts exist beyond the end found.
pub fn read_view(store: &dyn ArchiveStore, lane: &TopicPartition) -> Result<View, ManifestError> {
    read_view_seeing(store, lane, &mut |_, _| Ok(()))
}

/// The same; `see` is shown each act, by its path, before anything is taken from it, and may refuse it.
pub(crate) fn read_view_seeing<E: From<ManifestError>>(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    see: &mut dyn FnMut(&str, &SignedAct) -> Result<(), E>,
) -> Result<View, E> {
    let mut view = View::default();
    // Listed first: an act that is added meanwhile is then found by the reading alone.
    let mut listed = 0;
    let visited = store.visit(&paths::ledger_folder(lane), &mut |object| {
        listed = listed.max(paths::entry_seq(&object.path).map_or(0, |seq| seq + 1));
    });
    visited.map_err(ManifestError::from)?;
    follow_seeing(store, lane, &mut view, see)?;
    if view.head().seq < listed {
        return Err(ManifestError::Missing { path: paths::act(lane, view.head().seq) }.into());
    }
    Ok(view)
}

/// Brings a view up to date.
///
/// # Errors
/// [`ManifestError`]; the acts before the one that is named are applied.
pub fn follow(store: &dyn ArchiveStore, lane: &TopicPartition, view: &mut View) -> Result<(), ManifestError> {
    follow_seeing(store, lane, view, &mut |_, _| Ok(()))
}

fn follow_seeing<E: From<ManifestError>>(
    store: &dyn ArchiveStore,
    lane: &TopicPartition,
    view: &mut View,
    see: &mut dyn FnMut(&str, &SignedAct) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let path = paths::act(lane, view.head().seq);
        let Some(bytes) = store.get(&path).map_err(ManifestError::from)? else { return Ok(()) };
        let wrong = |source| ManifestError::Act { path: path.clone(), source: Box::new(source) };
        let act = SignedAct::parse(bytes).map_err(wrong)?;
        see(&path, &act)?;
        view.apply(lane, &act).map_err(wrong)?;
    }
}

impl Pen {
    /// Adds an act to what `view` has seen, and applies it. This is the one place at which readers are switched.
    ///
    /// # Errors
    /// [`LifeError::Raced`] where another act took its number; [`LifeError::Store`] where it is unknown whether it
    /// was created, and the view is to be read anew.
    pub fn add(&self, lane: &TopicPartition, view: &mut View, deed: Deed) -> Result<SignedAct, LifeError> {
        evidence::check_key(&*self.store, &self.key)?;
        let act = view.head().sign(lane, deed, &self.writer, self.clock.now_us(), &self.key)?;
        // An act that the lane's readers would refuse must never be created.
        let mut after = view.clone();
        after.apply(lane, &act)?;
        if !store::create(&*self.store, &paths::act(lane, act.act.seq), &act.bytes)? {
            return Err(LifeError::Raced(lane.clone()));
        }
        *view = after;
        Ok(act)
    }
}
