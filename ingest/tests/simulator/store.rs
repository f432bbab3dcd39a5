//! An archive in memory whose operations fail before or after the fact, and that can be broken on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use stillwell_ingest::store::{ArchiveStore, Creation, Listed, StoreError};
use stillwell_schema::Clock;

use crate::oracle::entry_next;
use crate::workers::interleave;
use crate::world::{Weather, World};

/// How a store breaks what the protocol stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It keeps its promises.
    None,
    /// Its `put_if_absent` replaces what is there.
    Overwrites,
    /// It now and then loses an object whose storing it has acknowledged.
    Loses,
    /// It now and then reports `Created` and has created nothing.
    Lies,
}

pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    modified_us: i64,
    /// Each log's low end when it was created.
    pub(crate) lows: Vec<i64>,
}

pub(crate) struct Store {
    world: Arc<World>,
    defect: Defect,
    objects: Mutex<BTreeMap<String, Object>>,
}

/// What an operation that fails has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Before,
    After,
}

impl Store {
    pub(crate) fn new(world: Arc<World>, defect: Defect) -> Self {
        Self { world, defect, objects: Mutex::default() }
    }

    /// All objects, for the oracle.
    pub(crate) fn objects<T>(&self, see: impl FnOnce(&BTreeMap<String, Object>) -> T) -> T {
        see(&self.objects.lock().unwrap())
    }

    /// Where the archive of a partition ends, by its last entry.
    pub(crate) fn archived(&self, partition: i32) -> Option<i64> {
        let folder = format!("{}/manifest/{partition}/", crate::world::TOPIC);
        self.objects(|objects| {
            let inside = objects.range(folder.clone()..).take_while(|(path, _)| path.starts_with(&folder));
            inside.last().map(|(_, object)| entry_next(&object.bytes))
        })
    }

    fn fault(&self) -> Option<Fault> {
        let world = &self.world;
        let weather = *world.weather.lock().unwrap();
        let (percent, after) = match weather {
            Weather::Fair => (world.habits.errors, 50),
            Weather::Gusty => (50, 50),
            Weather::Outage => (100, 20),
            Weather::Calm => (0, 0),
        };
        world.chance(percent).then(|| if world.chance(after) { Fault::After } else { Fault::Before })
    }

    fn error<T>(&self, action: &'static str, path: &str) -> Result<T, StoreError> {
        use io::ErrorKind as K;
        let kinds = [K::StorageFull, K::TimedOut, K::PermissionDenied, K::ConnectionReset, K::Other];
        // Few are of the kind that is not tried again.
        let kind = match self.world.chance(2) {
            true => K::InvalidData,
            false => kinds[self.world.below(kinds.len() as u64) as usize],
        };
        self.world.note(format_args!("error: {action} {path}: {kind}"));
        Err(StoreError::new(action, path, kind.into()))
    }

    fn insert(&self, path: &str, bytes: &[u8]) {
        let lows = self.world.logs.iter().map(crate::log::Log::low).collect();
        let object = Object { bytes: bytes.into(), modified_us: self.world.now_us(), lows };
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Creation {
        let world = &self.world;
        if self.objects.lock().unwrap().contains_key(path) && self.defect != Defect::Overwrites {
            world.note(format_args!("exists {path}"));
            world.counts.add("creations lost", 1);
            return Creation::AlreadyExists;
        }
        world.note(format_args!("create {path} up to {} {:016x}", entry_next(bytes), hash_of(bytes)));
        world.counts.add("entries", 1);
        if self.defect != Defect::Lies || !world.chance(10) {
            self.insert(path, bytes);
        }
        self.lose(path);
        Creation::Created
    }

    fn lose(&self, path: &str) {
        if self.defect == Defect::Loses && self.world.chance(5) {
            self.world.note(format_args!("lost {path}"));
            self.objects.lock().unwrap().remove(path);
        }
    }

    fn read<T>(
        &self,
        action: &'static str,
        path: &str,
        read: impl FnOnce(Option<&Object>) -> T,
    ) -> Result<T, StoreError> {
        interleave(&self.world);
        match self.fault() {
            Some(_) => self.error(action, path),
            None => Ok(self.objects(|objects| read(objects.get(path)))),
        }
    }
}

impl ArchiveStore for Store {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        interleave(&self.world);
        match self.fault() {
            None => {
                self.insert(path, bytes);
                self.world.note(format_args!("put {path} {:016x}", hash_of(bytes)));
                self.lose(path);
                Ok(())
            }
            Some(Fault::Before) => self.error("write", path),
            Some(Fault::After) => {
                // A part of the file may stay.
                let whole = self.world.chance(50);
                self.insert(path, if whole { bytes } else { &bytes[..bytes.len() / 2] });
                self.error("write", path)
            }
        }
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Creation, StoreError> {
        interleave(&self.world);
        match self.fault() {
            None => Ok(self.create(path, bytes)),
            Some(fault) => {
                let created = fault == Fault::After && self.create(path, bytes) == Creation::Created;
                self.world
                    .counts
                    .add(if created { "created, answer lost" } else { "not created, unknown" }, 1);
                self.error("create", path)
            }
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read", path, |object| object.map(|object| object.bytes.clone()))
    }

    fn read_back(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read back", path, |object| object.map(|object| object.bytes.clone()))
    }

    fn exists(&self, path: &str) -> Result<bool, StoreError> {
        self.read("look for", path, |object| object.is_some())
    }

    fn visit(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), StoreError> {
        interleave(&self.world);
        let fault = self.fault();
        let listed: Vec<_> = self.objects(|objects| {
            let inside =
                objects.iter().filter(|(path, _)| path.rsplit_once('/').map(|p| p.0) == Some(folder));
            let listed = inside.map(|(path, object)| Listed {
                path: path.clone(),
                bytes: object.bytes.len() as u64,
                modified_us: object.modified_us,
            });
            listed.collect()
        });
        let seen = if fault.is_some() { listed.len() / 2 } else { listed.len() };
        listed.into_iter().take(seen).for_each(each);
        if fault.is_some() { self.error("list", folder) } else { Ok(()) }
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        interleave(&self.world);
        if self.fault().is_some() {
            return self.error("list", folder);
        }
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        Ok(self.objects(|objects| {
            let inside = objects.keys().filter_map(|path| path.strip_prefix(&below)?.split_once('/'));
            let names: BTreeSet<_> = inside.map(|(name, _)| name.to_owned()).collect();
            names.into_iter().collect()
        }))
    }

    fn delete(&self, path: &str) -> Result<(), StoreError> {
        interleave(&self.world);
        let fault = self.fault();
        if fault != Some(Fault::Before) && self.objects.lock().unwrap().remove(path).is_some() {
            self.world.counts.add("files collected", 1);
            self.world.note(format_args!("delete {path}"));
        }
        if fault.is_some() { self.error("delete", path) } else { Ok(()) }
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
