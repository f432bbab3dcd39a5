//! Whether a place does what the commit protocol rests on. Asked of the place itself before the first commit: what
//! is sold as compatible may leave out the one thing that keeps two writers apart.

use std::io;

use thiserror::Error;
use uuid::Uuid;

use super::{ArchiveStore, Creation, StoreError, TEMP_FOLDER};

/// Creations that race for one name. A store that looks first and writes then lets more than one win.
const RACERS: u8 = 8;

/// Races, each for a name of its own: a store that loses one in two is found in 255 of 256 starts.
const RACES: usize = 8;

/// Why a place is not taken.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It did not answer; what it can do is not known yet.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot hold an archive.
    #[error(
        "the archive {archive} cannot be kept there: {lacks}; two writers could overwrite each other's commits, choose another store"
    )]
    Unfit {
        /// The place.
        archive: String,
        /// What is missing.
        lacks: String,
    },
}

/// Tries what commits need: creation that one of many wins and nobody undoes, and that what was stored is read,
/// listed and deleted. Blocks for some dozens of requests.
///
/// # Errors
/// [`ProbeError`].
pub fn probe(store: &dyn ArchiveStore, archive: &str) -> Result<(), ProbeError> {
    let probe = Probe { store, archive, unique: Uuid::new_v4().to_string() };
    let done = probe.alone().and_then(|()| (0..RACES).try_for_each(|race| probe.race(race)));
    // What stays is swept by age.
    let _ = probe.clean();
    done
}

struct Probe<'a> {
    store: &'a dyn ArchiveStore,
    archive: &'a str,
    unique: String,
}

impl Probe<'_> {
    fn path(&self, name: &str) -> String {
        format!("{TEMP_FOLDER}/{}-{name}.probe", self.unique)
    }

    fn unfit(&self, lacks: impl Into<String>) -> ProbeError {
        ProbeError::Unfit { archive: self.archive.to_owned(), lacks: lacks.into() }
    }

    fn alone(&self) -> Result<(), ProbeError> {
        let (plain, created) = (self.path("plain"), self.path("created"));
        self.store.put(&plain, b"plain")?;
        if self.store.get(&plain)?.as_deref() != Some(b"plain") {
            return Err(self.unfit("an object that was written reads as another or none"));
        }
        if self.create(&created, b"first")? != Creation::Created {
            return Err(self.unfit("an object of a new name cannot be created"));
        }
        let second = self.create(&created, b"second")?;
        let found = self.store.read_back(&created)?;
        if second == Creation::Created || found.as_deref() != Some(b"first") {
            return Err(self.unfit(
                "it has no conditional create: a second object was created over the first \
                 (S3: If-None-Match on PutObject is ignored)",
            ));
        }
        let listed = self.store.list(TEMP_FOLDER)?;
        if !listed.iter().any(|listed| listed.path == created && listed.bytes == 5) {
            return Err(self.unfit("an object that was created is not listed"));
        }
        self.store.delete(&created)?;
        if self.store.exists(&created)? {
            return Err(self.unfit("an object that was deleted is still there"));
        }
        Ok(())
    }

    /// A folder may take files, but no hard links, by which they are created whole or not at all.
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Creation, ProbeError> {
        self.store.put_if_absent(path, bytes).map_err(|error| match error.source.kind() {
            io::ErrorKind::Unsupported => self.unfit(format!("it has no conditional create ({error})")),
            // Not the rights: the file beside it was just written.
            io::ErrorKind::PermissionDenied if error.source.raw_os_error().is_some() => {
                self.unfit(format!("its file system makes no hard links ({error})"))
            }
            _ => error.into(),
        })
    }

    fn race(&self, race: usize) -> Result<(), ProbeError> {
        let (store, path) = (self.store, &self.path(&race.to_string()));
        let created: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0..RACERS).map(|i| scope.spawn(move || store.put_if_absent(path, &[i]))).collect();
            let ends = racers.into_iter().map(|racer| match racer.join() {
                Ok(end) => end,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // One that failed may have won all the same; then no other has.
            (0..).zip(ends).filter(|(_, end)| matches!(end, Ok(Creation::Created))).map(|(i, _)| i).collect()
        });
        let found = store.read_back(path)?;
        match (&*created, found.as_deref()) {
            ([], _) => Ok(()),
            ([winner], Some([found])) if winner == found => Ok(()),
            _ => Err(self.unfit(format!(
                "its conditional create does not hold under load: {} of {RACERS} at once created the same object",
                created.len()
            ))),
        }
    }

    fn clean(&self) -> Result<(), StoreError> {
        let races = (0..RACES).map(|race| race.to_string());
        let mut names = ["plain", "created"].map(str::to_owned).into_iter().chain(races);
        names.try_for_each(|name| self.store.delete(&self.path(&name)))
    }
}
