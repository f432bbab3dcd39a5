//! A compact batch: one machine, a list of times, and per sensor a list of values as long.

use super::super::DecodeError;
use super::cursor::{Cursor, error};
use super::object::{Fields, missing, read_time};
use super::{JsonDecoder, Measured, Sink};
use crate::series::SeriesTable;

/// Reads the batch whose object starts at `start`. Cell `t` of sensor `s` has the index `s × times + t`;
/// a null cell is a missing value and gives no reading.
pub(super) fn read(
    decoder: &mut JsonDecoder,
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
    let mut seen = Vec::new();
    let read = members(&mut sensors, |sensor, cursor| {
        if sensor.is_empty() {
            return Err(error("empty_name", cursor.at, "sensor is empty"));
        }
        if seen.iter().any(|name| name == sensor) {
            return Err(error("duplicate_key", cursor.at, format!("sensor {sensor:?} is there twice")));
        }
        seen.push(sensor.to_owned());
        let at = cursor.at;
        let first = index;
        let (mut cells, mut code) = (0, None);
        list(cursor, |cursor| {
            let time_us = times.get(cells).copied();
            cells += 1;
            index = index.checked_add(1).ok_or_else(|| error("too_large", at, "more than 2^32 cells"))?;
            if cursor.null() {
                return Ok(());
            }
            let value = Some(cursor.float()?);
            let Some(time_us) = time_us else { return Ok(()) };
            let series = *code.get_or_insert_with(|| {
                decoder.names.intern(machine, sensor, of(&kinds, sensor), of(&units, sensor), table)
            });
            sink.push(series, index - 1, Measured { time_us, value, text: None, quality: 0 })
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

/// The texts of an object such as `kinds`, by sensor.
fn texts(bytes: &[u8], at: Option<usize>) -> Result<Vec<(String, String)>, DecodeError> {
    let mut texts = Vec::new();
    if let Some(at) = at {
        let mut cursor = Cursor { bytes, at };
        if cursor.null() {
            return Ok(texts);
        }
        members(&mut cursor, |sensor, cursor| {
            if !cursor.null() {
                texts.push((sensor.to_owned(), cursor.string()?.into_owned()));
            }
            Ok(())
        })?;
    }
    Ok(texts)
}

fn of<'t>(texts: &'t [(String, String)], sensor: &str) -> Option<&'t str> {
    texts.iter().find(|(name, _)| name == sensor).map(|(_, text)| text.as_str())
}
