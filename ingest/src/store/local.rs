//! The archive on a local folder, durable by fsync of files and of the folders that name them.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use uuid::Uuid;

use super::{ArchiveStore, Creation, Listed, StoreError, TEMP_FOLDER, is_inside};

/// A folder on one file system that has hard links.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    /// Folders whose names this process knows to be durable.
    known: Mutex<HashSet<PathBuf>>,
}

impl LocalStore {
    /// Opens the archive at `root`, creating the folder where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be created.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned(), known: Mutex::default() };
        let done = fs::create_dir_all(root).and_then(|()| {
            let root = root.canonicalize()?;
            root.ancestors().skip(1).take(2).try_for_each(|folder| sync_folder(folder).or_else(foreign))?;
            store.make_folder(&store.root.join(TEMP_FOLDER))
        });
        done.map_err(|e| StoreError::new("open", root.display().to_string(), e))?;
        Ok(store)
    }

    fn full(&self, path: &str) -> io::Result<PathBuf> {
        if is_inside(path) {
            return Ok(self.root.join(path));
        }
        Err(io::Error::new(io::ErrorKind::InvalidFilename, "path leaves the archive"))
    }

    /// Creates `folder` with its parents, and makes all their names durable.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let known = |set: &HashSet<PathBuf>| set.contains(folder);
        if known(&self.known.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        for above in folder.ancestors().take_while(|above| above.starts_with(&self.root)) {
            sync_folder(above)?;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    /// A folder that vanished is made anew by the next attempt.
    fn forget(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::NotFound {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        error
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.full(path)?;
        let folder = parent(&file);
        self.make_folder(folder)?;
        write_synced(&file, bytes)?;
        sync_folder(folder)
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<Creation> {
        let file = self.full(path)?;
        let folder = parent(&file);
        let temp = self.root.join(TEMP_FOLDER).join(Uuid::new_v4().to_string());
        self.make_folder(folder)?;
        self.make_folder(parent(&temp))?;
        let linked = write_synced(&temp, bytes).and_then(|()| fs::hard_link(&temp, &file));
        // One that stays is swept later, by age.
        let _ = fs::remove_file(&temp);
        match linked {
            Ok(()) => sync_folder(folder).map(|()| Creation::Created),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Creation::AlreadyExists),
            Err(e) => Err(e),
        }
    }

    fn read(&self, path: &str, durable: bool) -> io::Result<Option<Vec<u8>>> {
        let file = self.full(path)?;
        let bytes = match fs::read(&file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        if durable {
            File::open(&file)?.sync_all()?;
            sync_folder(parent(&file))?;
        }
        Ok(Some(bytes))
    }

    fn entries(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> io::Result<()> {
        let entries = match fs::read_dir(self.full(folder)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let meta = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            if meta.is_file() {
                let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
                each(Listed { path: format!("{folder}/{name}"), bytes: meta.len(), modified_us });
            }
        }
        Ok(())
    }

    fn folder_names(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.full(folder)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A dot begins what is not the archive's own, such as the folder of temporary files.
            match entry.file_name().into_string() {
                Ok(name) if entry.file_type()?.is_dir() && !name.starts_with('.') => names.push(name),
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl ArchiveStore for LocalStore {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(path, bytes).map_err(|e| StoreError::new("write", path, self.forget(e)))
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.create(path, bytes).map_err(|e| StoreError::new("create", path, self.forget(e)))
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(path, false).map_err(|e| StoreError::new("read", path, e))
    }

    fn read_back(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(path, true).map_err(|e| StoreError::new("read back", path, e))
    }

    fn exists(&self, path: &str) -> Result<bool, StoreError> {
        let exists = self.full(path).and_then(fs::exists);
        exists.map_err(|e| StoreError::new("look for", path, e))
    }

    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        self.entries(folder, each).map_err(|e| StoreError::new("list", folder, e))
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.folder_names(folder).map_err(|e| StoreError::new("list", folder, e))
    }

    fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.full(path).and_then(fs::remove_file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::new("delete", path, e)),
            _ => Ok(()),
        }
    }
}

fn parent(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

/// Writes a file anew. After a failed fsync the kernel may count pages as clean that never reached the disk, so
/// that a second fsync of the same file lies: what failed is removed, and each attempt begins with a new file.
/// That gives a full disk its space back too.
fn write_synced(file: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut opened| {
        opened.write_all(bytes)?;
        opened.sync_all()
    });
    if written.is_err() {
        // One that stays is never named, or written anew.
        let _ = fs::remove_file(file);
    }
    written
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders above the archive may belong to others, who answer for them.
fn foreign(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("new/archive")).unwrap();
        (folder, store)
    }

    #[test]
    fn the_first_creation_wins_and_stays() {
        let (_folder, store) = store();
        assert_eq!(store.put_if_absent("t/manifest/0/a", b"one").unwrap(), Creation::Created);
        assert_eq!(store.put_if_absent("t/manifest/0/a", b"two").unwrap(), Creation::AlreadyExists);
        assert_eq!(store.read_back("t/manifest/0/a").unwrap().unwrap(), b"one");
        assert!(store.list(TEMP_FOLDER).unwrap().is_empty());
    }

    #[test]
    fn one_of_many_racing_creations_wins() {
        let (_folder, store) = store();
        for round in 0..20 {
            let path = format!("t/manifest/0/{round}");
            let (store, path) = (&store, &path);
            let won: usize = std::thread::scope(|s| {
                let racers: Vec<_> =
                    (0u8..8).map(|i| s.spawn(move || store.put_if_absent(path, &[i]).unwrap())).collect();
                racers.into_iter().map(|r| r.join().unwrap()).filter(|c| *c == Creation::Created).count()
            });
            assert_eq!(won, 1);
        }
    }

    #[test]
    fn what_is_not_there_reads_as_none_and_deletes_as_done() {
        let (_folder, store) = store();
        assert!(store.get("t/x").unwrap().is_none());
        assert!(!store.exists("t/x").unwrap());
        assert!(store.list("t").unwrap().is_empty());
        store.delete("t/x").unwrap();
    }

    #[test]
    fn a_folder_that_vanished_is_made_again() {
        let (folder, store) = store();
        store.put("t/readings/0/a", b"1").unwrap();
        fs::remove_dir_all(folder.path().join("new/archive/t")).unwrap();
        let error = store.put("t/readings/0/b", b"1").unwrap_err();
        assert!(error.is_transient());
        store.put("t/readings/0/b", b"1").unwrap();
    }

    #[test]
    fn paths_stay_inside_the_archive() {
        let (_folder, store) = store();
        for path in ["../x", "/etc/x", "t/../../x"] {
            assert!(!store.put(path, b"").unwrap_err().is_transient(), "{path}");
        }
    }

    #[test]
    fn folders_are_listed_by_name_without_the_archives_own() {
        let (_folder, store) = store();
        for path in ["t/manifest/1/a", "t/manifest/0/a", "t/readings/0/a", "u/x"] {
            store.put(path, b"1").unwrap();
        }
        assert_eq!(store.folders("").unwrap(), ["t", "u"]);
        assert_eq!(store.folders("t").unwrap(), ["manifest", "readings"]);
        assert_eq!(store.folders("t/manifest").unwrap(), ["0", "1"]);
        assert!(store.folders("u").unwrap().is_empty() && store.folders("v").unwrap().is_empty());
    }

    #[test]
    fn only_old_temporary_files_are_swept() {
        let (_folder, store) = store();
        store.put(".tmp/left", b"x").unwrap();
        let written = store.list(TEMP_FOLDER).unwrap()[0].modified_us;
        super::super::sweep(&store, written).unwrap();
        assert_eq!(store.list(TEMP_FOLDER).unwrap().len(), 1);
        super::super::sweep(&store, written + 1).unwrap();
        assert!(store.list(TEMP_FOLDER).unwrap().is_empty());
    }
}
