//! One version of one machine, and how records put it there or take it back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Fault, MachineError};
use super::moment::Moment;

/// Bytes of a name: of a machine, a site, a line, a model, a sensor, a unit.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a sensor's description.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Sensors of a machine.
pub const SENSORS_MAX: usize = 4096;
/// Bytes of a record's value, below the million that a broker takes by default.
pub const RECORD_BYTES_MAX: usize = 900_000;

/// A machine from a moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineVersion {
    /// Its name, as readings have it.
    pub machine: String,
    /// Where it stands.
    pub site: String,
    /// The production line that it is part of.
    pub line: String,
    /// Its type.
    pub model: String,
    /// From when on all this holds.
    pub valid_from: Moment,
    /// Its sensors, by their names.
    #[serde(deserialize_with = "distinct")]
    pub sensors: BTreeMap<String, Sensor>,
}

/// A sensor of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Unit of its values.
    pub unit: String,
    /// Its values are to lie at or above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Its values are to lie at or below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// The name of a version, the key of its records.
///
/// ```
/// use stillwell_schema::machines::VersionKey;
/// let key: VersionKey = "press@hall-2@2026-01-05T06:00:00.000000Z".parse().unwrap();
/// assert_eq!(key.machine, "press@hall-2");
/// assert_eq!(key.to_string(), "press@hall-2@2026-01-05T06:00:00.000000Z");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// Of which machine.
    pub machine: String,
    /// From when on it is valid.
    pub valid_from: Moment,
}

/// What a record does.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The version is this from now on, whatever it was.
    Put(MachineVersion),
    /// There is no such version, and never was.
    TakeBack(VersionKey),
}

impl MachineVersion {
    /// Reads a record's value.
    ///
    /// # Errors
    /// [`MachineError`] names the field that is wrong, or unknown.
    pub fn parse(json: &[u8]) -> Result<Self, MachineError> {
        if json.len() > RECORD_BYTES_MAX {
            return Err(MachineError::TooLarge { bytes: json.len() });
        }
        let version: Self =
            serde_json::from_slice(json).map_err(|error| MachineError::Json(error.to_string()))?;
        version.check()?;
        Ok(version)
    }

    /// What no type says: the bounds of every field, and of the record.
    ///
    /// # Errors
    /// [`MachineError`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), MachineError> {
        required("machine", &self.machine)?;
        for (field, text) in [("site", &self.site), ("line", &self.line), ("model", &self.model)] {
            bounded(field, text, NAME_BYTES_MAX)?;
        }
        let count = self.sensors.len();
        if count > SENSORS_MAX {
            return Err(Fault::TooMany { count, most: SENSORS_MAX }.of("sensors"));
        }
        for (name, sensor) in &self.sensors {
            required("sensors: the name of one", name)?;
            sensor.check(name)?;
        }
        match self.value().len() {
            bytes if bytes > RECORD_BYTES_MAX => Err(MachineError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }

    /// The key of its records.
    #[must_use]
    pub fn key(&self) -> VersionKey {
        VersionKey { machine: self.machine.clone(), valid_from: self.valid_from }
    }

    /// The value of its record.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        // Texts and finite numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Its sensors alone, as the value has them.
    #[must_use]
    pub fn sensors_json(&self) -> String {
        serde_json::to_string(&self.sensors).unwrap_or_default()
    }
}

impl Sensor {
    fn check(&self, name: &str) -> Result<(), MachineError> {
        let field = |field: &str| format!("sensors.{name}.{field}");
        bounded(field("unit"), &self.unit, NAME_BYTES_MAX)?;
        bounded(field("description"), &self.description, DESCRIPTION_BYTES_MAX)?;
        for (limit, value) in [("low", self.low), ("high", self.high)] {
            if value.is_some_and(|value| !value.is_finite()) {
                return Err(Fault::NotFinite.of(field(limit)));
            }
        }
        match (self.low, self.high) {
            (Some(low), Some(high)) if low > high => Err(Fault::AboveHigh { low, high }.of(field("low"))),
            _ => Ok(()),
        }
    }
}

/// Reads sensors alone, as [`MachineVersion::sensors_json`] writes them.
///
/// # Errors
/// [`MachineError::Json`].
pub fn sensors_of(json: &str) -> Result<BTreeMap<String, Sensor>, MachineError> {
    let mut from = serde_json::Deserializer::from_str(json);
    let sensors = distinct(&mut from).and_then(|sensors| from.end().map(|()| sensors));
    sensors.map_err(|error| MachineError::Json(error.to_string()))
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.machine, self.valid_from)
    }
}

impl FromStr for VersionKey {
    type Err = MachineError;

    /// A version has one key: compaction would keep two spellings of it apart.
    fn from_str(text: &str) -> Result<Self, MachineError> {
        let key = text.rsplit_once('@').and_then(|(machine, time)| {
            Some(Self { machine: machine.to_owned(), valid_from: time.parse().ok()? })
        });
        let is_good = |key: &Self| required("machine", &key.machine).is_ok() && key.to_string() == text;
        key.filter(is_good).ok_or_else(|| MachineError::Key(text.to_owned()))
    }
}

impl Change {
    /// Reads a record.
    ///
    /// # Errors
    /// [`MachineError`] says what is wrong with it.
    pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, MachineError> {
        let text = String::from_utf8_lossy(key.unwrap_or_default());
        let key: VersionKey = text.parse()?;
        let Some(value) = value else { return Ok(Self::TakeBack(key)) };
        let version = MachineVersion::parse(value)?;
        match version.key() {
            same if same == key => Ok(Self::Put(version)),
            value => Err(MachineError::Differs { key, value }),
        }
    }

    /// Which version it is about.
    #[must_use]
    pub fn key(&self) -> VersionKey {
        match self {
            Self::Put(version) => version.key(),
            Self::TakeBack(key) => key.clone(),
        }
    }

    /// The record's value; none where it takes back.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Put(version) => Some(version.value()),
            Self::TakeBack(_) => None,
        }
    }
}

fn required(field: &str, text: &str) -> Result<(), MachineError> {
    if text.is_empty() { Err(Fault::Empty.of(field)) } else { bounded(field, text, NAME_BYTES_MAX) }
}

fn bounded(field: impl Into<String>, text: &str, most: usize) -> Result<(), MachineError> {
    let bytes = text.len();
    if bytes > most {
        return Err(Fault::TooLong { bytes, most }.of(field));
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err(Fault::Blank.of(field));
    }
    Ok(())
}

/// A map whose names are all different; JSON itself would let the last of two count.
fn distinct<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Sensor>, D::Error> {
    struct Distinct;

    impl<'de> Visitor<'de> for Distinct {
        type Value = BTreeMap<String, Sensor>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("sensors by their names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut sensors = BTreeMap::new();
            while let Some((name, sensor)) = map.next_entry::<String, Sensor>()? {
                if sensors.contains_key(&name) {
                    return Err(A::Error::custom(format_args!("sensor {name:?} is there twice")));
                }
                sensors.insert(name, sensor);
            }
            Ok(sensors)
        }
    }

    from.deserialize_map(Distinct)
}
