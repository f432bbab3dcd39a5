//! A file of lines, one at a time, byte for byte.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::CheckError;

/// The lines of a file and their numbers, from 1.
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    number: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, CheckError> {
        let file = File::open(path).map_err(|source| CheckError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), number: 0 })
    }

    /// The next line, without its end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, CheckError> {
        let mut line = Vec::new();
        let read = self.file.read_until(b'\n', &mut line);
        let read = read.map_err(|source| CheckError::Io { path: self.path.clone(), source })?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        self.number += 1;
        Ok((read > 0).then_some((self.number, line)))
    }
}
