//! What of a foreign record is a reading: the `[topic.mapping]` of the config.
//!
//! Records of any shape are seen as trees: a JSON value; a row of an Arrow or Avro table, whose columns are its
//! members; a line of line protocol, `{measurement, tags: {…}, fields: {…}, timestamp}`. A mapping says with
//! [`path`]s where in the tree the fields of a reading are:
//!
//! | key | what | where it is not given |
//! |---|---|---|
//! | `each` | what iterates the rows, such as `"$.devices[*].samples[*]"` | the record is the row; a list's elements are the rows |
//! | `machine`, `sensor` | names: a path, or text with paths in braces, such as `"press-{$.id}"` | `@.machine`, `@.sensor` |
//! | `kind`, `unit` | likewise; may be missing in a record | `@.kind`, `@.unit` |
//! | `time` | a path: a timestamp, RFC 3339, or an epoch in the topic's `time_unit` | `@.time` |
//! | `value`, `text` | paths: one reading a row | `@.value`, `@.text` |
//! | `values` | or a list of paths, each a reading; `"@.*"` takes every member that nothing else reads | |
//! | `quality` | a path: an OPC UA status code, `good`/`uncertain`/`bad`, true/false, or a key of `quality_codes` | `@.quality` |
//! | `quality_codes` | what other words and codes mean, such as `{ 192 = 0, 0 = 0x80000000 }` | |
//!
//! Where a list of paths stands in the place of one, the first that leads somewhere counts. An entry of `values`
//! may be a table `{ from, sensor, kind, unit }` with names of its own; the sensor of a value is else what
//! `sensor` says, by default the name of its member (`$name`).
//!
//! A number is a value, true and false are 1 and 0, and a string is the reading's `text`. A null is no reading in
//! `values` and a reading without value in `value`. A value that is no finite number is none, of bad quality.
//! Line protocol has defaults of its own, [`MappingSettings::defaults`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::settings::Format;

pub mod path;

use path::{Path, Piece, Root, template};

/// A mapping as the config gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingSettings {
    /// What iterates the rows.
    pub each: Option<String>,
    /// The machine's name.
    pub machine: Option<OneOrMore>,
    /// The sensor's name.
    pub sensor: Option<OneOrMore>,
    /// Its kind.
    pub kind: Option<OneOrMore>,
    /// Its unit.
    pub unit: Option<OneOrMore>,
    /// The source time.
    pub time: Option<OneOrMore>,
    /// The value.
    pub value: Option<OneOrMore>,
    /// The string state.
    pub text: Option<OneOrMore>,
    /// The quality.
    pub quality: Option<OneOrMore>,
    /// Several readings a row, in the place of `value` and `text`.
    pub values: Vec<ValueSettings>,
    /// What foreign qualities mean, as OPC UA status codes.
    pub quality_codes: BTreeMap<String, u32>,
}

/// One text or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// The first that leads somewhere counts.
    More(Vec<String>),
}

/// An entry of `values`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ValueSettings {
    /// A path alone.
    Path(String),
    /// A path, with names of its own.
    Named(NamedValue),
}

/// A path whose readings have names of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    /// The path.
    pub from: String,
    /// The sensor.
    pub sensor: Option<OneOrMore>,
    /// Its kind.
    pub kind: Option<OneOrMore>,
    /// Its unit.
    pub unit: Option<OneOrMore>,
}

/// Why a mapping is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("mapping.{key}: {message}")]
pub struct MappingError {
    /// The key at fault.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// A mapping, parsed and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub(crate) each: Option<Path>,
    pub(crate) machine: Source,
    pub(crate) time: Vec<Path>,
    pub(crate) quality: Vec<Path>,
    pub(crate) quality_codes: BTreeMap<String, u32>,
    pub(crate) measures: Measures,
}

/// A name: the first of its forms whose paths all lead somewhere.
pub(crate) type Source = Vec<Vec<Piece>>;

/// The readings of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Measures {
    One { names: Names, value: Vec<Path>, text: Vec<Path> },
    Many(Vec<(Path, Names)>),
}

/// The names of a reading but for its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) sensor: Source,
    pub(crate) kind: Source,
    pub(crate) unit: Source,
}

