//! The registry as a spreadsheet has it: one line per sensor, the machine's own columns on each; a machine without
//! sensors has one line that names none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ::csv::{ReaderBuilder, StringRecord, Trim, Writer};
use anyhow::{Context, bail};
use stillwell_schema::machines::{MachineRegistry, MachineVersion, Moment, Sensor, VersionKey};

use super::file::Faults;

/// The columns, in the order in which they are written.
const COLUMNS: [&str; 10] =
    ["machine", "valid_from", "site", "line", "model", "sensor", "unit", "low", "high", "description"];
/// Those that a file must have.
const REQUIRED: [&str; 2] = ["machine", "valid_from"];

/// A version and the line that named it first.
type Found = BTreeMap<VersionKey, (u64, MachineVersion)>;

/// Reads a file.
///
/// # Errors
/// Names every line, and the column, that is wrong.
pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<MachineRegistry> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
    let header = reader.headers().context("it has no header")?.clone();
    check_header(&header)?;
    let (mut faults, mut found) = (Faults::default(), Found::new());
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, ::csv::Position::line);
        if let Err(error) = (Line { header: &header, record: &record, number: line }).add_to(&mut found) {
            faults.add(&format!("line {line}"), &format!("{error:#}"));
        }
    }
    for (line, version) in found.values() {
        if let Err(error) = version.check() {
            faults.add(&format!("line {line} ({})", version.key()), &error);
        }
    }
    faults.check()?;
    Ok(found.into_values().map(|(_, version)| version).collect())
}

fn check_header(header: &StringRecord) -> anyhow::Result<()> {
    for (at, name) in header.iter().enumerate() {
        if !COLUMNS.contains(&name) {
            bail!("it has a column {name:?}, which is none of {}", COLUMNS.join(", "));
        }
        if header.iter().take(at).any(|other| other == name) {
            bail!("it has the column {name} twice");
        }
    }
    match REQUIRED.into_iter().find(|name| !header.iter().any(|other| other == *name)) {
        Some(name) => bail!("it has no column {name}"),
        None => Ok(()),
    }
}

/// A line of the file.
struct Line<'a> {
    header: &'a StringRecord,
    record: &'a StringRecord,
    number: u64,
}

impl Line<'_> {
    /// Puts its sensor into its version, which it may be the first to name.
    fn add_to(&self, found: &mut Found) -> anyhow::Result<()> {
        let version = self.version()?;
        let (first, version) = match found.entry(version.key()) {
            Entry::Vacant(place) => place.insert((self.number, version)),
            Entry::Occupied(place) => {
                let known = place.into_mut();
                agree(known, &version)?;
                known
            }
        };
        let (name, sensor) = (self.cell("sensor"), self.sensor()?);
        if name.is_empty() {
            if sensor != Sensor::default() {
                bail!("sensor is empty, but something is said of it");
            }
        } else if version.sensors.insert(name.to_owned(), sensor).is_some() {
            bail!("sensor {name:?} is there twice; the version begins in line {first}");
        }
        Ok(())
    }

    /// The version without its sensors.
    fn version(&self) -> anyhow::Result<MachineVersion> {
        let text = |column| self.cell(column).to_owned();
        Ok(MachineVersion {
            machine: text("machine"),
            site: text("site"),
            line: text("line"),
            model: text("model"),
            valid_from: self.cell("valid_from").parse::<Moment>().context("valid_from")?,
            sensors: BTreeMap::new(),
        })
    }

    fn sensor(&self) -> anyhow::Result<Sensor> {
        Ok(Sensor {
            unit: self.cell("unit").to_owned(),
            low: self.limit("low")?,
            high: self.limit("high")?,
            description: self.cell("description").to_owned(),
        })
    }

    fn limit(&self, column: &str) -> anyhow::Result<Option<f64>> {
        match self.cell(column) {
            "" => Ok(None),
            text => Ok(Some(text.parse::<f64>().with_context(|| format!("{column} {text:?} is no number"))?)),
        }
    }

    /// A cell's text; empty where the file has no such column.
    fn cell(&self, column: &str) -> &str {
        let at = self.header.iter().position(|name| name == column);
        at.and_then(|at| self.record.get(at)).unwrap_or_default()
    }
}

