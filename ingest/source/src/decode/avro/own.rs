//! Records of our own shape, straight to readings: no tree, no names looked up but those of the series.
//!
//! A reading is a record with the fields machine, sensor, time and value or text, and may have kind, unit and quality;
//! whatever else it has is passed over. A writer's schema of one reading, of an array of them, or of a record with
//! an array of them named `readings`, is of this shape.

use std::borrow::Cow;

use super::super::DecodeError;
use super::super::mapped::Scalar;
use super::super::rows::{Measured, Names, Rows};
use super::plan::{Default, Op, OpId, Plan, Step};
use super::read::{Block, Cursor, Leaf};
use super::tree::text;
use crate::decode::json::time::from_epoch;
use crate::settings::TimeUnit;

/// What a field of a reading is, by the number of its name in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Machine,
    Sensor,
    Kind,
    Unit,
    Time,
    Value,
    Text,
    Quality,
    /// One that no reading has.
    Another,
}

/// Where the readings are in a writer's records.
#[derive(Debug)]
pub(super) struct Shape {
    roles: Vec<Role>,
    place: PlaceOfReadings,
}

#[derive(Debug)]
enum PlaceOfReadings {
    Root,
    Items(OpId),
    /// In that step of the root.
    Field(usize, OpId),
}

impl Shape {
    /// The shape of a plan's records, if it is ours.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let role = |name: &str| match name {
            "machine" => Role::Machine,
            "sensor" => Role::Sensor,
            "kind" => Role::Kind,
            "unit" => Role::Unit,
            "time" => Role::Time,
            "value" => Role::Value,
            "text" => Role::Text,
            "quality" => Role::Quality,
            _ => Role::Another,
        };
        let roles: Vec<Role> = plan.names.iter().map(|name| role(name)).collect();
        let is_reading = |op: OpId| is_reading(plan, &roles, op);
        let items = |op: OpId| match plan.ops[op as usize] {
            Op::Array(items) if is_reading(items) => Some(items),
            _ => None,
        };
        let place = if is_reading(plan.root) {
            PlaceOfReadings::Root
        } else if let Some(items) = items(plan.root) {
            PlaceOfReadings::Items(items)
        } else {
            let Op::Record(steps, _) = &plan.ops[plan.root as usize] else { return None };
            let is_readings =
                |step: &Step| step.name.is_some_and(|name| &*plan.names[name as usize] == "readings");
            let (i, step) = steps.iter().enumerate().find(|(_, step)| is_readings(step))?;
            PlaceOfReadings::Field(i, items(step.op)?)
        };
        Some(Self { roles, place })
    }

    /// The readings of the record that begins at byte `start`.
    pub(super) fn read<'a>(
        &self,
        plan: &'a Plan,
        bytes: &'a [u8],
        start: usize,
        unit: TimeUnit,
        rows: &mut Rows<'_>,
    ) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(bytes, start);
        let reader = Reader { plan, roles: &self.roles, unit };
        match self.place {
            PlaceOfReadings::Root => reader.reading(plan.root, &mut cursor, rows)?,
            PlaceOfReadings::Items(items) => reader.readings(items, &mut cursor, rows)?,
            PlaceOfReadings::Field(wanted, items) => {
                let Op::Record(steps, _) = &plan.ops[plan.root as usize] else { return Ok(()) };
                for (i, step) in steps.iter().enumerate() {
                    if i == wanted {
                        reader.readings(items, &mut cursor, rows)?;
                    } else {
                        plan.skip(step.op, &mut cursor, 1)?;
                    }
                }
            }
        }
        if cursor.at != bytes.len() {
            let message = format!("{} bytes are left after the record", bytes.len() - cursor.at);
            return Err(DecodeError::new("syntax", cursor.at, message));
        }
        Ok(())
    }
}

fn is_reading(plan: &Plan, roles: &[Role], op: OpId) -> bool {
    let Op::Record(steps, defaults) = &plan.ops[op as usize] else { return false };
    let mut fields = steps.iter().filter_map(|step| Some((step.name?, step.op)));
    let mut all = fields.by_ref().chain(defaults.iter().map(|default| (default.name, default.op)));
    let mut has = [false; 9];
    let plain = all.all(|(name, op)| {
        let role = roles[name as usize];
        has[role as usize] = true;
        role == Role::Another || is_leaf(plan, op)
    });
    let [machine, sensor, _, _, time, value, text, ..] = has;
    plain && machine && sensor && time && (value || text)
}

fn is_leaf(plan: &Plan, op: OpId) -> bool {
    match &plan.ops[op as usize] {
        Op::Array(_) | Op::Map(_) | Op::Record(..) => false,
        Op::Union(branches) => branches
            .iter()
            .all(|branch| !matches!(plan.ops[*branch as usize], Op::Array(_) | Op::Map(_) | Op::Record(..))),
        _ => true,
    }
}

struct Reader<'a, 's> {
    plan: &'a Plan,
    roles: &'s [Role],
    unit: TimeUnit,
}

/// A reading so far.
struct Partial<'a> {
    at: usize,
    names: Names<'a>,
    measured: Measured<'a>,
    time: Option<i64>,
}

