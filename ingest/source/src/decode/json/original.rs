//! What a record looks like beside its readings: the templates that its first reading suggests.

use std::ops::Range;

use stillwell_schema::original::{Measure, Measured, Slot, Style, Template};

use super::cursor::Cursor;
use super::object::Fields;
use super::template::Slot as Field;

/// Templates that may stand for `value`, whose first reading is `first`, the likeliest first. None where it is no
/// reading or list of readings.
#[must_use]
pub fn templates(value: &[u8], first: &Measured<'_>) -> Vec<Template> {
    suggest(value, first).unwrap_or_default()
}

fn suggest(value: &[u8], first: &Measured<'_>) -> Option<Vec<Template>> {
    let mut cursor = Cursor::new(value);
    let is_list = cursor.take(b'[');
    cursor.space();
    let start = cursor.at;
    let fields = Fields::read(&mut cursor).ok().filter(Fields::is_regular)?;
    let object = start..cursor.at;
    let (mut parts, mut at, mut number) = (Vec::new(), start, None);
    for (field, span) in &fields.slots {
        let Some((slot, end)) = slot(*field, value, span, first)? else { continue };
        if matches!(slot, Slot::Measure(Measure::Value(_))) {
            number = Some((parts.len(), &value[span.clone()]));
        }
        parts.push((value[at..span.start].to_vec(), slot));
        at = end;
    }
    let (between, tail) = around(value, object.end, is_list);
    let template = Template {
        head: value[..start].to_vec(),
        parts,
        end: value[at..object.end].to_vec(),
        between,
        tail: tail.to_vec(),
    };
    let Some((part, written)) = number else { return Some(vec![template]) };
    let with = |style| {
        let mut template = template.clone();
        template.parts[part].1 = Slot::Measure(Measure::Value(style));
        template
    };
    Some(styles(written).into_iter().map(with).collect())
}

/// What is between two readings of a list, and what is after the last.
fn around(value: &[u8], first_end: usize, is_list: bool) -> (Option<Vec<u8>>, &[u8]) {
    if !is_list {
        return (None, &value[first_end..]);
    }
    let last_end = value.iter().rposition(|byte| *byte == b'}').map_or(first_end, |at| at + 1);
    let next = value[first_end..].iter().position(|byte| *byte == b'{');
    let between = next.map_or(&b","[..], |next| &value[first_end..first_end + next]);
    (Some(between.to_vec()), &value[last_end..])
}

/// The slot of a field and where it ends; an inner none where the field is the same in all records, as far as is
/// known, and an outer one where it is written in no way that a template has.
#[allow(clippy::option_option, reason = "one says no slot, the other no template")]
fn slot(
    field: Field,
    value: &[u8],
    span: &Range<usize>,
    first: &Measured<'_>,
) -> Option<Option<(Slot, usize)>> {
    let (slot, end) = match field {
        Field::Name(0) => (Slot::Machine, span.end),
        Field::Name(1) => (Slot::Sensor, span.end),
        Field::Name(2) => (Slot::Kind, span.end),
        Field::Name(_) => (Slot::Unit, span.end),
        Field::Text => (Slot::Measure(Measure::Text), span.end),
        Field::Quality => (Slot::Measure(Measure::Quality), span.end),
        Field::Value => (Slot::Measure(Measure::Value(Style::Shortest)), span.end),
        Field::Epoch => (Slot::Measure(Measure::Epoch(unit(&value[span.clone()], first.time_us)?)), span.end),
        Field::Timestamp => {
            let digits = fraction(&value[span.clone()]);
            let len = 19 + digits + usize::from(digits > 0);
            let end = Some(span.start + len).filter(|end| *end <= span.end)?;
            (Slot::Measure(Measure::Moment(u8::try_from(digits).ok().filter(|digits| *digits <= 9)?)), end)
        }
        Field::Other | Field::End => return Some(None),
    };
    Some(Some((slot, end)))
}

/// The unit of an epoch, in seconds by ten to what is returned.
fn unit(written: &[u8], time_us: i64) -> Option<u8> {
    let epoch: i128 = std::str::from_utf8(written).ok()?.parse().ok()?;
    let time_us = i128::from(time_us);
    let is = |digits: u8| match digits {
        0 => epoch * 1_000_000 == time_us,
        3 => epoch * 1_000 == time_us,
        6 => epoch == time_us,
        _ => epoch == time_us * 1_000,
    };
    [3, 6, 0, 9].into_iter().find(|digits| is(*digits))
}

fn styles(written: &[u8]) -> Vec<Style> {
    let mut styles = vec![Style::Shortest, Style::Pointed];
    styles.extend(u8::try_from(fraction(written)).ok().filter(|digits| *digits <= 9).map(Style::Fixed));
    styles
}

/// Digits behind the point.
fn fraction(written: &[u8]) -> usize {
    let mut behind = written.rsplitn(2, |byte| *byte == b'.');
    let digits = behind.next().unwrap_or_default();
    match behind.next() {
        Some(_) => digits.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    }
}
