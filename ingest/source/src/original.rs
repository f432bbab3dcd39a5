//! Which records need not be kept byte by byte: those that their readings and a template rebuild.
//!
//! **Invariant:** a template is given for a record only after the record was rebuilt with it and every byte compared,
//! by the very code that readers rebuild it with ([`stillwell_schema::original`]).

use std::ops::Range;

use stillwell_schema::original::{Filled, Measured, Memo, Names, Same, Sink, TEXT_BYTES_MAX, Template};

use crate::columns::ReadingColumns;
use crate::decode::json;
use crate::series::{SeriesCode, SeriesTable};

/// Templates of one batch: clients write few, and one that never writes the same twice shall not fill the memory.
const TEMPLATES_MAX: usize = 64;

/// Templates tried on a record, those used last.
const RECENT_MAX: usize = 4;

/// Records whose look was not to be learnt, after which few more are looked at.
const MISSES_MAX: u32 = 16;

/// Of the records after so many misses one in so many is looked at.
const SELDOM: u32 = 64;

/// The number of a template.
pub type TemplateCode = u16;

/// The templates of a batch of records, whose series are of one table.
#[derive(Debug, Default)]
pub struct Originals {
    known: Vec<Known>,
    /// Those used last, the last one first.
    recent: Vec<TemplateCode>,
    misses: u32,
    memo: Memo,
    memory_bytes: usize,
}

#[derive(Debug)]
struct Known {
    template: Template,
    text: String,
    /// By series; an inner none where the series has not the names.
    filled: Vec<Option<Option<Filled>>>,
}

/// The readings of one record.
#[derive(Clone, Copy, Debug)]
pub struct Readings<'a> {
    /// Where they are.
    pub columns: &'a ReadingColumns,
    /// The first.
    pub first: usize,
    /// The one after the last.
    pub next: usize,
    /// Their series.
    pub table: &'a SeriesTable,
}

impl Originals {
    /// The template that rebuilds `value` from its readings; none where the bytes are to be kept.
    pub fn find(&mut self, value: &[u8], readings: Readings<'_>) -> Option<TemplateCode> {
        for place in 0..self.recent.len() {
            let code = self.recent[place];
            if self.rebuilds(code, value, readings) {
                self.recent[..=place].rotate_right(1);
                return Some(code);
            }
        }
        if !self.may_learn(value, readings) {
            return None;
        }
        let learnt = self.learn(value, readings);
        self.misses = if learnt.is_some() { 0 } else { self.misses + 1 };
        learnt
    }

    /// The text of a template.
    ///
    /// # Panics
    /// If `code` was not given by these.
    #[must_use]
    pub fn text(&self, code: TemplateCode) -> &str {
        &self.known[usize::from(code)].text
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn may_learn(&mut self, value: &[u8], readings: Readings<'_>) -> bool {
        let is_json =
            value.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"[{".contains(byte));
        if !is_json || readings.rows().is_empty() || self.known.len() == TEMPLATES_MAX {
            return false;
        }
        if self.misses < MISSES_MAX {
            return true;
        }
        self.misses += 1;
        self.misses.is_multiple_of(SELDOM)
    }

    fn learn(&mut self, value: &[u8], readings: Readings<'_>) -> Option<TemplateCode> {
        let code = TemplateCode::try_from(self.known.len()).ok()?;
        for template in json::templates(value, &readings.measured(readings.first)) {
            let text = template.to_string();
            if text.len() > TEXT_BYTES_MAX {
                continue;
            }
            self.known.push(Known { template, text, filled: Vec::new() });
            if self.rebuilds(code, value, readings) {
                self.memory_bytes += size_of::<Known>() + 2 * TEXT_BYTES_MAX;
                self.recent.truncate(RECENT_MAX - 1);
                self.recent.insert(0, code);
                return Some(code);
            }
            self.known.pop();
        }
        None
    }

    /// Whether a template rebuilds exactly these bytes.
    fn rebuilds(&mut self, code: TemplateCode, value: &[u8], readings: Readings<'_>) -> bool {
        let Known { template, filled, .. } = &mut self.known[usize::from(code)];
        let between = match &template.between {
            Some(between) => &**between,
            None if readings.rows().len() == 1 => &[],
            None => return false,
        };
        let mut same = Same(value);
        if !same.put(&template.head) {
            return false;
        }
        for (index, row) in (0u32..).zip(readings.rows()) {
            if readings.columns.index[row] != index || (index > 0 && !same.put(between)) {
                return false;
            }
            let series = readings.columns.series[row];
            if !matches!(filled.get(series as usize), Some(Some(_))) {
                fill(template, filled, series, readings.table, &mut self.memory_bytes);
            }
            let Some(Some(Some(known))) = filled.get(series as usize) else { return false };
            if !known.write(&readings.measured(row), &mut self.memo, &mut same) {
                return false;
            }
        }
        same.put(&template.tail) && same.0.is_empty()
    }
}

#[inline(never)]
fn fill(
    template: &Template,
    filled: &mut Vec<Option<Option<Filled>>>,
    series: SeriesCode,
    table: &SeriesTable,
    memory_bytes: &mut usize,
) {
    let at = series as usize;
    if filled.len() <= at {
        *memory_bytes += (table.len().max(at + 1) - filled.len()) * size_of::<Option<Option<Filled>>>();
        filled.resize(table.len().max(at + 1), None);
    }
    let series = table.series(series);
    let name = |code| table.name(code);
    let names = Names {
        machine: name(series.machine),
        sensor: name(series.sensor),
        kind: series.kind.map(name),
        unit: series.unit.map(name),
    };
    let known = template.fill(&names);
    *memory_bytes += known.as_ref().map_or(0, Filled::memory_bytes);
    filled[at] = Some(known);
}

impl<'a> Readings<'a> {
    fn rows(&self) -> Range<usize> {
        self.first..self.next
    }

    #[inline(always)]
    fn measured(&self, row: usize) -> Measured<'a> {
        let columns = self.columns;
        Measured {
            time_us: columns.time_us[row],
            value: columns.has_value[row].then(|| columns.value[row]),
            text: if columns.text.is_empty() { None } else { columns.text_of(row) },
            quality: columns.quality[row],
        }
    }
}
