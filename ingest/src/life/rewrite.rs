//! Puts new files in the place of those of a run of pieces: writes them, reads them back from the store, proves
//! them. What comes back is fit to be named by an act; nobody sees it before.
//!
//! Memory: the compressed source files of one kind (the whole run's readings, one records file at a time), the new
//! file, a row group, and while records are rebuilt the readings of a stretch of them. All are bounded by the size that a run may have.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, FixedSizeBinaryBuilder, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use sha2::{Digest, Sha256};
use stillwell_schema::ledger::{Cover, LeavesFile, ReadingsFile, RecordsFile, Span};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::{OffsetRange, TopicPartition, columns};
use uuid::Uuid;

use super::LifeError;
use super::pieces::Piece;
use crate::originals::{Restorer, stored};
use crate::reader::{RecordColumns, batch_rows};
use crate::store::ArchiveStore;
use crate::verify::Tick;
use crate::writer::{ROW_GROUP_BYTES, records_encodings};

mod chunks;
mod digest;
pub(crate) mod merge;
mod offsets;
mod prove;

pub(crate) use offsets::Offsets;

/// Rows of a records file decoded at once; fewer where they are large.
const RECORDS_ROWS: usize = 1024;

/// What is to be rewritten, and how.
pub(super) struct Rewrite<'a> {
    pub(super) store: &'a dyn ArchiveStore,
    pub(super) lane: &'a TopicPartition,
    /// The run, in order, without a hole.
    pub(super) pieces: &'a [Piece],
    /// The number of the act that will name the files.
    pub(super) act: u64,
    /// Of zstd.
    pub(super) level: i32,
    /// Offsets of records that are left out.
    pub(super) erased: Option<&'a Offsets>,
    pub(super) tick: Tick<'a>,
}

/// New files, stored and proven.
#[derive(Clone, Debug)]
pub(super) struct Rewritten {
    pub(super) cover: Cover,
    /// Records and readings that were left out.
    pub(super) records_erased: u64,
    pub(super) readings_erased: u64,
}

