//! Whether a file is the one that is named.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use stillwell_schema::manifest::FileRef;

use super::report::{Problem, ProblemKind};
use crate::store::{ArchiveStore, StoreError};

/// Reads a file and holds its size and hash against what is stated of it. None comes back of one that is missing or
/// altered: what is in it then says nothing.
pub(crate) fn read(
    store: &dyn ArchiveStore,
    file: &FileRef,
    problems: &mut Vec<Problem>,
) -> Result<Option<Bytes>, StoreError> {
    let Some(bytes) = store.get(&file.path)? else {
        let message = "the file is missing; restore it from a backup";
        problems.push(Problem::new(ProblemKind::Missing, &file.path, message));
        return Ok(None);
    };
    if let Some(problem) = compare(file, &bytes) {
        problems.push(problem);
        return Ok(None);
    }
    Ok(Some(bytes.into()))
}

/// What is wrong with a file that may be gone.
pub(super) fn altered(store: &dyn ArchiveStore, file: &FileRef) -> Result<Option<Problem>, StoreError> {
    Ok(store.get(&file.path)?.and_then(|bytes| compare(file, &bytes)))
}

fn compare(file: &FileRef, bytes: &[u8]) -> Option<Problem> {
    let hash = hex::encode(Sha256::digest(bytes));
    (bytes.len() as u64 != file.bytes || hash != file.sha256).then(|| {
        let message = format!(
            "was altered: {} bytes with SHA-256 {hash}, where {} with {} are stated",
            bytes.len(),
            file.bytes,
            file.sha256
        );
        Problem::new(ProblemKind::File, &file.path, message)
    })
}
