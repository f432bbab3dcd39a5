//! Brings readings into the archive's order, however many there are: sorted runs on disk, merged some at a time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use stillwell_schema::columns::READINGS;

use super::folder::{Folder, at};
use super::rows::{Columns, csv_header};
use super::{ExportError, MachineCount, names};
use crate::life::rewrite::merge::{self, Merge};
use crate::reader::batch_rows;
use crate::writer::{ROW_GROUP_BYTES, order_of_readings};

/// Rows of a run at most.
const RUN_ROWS: usize = 1 << 18;

/// Bytes of a run in memory at most, but for its last batch.
const RUN_BYTES: usize = 64 << 20;

/// Runs merged at once: so many files are open.
const FAN_IN: usize = 64;

/// Rows of a page of a run: a merge holds a page of each column of each run.
const PAGE_ROWS: usize = 4096;

/// Rows of a row group of the pack, some 50 MB in memory where texts are short.
const ROW_GROUP_ROWS: usize = 1 << 19;

/// Readings on their way into order.
pub(super) struct Runs {
    folder: PathBuf,
    /// The run that is being filled.
    open: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    files: VecDeque<PathBuf>,
    made: usize,
}

impl Runs {
    /// None yet; runs go into `folder`.
    pub(super) fn begin(folder: PathBuf) -> Self {
        Self { folder, open: Vec::new(), rows: 0, bytes: 0, files: VecDeque::new(), made: 0 }
    }

    /// Takes readings.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), ExportError> {
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.open.push(batch);
        if self.rows >= RUN_ROWS || self.bytes >= RUN_BYTES { self.cut() } else { Ok(()) }
    }

    /// Writes all of them, in order, as Parquet and as CSV; returns how many they are, and of which machines.
    pub(super) fn finish(mut self, folder: &mut Folder) -> Result<(u64, Vec<MachineCount>), ExportError> {
        self.cut()?;
        while self.files.len() > FAN_IN {
            let merged: Vec<PathBuf> = self.files.drain(..FAN_IN).collect();
            let mut run = self.run()?;
            each_merged(&merged, &mut |batch| Ok(run.write(batch)?))?;
            run.close()?;
            merged.iter().try_for_each(|path| fs::remove_file(path).map_err(|error| at(path, error)))?;
        }
        let mut csv = folder.create(names::CSV)?;
        csv.put(csv_header().as_bytes())?;
        let properties = properties()?
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_sorting_columns(Some(order_of_readings()));
        let parquet = folder.create(names::READINGS)?;
        let mut parquet = ArrowWriter::try_new(parquet, Arc::clone(&READINGS), Some(properties.build()))?;
        let (mut count, mut machines, mut lines) = (0, Vec::<MachineCount>::new(), String::new());
        each_merged(self.files.make_contiguous(), &mut |batch| {
            parquet.write(batch)?;
            count += batch.num_rows() as u64;
            lines.clear();
            for row in Columns::of(batch).rows() {
                row.csv(&mut lines);
                match machines.last_mut().filter(|last| last.machine == row.machine) {
                    Some(last) => last.readings += 1,
                    None => machines.push(MachineCount { machine: row.machine.to_owned(), readings: 1 }),
                }
            }
            csv.put(lines.as_bytes())
        })?;
        folder.close(parquet.into_inner()?)?;
        folder.close(csv)?;
        Ok((count, machines))
    }

    /// Ends the open run.
    fn cut(&mut self) -> Result<(), ExportError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.open);
        (self.rows, self.bytes) = (0, 0);
        let sorted = sorted(&batches)?;
        let mut run = self.run()?;
        run.write(&sorted)?;
        run.close()?;
        Ok(())
    }

    /// A new run.
    fn run(&mut self) -> Result<ArrowWriter<File>, ExportError> {
        let path = self.folder.join(format!("{}.parquet", self.made));
        self.made += 1;
        let file = File::create_new(&path).map_err(|error| at(&path, error))?;
        self.files.push_back(path);
        let properties = properties()?.set_data_page_row_count_limit(PAGE_ROWS).build();
        Ok(ArrowWriter::try_new(file, Arc::clone(&READINGS), Some(properties))?)
    }
}

/// Compression, origin and largest row group of all files of a pack.
pub(super) fn properties() -> ParquetResult<WriterPropertiesBuilder> {
    Ok(WriterProperties::builder()
        .set_created_by(concat!("stillwell ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)))
}

/// The rows of all batches in the archive's order.
fn sorted(batches: &[RecordBatch]) -> ParquetResult<RecordBatch> {
    let all = concat_batches(&READINGS, batches)?;
    let column = |name: &str| SortColumn { values: Arc::clone(&all[name]), options: None };
    let order = lexsort_to_indices(&["machine", "sensor", "time", "offset", "index"].map(column), None)?;
    Ok(take_record_batch(&all, &order)?)
}

/// Shows the rows of some runs in order.
fn each_merged(
    runs: &[PathBuf],
    each: &mut dyn FnMut(&RecordBatch) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(|error| at(path, error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let most = merge::batch_rows(runs.len());
        let rows = batch_rows(reader.metadata(), &ProjectionMask::all(), most);
        Ok::<_, ExportError>(reader.with_batch_size(rows).build()?)
    };
    let readers: Result<Vec<_>, _> = runs.iter().map(|path| open(path)).collect();
    let mut merge = Merge::new(readers?, None);
    while let Some(batch) = merge.next().map_err(ParquetError::from)? {
        each(&batch)?;
    }
    Ok(())
}
