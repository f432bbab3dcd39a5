//! Rebuilds values, group by group: pieces of one origin wait until they weigh enough to be worth a look into its
//! readings, and are rebuilt together on a blocking thread.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::Fuse;
use stillwell_schema::columns;
use stillwell_schema::original::{READING_COLUMNS, RestoreError, restore};

use super::VALUE;
use super::pieces::{Piece, WEIGHT_MAX, cut};
use crate::archive::ArchiveError;
use crate::archive::by_offset;
use crate::archive::commits::File;
use crate::archive::files::Files;
use crate::archive::place::is_absent;
use crate::archive::places::{Origin, Places};

/// What a stream reserves for all of its life: a group, and as much again for readings that are larger than they were
/// thought to be.
const KEPT_BYTES: usize = 2 * WEIGHT_MAX;

/// One stream of records on its way. Dropping it ends what it does. It goes from thread to thread and is never shared,
/// so that all its steps borrow it mutably.
pub(super) struct Rebuild {
    input: Fuse<SendableRecordBatchStream>,
    schema: SchemaRef,
    places: Arc<Places>,
    files: Arc<Files>,
    context: Arc<TaskContext>,
    /// For the group at hand. It is never less than [`KEPT_BYTES`]: what it gave back between two groups, a sort above
    /// would take, which spills for its own needs alone.
    memory: MemoryReservation,
    ahead: VecDeque<Piece>,
    done: VecDeque<RecordBatch>,
}

impl Rebuild {
    /// # Errors
    /// Where the memory for a group is not there.
    pub(super) fn new(
        input: SendableRecordBatchStream,
        schema: SchemaRef,
        places: Arc<Places>,
        files: Arc<Files>,
        context: Arc<TaskContext>,
    ) -> Result<Self> {
        let memory = MemoryConsumer::new("RestoreExec").register(context.memory_pool());
        memory.try_grow(KEPT_BYTES)?;
        let (ahead, done) = (VecDeque::new(), VecDeque::new());
        Ok(Self { input: input.fuse(), schema, places, files, context, memory, ahead, done })
    }

    /// The next records, whole.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.done.pop_front() {
                return Ok(Some(batch));
            }
            self.reserve(0)?;
            let Some(group) = self.group().await? else { return Ok(None) };
            self.done = self.rebuild(group).await?;
        }
    }

    /// The next pieces that are rebuilt together; one alone where it has no template.
    async fn group(&mut self) -> Result<Option<Vec<Piece>>> {
        let mut group: Vec<Piece> = Vec::new();
        let mut weight = 0;
        loop {
            while let Some(next) = self.ahead.pop_front() {
                let joins = group
                    .last()
                    .is_none_or(|last| next.continues(last) && weight + next.weight() <= WEIGHT_MAX);
                if !joins {
                    self.ahead.push_front(next);
                    return Ok(Some(group));
                }
                weight += next.weight();
                self.reserve(weight)?;
                group.push(next);
            }
            if group.last().is_some_and(|last| last.origin.is_none()) {
                return Ok(Some(group));
            }
            match self.input.next().await.transpose()? {
                Some(batch) => self.ahead.extend(cut(batch, &self.places).map_err(external)?),
                None => return Ok((!group.is_empty()).then_some(group)),
            }
        }
    }

    async fn rebuild(&mut self, group: Vec<Piece>) -> Result<VecDeque<RecordBatch>> {
        let schema = Arc::clone(&self.schema);
        let Some(origin) = group.first().and_then(|piece| piece.origin.clone()) else {
            let whole = group.iter().map(|piece| Ok(conform(&piece.batch, None, &schema)?));
            return whole.collect();
        };
        let offsets: Arc<[i64]> = group.iter().flat_map(Piece::templated).collect();
        let readings = self.readings(&origin, &offsets, &group).await?;
        let task = SpawnedTask::spawn_blocking(move || rebuilt(&group, &readings, &schema)).await;
        let rebuilt = task.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        rebuilt.map_err(|source| {
            let paths: Vec<&str> = files_of(&origin, &offsets).map(|file| &*file.path).collect();
            let path = if paths.is_empty() { origin.manifest() } else { paths.join(", ") };
            external(ArchiveError::Original { path, source: Arc::new(source) })
        })
    }

    /// The readings of these records, those of `group` that have a template. What they take beyond what was thought
    /// is reserved too, and as much again for the values that come of them.
    async fn readings(
        &mut self,
        origin: &Origin,
        offsets: &Arc<[i64]>,
        group: &[Piece],
    ) -> Result<Vec<RecordBatch>> {
        let held: usize = group.iter().map(|piece| piece.held).sum();
        let takes: usize = group.iter().map(|piece| piece.takes).sum();
        let (mut loaded, mut bytes) = (Vec::new(), 0);
        for file in files_of(origin, offsets) {
            let context = Arc::clone(&self.context);
            let mut rows =
                by_offset::rows(&self.files, file, &columns::READINGS, &READING_COLUMNS, offsets, context)?;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(|error| unreadable(error, offsets, &file.path))?;
                bytes += batch.get_array_memory_size();
                self.reserve(held + takes.max(2 * bytes))?;
                loaded.push(batch);
            }
        }
        Ok(loaded)
    }

    /// So many bytes, of which the first are there already.
    fn reserve(&self, bytes: usize) -> Result<()> {
        self.memory.try_resize(bytes.max(KEPT_BYTES))
    }
}

