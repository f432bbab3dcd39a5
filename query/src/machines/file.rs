//! `machines.json`: the copy on disk, for a start while the views' server is away.
//!
//! One JSON object: `format`, `read_until_us` and `copied_us` (µs UTC, may be null) and `versions`, each as a record of
//! the registry's topic has it. It is written beside its place, synced and moved there, so it is whole or the one before.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use stillwell_schema::machines::MachineVersion;

use super::held::{Freshness, Held};

/// The version of this format.
const FORMAT: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    format: u32,
    read_until_us: Option<i64>,
    copied_us: Option<i64>,
    versions: Vec<MachineVersion>,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    read_until_us: Option<i64>,
    copied_us: Option<i64>,
    versions: Vec<&'a MachineVersion>,
}

/// The copy that the file keeps; none where there is no file, or none that can be read, which is logged.
pub(super) fn read(path: &Path) -> Option<Held> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            unusable(path, &error.to_string());
            return None;
        }
    };
    parse(&bytes).map_err(|why| unusable(path, &why)).ok()
}

fn unusable(path: &Path, error: &str) {
    let path = path.display();
    tracing::warn!(%path, error, "the copy of the machine registry is not used; a new one is made from ClickHouse");
}

fn parse(bytes: &[u8]) -> Result<Held, String> {
    let read: Read = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.format != FORMAT {
        return Err(format!("its format is {}, not {FORMAT}", read.format));
    }
    let freshness = Freshness { read_until_us: read.read_until_us, copied_us: read.copied_us };
    let held = Held::of(read.versions.into_iter().collect(), freshness).map_err(|error| error.to_string())?;
    Ok(Held { filed_us: freshness.read_until_us, ..held })
}

/// Writes the copy, whole or not at all.
///
/// # Errors
/// If the folder cannot be written.
pub(super) fn write(path: &Path, held: &Held) -> io::Result<()> {
    let Freshness { read_until_us, copied_us } = held.freshness;
    let versions = held.registry.versions().collect();
    let bytes = serde_json::to_vec(&Written { format: FORMAT, read_until_us, copied_us, versions })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    // Of a path without a folder it is the working one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stillwell_schema::machines::Moment;

    use super::*;

    #[test]
    fn a_copy_is_read_back_and_what_is_none_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machines.json");
        assert!(read(&path).is_none());
        let version = MachineVersion {
            machine: "press".to_owned(),
            site: "Linz".to_owned(),
            line: String::new(),
            model: String::new(),
            valid_from: Moment::from_us(7).unwrap(),
            sensors: BTreeMap::new(),
        };
        let freshness = Freshness { read_until_us: Some(5), copied_us: Some(9) };
        let held = Held::of([version].into_iter().collect(), freshness).unwrap();
        write(&path, &held).unwrap();
        let back = read(&path).unwrap();
        assert_eq!((back.registry, back.freshness, back.filed_us), (held.registry, freshness, Some(5)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        for text in ["", "{}", r#"{"format":2,"read_until_us":1,"copied_us":1,"versions":[]}"#] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_none(), "{text}");
        }
    }
}
