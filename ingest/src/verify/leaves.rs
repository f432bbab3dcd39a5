//! The leaves of erased records, without which the roots of their entries could not be recomputed.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use stillwell_schema::ledger::Cover;
use stillwell_schema::merkle::Hash;

use super::files;
use super::report::{Problem, ProblemKind};
use crate::reader::each_batch;
use crate::store::{ArchiveStore, StoreError};

/// Offset and leaf of every erased record of a cover, in offset order; read only where `deep`, and checked always.
pub(super) fn read(
    store: &dyn ArchiveStore,
    cover: &Cover,
    deep: bool,
    problems: &mut Vec<Problem>,
) -> Result<Vec<(i64, Hash)>, StoreError> {
    let mut leaves = Vec::new();
    for stated in &cover.leaves {
        let Some(bytes) = files::read(store, &stated.file, problems)?.filter(|_| deep) else { continue };
        let before = leaves.len();
        let read = each_batch(bytes, None, &mut |batch| {
            let offsets = batch["offset"].as_primitive::<Int64Type>().values();
            let hashes = batch["leaf"].as_fixed_size_binary();
            let rows = offsets.iter().zip(hashes.iter());
            leaves.extend(rows.map(|(offset, hash)| {
                (*offset, hash.and_then(|hash| hash.try_into().ok()).unwrap_or_default())
            }));
        });
        if let Err(error) = read {
            let message = format!("cannot be read as leaves: {error}");
            problems.push(Problem::new(ProblemKind::Unreadable, &stated.file.path, message));
        } else if (leaves.len() - before) as u64 != stated.file.rows {
            let message =
                format!("holds {} leaves, where {} are stated", leaves.len() - before, stated.file.rows);
            problems.push(Problem::new(ProblemKind::Counts, &stated.file.path, message));
        }
    }
    leaves.sort_unstable();
    Ok(leaves)
}
