//! Rows of readings files, put back into the order in which their records came.

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{
    Float64Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt32Type,
};
use stillwell_schema::{Offset, OffsetRange};
use stillwell_source::columns::{ReadingColumns, TextCell};
use stillwell_source::series::{Series, SeriesCode, SeriesTable};

use super::{Batch, Filter};

/// What is read of [`stillwell_schema::columns::READINGS`]: all but topic and partition, which are the lane's.
pub(super) const COLUMNS: [&str; 11] = [
    "machine",
    "sensor",
    "kind",
    "unit",
    "time",
    "value",
    "text",
    "quality",
    "offset",
    "index",
    "kafka_time",
];

/// Readings of a batch, but for those of its last record that are more.
const BATCH_ROWS: usize = 1 << 16;

/// Readings of a range of offsets: first as they come from the files, then by offset and index.
#[derive(Default)]
pub(super) struct Rows {
    /// As they come; `record` is not set.
    all: ReadingColumns,
    offset: Vec<i64>,
    kafka_time_ms: Vec<i64>,
    /// Rows by offset and index,
    order: Vec<u32>,
    /// how many of them were given out,
    at: usize,
    /// and the offset behind all of them.
    next: i64,
}

impl Rows {
    /// Takes those rows of a file that are meant.
    pub(super) fn take(
        &mut self,
        batch: &RecordBatch,
        part: OffsetRange,
        filter: &Filter,
        table: &mut SeriesTable,
    ) {
        let text = |name: &str| batch[name].as_string::<i32>();
        let times = batch["time"].as_primitive::<TimestampMicrosecondType>().values();
        let values = batch["value"].as_primitive::<Float64Type>();
        let qualities = batch["quality"].as_primitive::<UInt32Type>().values();
        let offsets = batch["offset"].as_primitive::<Int64Type>().values();
        let indices = batch["index"].as_primitive::<UInt32Type>().values();
        let kafka_times = batch["kafka_time"].as_primitive::<TimestampMillisecondType>().values();
        let texts = text("text");
        let mut names = Names::new([text("machine"), text("sensor"), text("kind"), text("unit")]);
        for row in 0..batch.num_rows() {
            let is_meant = part.contains(Offset(offsets[row]))
                && filter.from_us.is_none_or(|from_us| times[row] >= from_us);
            let Some(series) = is_meant.then(|| names.series(row, filter, table)).flatten() else { continue };
            let has_value = values.is_valid(row);
            self.text(texts.is_valid(row).then(|| texts.value(row)));
            self.all.series.push(series);
            self.all.time_us.push(times[row]);
            self.all.value.push(if has_value { values.value(row) } else { 0.0 });
            self.all.has_value.push(has_value);
            self.all.quality.push(qualities[row]);
            self.all.index.push(indices[row]);
            self.offset.push(offsets[row]);
            self.kafka_time_ms.push(kafka_times[row]);
        }
    }

    /// The string state of the row that comes next.
    fn text(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            push_text(&mut self.all, text);
        }
    }

    /// All rows below `next` are here.
    pub(super) fn sort(&mut self, next: i64) {
        self.order = (0u32..).take(self.all.len()).collect();
        let key = |row: &u32| (self.offset[*row as usize], self.all.index[*row as usize]);
        self.order.sort_unstable_by_key(key);
        self.next = next;
    }

    /// The next readings; none when all were given out.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        let rest = &self.order[self.at..];
        let offset = |row: &u32| self.offset[*row as usize];
        let last = offset(rest.get(BATCH_ROWS - 1).or_else(|| rest.last())?);
        let len = rest.partition_point(|row| offset(row) <= last);
        let mut batch = Batch::default();
        for row in &rest[..len] {
            self.push(*row as usize, &mut batch);
        }
        batch.next = rest.get(len).map_or(self.next, |_| last + 1);
        self.at += len;
        Some(batch)
    }

    /// Adds a row to a batch, whose last record may be its own.
    fn push(&self, row: usize, batch: &mut Batch) {
        if batch.records.last().is_none_or(|(offset, _)| *offset != self.offset[row]) {
            batch.records.push((self.offset[row], self.kafka_time_ms[row]));
        }
        let (all, columns) = (&self.all, &mut batch.columns);
        if let Some(text) = all.text_of(row) {
            push_text(columns, text);
        }
        columns.series.push(all.series[row]);
        columns.time_us.push(all.time_us[row]);
        columns.value.push(all.value[row]);
        columns.has_value.push(all.has_value[row]);
        columns.quality.push(all.quality[row]);
        columns.record.push(narrow(batch.records.len() - 1));
        columns.index.push(all.index[row]);
    }
}

/// Adds a string state to the row that is pushed next.
fn push_text(columns: &mut ReadingColumns, text: &str) {
    let (row, start) = (narrow(columns.len()), narrow(columns.text_bytes.len()));
    columns.text_bytes.push_str(text);
    columns.text.push(TextCell { row, start, end: narrow(columns.text_bytes.len()) });
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The names of a batch's rows, which come in runs.
struct Names<'a> {
    columns: [&'a StringArray; 4],
    /// The row before, and its series where it is meant.
    last: Option<(usize, Option<SeriesCode>)>,
}

impl<'a> Names<'a> {
    fn new(columns: [&'a StringArray; 4]) -> Self {
        Self { columns, last: None }
    }

    fn at(&self, row: usize) -> [Option<&'a str>; 4] {
        self.columns.map(|column| column.is_valid(row).then(|| column.value(row)))
    }

    /// The series of a row; none where its machine is not meant.
    fn series(&mut self, row: usize, filter: &Filter, table: &mut SeriesTable) -> Option<SeriesCode> {
        let names = self.at(row);
        if let Some((before, code)) = self.last
            && self.at(before) == names
        {
            self.last = Some((row, code));
            return code;
        }
        let [machine, sensor, kind, unit] = names;
        let machine = machine.unwrap_or_default();
        let code = filter.has_machine(machine).then(|| {
            let series = Series {
                machine: table.intern_name(machine),
                sensor: table.intern_name(sensor.unwrap_or_default()),
                kind: kind.map(|kind| table.intern_name(kind)),
                unit: unit.map(|unit| table.intern_name(unit)),
            };
            table.intern(series)
        });
        self.last = Some((row, code));
        code
    }
}
