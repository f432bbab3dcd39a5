//! The registry's files: which format a file is of, and what is wrong with it, all at once.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use stillwell_schema::machines::{MachineRegistry, MachineVersion};

use super::csv;

/// Faults that are named one by one.
const NAMED_MAX: usize = 20;

/// What is wrong with a file, by its places.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    /// Notes one.
    pub(super) fn add(&mut self, place: &dyn Display, what: &dyn Display) {
        self.0.push(format!("{place}: {what}"));
    }

    /// # Errors
    /// Names them, if there are any.
    pub(super) fn check(self) -> anyhow::Result<()> {
        let more = self.0.len().saturating_sub(NAMED_MAX);
        let mut named = self.0;
        if named.is_empty() {
            return Ok(());
        }
        named.truncate(NAMED_MAX);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        bail!("{}", named.join("\n  "))
    }
}

/// Reads a file by the end of its name.
///
/// # Errors
/// Names every entry or line, and the field, that is wrong.
pub(super) fn read(path: &Path) -> anyhow::Result<MachineRegistry> {
    let extension = path.extension().map(OsStr::to_ascii_lowercase);
    let parse = match extension.as_deref().and_then(OsStr::to_str) {
        Some("json") => parse,
        Some("csv") => csv::parse,
        _ => bail!("{} ends neither in .json nor in .csv", path.display()),
    };
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is not right, and nothing was published", path.display()))
}

/// Reads a list of versions.
fn parse(bytes: &[u8]) -> anyhow::Result<MachineRegistry> {
    let versions: Vec<MachineVersion> = serde_json::from_slice(bytes).context("it is no list of versions")?;
    let (mut faults, mut seen) = (Faults::default(), BTreeMap::new());
    for (at, version) in versions.iter().enumerate() {
        let place = format!("entry {} ({})", at + 1, version.key());
        if let Err(error) = version.check() {
            faults.add(&place, &error);
        }
        if let Some(first) = seen.insert(version.key(), at + 1) {
            faults.add(&place, &format!("is the same version as entry {first}"));
        }
    }
    faults.check()?;
    Ok(versions.into_iter().collect())
}

/// Writes a list of versions.
///
/// # Errors
/// None that happen: texts and numbers always serialise.
pub(super) fn json(versions: &[&MachineVersion]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(versions)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"machine":"press","site":"","line":"","model":"","valid_from":"2026-01-05T06:00:00Z","sensors":{"oil":{"unit":"°C","low":9,"high":9}}}"#;

    fn wrong(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_list_is_read_back() {
        let registry = parse(format!("[{ONE}]").as_bytes()).unwrap();
        let text = json(&registry.versions().collect::<Vec<_>>()).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), registry);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let low = ONE.replace("\"low\":9", "\"low\":10");
        let text = wrong(&format!("[{ONE},\n{low},\n{}]", ONE.replace("press", "")));
        for part in [
            "entry 2 (press@2026-01-05T06:00:00.000000Z): sensors.oil.low 10 lies above high, which is 9",
            "entry 2 (press@2026-01-05T06:00:00.000000Z): is the same version as entry 1",
            "entry 3 (@2026-01-05T06:00:00.000000Z): machine is empty",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = wrong(&format!("[{ONE},\n{}]", ONE.replace("site", "sight")));
        assert!(text.contains("sight") && text.contains("line 2"), "{text}");
        let many = vec![ONE; 30].join(",");
        assert!(wrong(&format!("[{many}]")).ends_with("and 9 more"));
    }
}
