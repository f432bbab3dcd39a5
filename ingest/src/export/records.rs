//! The records that readings came from, whole, and the way of each to the root of its entry.
//!
//! The records of a piece are read once, in offset order; those of one entry are gathered until its tree is complete,
//! together with the leaves that stand for erased ones.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use stillwell_schema::merkle::Hash;
use stillwell_schema::merkle::proof::Nodes;
use stillwell_schema::{Offset, SignedEntry, columns, paths};

use super::entries::{LaneEntries, records_of};
use super::folder::{Folder, Out};
use super::runs::properties;
use super::scan::{each_record, each_rows};
use super::{ExportError, FORMAT, Inclusion, Site, names};
use crate::life::pieces::Piece;
use crate::life::rewrite::Offsets;
use crate::manifest::expect_entry;
use crate::proof::Record;
use crate::reader::RecordColumns;
use crate::verify::{Problem, ProblemKind};
use crate::writer::records_encodings;

/// Rows of a row group: what is gathered before its bytes are known.
const ROW_GROUP_ROWS: usize = 1 << 17;

/// The files of a pack that prove.
pub(super) struct Evidence {
    records: ArrowWriter<Out>,
    proofs: Out,
    entries: Out,
    pub(super) erasures: Out,
}

impl Evidence {
    pub(super) fn begin(folder: &Folder) -> Result<Self, ExportError> {
        let properties =
            records_encodings(properties()?).set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).build();
        let records = folder.create(names::RECORDS)?;
        Ok(Self {
            records: ArrowWriter::try_new(records, Arc::clone(&columns::RECORDS), Some(properties))?,
            proofs: folder.create(names::PROOFS)?,
            entries: folder.create(names::ENTRIES)?,
            erasures: folder.create(names::ERASURES)?,
        })
    }

    /// Takes the `wanted` records of a piece, their proofs, and the entries that hold them or, by what they state, held
    /// what is asked for.
    pub(super) fn piece(
        &mut self,
        site: &Site<'_>,
        piece: &Piece,
        wanted: &Offsets,
        entries: &mut LaneEntries,
    ) -> Result<(), ExportError> {
        let erased = if wanted.len() > 0 { erased(site, piece)? } else { Vec::new() };
        let mut walk = Walk {
            site,
            wanted,
            erased,
            seqs: piece.span.first_seq..piece.span.next_seq,
            entry: None,
            leaves: Vec::new(),
            gathered: Vec::new(),
            proven: 0,
            entries,
            evidence: self,
        };
        if wanted.len() > 0 {
            each_record(site, piece, &mut |batch| walk.batch(batch))?;
        }
        while walk.advance()? {}
        if walk.proven == wanted.len() {
            return Ok(());
        }
        let message = format!(
            "{} records of its entries {} to {} have readings and are not there",
            wanted.len() - walk.proven,
            piece.span.first_seq,
            piece.span.next_seq
        );
        let lane = walk.entries.lane.to_string();
        Err(ExportError::Damaged(Box::new(Problem::new(ProblemKind::Records, lane, message))))
    }

    /// All of them are whole.
    pub(super) fn finish(self, folder: &mut Folder) -> Result<(), ExportError> {
        folder.close(self.records.into_inner()?)?;
        folder.close(self.proofs)?;
        folder.close(self.entries)?;
        folder.close(self.erasures)
    }
}

/// The leaves of the erased records of a piece, by offset.
fn erased(site: &Site<'_>, piece: &Piece) -> Result<Vec<(i64, Hash)>, ExportError> {
    let mut leaves: Vec<(i64, Hash)> = Vec::new();
    for file in &piece.leaves {
        each_rows(site, &file.file, &mut |batch| {
            let offsets = batch["offset"].as_primitive::<Int64Type>().values();
            let hashes = batch["leaf"].as_fixed_size_binary();
            for (row, offset) in offsets.iter().enumerate() {
                leaves.push((*offset, hashes.value(row).try_into().unwrap_or_default()));
            }
            Ok(())
        })?;
    }
    leaves.sort_unstable_by_key(|(offset, _)| *offset);
    Ok(leaves)
}