impl MappingSettings {
    /// What is not given, by format. Line protocol: the machine is the tag `machine` or else `host`, each field is
    /// a reading of the sensor `measurement.field`, the tags `kind` and `unit` say what they are called, and a
    /// line without a timestamp has that of its Kafka record. All others: members of the fields' own names.
    #[must_use]
    pub fn defaults(format: Format) -> Self {
        let one = |text: &str| Some(OneOrMore::One(text.to_owned()));
        let either = |a: &str, b: &str| Some(OneOrMore::More(vec![a.to_owned(), b.to_owned()]));
        if format == Format::Line {
            return Self {
                machine: either("$.tags.machine", "$.tags.host"),
                sensor: one("{$.measurement}.{$name}"),
                kind: one("$.tags.kind"),
                unit: one("$.tags.unit"),
                time: either("$.timestamp", "$kafka.timestamp"),
                values: vec![ValueSettings::Path("$.fields.*".to_owned())],
                ..Self::default()
            };
        }
        Self {
            machine: one("@.machine"),
            sensor: one("@.sensor"),
            kind: one("@.kind"),
            unit: one("@.unit"),
            time: one("@.time"),
            value: one("@.value"),
            text: one("@.text"),
            quality: one("@.quality"),
            ..Self::default()
        }
    }
}

impl Mapping {
    /// The mapping of a format where the config gives none.
    ///
    /// # Panics
    /// Never: a test parses each.
    #[must_use]
    pub fn default_of(format: Format) -> Self {
        Self::parse(&MappingSettings::default(), format).expect("the defaults are right")
    }

    /// Parses and checks a mapping for records of `format`.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn parse(settings: &MappingSettings, format: Format) -> Result<Self, MappingError> {
        let defaults = MappingSettings::defaults(format);
        let is_one = settings.value.is_some() || settings.text.is_some();
        if is_one && !settings.values.is_empty() {
            return Err(wrong("values", "a row has either `values` or `value` and `text`"));
        }
        let each = settings.each.as_deref().map(each).transpose()?;
        let depth = each.as_ref().map_or(0, Path::wildcards);
        let parse = Parse { settings, defaults: &defaults, up_max: depth };
        let values = if is_one || !settings.values.is_empty() { &settings.values } else { &defaults.values };
        let measures = if values.is_empty() {
            let or = |own: &Option<OneOrMore>, key, default: &Option<OneOrMore>| {
                // Of the two, one alone may be meant.
                parse.paths(key, if is_one { own } else { default })
            };
            Measures::One {
                names: parse.names(true)?,
                value: or(&settings.value, "value", &defaults.value)?,
                text: or(&settings.text, "text", &defaults.text)?,
            }
        } else {
            let entry = |(i, value)| parse.entry(i, value);
            Measures::Many(values.iter().enumerate().map(entry).collect::<Result<_, _>>()?)
        };
        Ok(Self {
            each,
            machine: parse.source("machine", parse.or(&settings.machine, &defaults.machine), false)?,
            time: parse.paths("time", parse.or(&settings.time, &defaults.time))?,
            quality: parse.paths("quality", parse.or(&settings.quality, &defaults.quality))?,
            quality_codes: settings.quality_codes.clone(),
            measures,
        })
    }
}

/// What parsing a mapping's keys needs.
struct Parse<'a> {
    settings: &'a MappingSettings,
    defaults: &'a MappingSettings,
    /// How many rows lie around the innermost, and that one.
    up_max: usize,
}

