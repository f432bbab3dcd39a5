//! Outcomes in a file, one JSON object a line, so that they outlive the process. Of several of one machine and hour
//! the last counts. It is rewritten with what is known when it has grown well beyond that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Outcome;

/// Outcomes by hour.
type Known = BTreeMap<i64, Vec<Outcome>>;

/// Lines beyond what is known that do not matter yet.
const SPARE_LINES: usize = 10_000;

/// The file, and how many lines it has.
#[derive(Debug)]
pub(super) struct Notes {
    path: PathBuf,
    lines: usize,
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
        let (lines, known) = read(path)?;
        Ok(Some((Self { path: path.to_owned(), lines, _lock: lock }, known)))
    }

    /// Appends what was found; `all` is what is known with it.
    pub(super) fn append(&mut self, found: &[Outcome], all: impl FnOnce() -> Vec<Outcome>) -> io::Result<()> {
        if self.lines + found.len() > SPARE_LINES {
            let all = all();
            if self.lines > 2 * all.len() + SPARE_LINES {
                return self.rewrite(&all);
            }
        }
        let file = File::options().create(true).append(true).open(&self.path)?;
        write(file, found)?;
        self.lines += found.len();
        Ok(())
    }

    fn rewrite(&mut self, all: &[Outcome]) -> io::Result<()> {
        let beside = self.path.with_extension("tmp");
        let file = File::create(&beside)?;
        write(file.try_clone()?, all)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.lines = all.len();
        Ok(())
    }
}

fn write(file: File, outcomes: &[Outcome]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for outcome in outcomes {
        serde_json::to_writer(&mut out, outcome)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Lines, and the outcomes by hour. A line that was cut off by a crash says nothing.
fn read(path: &Path) -> io::Result<(usize, Known)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let (mut lines, mut last) = (0, BTreeMap::new());
    for line in BufReader::new(file).split(b'\n') {
        lines += 1;
        if let Ok(outcome) = serde_json::from_slice::<Outcome>(&line?) {
            last.insert((outcome.hour_us, outcome.machine.clone()), outcome);
        }
    }
    let mut hours = Known::new();
    for ((hour, _), outcome) in last {
        hours.entry(hour).or_default().push(outcome);
    }
    Ok((lines, hours))
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
        notes
            .append(&[outcome(7, "a", Verdict::Differs), outcome(7, "b", Verdict::Equal)], Vec::new)
            .unwrap();
        notes.append(&[outcome(7, "a", Verdict::Equal)], Vec::new).unwrap();
        drop(notes);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"machine\":\"cut o").unwrap();
        let (notes, known) = Notes::open(&path).unwrap().unwrap();
        assert_eq!(known[&7], [outcome(7, "a", Verdict::Equal), outcome(7, "b", Verdict::Equal)]);
        assert_eq!(notes.lines, 4);
    }

    #[test]
    fn a_file_that_has_grown_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reconciliation.jsonl");
        let (mut notes, _) = Notes::open(&path).unwrap().unwrap();
        let one = [outcome(7, "a", Verdict::Equal)];
        notes.append(&vec![one[0].clone(); SPARE_LINES + 3], Vec::new).unwrap();
        notes.append(&one, || one.to_vec()).unwrap();
        assert_eq!(notes.lines, 1);
        assert_eq!(read(&path).unwrap().1[&7], one);
    }
}