/// A walk along the records of a piece, entry by entry.
struct Walk<'w, 'a> {
    site: &'w Site<'a>,
    wanted: &'w Offsets,
    erased: Vec<(i64, Hash)>,
    /// The entries to come.
    seqs: Range<u64>,
    /// The entry whose records come now.
    entry: Option<SignedEntry>,
    /// The leaves of those that came, by offset.
    leaves: Vec<(i64, Hash)>,
    /// Those of them that are wanted.
    gathered: Vec<Record>,
    proven: u64,
    entries: &'w mut LaneEntries,
    evidence: &'w mut Evidence,
}

impl Walk<'_, '_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ExportError> {
        let columns = RecordColumns::of(batch);
        for row in 0..batch.num_rows() {
            let offset = columns.offset[row];
            while self.entry.as_ref().is_none_or(|signed| signed.entry.range.next.0 <= offset) {
                if !self.advance()? {
                    return Err(self.damaged(offset, "a record of no entry of its file"));
                }
            }
            self.leaves.push((offset, columns.leaf(row)));
            if self.wanted.contains(offset) {
                self.gathered.push(Record::of(&columns.chunk(row)));
            }
        }
        let keep: BooleanArray = columns.offset.iter().map(|at| Some(self.wanted.contains(*at))).collect();
        if keep.true_count() > 0 {
            let kept = filter_record_batch(batch, &keep).map_err(ParquetError::from)?;
            self.evidence.records.write(&kept)?;
        }
        Ok(())
    }

    /// Ends an entry and goes on to the next; false after the last.
    fn advance(&mut self) -> Result<bool, ExportError> {
        if let Some(signed) = self.entry.take() {
            self.end(&signed)?;
        }
        let Some(seq) = self.seqs.next() else { return Ok(false) };
        self.entry = Some(expect_entry(self.site.store, &self.entries.lane, seq)?);
        Ok(true)
    }

    /// Proves what was gathered of an entry.
    fn end(&mut self, signed: &SignedEntry) -> Result<(), ExportError> {
        let (mut leaves, gathered) = (std::mem::take(&mut self.leaves), std::mem::take(&mut self.gathered));
        if !gathered.is_empty() || self.site.query.concerns(&signed.entry) {
            self.entries.add(self.site, signed, &mut self.evidence.entries)?;
        }
        if gathered.is_empty() {
            return Ok(());
        }
        let range = signed.entry.range;
        leaves.extend(self.erased.iter().filter(|(offset, _)| range.contains(Offset(*offset))));
        leaves.sort_unstable_by_key(|(offset, _)| *offset);
        let nodes = Nodes::new(leaves.iter().map(|(_, hash)| *hash).collect());
        let whole = leaves.len() as u64 == records_of(signed);
        if !whole || hex::encode(nodes.root()) != signed.entry.merkle_root {
            return Err(self.damaged(range.first.0, "its records do not have the Merkle root that it states"));
        }
        for record in gathered {
            let leaf = leaves.partition_point(|(offset, _)| *offset < record.offset);
            let inclusion = Inclusion {
                format: FORMAT,
                seq: signed.entry.seq,
                leaf: leaf as u64,
                leaves: leaves.len() as u64,
                path: nodes.path(leaf).iter().map(hex::encode).collect(),
                record,
            };
            self.evidence.proofs.line(&serde_json::to_vec(&inclusion)?)?;
            self.proven += 1;
        }
        Ok(())
    }

    fn damaged(&self, offset: i64, message: &str) -> ExportError {
        let seq = self.entry.as_ref().map_or(self.seqs.start.saturating_sub(1), |signed| signed.entry.seq);
        let object = paths::entry(&self.entries.lane, seq);
        ExportError::Damaged(Box::new(Problem::new(ProblemKind::Records, object, message).at(Offset(offset))))
    }
}