impl Parse<'_> {
    fn or<'s>(&self, own: &'s Option<OneOrMore>, default: &'s Option<OneOrMore>) -> &'s Option<OneOrMore> {
        if own.is_some() { own } else { default }
    }

    /// The names that the mapping itself gives; `is_one` where a row is one reading.
    fn names(&self, is_one: bool) -> Result<Names, MappingError> {
        let (own, defaults) = (self.settings, self.defaults);
        let by_member = Some(OneOrMore::One("$name".to_owned()));
        let sensor = match (&own.sensor, is_one || !defaults.values.is_empty()) {
            (Some(_), _) => &own.sensor,
            (None, true) => &defaults.sensor,
            (None, false) => &by_member,
        };
        Ok(Names {
            sensor: self.source("sensor", sensor, !is_one)?,
            kind: self.source("kind", self.or(&own.kind, &defaults.kind), !is_one)?,
            unit: self.source("unit", self.or(&own.unit, &defaults.unit), !is_one)?,
        })
    }

    fn entry(&self, i: usize, value: &ValueSettings) -> Result<(Path, Names), MappingError> {
        let key = format!("values[{i}]");
        let mut names = self.names(false)?;
        let from = match value {
            ValueSettings::Path(from) => from,
            ValueSettings::Named(NamedValue { from, sensor, kind, unit }) => {
                let own = [
                    (&mut names.sensor, "sensor", sensor),
                    (&mut names.kind, "kind", kind),
                    (&mut names.unit, "unit", unit),
                ];
                for (slot, word, given) in own.into_iter().filter(|(.., given)| given.is_some()) {
                    *slot = self.source(&format!("{key}.{word}"), given, true)?;
                }
                from
            }
        };
        let path = Path::parse(from).map_err(|message| wrong(&key, message))?;
        let last = path.steps.len().saturating_sub(1);
        if path.steps[..last].contains(&path::Step::All) {
            return Err(wrong(&key, format!("{from:?} may have a * at its end alone; `each` iterates rows")));
        }
        if path.steps.is_empty() {
            return Err(wrong(&key, format!("{from:?} leads to no member")));
        }
        self.check(&key, &path)?;
        Ok((path, names))
    }

    fn source(&self, key: &str, given: &Option<OneOrMore>, named: bool) -> Result<Source, MappingError> {
        let parse = |text: &String| {
            let pieces = template(text).map_err(|message| wrong(key, message))?;
            for piece in &pieces {
                let Piece::Path(path) = piece else { continue };
                if path.root == Root::Name && !named {
                    return Err(wrong(
                        key,
                        "$name is the name of a value of `values`, and there is none here",
                    ));
                }
                self.check_single(key, path)?;
            }
            Ok(pieces)
        };
        texts(given).map(parse).collect()
    }

    fn paths(&self, key: &str, given: &Option<OneOrMore>) -> Result<Vec<Path>, MappingError> {
        let parse = |text: &String| {
            let path = Path::parse(text).map_err(|message| wrong(key, message))?;
            if path.root == Root::Name {
                return Err(wrong(key, "$name is for `sensor`, `kind` and `unit`"));
            }
            self.check_single(key, &path)?;
            Ok(path)
        };
        texts(given).map(parse).collect()
    }

    fn check_single(&self, key: &str, path: &Path) -> Result<(), MappingError> {
        if path.wildcards() > 0 {
            return Err(wrong(key, format!("{path} leads to many; only `each` and `values` may")));
        }
        self.check(key, path)
    }

    fn check(&self, key: &str, path: &Path) -> Result<(), MappingError> {
        if path.up() > self.up_max.saturating_sub(1) {
            let message = format!("{path} goes further out than the {} [*] of `each`", self.up_max);
            return Err(wrong(key, message));
        }
        if path.root == Root::Key && self.up_max == 0 {
            return Err(wrong(key, "$key is the key of a row, and there is no `each`"));
        }
        Ok(())
    }
}

fn each(text: &str) -> Result<Path, MappingError> {
    let path = Path::parse(text).map_err(|message| wrong("each", message))?;
    if path.root != Root::Record {
        return Err(wrong("each", format!("{text:?} must start at the record, with $")));
    }
    if path.steps.last() != Some(&path::Step::All) {
        return Err(wrong("each", format!("{text:?} must end with [*] or .*, as it iterates rows")));
    }
    Ok(path)
}

fn texts(given: &Option<OneOrMore>) -> impl Iterator<Item = &String> {
    let texts = match given {
        None => &[][..],
        Some(OneOrMore::One(text)) => std::slice::from_ref(text),
        Some(OneOrMore::More(texts)) => texts,
    };
    texts.iter()
}

fn wrong(key: &str, message: impl Into<String>) -> MappingError {
    MappingError { key: key.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> Result<Mapping, String> {
        let settings: MappingSettings = toml::from_str(toml).map_err(|error| error.to_string())?;
        Mapping::parse(&settings, Format::Json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_right() {
        for format in Format::ALL {
            let _ = Mapping::default_of(format);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let cases = [
            ("machine = 'asset {x}'", "mapping.machine: the path \"x}\""),
            ("time = '$.a['", "mapping.time:"),
            ("time = 'now'", "mapping.time: the path \"now\""),
            ("each = '@.a[*]'", "mapping.each:"),
            ("each = '$.a'", "mapping.each:"),
            ("value = '$.a[*]'", "mapping.value: $.a[*] leads to many"),
            ("value = '$.a'\nvalues = ['$.b']", "mapping.values:"),
            ("values = ['$.a[*].b']", "mapping.values[0]:"),
            ("values = ['$.a', '$']", "mapping.values[1]:"),
            ("values = [{ from = '$.a', unit = '{' }]", "mapping.values[0].unit:"),
            ("sensor = '$name'", "mapping.sensor: $name"),
            ("machine = '@^.id'", "mapping.machine: @^.id goes further out"),
            ("each = '$.a[*]'\nmachine = '@^.id'", "mapping.machine: @^.id goes further out"),
            ("machine = '$key'", "mapping.machine: $key"),
            ("time_zone = 'x'", "unknown field `time_zone`"),
        ];
        for (toml, part) in cases {
            let found = parse(toml).unwrap_err();
            assert!(found.contains(part), "{toml}: {found}");
        }
        parse("each = '$.a[*].b[*]'\nmachine = '@^.id'\nvalues = ['@.*', { from = '@.x', unit = 'K' }]")
            .unwrap();
    }
}
