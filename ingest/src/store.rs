//! What the archive asks of the place that holds it: a folder ([`LocalStore`]) or a bucket ([`BucketStore`]).
//! [`open`] opens either; [`probe`] says before the first commit whether the place does what commits rest on.
//!
//! All methods block and are called by [`workers`](crate::workers) only.

use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use bytes::Bytes;
use stillwell_schema::{ArchiveUrl, StoreOptions};
use thiserror::Error;

mod bucket;
mod local;
mod probe;

pub use bucket::{BucketStore, check_options};
pub use local::LocalStore;
pub use probe::{ProbeError, probe};

/// Objects on their way and probes; no part of the archive.
const TEMP_FOLDER: &str = ".tmp";

/// Objects by path, relative to the archive's root and written with `/` (see [`stillwell_schema::paths`]).
///
/// What a method reports as done is durable: it survives a power cut.
pub trait ArchiveStore: Send + Sync + 'static {
    /// Stores an object, replacing one of the same path. Data files have unique names, so this replaces only
    /// what an earlier attempt of the same writer left half written.
    ///
    /// # Errors
    /// [`StoreError`]; the object may then be absent, partial or whole.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Does as [`ArchiveStore::put`], of bytes that the store may hold on to, so that it need not copy them.
    ///
    /// # Errors
    /// As [`ArchiveStore::put`].
    fn put_shared(&self, path: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.put(path, bytes)
    }

    /// Creates an object whole or not at all, unless there is one of that path. What comes between here and the
    /// store may try again and so meet its own creation: [`Creation::AlreadyExists`] does not say whose it is.
    ///
    /// # Errors
    /// [`StoreError`]; whether the object was created is then unknown.
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError>;

    /// Reads an object; none where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads an object and makes sure that what was read is durable: the read-back of a creation whose
    /// outcome is unknown. A store whose reads see only durable objects just reads.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_back(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(path)
    }

    /// Whether there is an object of that path.
    ///
    /// # Errors
    /// [`StoreError`].
    fn exists(&self, path: &str) -> Result<bool, StoreError> {
        Ok(self.get(path)?.is_some())
    }

    /// The objects directly in a folder, in no order; none where there is no such folder.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let mut all = Vec::new();
        self.visit(folder, &mut |listed| all.push(listed))?;
        Ok(all)
    }

    /// Shows the objects directly in a folder one by one, in no order: a lane of years has more than should be
    /// held at once.
    ///
    /// # Errors
    /// [`StoreError`]; `each` may have seen some.
    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError>;

    /// Shows those of them whose paths come after `after`, which is no path or one of that folder. A store that
    /// lists in order begins there, so that the end of a lane of years is found without its beginning.
    ///
    /// # Errors
    /// [`StoreError`]; `each` may have seen some.
    fn visit_after(&self, folder: &str, after: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        self.visit(folder, &mut |listed| {
            if listed.path.as_str() > after {
                each(listed);
            }
        })
    }

    /// The names of the folders directly in a folder (the root where it is empty), sorted; none where there is no
    /// such folder.
    ///
    /// # Errors
    /// [`StoreError`].
    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// Deletes an object; one that is not there is deleted already.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&self, path: &str) -> Result<(), StoreError>;
}

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is there now and durable.
    Created,
    /// There was one already; nothing changed.
    AlreadyExists,
}

/// One object of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, µs UTC, by the store's clock.
    pub modified_us: i64,
}

/// Why the store did not do it.
#[derive(Debug, Error)]
#[error("{action} {path} in the archive: {source}{remedy}")]
pub struct StoreError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: String,
    /// Whether waiting helps.
    pub kind: StoreErrorKind,
    /// What the system says.
    pub source: io::Error,
    /// What mends it, after a semicolon; empty where that is not known.
    pub remedy: &'static str,
}

/// What to do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It passes by itself or by an operator's hand (disk full, read-only, permission, I/O): try again.
    Transient,
    /// Trying again is of no use.
    Permanent,
}

impl StoreError {
    /// Wraps what the system said, telling its kind.
    pub fn new(action: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        let (kind, remedy) = (classify(&source), remedy(&source));
        Self { action, path: path.into(), kind, source, remedy }
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == StoreErrorKind::Transient
    }
}

/// Waiting is wrong only where the path itself is: everything else a disk, a mount or an operator can mend,
/// and a lane that waits loses nothing.
fn classify(error: &io::Error) -> StoreErrorKind {
    use io::ErrorKind as K;
    match error.kind() {
        K::InvalidInput
        | K::InvalidFilename
        | K::IsADirectory
        | K::NotADirectory
        | K::Unsupported
        | K::InvalidData
        | K::TooManyLinks
        | K::CrossesDevices => StoreErrorKind::Permanent,
        _ => StoreErrorKind::Transient,
    }
}

fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded => "; free space there, it goes on by itself",
        K::ReadOnlyFilesystem => "; remount it writable, it goes on by itself",
        K::PermissionDenied => "; give this user write permission there, it goes on by itself",
        K::CrossesDevices => "; the archive must lie on one file system",
        _ => "",
    }
}

/// Opens an archive. A folder is created where it is missing; a bucket is not looked at yet.
///
/// # Errors
/// [`StoreError`], where the folder cannot be created, or the options are not right.
pub fn open(url: &ArchiveUrl, options: &StoreOptions) -> Result<Arc<dyn ArchiveStore>, StoreError> {
    Ok(match url {
        ArchiveUrl::Folder(folder) => Arc::new(LocalStore::open(folder)?),
        ArchiveUrl::Bucket(bucket) => Arc::new(BucketStore::open(bucket, options)?),
    })
}

/// Creates an object; false where another has its name. An answer may be lost after the fact: what is there then
/// decides.
///
/// # Errors
/// [`StoreError`]; whether it was created is then unknown.
pub fn create(store: &dyn ArchiveStore, path: &str, bytes: &[u8]) -> Result<bool, StoreError> {
    match store.put_if_absent(path, bytes) {
        Ok(Creation::Created) => Ok(true),
        other => match (store.read_back(path)?, other) {
            (Some(found), _) => Ok(found == bytes),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Ok(false),
        },
    }
}

/// Deletes temporary objects last written before `before_us`, which writers that died left.
///
/// # Errors
/// [`StoreError`].
pub fn sweep(store: &dyn ArchiveStore, before_us: i64) -> Result<(), StoreError> {
    for listed in store.list(TEMP_FOLDER)?.iter().filter(|listed| listed.modified_us < before_us) {
        store.delete(&listed.path)?;
    }
    Ok(())
}

/// Whether `path` names something inside the archive.
fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
