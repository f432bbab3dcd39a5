//! The key that signs manifest entries: Ed25519, PKCS#8 PEM (RFC 8410), readable by its owner alone, with
//! the public half beside it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::TryCryptoRng;
use thiserror::Error;
use uuid::Uuid;

pub mod rotation;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may read it.
    #[error("key file {path} can be read by others (mode {mode:o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key.
    #[error(
        "key file {path} is not an Ed25519 PKCS#8 PEM ({reason}); restore it from a backup, or move it away to \
         sign with a new key from now on",
        path = path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not a public key.
    #[error(
        "{path} is no Ed25519 public key: a PEM that begins with -----BEGIN PUBLIC KEY-----, or 64 hex digits",
        path = path.display()
    )]
    MalformedPublic {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("no randomness for a new key: {0}")]
    Random(String),
}

/// Loads the key at `path`, or makes one there with `random` if there is none. Of two processes that start
/// at once, one makes it and both use it.
///
/// # Errors
/// [`KeyError`].
pub fn load_or_create<R: TryCryptoRng>(path: &Path, random: &mut R) -> Result<SigningKey, KeyError> {
    if !fs::exists(path).map_err(|e| at(path, e))? {
        create(path, random)?;
    }
    let key = load(path)?;
    let public = public_path(path);
    if !fs::exists(&public).map_err(|e| at(&public, e))? {
        let pem = key.verifying_key().to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|e| malformed(path, e))?;
        write_new(&public, pem.as_bytes(), 0o644).map_err(|e| at(&public, e))?;
    }
    Ok(key)
}

/// Loads the key at `path`, which must be there.
///
/// # Errors
/// [`KeyError`].
pub fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let mode = fs::metadata(path).map_err(|e| at(path, e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let pem = fs::read_to_string(path).map_err(|e| at(path, e))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|e| malformed(path, e))
}

/// Loads a public key, PEM or 64 hex digits, as hex.
///
/// # Errors
/// [`KeyError`].
pub fn load_public(path: &Path) -> Result<String, KeyError> {
    let text = fs::read_to_string(path).map_err(|e| at(path, e))?;
    let malformed = || KeyError::MalformedPublic { path: path.to_owned() };
    parse_public(&text).ok_or_else(malformed)
}

/// A public key, PEM or 64 hex digits, as hex; none where it is neither.
#[must_use]
pub fn parse_public(text: &str) -> Option<String> {
    let key = match VerifyingKey::from_public_key_pem(text) {
        Ok(key) => key,
        Err(_) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
            VerifyingKey::from_bytes(&bytes).ok()?
        }
    };
    Some(hex::encode(key.to_bytes()))
}

/// A public key, hex, as the PEM that stands beside a private one; none where it is no key.
#[must_use]
pub fn public_pem(key: &str) -> Option<String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(key, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()?.to_public_key_pem(LineEnding::LF).ok()
}

/// Where the public half of the key at `path` lies: `archive.pub.pem` beside `archive.pem`.
#[must_use]
pub fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub.pem")
}

fn create<R: TryCryptoRng>(path: &Path, random: &mut R) -> Result<(), KeyError> {
    let mut seed = [0; 32];
    random.try_fill_bytes(&mut seed).map_err(|e| KeyError::Random(e.to_string()))?;
    let pem = SigningKey::from_bytes(&seed).to_pkcs8_pem(LineEnding::LF).map_err(|e| malformed(path, e))?;
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| at(folder, e))?;
    }
    write_new(path, pem.as_bytes(), 0o600).map_err(|e| at(path, e))
}

/// Writes `path` whole and durable, unless another process was first.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temp = path.with_extension(format!("{}.tmp", Uuid::new_v4()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&temp, path)
    })();
    let _ = fs::remove_file(&temp);
    match written {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn at(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), source }
}

fn malformed(path: &Path, reason: impl ToString) -> KeyError {
    KeyError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_new_key_is_private_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/archive.pem");
        let made = load_or_create(&path, &mut StdRng::seed_from_u64(1)).unwrap();
        let found = load_or_create(&path, &mut StdRng::seed_from_u64(2)).unwrap();
        assert_eq!(made.to_bytes(), found.to_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let public = fs::read_to_string(folder.path().join("keys/archive.pub.pem")).unwrap();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.pem");
        load_or_create(&path, &mut StdRng::seed_from_u64(1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(&path, &mut StdRng::seed_from_u64(1)).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.pem");
        write_new(&path, b"nonsense", 0o600).unwrap();
        let error = load_or_create(&path, &mut StdRng::seed_from_u64(1)).unwrap_err();
        assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"nonsense");
    }
}
