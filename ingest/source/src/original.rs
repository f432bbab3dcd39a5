//! Which records need not be kept byte by byte: those that their readings and a template rebuild.
//!
//! **Invariant:** a template is given for a record only after the record was rebuilt with it and every byte compared,
//! by the very code that readers rebuild it with ([`stillwell_schema::original`]).

use std::collections::VecDeque;
use std::ops::Range;

use stillwell_schema::original::{Filled, Measured, Memo, Names, Same, Sink, Template};

use crate::columns::ReadingColumns;
use crate::decode::json;
use crate::series::SeriesTable;

/// Templates of one batch: clients write few, and one that never writes the same twice shall not fill the memory.
const TEMPLATES_MAX: usize = 64;

/// Templates tried on a record, those used last.
const RECENT_MAX: usize = 16;

/// Looks of records that no other had yet.
const SEEN_ONCE_MAX: usize = 8;

/// Records whose look was not to be learnt, after which few more are looked at.
const MISSES_MAX: u32 = 16;

/// Of the records after so many misses one in so many is looked at.
const SELDOM: u32 = 64;

/// Bytes a reading on average above which a record is kept, so that what is rebuilt at once is bounded by the number of
/// readings alone.
const READING_BYTES_MAX: usize = 512;

/// The number of a template.
pub type TemplateCode = u16;

/// The templates of a batch of records, whose series are of one table.
#[derive(Debug, Default)]
pub struct Originals {
    known: Vec<Known>,
    /// Those used last, the last one first.
    recent: Vec<TemplateCode>,
    /// What records looked like whose look is no template yet: it is one when a second record has it.
    seen_once: VecDeque<Look>,
    misses: u32,
    memo: Memo,
    memory_bytes: usize,
}

/// Templates of a batch, for the next one of the same lane.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    known: Vec<Template>,
    seen_once: VecDeque<Look>,
}

/// The templates that rebuild a record, the likeliest first.
type Look = Vec<Template>;

#[derive(Debug)]
struct Known {
    template: Template,
    text: String,
    /// Places among `filled` by series; [`UNKNOWN`] and [`NAMELESS`] stand for none.
    places: Vec<u32>,
    filled: Vec<Filled>,
}

/// A series that was not met yet.
const UNKNOWN: u32 = u32::MAX;