impl<'a> Reader<'a, '_> {
    fn readings(&self, items: OpId, cursor: &mut Cursor<'a>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
        let mut block = Block::default();
        while block.next(cursor)? {
            let start = cursor.at;
            self.reading(items, cursor, rows)?;
            cursor.count_item(start)?;
        }
        Ok(())
    }

    #[inline]
    fn reading(&self, op: OpId, cursor: &mut Cursor<'a>, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
        let Op::Record(steps, defaults) = &self.plan.ops[op as usize] else { return Ok(()) };
        let at = cursor.at;
        let (names, measured) = (Names::default(), Measured::default());
        let mut partial = Partial { at, names, measured, time: None };
        for Step { op, name } in steps {
            match name.map(|name| self.roles[name as usize]) {
                None | Some(Role::Another) => self.plan.skip(*op, cursor, 1)?,
                Some(role) => {
                    let leaf = self.plan.leaf(*op, cursor)?;
                    self.field(role, leaf, &mut partial)?;
                }
            }
        }
        for Default { name, op, at } in defaults {
            let mut cursor = Cursor::new(&self.plan.defaults, *at as usize);
            let role = self.roles[*name as usize];
            if role != Role::Another {
                let leaf = self.plan.leaf(*op, &mut cursor)?;
                self.field(role, leaf, &mut partial)?;
            }
        }
        let Partial { names, mut measured, time, .. } = partial;
        let missing = |field| Err(DecodeError::new("missing_field", at, format!("a reading has no {field}")));
        if names.machine.is_empty() {
            return missing("machine");
        }
        if names.sensor.is_empty() {
            return missing("sensor");
        }
        let Some(time_us) = time else { return missing("time") };
        measured.time_us = time_us;
        rows.push(names, measured, at)
    }

    #[inline]
    fn field(&self, role: Role, leaf: Leaf<'a>, partial: &mut Partial<'a>) -> Result<(), DecodeError> {
        let at = partial.at;
        match role {
            Role::Machine => partial.names.machine = name(leaf, "machine", at)?,
            Role::Sensor => partial.names.sensor = name(leaf, "sensor", at)?,
            Role::Kind => partial.names.kind = name(leaf, "kind", at)?,
            Role::Unit => partial.names.unit = name(leaf, "unit", at)?,
            Role::Time => partial.time = self.time(leaf, at)?,
            Role::Quality => {
                partial.measured.quality = match leaf {
                    Leaf::Null => 0,
                    Leaf::Int(code) if u32::try_from(code).is_ok() => code as u32,
                    // A code of 32 bits fits an int with its sign alone.
                    Leaf::Int(code) if i32::try_from(code).is_ok() => (code as i32).cast_unsigned(),
                    Leaf::Text(word) => quality_word(word).ok_or_else(|| {
                        DecodeError::new("bad_quality", at, "quality is none of good, uncertain, bad")
                    })?,
                    _ => return Err(DecodeError::new("bad_quality", at, "quality is no status code")),
                }
            }
            Role::Value => match leaf {
                Leaf::Float(value) => partial.measured.value = Some(value),
                #[allow(clippy::cast_precision_loss, reason = "a reading's value is an f64")]
                Leaf::Int(value) => partial.measured.value = Some(value as f64),
                Leaf::Bool(yes) => partial.measured.value = Some(f64::from(u8::from(yes))),
                Leaf::Text(bytes) => partial.measured.text = Some(text(bytes, at)?),
                Leaf::Null => {}
                Leaf::Time(_) => return Err(DecodeError::new("bad_value", at, "value is a time")),
                Leaf::Other(what) => {
                    return Err(DecodeError::new("bad_value", at, format!("value is {what}")));
                }
            },
            Role::Text => match leaf {
                Leaf::Text(bytes) => partial.measured.text = Some(text(bytes, at)?),
                Leaf::Null => {}
                _ => return Err(DecodeError::new("bad_value", at, "text is no text")),
            },
            Role::Another => {}
        }
        Ok(())
    }

    #[inline]
    fn time(&self, leaf: Leaf<'_>, at: usize) -> Result<Option<i64>, DecodeError> {
        let time = match leaf {
            Leaf::Null => return Ok(None),
            Leaf::Time(us) => us.and_then(|us| from_epoch(us, TimeUnit::Micros)),
            Leaf::Int(epoch) => from_epoch(epoch, self.unit),
            Leaf::Float(epoch) => Scalar::Float(epoch).time_us(self.unit),
            Leaf::Text(bytes) => Scalar::Text(Cow::Borrowed(text(bytes, at)?)).time_us(self.unit),
            Leaf::Bool(_) | Leaf::Other(_) => None,
        };
        time.map(Some).ok_or_else(|| {
            DecodeError::new(
                "bad_time",
                at,
                "time is neither a timestamp nor RFC 3339 nor an epoch from 1678 to 2262",
            )
        })
    }
}

#[inline]
fn name<'a>(leaf: Leaf<'a>, field: &str, at: usize) -> Result<&'a [u8], DecodeError> {
    match leaf {
        Leaf::Text(bytes) => Ok(bytes),
        Leaf::Null => Ok(&[]),
        _ => Err(DecodeError::new("bad_name", at, format!("{field} is no text"))),
    }
}

fn quality_word(word: &[u8]) -> Option<u32> {
    use stillwell_schema::quality::{BAD, GOOD, UNCERTAIN};
    let words: [(&[u8], u32); 3] = [(b"good", GOOD), (b"uncertain", UNCERTAIN), (b"bad", BAD)];
    words.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, code)| *code)
}
