//! Records as factories send them, each with the readings that it must give.

use crate::log::Slot;
use crate::world::World;

/// What a producer wrote.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// What is to be read from the value; none where it cannot be decoded.
    pub(crate) readings: Option<Vec<Reading>>,
}

/// One measured value as its sender meant it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) machine: String,
    pub(crate) sensor: String,
    pub(crate) kind: Option<String>,
    pub(crate) unit: Option<String>,
    pub(crate) time_us: i64,
    pub(crate) value: Option<f64>,
    pub(crate) text: Option<String>,
    pub(crate) quality: u32,
    pub(crate) index: u32,
}

/// The next offsets of a log that ends at `end`.
pub(crate) fn draw_slots(world: &World, end: i64, many: u64) -> Vec<Slot> {
    (end..).take(many as usize).map(|offset| draw_slot(world, offset)).collect()
}

fn draw_slot(world: &World, offset: i64) -> Slot {
    if world.chance(world.habits.markers) { Slot::Marker } else { Slot::Record(draw_record(world, offset)) }
}

/// A record that differs from every other.
pub(crate) fn draw_record(world: &World, offset: i64) -> Record {
    let (value, readings) =
        if world.chance(world.habits.poison) { (poison(world, offset), None) } else { sound(world, offset) };
    let headers = (0..world.below(3)).map(|i| (format!("h{i}"), (i > 0).then(|| vec![i as u8; 3])));
    Record {
        timestamp_ms: if world.chance(5) { -1 } else { 1_795_000_000_000 + offset * 1_000 },
        key: (!world.chance(20)).then(|| format!("key-{offset}").into_bytes()),
        value,
        headers: headers.collect(),
        readings,
    }
}

fn poison(world: &World, offset: i64) -> Option<Vec<u8>> {
    let text = match world.below(5) {
        0 => return None,
        1 => String::new(),
        2 => format!("poison {offset}"),
        3 => format!(r#"{{"machine":"press","sensor":"oil","value":{offset}}}"#),
        // The first reading is sound, and yet nothing of the record may be read.
        _ => format!(r#"[{{"machine":"ghost","sensor":"oil","time":{offset},"value":1}},{{"machine":1}}]"#),
    };
    Some(text.into_bytes())
}

fn sound(world: &World, offset: i64) -> (Option<Vec<u8>>, Option<Vec<Reading>>) {
    // Some come late, so that a file's order is not the log's.
    let time_ms = 1_795_000_000_000 + (offset - if world.chance(20) { 9 } else { 0 }) * 100;
    let machine = format!("press-{}", world.below(3));
    let (value, readings) = match world.below(4) {
        0 => batch(&machine, time_ms, offset),
        1 => {
            let (texts, readings): (Vec<_>, Vec<_>) =
                (0..world.below(3)).map(|i| single(&machine, time_ms, offset, i as u32)).unzip();
            (format!("[{}]", texts.join(",")), readings)
        }
        _ => {
            let (text, reading) = single(&machine, time_ms, offset, 0);
            (text, vec![reading])
        }
    };
    (Some(value.into_bytes()), Some(readings))
}

fn single(machine: &str, time_ms: i64, offset: i64, index: u32) -> (String, Reading) {
    let value = offset as f64 / 4.0;
    let has_text = offset % 5 == 2;
    let reading = Reading {
        machine: machine.to_owned(),
        sensor: format!("s{index}"),
        kind: (offset % 3 == 0).then(|| "vibration".to_owned()),
        unit: (offset % 3 == 0).then(|| "mm/s".to_owned()),
        time_us: time_ms * 1_000,
        value: (!has_text).then_some(value),
        text: has_text.then(|| format!("state {offset}")),
        quality: if offset % 4 == 1 { 2_147_483_648 } else { 0 },
        index,
    };
    let mut text = format!(r#"{{"machine":"{machine}","sensor":"s{index}","time":{time_ms}"#);
    match &reading.text {
        Some(state) => text += &format!(r#","text":"{state}""#),
        None => text += &format!(r#","value":{value:?}"#),
    }
    if reading.kind.is_some() {
        text += r#","kind":"vibration","unit":"mm/s""#;
    }
    if reading.quality != 0 {
        text += r#","quality":2147483648"#;
    }
    (text + "}", reading)
}

/// Two sensors at two times; one cell is missing.
fn batch(machine: &str, time_ms: i64, offset: i64) -> (String, Vec<Reading>) {
    let later = time_ms + 1;
    let text = format!(
        r#"{{"machine":"{machine}","time":[{time_ms},{later}],"sensors":{{"a":[{offset},{offset}.5],"b":[null,-{offset}.25]}},"units":{{"a":"bar"}}}}"#
    );
    let cell = |sensor: &str, index: u32, value: f64| Reading {
        machine: machine.to_owned(),
        sensor: sensor.to_owned(),
        kind: None,
        unit: (sensor == "a").then(|| "bar".to_owned()),
        time_us: (time_ms + i64::from(index % 2)) * 1_000,
        value: Some(value),
        text: None,
        quality: 0,
        index,
    };
    let at = offset as f64;
    (text, vec![cell("a", 0, at), cell("a", 1, at + 0.5), cell("b", 3, -at - 0.25)])
}
