//! Holds what a pack says of itself against what is in it: nothing of this is signed, and people read it first.

use std::fs;

use super::{Check, CheckError};
use crate::export::{LaneCount, Manifest, names, page};
use crate::keys;
use crate::verify::ProblemKind;

impl Check<'_> {
    /// What is left to compare once all was read.
    pub(super) fn manifest(&mut self) -> Result<(), CheckError> {
        self.counts();
        self.key()?;
        self.unlisted()?;
        // Another version's words are not known here.
        if self.report.manifest.stillwell == env!("CARGO_PKG_VERSION") {
            self.words()?;
        }
        Ok(())
    }

    fn counts(&mut self) {
        let lanes: Vec<LaneCount> = self
            .lanes
            .iter()
            .filter_map(|(id, lane)| {
                let seqs = lane.seqs.as_ref()?;
                Some(LaneCount {
                    topic: id.topic.to_string(),
                    partition: id.partition,
                    first_seq: seqs.start,
                    next_seq: seqs.end,
                    records: lane.proven.len(),
                    erasures: lane.erasures,
                })
            })
            .collect();
        let (stated, found) = (self.report.manifest.records, self.report.records);
        if stated != found {
            let message = format!("states {stated} records, where {found} are proven");
            self.report.problem(ProblemKind::Counts, names::MANIFEST, message);
        }
        if lanes != self.report.manifest.lanes {
            let message = "does not state the lanes, entries, records and erasures that are here";
            self.report.problem(ProblemKind::Counts, names::MANIFEST, message);
        }
    }

    /// The key that it names is the newest, and the one in `public-key.pem`.
    fn key(&mut self) -> Result<(), CheckError> {
        let stated = self.report.manifest.key.clone();
        if self.ring.keys().last() != Some(&stated) {
            let message = format!("names the key {stated}, which is not the newest that the pack leads to");
            self.report.problem(ProblemKind::Key, names::MANIFEST, message);
        }
        let pem = self.bytes(names::PUBLIC_KEY)?;
        if keys::parse_public(&String::from_utf8_lossy(&pem)) != Some(stated) {
            let message = "is not the key that manifest.json names";
            self.report.problem(ProblemKind::Key, names::PUBLIC_KEY, message);
        }
        Ok(())
    }

    /// Nothing lies in the folder that the manifest does not name; what file managers hide there is left aside.
    fn unlisted(&mut self) -> Result<(), CheckError> {
        let at = |source| CheckError::Io { path: self.folder.to_owned(), source };
        let mut unlisted = Vec::new();
        for file in fs::read_dir(self.folder).map_err(at)? {
            let name = file.map_err(at)?.file_name().to_string_lossy().into_owned();
            let is_named = name == names::MANIFEST
                || name.starts_with('.')
                || self.report.manifest.files.iter().any(|file| file.name == name);
            if !is_named {
                unlisted.push(name);
            }
        }
        unlisted.sort();
        for name in unlisted {
            let message = "is not of the pack: manifest.json does not name it; move it elsewhere";
            self.report.problem(ProblemKind::Altered, name, message);
        }
        Ok(())
    }

    /// The page and the script are those that this version writes.
    fn words(&mut self) -> Result<(), CheckError> {
        let manifest = &self.report.manifest;
        let files = manifest.files.iter().filter(|file| file.name != names::PAGE).cloned().collect();
        let page = page::page(&Manifest { files, ..manifest.clone() });
        for (name, expected) in [(names::PAGE, page.as_str()), (names::SCRIPT, page::SCRIPT)] {
            if self.bytes(name)? != expected.as_bytes() {
                let message = "is not what the version that manifest.json names writes";
                self.report.problem(ProblemKind::Altered, name, message);
            }
        }
        Ok(())
    }

    /// A small file of the pack.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckError> {
        let path = self.folder.join(name);
        fs::read(&path).map_err(|source| CheckError::Io { path, source })
    }
}
