//! Whether a file is the one that its entry names.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use stillwell_schema::manifest::FileRef;

use super::report::{Problem, ProblemKind};
use crate::store::{ArchiveStore, StoreError};

/// Reads a file, if one is named, and holds its size and hash against what is stated of it. None comes
/// back of one that is missing or altered: what is in it then says nothing.
pub(super) fn read(
    store: &dyn ArchiveStore,
    file: Option<&FileRef>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Bytes>, StoreError> {
    let Some(file) = file else { return Ok(None) };
    let Some(bytes) = store.get(&file.path)? else {
        let message = "the file is missing; restore it from a backup";
        problems.push(Problem::new(ProblemKind::Missing, &file.path, message));
        return Ok(None);
    };
    let hash = hex::encode(Sha256::digest(&bytes));
    if bytes.len() as u64 != file.bytes || hash != file.sha256 {
        let message = format!(
            "was altered: {} bytes with SHA-256 {hash}, where its entry states {} with {}",
            bytes.len(),
            file.bytes,
            file.sha256
        );
        problems.push(Problem::new(ProblemKind::File, &file.path, message));
        return Ok(None);
    }
    Ok(Some(bytes.into()))
}
