//! Keeps the house as it is drawn: who may import whom, what the top level holds, and the habits of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate, its folder, the house's crates it may import, and the libraries it may never know.
const HOUSE: &[(&str, &str, &[&str], &[&str])] = &[
    ("stillwell-schema", "ingest/schema", &[], &["tokio", "rdkafka", "parquet", "datafusion", "burn"]),
    ("stillwell-source", "ingest/source", &["stillwell-schema"], &["parquet", "datafusion", "burn"]),
    (
        "stillwell-ingest",
        "ingest",
        &["stillwell-source", "stillwell-schema"],
        &["datafusion", "burn", "clickhouse"],
    ),
    ("stillwell-models", "models", &["stillwell-schema"], &["tokio", "rdkafka"]),
    (
        "stillwell-aggregate",
        "aggregate",
        &["stillwell-source", "stillwell-models", "stillwell-schema"],
        &["datafusion"],
    ),
    ("stillwell-query", "query", &["stillwell-schema"], &["rdkafka", "burn"]),
    ("stillwell", "compose", ALL, &[]),
    ("stillwell-benches", "benches", ALL, &[]),
];

const ALL: &[&str] = &[
    "stillwell-schema",
    "stillwell-source",
    "stillwell-ingest",
    "stillwell-models",
    "stillwell-aggregate",
    "stillwell-query",
    "stillwell",
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "aggregate",
    "benches",
    "compose",
    "ingest",
    "models",
    "query",
    "clippy.toml",
    "rustfmt.toml",
];

/// Production lines a file may hold. Near 150 is the aim.
const FILE_LINES_MAX: usize = 450;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn imports_follow_the_house() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let imports: Vec<&str> =
            package["dependencies"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
        seen.insert(name, manifest.parent().unwrap().strip_prefix(root()).unwrap().to_path_buf());
        let (_, _, allowed, never) =
            HOUSE.iter().find(|(n, ..)| *n == name).unwrap_or_else(|| panic!("{name} is not in the house"));
        for import in imports {
            let ours = import == "stillwell" || import.starts_with("stillwell-");
            assert!(!ours || allowed.contains(&import), "{name} may not import {import}");
            assert!(!never.contains(&import), "{name} may never know {import}");
        }
    }
    for (name, folder, ..) in HOUSE {
        assert_eq!(seen.get(name).map(PathBuf::as_path), Some(Path::new(folder)), "{name}");
    }
}

#[test]
fn the_top_level_holds_only_the_house() {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    for path in String::from_utf8(output.stdout).unwrap().lines() {
        let top = path.split('/').next().unwrap();
        assert!(top.starts_with('.') || TOP_LEVEL.contains(&top), "{top} does not belong at the top level");
    }
}

#[test]
fn files_keep_their_habits() {
    let mut faults = Vec::new();
    for (_, folder, ..) in HOUSE {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
            if !is_test && !text.starts_with("//!") {
                faults.push(format!("{name}: opens without //!"));
            }
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            if !is_test && lines > FILE_LINES_MAX {
                faults.push(format!("{name}: {lines} lines of production code, {FILE_LINES_MAX} at most"));
            }
            let stem = file.file_stem().unwrap().to_str().unwrap();
            if ["util", "utils", "common", "helpers", "misc"].contains(&stem) {
                faults.push(format!("{name}: a drawer has no owner; name it for what it does"));
            }
            if text.contains("#[ignore") && !name.ends_with("tidy.rs") {
                faults.push(format!("{name}: an ignored test tests nothing"));
            }
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
