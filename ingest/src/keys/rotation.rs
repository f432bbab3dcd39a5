//! A new key in place of the old: made beside it, named by it in the archive, and only then moved to its place.
//!
//! | crash | what is there | the next start or rotation |
//! |---|---|---|
//! | before the change is stored | the old key, and a new one as `<name>.next.pem` | signs with the old; the new one is used by the next rotation |
//! | after it is stored | the same, but the archive names the new key | moves the new key to its place |
//! | after the old key was linked aside | the old key twice | the same |
//! | after the public half was moved | the new public half beside the old key | the same |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use rand::TryCryptoRng;
use stillwell_schema::key_change::KeyRing;
use thiserror::Error;

use super::{KeyError, at, load, load_or_create, public_path};
use crate::evidence::{self, EvidenceError};
use crate::store::ArchiveStore;

/// Why a key was not rotated.
#[derive(Debug, Error)]
pub enum RotateError {
    /// A key file cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The archive's own record of its keys.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The public key from now on, hex.
    pub new: String,
    /// Where the retired private key lies.
    pub retired: PathBuf,
}

/// Replaces the key at `path` by a new one, which the archive then names. Processes that run go on with the old key
/// until they next open a lane, and then ask to be restarted.
///
/// # Errors
/// [`RotateError`]; what is half done is finished by [`settle`] at the next start.
pub fn rotate<R: TryCryptoRng>(
    path: &Path,
    store: &dyn ArchiveStore,
    random: &mut R,
    now_us: i64,
    reason: &str,
) -> Result<Rotation, RotateError> {
    settle(path, store)?;
    let old = load(path)?;
    let new = load_or_create(&next_path(path), random)?;
    evidence::change_key(store, &old, &new, now_us, reason)?;
    let retired = retired_path(path, &old);
    settle(path, store)?;
    Ok(Rotation { new: public(&new), retired })
}

/// Finishes a rotation that a crash cut off after the archive had named the new key.
///
/// # Errors
/// [`RotateError`].
pub fn settle(path: &Path, store: &dyn ArchiveStore) -> Result<(), RotateError> {
    let next = next_path(path);
    if !fs::exists(&next).map_err(|e| at(&next, e))? {
        return Ok(());
    }
    let new = load(&next)?;
    let ring = evidence::key_ring(store)?;
    if ring.as_ref().and_then(|ring| ring.keys().last()) != Some(&public(&new)) {
        return Ok(());
    }
    let old = load(path)?;
    if old.to_bytes() != new.to_bytes() {
        let retired = retired_path(path, &old);
        link(path, &retired).map_err(|e| at(&retired, e))?;
    }
    // The public half goes first, and may have gone before a crash: the private one is what marks the end.
    match fs::rename(public_path(&next), public_path(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(path, e).into()),
        _ => fs::rename(&next, path).map_err(|e| at(path, e))?,
    }
    super::sync_parent(path).map_err(|e| at(path, e).into())
}

/// The newest key of an archive, and whether `key` is that; true where the archive names none.
#[must_use]
pub fn is_current(ring: Option<&KeyRing>, key: &SigningKey) -> bool {
    ring.is_none_or(|ring| ring.keys().last() == Some(&public(key)))
}

/// A key's public half, hex.
#[must_use]
pub fn public(key: &SigningKey) -> String {
    hex::encode(key.verifying_key().to_bytes())
}

fn next_path(path: &Path) -> PathBuf {
    path.with_extension("next.pem")
}

/// `archive.retired-1f0c….pem` beside `archive.pem`.
fn retired_path(path: &Path, key: &SigningKey) -> PathBuf {
    path.with_extension(format!("retired-{}.pem", &public(key)[..16]))
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::store::LocalStore;

    #[test]
    fn a_rotated_key_is_named_by_the_archive_and_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (path, random) = (folder.path().join("keys/archive.pem"), &mut StdRng::seed_from_u64(1));
        let store = LocalStore::open(&folder.path().join("archive")).unwrap();
        let first = load_or_create(&path, random).unwrap();
        assert!(is_current(evidence::key_ring(&store).unwrap().as_ref(), &first));
        let done = rotate(&path, &store, random, 1, "yearly").unwrap();
        let second = load(&path).unwrap();
        assert_eq!(public(&second), done.new);
        assert_eq!(load(&done.retired).unwrap().to_bytes(), first.to_bytes());
        let pem = fs::read_to_string(public_path(&path)).unwrap();
        assert_eq!(super::super::parse_public(&pem).unwrap(), done.new);
        let ring = evidence::key_ring(&store).unwrap();
        assert_eq!(ring.as_ref().unwrap().keys(), [public(&first), public(&second)]);
        assert!(is_current(ring.as_ref(), &second) && !is_current(ring.as_ref(), &first));
        rotate(&path, &store, random, 2, "again").unwrap();
        assert_eq!(evidence::key_ring(&store).unwrap().unwrap().keys().len(), 3);
    }

    #[test]
    fn a_rotation_that_was_cut_off_is_finished_or_has_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let (path, random) = (folder.path().join("archive.pem"), &mut StdRng::seed_from_u64(1));
        let store = LocalStore::open(&folder.path().join("archive")).unwrap();
        let old = load_or_create(&path, random).unwrap();
        let new = load_or_create(&next_path(&path), random).unwrap();
        settle(&path, &store).unwrap();
        assert_eq!(load(&path).unwrap().to_bytes(), old.to_bytes(), "the archive names no new key yet");
        evidence::change_key(&store, &old, &new, 1, "").unwrap();
        link(&path, &retired_path(&path, &old)).unwrap();
        fs::rename(public_path(&next_path(&path)), public_path(&path)).unwrap();
        settle(&path, &store).unwrap();
        settle(&path, &store).unwrap();
        assert_eq!(load(&path).unwrap().to_bytes(), new.to_bytes());
        assert_eq!(load(&retired_path(&path, &old)).unwrap().to_bytes(), old.to_bytes());
    }
}
