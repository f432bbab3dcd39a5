//! Outcomes in a file, one JSON object a line with all of one hour, so that they outlive the process. Of several lines of
//! an hour the last counts, whole. It is rewritten with what is known when it has grown well beyond that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::results::Known;

/// Entries beyond what is known that do not matter yet.
const SPARE: usize = 10_000;

/// A line.
#[derive(Serialize)]
struct Written<'a> {
    hour_us: i64,
    outcomes: &'a [Outcome],
}

#[derive(Deserialize)]
struct Read {
    hour_us: i64,
    outcomes: Vec<Outcome>,
}

/// The file, and how much is in it.
#[derive(Debug)]
pub(super) struct Notes {
    path: PathBuf,
    /// Lines and outcomes together.
    entries: usize,
    /// Whether its last line has no end.
    is_torn: bool,
    /// Held as long as this process writes.
    _lock: File,
}

impl Notes {
    /// Takes the file over; none where another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Option<(Self, Known)>> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let lock =
            File::options().create(true).write(true).truncate(false).open(path.with_extension("lock"))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let Lines { entries, is_torn, known } = read(path)?;
        Ok(Some((Self { path: path.to_owned(), entries, is_torn, _lock: lock }, known)))
    }

    /// Appends what was found of an hour; `known` is all that is known with it.
    pub(super) fn append(
        &mut self,
        hour_us: i64,
        outcomes: &[Outcome],
        known: impl FnOnce() -> Known,
    ) -> io::Result<()> {
        if self.entries + outcomes.len() > SPARE {
            let known = known();
            if self.entries > 2 * entries(&known) + SPARE {
                return self.rewrite(&known);
            }
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        if self.is_torn {
            file.write_all(b"\n")?;
        }
        // As long as a line is not known to be whole, the next one must not be taken for its end.
        self.is_torn = true;
        write(file, [(hour_us, outcomes)])?;
        self.is_torn = false;
        self.entries += 1 + outcomes.len();
        Ok(())
    }

    fn rewrite(&mut self, known: &Known) -> io::Result<()> {
        let beside = self.path.with_extension("tmp");
        let file = File::create(&beside)?;
        write(file.try_clone()?, known.iter().map(|(&hour_us, outcomes)| (hour_us, outcomes.as_slice())))?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        (self.entries, self.is_torn) = (entries(known), false);
        Ok(())
    }
}

fn entries(known: &Known) -> usize {
    known.values().map(|outcomes| 1 + outcomes.len()).sum()
}

fn write<'a>(file: File, hours: impl IntoIterator<Item = (i64, &'a [Outcome])>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for (hour_us, outcomes) in hours {
        serde_json::to_writer(&mut out, &Written { hour_us, outcomes })?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// What is in the file.
#[derive(Default)]
struct Lines {
    entries: usize,
    is_torn: bool,
    known: Known,
}

/// Reads the file. A line that was cut off by a crash says nothing.
fn read(path: &Path) -> io::Result<Lines> {
    let mut lines = Lines::default();
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
        Err(error) => return Err(error),
    };
    let (mut line, mut known) = (Vec::new(), BTreeMap::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        lines.is_torn = line.last() != Some(&b'\n');
        lines.entries += 1;
        if let Ok(Read { hour_us, outcomes }) = serde_json::from_slice(&line) {
            lines.entries += outcomes.len();
            known.insert(hour_us, outcomes);
        }
        line.clear();
    }
    lines.known = known;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::results::tests::outcome;
    use super::*;

    #[test]
    fn what_was_found_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/reconciliation.jsonl");
        let (mut notes, known) = Notes::open(&path).unwrap().unwrap();
        assert!(known.is_empty());
        assert!(Notes::open(&path).unwrap().is_none(), "one process at a time");
        let both = [outcome(7, "a", Verdict::Differs), outcome(7, "b", Verdict::Differs)];
        notes.append(7, &both, Known::new).unwrap();
        notes.append(7, &[outcome(7, "a", Verdict::Equal)], Known::new).unwrap();
        notes.append(8, &[outcome(8, "a", Verdict::Differs)], Known::new).unwrap();
        notes.append(8, &[], Known::new).unwrap();
        drop(notes);
        let (notes, known) = Notes::open(&path).unwrap().unwrap();
        let expected = Known::from([(7, vec![outcome(7, "a", Verdict::Equal)]), (8, Vec::new())]);
        assert_eq!(known, expected, "of each hour the last line counts, whole");
        assert_eq!(notes.entries, 8);
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reconciliation.jsonl");
        fs::write(&path, b"{\"hour_us\":7,\"outcomes\":[{\"machine\":\"cut o").unwrap();
        let (mut notes, known) = Notes::open(&path).unwrap().unwrap();
        assert!(known.is_empty());
        let (one, two) = ([outcome(7, "a", Verdict::Equal)], [outcome(8, "a", Verdict::Differs)]);
        notes.append(7, &one, Known::new).unwrap();
        notes.append(8, &two, Known::new).unwrap();
        drop(notes);
        let (_, known) = Notes::open(&path).unwrap().unwrap();
        assert_eq!(known, Known::from([(7, one.to_vec()), (8, two.to_vec())]));
    }

    #[test]
    fn sums_that_are_no_numbers_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reconciliation.jsonl");
        let (mut notes, _) = Notes::open(&path).unwrap().unwrap();
        let sums = [(f64::INFINITY, f64::NEG_INFINITY), (f64::NAN, 0.1)];
        let with =
            |(archive_sum, view_sum)| Outcome { archive_sum, view_sum, ..outcome(7, "a", Verdict::Differs) };
        notes.append(7, &sums.map(with), Known::new).unwrap();
        let back = read(&path).unwrap().known.remove(&7).unwrap();
        let back: Vec<_> =
            back.iter().map(|one| (one.archive_sum.to_string(), one.view_sum.to_string())).collect();
        assert_eq!(back, sums.map(|(archive, view)| (archive.to_string(), view.to_string())));
    }

    #[test]
    fn a_file_that_has_grown_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reconciliation.jsonl");
        let (mut notes, _) = Notes::open(&path).unwrap().unwrap();
        let one = vec![outcome(7, "a", Verdict::Equal)];
        let known = || Known::from([(7, one.clone())]);
        notes.append(7, &vec![one[0].clone(); SPARE + 4], known).unwrap();
        notes.append(7, &one, known).unwrap();
        assert_eq!(notes.entries, 2);
        assert_eq!(read(&path).unwrap().known, known());
    }
}