/// The machine's own columns are the same on every line of a version.
fn agree((first, known): &(u64, MachineVersion), version: &MachineVersion) -> anyhow::Result<()> {
    let columns = [
        ("site", &known.site, &version.site),
        ("line", &known.line, &version.line),
        ("model", &known.model, &version.model),
    ];
    match columns.into_iter().find(|(_, known, new)| known != new) {
        Some((column, known, new)) => {
            bail!("{column} is {new:?} here and {known:?} in line {first}, of the same version")
        }
        None => Ok(()),
    }
}

/// Writes a file.
///
/// # Errors
/// None that happen: it is written to memory.
pub(super) fn write(versions: &[&MachineVersion]) -> anyhow::Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for version in versions {
        let none = (String::new(), Sensor::default());
        let sensors = version.sensors.iter().chain(version.sensors.is_empty().then_some((&none.0, &none.1)));
        for (name, sensor) in sensors {
            let limit = |limit: Option<f64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
            let valid_from = version.valid_from.to_string();
            let MachineVersion { machine, site, line, model, .. } = version;
            let (low, high) = (limit(sensor.low), limit(sensor.high));
            let Sensor { unit, description, .. } = sensor;
            writer.write_record([
                machine,
                &valid_from,
                site,
                line,
                model,
                name,
                unit,
                &low,
                &high,
                description,
            ])?;
        }
    }
    Ok(String::from_utf8(writer.into_inner().map_err(::csv::IntoInnerError::into_error)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
valid_from,machine,site,line,sensor,unit,low,high,description
2026-01-05T06:00:00Z,press,Linz,L1,oil,°C,20,85.25,\"return, hot\"
2026-01-05T07:00:00+01:00,press,Linz,L1,door,,,,
2026-02-05T06:00:00Z, press ,Linz,L2,,,,,
";

    fn wrong(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn lines_of_one_version_are_its_sensors_and_are_read_back() {
        let registry = parse(FILE.as_bytes()).unwrap();
        let shown: Vec<_> = registry
            .versions()
            .map(|version| (version.key().to_string(), version.line.as_str(), version.sensors.len()))
            .collect();
        assert_eq!(
            shown,
            [
                ("press@2026-01-05T06:00:00.000000Z".to_owned(), "L1", 2),
                ("press@2026-02-05T06:00:00.000000Z".to_owned(), "L2", 0)
            ]
        );
        let text = write(&registry.versions().collect::<Vec<_>>()).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), registry);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let check = |from: &str, to: &str, part: &str| {
            assert!(FILE.contains(from), "{from}");
            let text = wrong(&FILE.replacen(from, to, 1));
            assert!(text.contains(part), "{to}: {text}");
        };
        check("85.25", "warm", "line 2: high \"warm\" is no number");
        check(
            "85.25",
            "19",
            "line 2 (press@2026-01-05T06:00:00.000000Z): sensors.oil.low 20 lies above high",
        );
        check("85.25", "inf", "sensors.oil.high is not a finite number");
        check("L1,door", "L3,door", "line 3: line is \"L3\" here and \"L1\" in line 2");
        check("L1,door", "L1,oil", "line 3: sensor \"oil\" is there twice");
        check("L2,,,,,", "L2,,bar,,,", "line 4: sensor is empty");
        check("2026-02-05T06", "2026-02-31T06", "line 4: valid_from");
        check("sensor,", "sensr,", "\"sensr\"");
        check("sensor,", "site,", "site twice");
        check("valid_from,", "model,", "no column valid_from");
    }
}
