//! A compact batch: one machine, a list of times, and per sensor a list of values as long.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::super::DecodeError;
use super::Reader;
use super::cursor::{Cursor, error};
use super::object::{Fields, missing, read_time};
use super::rows::{Row, Sink};
use crate::series::SeriesTable;

/// Reads the batch whose object starts at `start`. Cell `t` of sensor `s` has the index `s × times + t`;
/// a null cell is a missing value and gives no reading.
pub(super) fn read(
    decoder: &mut Reader,
    bytes: &[u8],
    start: usize,
    fields: &Fields<'_>,
    table: &mut SeriesTable,
    sink: &mut Sink<'_>,
) -> Result<(), DecodeError> {
    let machine = fields.machine(start)?;
    let Some(time) = &fields.time else { return Err(missing("time", start)) };
    let mut times = std::mem::take(&mut decoder.times);
    times.clear();
    list(&mut Cursor { bytes, at: time.start }, |cursor| {
        times.push(read_time(bytes, cursor.at, decoder.time_unit)?);
        cursor.skip().map(drop)
    })?;
    let kinds = texts(bytes, fields.kinds)?;
    let units = texts(bytes, fields.units)?;
    let mut index = 0u32;
    let mut sensors = Cursor { bytes, at: fields.sensors.unwrap_or(start) };
    let mut seen = ByName::default();
    let read = members(&mut sensors, |sensor, cursor| {
        if sensor.is_empty() {
            return Err(error("empty_name", cursor.at, "sensor is empty"));
        }
        seen.insert(sensor, (), cursor.at)?;
        let at = cursor.at;
        let first = index;
        let (mut cells, mut code) = (0, None);
        list(cursor, |cursor| {
            let time_us = times.get(cells).copied();
            cells += 1;
            index = index.checked_add(1).ok_or_else(|| error("too_large", at, "more than 2^32 cells"))?;
            let Some(value) = cursor.float_or_null()? else { return Ok(()) };
            let Some(time_us) = time_us else { return Ok(()) };
            let series = *code.get_or_insert_with(|| {
                decoder.names.intern(machine, sensor, kinds.text(sensor), units.text(sensor), table)
            });
            *sink.row() = Row { series, index: index - 1, time_us, value, has_value: true, quality: 0 };
            sink.push(None)
        })?;
        debug_assert_eq!((index - first) as usize, cells);
        if cells == times.len() {
            return Ok(());
        }
        let message = format!("sensor {sensor:?} has {cells} values for {} times", times.len());
        Err(error("length_mismatch", at, message))
    });
    decoder.times = times;
    read
}

/// Calls `each` at every element of the list at the cursor, which it must consume.
fn list<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    cursor.expect(b'[')?;
    if cursor.take(b']') {
        return Ok(());
    }
    loop {
        cursor.space();
        each(cursor)?;
        if !cursor.take(b',') {
            return cursor.expect(b']');
        }
    }
}

/// Calls `each` with every key of the object at the cursor; it must consume the value.
fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    cursor.expect(b'{')?;
    if cursor.take(b'}') {
        return Ok(());
    }
    loop {
        let key = cursor.string()?;
        cursor.expect(b':')?;
        cursor.space();
        each(&key, cursor)?;
        if !cursor.take(b',') {
            return cursor.expect(b'}');
        }
    }
}

/// The texts of an object such as `kinds`, by sensor; none where it says null.
fn texts(bytes: &[u8], at: Option<usize>) -> Result<ByName<Option<String>>, DecodeError> {
    let mut texts = ByName::default();
    let Some(at) = at else { return Ok(texts) };
    let mut cursor = Cursor { bytes, at };
    if cursor.null() {
        return Ok(texts);
    }
    members(&mut cursor, |sensor, cursor| {
        let at = cursor.at;
        let text = if cursor.null() { None } else { Some(cursor.string()?.into_owned()) };
        texts.insert(sensor, text, at)
    })?;
    Ok(texts)
}

/// Names looked through one by one before they are hashed: most batches have fewer.
const LISTED_MAX: usize = 16;

/// What an object holds, by key, each key once.
struct ByName<T> {
    listed: Vec<(String, T)>,
    /// The keys' places in the list, once there are more than [`LISTED_MAX`].
    places: HashMap<String, usize, FxBuildHasher>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { listed: Vec::new(), places: HashMap::default() }
    }
}

impl<T> ByName<T> {
    fn find(&self, name: &str) -> Option<&T> {
        let place = if self.places.is_empty() {
            self.listed.iter().position(|(known, _)| known == name)
        } else {
            self.places.get(name).copied()
        };
        place.map(|place| &self.listed[place].1)
    }

    fn insert(&mut self, name: &str, value: T, at: usize) -> Result<(), DecodeError> {
        if self.find(name).is_some() {
            return Err(error("duplicate_key", at, format!("sensor {name:?} is there twice")));
        }
        self.listed.push((name.to_owned(), value));
        if self.listed.len() > LISTED_MAX {
            let new = self.places.len();
            let places = self.listed.iter().enumerate().skip(new);
            self.places.extend(places.map(|(place, (name, _))| (name.clone(), place)));
        }
        Ok(())
    }
}

impl ByName<Option<String>> {
    fn text(&self, sensor: &str) -> Option<&str> {
        self.find(sensor)?.as_deref()
    }
}