/// A series without the names that the template asks for.
const NAMELESS: u32 = u32::MAX - 1;

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
    /// Those of a new batch of a lane whose batch before had these.
    #[must_use]
    pub fn after(looks: Looks) -> Self {
        let mut originals = Self { seen_once: looks.seen_once, ..Self::default() };
        for template in looks.known {
            originals.add(template);
        }
        originals
    }

    /// What the next batch of the lane will mostly look like: the templates used last, and what was seen once.
    #[must_use]
    pub fn looks(&self) -> Looks {
        // They are added first to last, and the one added last is tried first.
        let known = self.recent.iter().rev().map(|code| self.known[usize::from(*code)].template.clone());
        Looks { known: known.collect(), seen_once: self.seen_once.clone() }
    }

    /// The template that rebuilds `value` from its readings; none where the bytes are to be kept.
    pub fn find(&mut self, value: &[u8], readings: Readings<'_>) -> Option<TemplateCode> {
        let count = readings.rows().len();
        if count == 0 || value.len() / count > READING_BYTES_MAX {
            return None;
        }
        for place in 0..self.recent.len() {
            let code = self.recent[place];
            if self.rebuilds(code, value, readings) {
                self.recent[..=place].rotate_right(1);
                return Some(code);
            }
        }
        if !self.may_learn(value) {
            return None;
        }
        let found = self.seen_before(value, readings);
        self.misses = if found.is_some() { 0 } else { self.misses.saturating_add(1) };
        if found.is_none() {
            self.see(value, readings);
        }
        found
    }

    /// The text of a template.
    ///
    /// # Panics
    /// If `code` was not given by these.
    #[must_use]
    pub fn text(&self, code: TemplateCode) -> &str {
        &self.known[usize::from(code)].text
    }

    /// Bytes of memory held, but for what was seen once: that is bounded and small.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn may_learn(&mut self, value: &[u8]) -> bool {
        let first = value.iter().find(|byte| !byte.is_ascii_whitespace());
        if !first.is_some_and(|byte| b"[{".contains(byte)) || self.known.len() == TEMPLATES_MAX {
            return false;
        }
        if self.misses < MISSES_MAX {
            return true;
        }
        self.misses = self.misses.saturating_add(1);
        self.misses.is_multiple_of(SELDOM)
    }

    /// Makes a look that another record had a template, if this one has it too.
    fn seen_before(&mut self, value: &[u8], readings: Readings<'_>) -> Option<TemplateCode> {
        let fits = |template: &Template| rebuilds_alone(template, value, readings);
        let place = self.seen_once.iter().position(|look| look.iter().any(fits))?;
        let template = self.seen_once.remove(place)?.into_iter().find(fits)?;
        self.add(template)
    }

    /// Remembers what a record looks like, in each way that rebuilds it.
    fn see(&mut self, value: &[u8], readings: Readings<'_>) {
        let mut look = json::templates(value, &readings.measured(readings.first));
        // What is compared is what readers will read.
        look.retain(|template| template.to_string().parse().as_ref() == Ok(template));
        look.retain(|template| rebuilds_alone(template, value, readings));
        if !look.is_empty() {
            self.seen_once.truncate(SEEN_ONCE_MAX - 1);
            self.seen_once.push_front(look);
        }
    }

    /// Its code, as the one to be tried first.
    fn add(&mut self, template: Template) -> Option<TemplateCode> {
        let text = template.to_string();
        let code = match self.known.iter().position(|known| known.text == text) {
            Some(known) => TemplateCode::try_from(known).ok()?,
            None => {
                let code = TemplateCode::try_from(self.known.len()).ok()?;
                self.memory_bytes += size_of::<Known>() + 4 * text.len();
                self.known.push(Known { template, text, places: Vec::new(), filled: Vec::new() });
                code
            }
        };
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, code);
        Some(code)
    }

    /// Whether a template rebuilds exactly these bytes.
    fn rebuilds(&mut self, code: TemplateCode, value: &[u8], readings: Readings<'_>) -> bool {
        let Known { template, places, filled, .. } = &mut self.known[usize::from(code)];
        let memory_bytes = &mut self.memory_bytes;
        compare(template, value, readings, |row, same| {
            let series = readings.columns.series[row] as usize;
            let place = match places.get(series) {
                Some(&place) if place != UNKNOWN => place,
                _ => {
                    let before = places.len();
                    places.resize(before.max(readings.table.len()), UNKNOWN);
                    let place = match readings.fill(template, row) {
                        Some(known) => {
                            *memory_bytes += known.memory_bytes();
                            filled.push(known);
                            u32::try_from(filled.len() - 1).unwrap_or(NAMELESS)
                        }
                        None => NAMELESS,
                    };
                    *memory_bytes += (places.len() - before) * size_of::<u32>();
                    places[series] = place;
                    place
                }
            };
            let known = filled.get(place as usize);
            known.is_some_and(|known| known.write(&readings.measured(row), &mut self.memo, same))
        })
    }
}

/// The same, without remembering anything.
fn rebuilds_alone(template: &Template, value: &[u8], readings: Readings<'_>) -> bool {
    let mut memo = Memo::default();
    compare(template, value, readings, |row, same| {
        let known = readings.fill(template, row);
        known.is_some_and(|known| known.write(&readings.measured(row), &mut memo, same))
    })
}

/// Whether a template, whose readings `write` writes, rebuilds exactly these bytes.
#[inline(always)]
fn compare(
    template: &Template,
    value: &[u8],
    readings: Readings<'_>,
    mut write: impl FnMut(usize, &mut Same<'_>) -> bool,
) -> bool {
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
        let is_next = readings.columns.index[row] == index;
        if !is_next || (index > 0 && !same.put(between)) || !write(row, &mut same) {
            return false;
        }
    }
    same.put(&template.tail) && same.0.is_empty()
}

impl<'a> Readings<'a> {
    /// A template with the names of a reading in it; none where it has not all of them.
    #[inline(never)]
    fn fill(&self, template: &Template, row: usize) -> Option<Filled> {
        let series = self.table.series(self.columns.series[row]);
        let name = |code| self.table.name(code);
        template.fill(&Names {
            machine: name(series.machine),
            sensor: name(series.sensor),
            kind: series.kind.map(name),
            unit: series.unit.map(name),
        })
    }

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