impl Rewrite<'_> {
    /// Writes and proves.
    pub(super) fn run(&self) -> Result<Rewritten, LifeError> {
        let span = self.span().ok_or_else(|| LifeError::Raced(self.lane.clone()))?;
        let unique = paths::unique_of_act(self.act, &Uuid::new_v4().to_string());
        let mut leaves: Vec<LeavesFile> = self.pieces.iter().flat_map(|piece| piece.leaves.clone()).collect();
        let (records, erased) = self.records(&span, &unique)?;
        let records_erased = erased.as_ref().map_or(0, |leaves| leaves.file.rows);
        leaves.extend(erased);
        let (readings, digest, readings_erased) = self.readings(&span, &unique)?;
        let cover = Cover { span, readings, records, leaves };
        prove::records(self, &cover)?;
        prove::readings(self, &cover, digest)?;
        Ok(Rewritten { cover, records_erased, readings_erased })
    }

    fn span(&self) -> Option<Span> {
        let (first, last) = (&self.pieces.first()?.span, &self.pieces.last()?.span);
        let range = OffsetRange { first: first.range.first, next: last.range.next };
        let (next_seq, last_sha256) = (last.next_seq, last.last_sha256.clone());
        Some(Span { next_seq, last_sha256, range, ..first.clone() })
    }

    /// Copies the records, but for those erased, whose leaves are kept.
    fn records(
        &self,
        span: &Span,
        unique: &str,
    ) -> Result<(Vec<RecordsFile>, Option<LeavesFile>), LifeError> {
        let failed = LifeError::parquet(self.lane);
        let properties = records_encodings(self.properties(span).map_err(&failed)?);
        let mut kept = self.writer(&columns::STORED_RECORDS, properties)?;
        let mut left = self.writer(&columns::LEAVES, self.properties(span).map_err(&failed)?)?;
        let (mut rows, mut rows_left, mut undecodable) = (0, 0, 0);
        for piece in self.pieces {
            let mut restorer = self.restorer(piece)?;
            for source in &piece.records {
                for batch in self.open(source, RECORDS_ROWS)? {
                    let batch =
                        batch.and_then(|batch| stored(&batch)).map_err(LifeError::arrow(self.lane))?;
                    let (keep, erased) = self.split(&batch)?;
                    rows += keep.num_rows() as u64;
                    undecodable += (keep.num_rows() - keep["error_class"].null_count()) as u64;
                    kept.write(&keep).map_err(&failed)?;
                    if let Some(erased) = erased.filter(|erased| erased.num_rows() > 0) {
                        rows_left += erased.num_rows() as u64;
                        for leaves in self.leaves(&erased, &mut restorer)? {
                            left.write(&leaves).map_err(&failed)?;
                        }
                    }
                }
            }
        }
        let range = span.range;
        let records =
            self.put(FileKind::Records, range, unique, rows, kept.into_inner().map_err(&failed)?)?;
        let records = records.map(|file| RecordsFile { file, range, undecodable });
        let path = paths::leaves_file(self.lane, range, unique);
        let leaves = self.put_at(path, rows_left, left.into_inner().map_err(&failed)?)?;
        let leaves = leaves.map(|file| LeavesFile { file, range });
        Ok((records.into_iter().collect(), leaves))
    }

    /// What rebuilds the records of a piece, of which only those that are erased have to be.
    fn restorer(&self, piece: &Piece) -> Result<Restorer, LifeError> {
        let loaded = |files: &[FileRef]| -> Result<Vec<Bytes>, LifeError> {
            files.iter().filter(|_| self.erased.is_some()).map(|file| load(self.store, file)).collect()
        };
        Ok(Restorer::new(&loaded(&piece.records)?, loaded(&piece.readings)?))
    }

    /// The leaves of records that are erased.
    fn leaves(&self, erased: &RecordBatch, restorer: &mut Restorer) -> Result<Vec<RecordBatch>, LifeError> {
        let mut leaves = Vec::new();
        let restored = restorer.each(erased, &mut |whole| leaves.push(leaves_of(whole)));
        let leaves = restored.and_then(|()| leaves.into_iter().collect());
        leaves.map_err(LifeError::arrow(self.lane))
    }

    /// Merges the readings, but for those of erased records. The digest is of what the sources hold of them.
    fn readings(
        &self,
        span: &Span,
        unique: &str,
    ) -> Result<(Vec<ReadingsFile>, digest::Digest, u64), LifeError> {
        let failed = LifeError::parquet(self.lane);
        let sources: Vec<&FileRef> = self.pieces.iter().flat_map(|piece| &piece.readings).collect();
        let rows_of_batch = merge::batch_rows(sources.len());
        let readers: Result<Vec<_>, _> =
            sources.iter().map(|source| self.open(source, rows_of_batch)).collect();
        let mut writer = chunks::ChunkWriter::new(self.properties(span).map_err(&failed)?, self.level);
        let mut merge = merge::Merge::new(readers?, self.erased);
        let arrow = LifeError::arrow(self.lane);
        while let Some(batch) = merge.next().map_err(&arrow)? {
            writer.push(&batch).map_err(&failed)?;
        }
        let (digest, erased) = merge.end();
        let (bytes, seen) = writer.finish().map_err(&failed)?;
        let file = self.put(FileKind::Readings, span.range, unique, seen.rows, bytes)?;
        let readings = file.zip(seen.time_us).map(|(file, (time_min_us, time_max_us))| ReadingsFile {
            file,
            range: span.range,
            time_min_us,
            time_max_us,
            machines: seen.machines.map(|machines| machines.into_iter().collect()),
        });
        Ok((readings.into_iter().collect(), digest, erased))
    }

    /// A file's rows in batches, once its bytes are those that were committed.
    pub(super) fn open(&self, file: &FileRef, rows: usize) -> Result<ParquetRecordBatchReader, LifeError> {
        let bytes = load(self.store, file)?;
        (self.tick)(file.bytes);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|reader| {
            let rows = batch_rows(reader.metadata(), &ProjectionMask::all(), rows);
            reader.with_batch_size(rows).build()
        });
        reader.map_err(LifeError::parquet(self.lane))
    }

    /// The rows of a batch of records that stay, and those that are erased.
    fn split(&self, batch: &RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>), LifeError> {
        let Some(erased) = self.erased else { return Ok((batch.clone(), None)) };
        let offsets = batch["offset"].as_primitive::<Int64Type>().values();
        let is_erased: Vec<bool> = offsets.iter().map(|offset| erased.contains(*offset)).collect();
        let keep = BooleanArray::from(is_erased.iter().map(|erased| !erased).collect::<Vec<_>>());
        let arrow = LifeError::arrow(self.lane);
        let keep = filter_record_batch(batch, &keep).map_err(&arrow)?;
        Ok((keep, Some(filter_record_batch(batch, &BooleanArray::from(is_erased)).map_err(&arrow)?)))
    }

    fn writer(
        &self,
        schema: &arrow::datatypes::SchemaRef,
        properties: WriterPropertiesBuilder,
    ) -> Result<ArrowWriter<Vec<u8>>, LifeError> {
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties.build()));
        writer.map_err(LifeError::parquet(self.lane))
    }

    fn put(
        &self,
        kind: FileKind,
        range: OffsetRange,
        unique: &str,
        rows: u64,
        bytes: Vec<u8>,
    ) -> Result<Option<FileRef>, LifeError> {
        self.put_at(paths::data_file(self.lane, kind, range, unique), rows, bytes)
    }

    /// Stores a file, unless it has no rows.
    fn put_at(&self, path: String, rows: u64, bytes: Vec<u8>) -> Result<Option<FileRef>, LifeError> {
        if rows == 0 {
            return Ok(None);
        }
        let bytes = Bytes::from(bytes);
        self.store.put_shared(&path, &bytes)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Some(FileRef { path, bytes: bytes.len() as u64, rows, sha256 }))
    }

    /// As of a commit's files, but for gaps and root: those are their entries' own.
    fn properties(&self, span: &Span) -> ParquetResult<WriterPropertiesBuilder> {
        let footer = [
            ("topic", self.lane.topic.to_string()),
            ("partition", self.lane.partition.to_string()),
            ("range", format!("{}-{}", span.range.first, span.range.next)),
            ("entries", format!("{}-{}", span.first_seq, span.next_seq)),
            ("schema", columns::SCHEMA_ID.to_owned()),
        ];
        let footer = footer.map(|(key, value)| KeyValue::new(format!("stillwell.{key}"), value)).to_vec();
        Ok(WriterProperties::builder()
            .set_created_by(concat!("stillwell ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.level)?))
            .set_max_row_group_row_count(Some(chunks::ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_key_value_metadata(Some(footer)))
    }
}

/// A file's bytes, if they are those that its entry or act states.
pub(crate) fn load(store: &dyn ArchiveStore, file: &FileRef) -> Result<Bytes, LifeError> {
    let damaged = |reason: &str| LifeError::Damaged { path: file.path.clone(), reason: reason.to_owned() };
    let bytes = store.get(&file.path)?.ok_or_else(|| damaged("is missing"))?;
    if bytes.len() as u64 != file.bytes || hex::encode(Sha256::digest(&bytes)) != file.sha256 {
        return Err(damaged("was altered: it does not have the hash that is stated of it"));
    }
    Ok(bytes.into())
}

/// The leaves of a batch of records.
fn leaves_of(records: &RecordBatch) -> arrow::error::Result<RecordBatch> {
    let columns = RecordColumns::of(records);
    let mut leaves = FixedSizeBinaryBuilder::with_capacity(records.num_rows(), 32);
    for row in 0..records.num_rows() {
        leaves.append_value(columns.leaf(row))?;
    }
    let offsets = Int64Array::from(columns.offset.to_vec());
    RecordBatch::try_new(Arc::clone(&columns::LEAVES), vec![Arc::new(offsets), Arc::new(leaves.finish())])
}
