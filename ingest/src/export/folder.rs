//! The pack's folder: out of sight under a name of its own until all of it is on disk, then in its place at once.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ExportError, PackFile};

/// A pack that is being written; dropped before [`Folder::keep`], nothing is left of it.
pub(super) struct Folder {
    out: PathBuf,
    temp: PathBuf,
    files: Vec<PackFile>,
    kept: bool,
}

/// A file that is being written, and its hash.
pub(super) struct Out {
    name: &'static str,
    path: PathBuf,
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

/// Wraps what the system says of `path`.
pub(super) fn at(path: &Path, source: io::Error) -> ExportError {
    ExportError::Io { path: path.to_owned(), source }
}

impl Folder {
    /// A folder that will be `out`.
    pub(super) fn begin(out: &Path) -> Result<Self, ExportError> {
        match fs::read_dir(out).map(|mut inside| inside.next()) {
            Ok(None) => {}
            Ok(Some(_)) => return Err(ExportError::NotEmpty { path: out.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(out, error)),
        }
        let no_name = || at(out, io::Error::new(io::ErrorKind::InvalidInput, "it has no name of its own"));
        let name = out.file_name().ok_or_else(no_name)?.to_string_lossy();
        let temp = out.with_file_name(format!(".{name}.{}.tmp", Uuid::new_v4()));
        fs::create_dir_all(&temp).map_err(|error| at(&temp, error))?;
        Ok(Self { out: out.to_owned(), temp, files: Vec::new(), kept: false })
    }

    /// A folder for what is needed on the way; it does not become part of the pack.
    pub(super) fn scratch(&self) -> Result<PathBuf, ExportError> {
        let scratch = self.temp.join("scratch");
        fs::create_dir(&scratch).map_err(|error| at(&scratch, error))?;
        Ok(scratch)
    }

    /// A new file.
    pub(super) fn create(&self, name: &'static str) -> Result<Out, ExportError> {
        let path = self.temp.join(name);
        let file = File::create_new(&path).map_err(|error| at(&path, error))?;
        Ok(Out { name, path, file: BufWriter::new(file), sha256: Sha256::new(), bytes: 0 })
    }

    /// A file that is whole.
    pub(super) fn close(&mut self, mut out: Out) -> Result<(), ExportError> {
        let synced = out.file.flush().and_then(|()| out.file.get_ref().sync_all());
        synced.map_err(|error| at(&out.path, error))?;
        let sha256 = hex::encode(out.sha256.finalize());
        self.files.push(PackFile { name: out.name.to_owned(), bytes: out.bytes, sha256 });
        Ok(())
    }

    /// A file of these bytes.
    pub(super) fn write(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), ExportError> {
        let mut out = self.create(name)?;
        out.put(bytes)?;
        self.close(out)
    }

    /// The files that are whole.
    pub(super) fn files(&self) -> &[PackFile] {
        &self.files
    }

    /// Puts the folder in its place.
    pub(super) fn keep(mut self) -> Result<(), ExportError> {
        let scratch = self.temp.join("scratch");
        fs::remove_dir_all(&scratch).map_err(|error| at(&scratch, error))?;
        sync(&self.temp)?;
        match fs::rename(&self.temp, &self.out) {
            // Somebody put something there meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(ExportError::NotEmpty { path: self.out.clone() });
            }
            renamed => renamed.map_err(|error| at(&self.out, error))?,
        }
        self.kept = true;
        let parent = self.out.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.temp);
        }
    }
}

fn sync(folder: &Path) -> Result<(), ExportError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| at(folder, error))
}

impl Out {
    /// Appends bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.write_all(bytes).map_err(|error| at(&self.path, error))
    }

    /// Appends a line.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.put(bytes)?;
        self.put(b"\n")
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