fn files_of<'a>(origin: &'a Origin, offsets: &[i64]) -> impl Iterator<Item = &'a File> + use<'a> {
    let (first, last) = (offsets.first().copied(), offsets.last().copied());
    origin.readings(first.unwrap_or(0)..=last.unwrap_or(0))
}

/// All values of a group from its readings, the batches as they came.
fn rebuilt(
    group: &[Piece],
    readings: &[RecordBatch],
    schema: &SchemaRef,
) -> Result<VecDeque<RecordBatch>, RestoreError> {
    let mut narrow = Vec::with_capacity(group.len());
    for Piece { batch, .. } in group {
        let columns = ["offset", VALUE, "readings", "template"].map(|name| batch.schema_ref().index_of(name));
        narrow.push(batch.project(&columns.into_iter().collect::<Result<Vec<_>, _>>()?)?);
    }
    let Some(first) = narrow.first() else { return Ok(VecDeque::new()) };
    let whole = restore(&concat_batches(first.schema_ref(), &narrow)?, readings)?;
    let values = whole[VALUE].as_binary_view();
    let mut from = 0;
    let batches = group.iter().map(|piece| {
        let rows = piece.batch.num_rows();
        // Bytes of its own, so that who keeps one batch does not keep, or count, those of all.
        let value = values.slice(from, rows).gc();
        from += rows;
        Ok(conform(&piece.batch, Some(Arc::new(value)), schema)?)
    });
    batches.collect()
}

/// The first columns of a batch, those of `schema`, with this value if there is one.
fn conform(
    batch: &RecordBatch,
    value: Option<ArrayRef>,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| match &value {
        Some(value) if field.name() == VALUE => Arc::clone(value),
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
}

fn external(error: ArchiveError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn unreadable(error: DataFusionError, offsets: &[i64], path: &str) -> DataFusionError {
    if !is_damage(&error) {
        return error;
    }
    external(ArchiveError::Readings {
        offset: offsets.first().copied().unwrap_or_default(),
        path: path.to_owned(),
        reason: error.find_root().strip_backtrace(),
    })
}

/// No damage is a want of memory, a store that does not answer, or a file of a later version.
fn is_damage(error: &DataFusionError) -> bool {
    let mut causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
    let other = causes.any(|error| {
        let store = error.downcast_ref::<object_store::Error>();
        error.is::<ArchiveError>() || store.is_some_and(|error| !is_absent(error))
    });
    !other && !matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}
