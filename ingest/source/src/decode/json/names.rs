//! What a lane's readings were called and looked like so far, to expect the next ones by.
//!
//! Readings resemble each other: after one series mostly comes the one that followed it the last time, and an
//! object of a series mostly has the very bytes of the one before but for time and value. Where that fails,
//! the object may still have the keys and spacing of one seen lately, with other names in it.

use std::ops::Range;

use super::rows::Row;
use super::template::{Slot, Span, Template, Templates};
use crate::series::{NameCode, Series, SeriesCode, SeriesTable};
use crate::settings::TimeUnit;

/// Shapes tried before an object is read the general way: a lane's clients write few.
const SHAPES_MAX: usize = 4;

/// What was seen.
#[derive(Debug)]
pub(super) struct Names {
    templates: Templates,
    /// By series code.
    known: Vec<Known>,
    /// Templates with slots for names, the last used first.
    shapes: Vec<Template>,
    last: SeriesCode,
    /// Kept for its memory.
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The series that came after this one the last time.
    follower: SeriesCode,
    /// What this one looks like, names and all.
    form: Option<Template>,
    /// The shape that the form is of.
    shape: Option<Template>,
}

/// The text of a reading that was found, and the place after it.
pub(super) type Found<'a> = (Option<&'a str>, usize);

impl Names {
    /// Nothing seen yet. What objects look like is kept in `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        let templates = Templates::new(bytes_max);
        Self { templates, known: Vec::new(), shapes: Vec::new(), last: 0, spans: Vec::new() }
    }

    /// Reads the object at `at` if it is of the series that is expected next and looks like the last one.
    #[inline(always)]
    pub(super) fn expected<'a>(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        unit: TimeUnit,
        row: &mut Row,
    ) -> Option<Found<'a>> {
        let series = self.known.get(self.last as usize)?.follower;
        let form = self.known.get(series as usize)?.form?;
        let found = self.templates.read(form, bytes, at, unit, row, |_, _| ())?;
        self.last = series;
        row.series = series;
        Some(found)
    }

    /// Reads the object at `at` if it has the keys and spacing of one seen lately.
    #[inline(never)]
    pub(super) fn alike<'a>(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        unit: TimeUnit,
        table: &mut SeriesTable,
        row: &mut Row,
    ) -> Option<Found<'a>> {
        let mut spans = std::mem::take(&mut self.spans);
        let found = (0..self.shapes.len()).find_map(|i| {
            spans.clear();
            let visit = |slot, span| spans.push((slot, span));
            let (text, end) = self.templates.read(self.shapes[i], bytes, at, unit, row, visit)?;
            Some((i, text, end))
        });
        let found = found.and_then(|(i, text, end)| {
            let mut names = [None; 4];
            for (slot, span) in &spans {
                if let Slot::Name(name) = slot {
                    names[usize::from(*name)] = Some(std::str::from_utf8(&bytes[span.clone()]).ok()?);
                }
            }
            let [machine, sensor, kind, unit] = names;
            let (machine, sensor) = (machine.filter(|m| !m.is_empty())?, sensor.filter(|s| !s.is_empty())?);
            row.series = self.intern(machine, sensor, kind, unit, table);
            self.shapes[..=i].rotate_right(1);
            self.keep_form(row.series, bytes, at..end, &spans);
            Some((text, end))
        });
        self.spans = spans;
        found
    }

    /// The code of a series by its names; it becomes the one expected after the last.
    pub(super) fn intern(
        &mut self,
        machine: &str,
        sensor: &str,
        kind: Option<&str>,
        unit: Option<&str>,
        table: &mut SeriesTable,
    ) -> SeriesCode {
        // Of a neighbour's names some are mostly the same, and comparing costs less than hashing.
        let likely = self.known.get(self.last as usize).map(|last| table.series(last.follower));
        let mut code = |name: &str, likely: Option<NameCode>| match likely {
            Some(code) if table.name(code) == name => code,
            _ => table.intern_name(name),
        };
        let series = Series {
            machine: code(machine, likely.map(|series| series.machine)),
            sensor: code(sensor, likely.map(|series| series.sensor)),
            kind: kind.map(|name| code(name, likely.and_then(|series| series.kind))),
            unit: unit.map(|name| code(name, likely.and_then(|series| series.unit))),
        };
        let series = table.intern(series);
        // A table that another decoder filled holds series that this one has not seen.
        while self.known.len() < table.len() {
            let itself = u32::try_from(self.known.len()).unwrap_or(series);
            self.known.push(Known { follower: itself, form: None, shape: None });
        }
        if let Some(last) = self.known.get_mut(self.last as usize) {
            last.follower = series;
        }
        self.last = series;
        series
    }

    /// Learns what the object at `object`, a reading of `series`, looks like.
    pub(super) fn learn(&mut self, series: SeriesCode, bytes: &[u8], object: Range<usize>, spans: &[Span]) {
        if !self.templates.has_room(object.len(), spans.len()) {
            self.forget_looks();
        }
        if !self.templates.has_room(object.len(), spans.len()) {
            return;
        }
        let shape = self.templates.learn(bytes, object.clone(), spans.iter().cloned());
        self.shapes.truncate(SHAPES_MAX - 1);
        self.shapes.insert(0, shape);
        self.keep_form(series, bytes, object, spans);
    }

    /// Keeps what an object of the shape used last looks like with its names, unless that is known.
    fn keep_form(&mut self, series: SeriesCode, bytes: &[u8], object: Range<usize>, spans: &[Span]) {
        let shape = self.shapes.first().copied();
        if self.known[series as usize].shape == shape {
            return;
        }
        if !self.templates.has_room(object.len(), spans.len()) {
            return self.forget_looks();
        }
        let measured = spans.iter().filter(|(slot, _)| !matches!(slot, Slot::Name(_))).cloned();
        let form = self.templates.learn(bytes, object, measured);
        let known = &mut self.known[series as usize];
        (known.form, known.shape) = (Some(form), shape);
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.templates.memory_bytes() + self.known.capacity() * size_of::<Known>()
    }

    /// Forgets all, as codes are dealt out anew.
    pub(super) fn forget(&mut self) {
        self.forget_looks();
        self.known.clear();
        self.last = 0;
    }

    fn forget_looks(&mut self) {
        self.templates.clear();
        self.shapes.clear();
        for known in &mut self.known {
            (known.form, known.shape) = (None, None);
        }
    }
}
