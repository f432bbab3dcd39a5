//! The manifest as a catalogue: which files exist, what is inside them, and how far each lane got.
//!
//! Each lane's chain is read once, checked entry by entry, and kept; a query only looks for entries that follow.
//! Nothing lists a data folder to answer a query.
//!
//! **Architecture invariant:** an entry that does not parse, verify or follow its predecessor is an error that
//! names it. It is never left out.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt, TryStreamExt, future, stream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use stillwell_schema::manifest::{EntryError, FileRef};
use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::{Head, OffsetRange, SignedEntry, TopicPartition};
use thiserror::Error;
use tokio::sync::Mutex;

use super::place::is_absent;

/// Entries fetched at once while a long chain is read for the first time.
const FETCH_AHEAD_MAX: u64 = 32;

/// Why the archive does not answer.
#[derive(Clone, Debug, Error)]
pub enum ArchiveError {
    /// An entry is not what it should be.
    #[error(
        "manifest entry {path} is broken: {source}; the archive is not read past it, restore this object from a backup"
    )]
    Entry {
        /// The object.
        path: String,
        /// What is wrong.
        source: Arc<EntryError>,
    },
    /// Later entries exist, this one does not.
    #[error("manifest entry {path} is missing, but later entries exist; restore this object from a backup")]
    Missing {
        /// The object.
        path: String,
    },
    /// The store did not answer.
    #[error("the archive cannot be read at {path}: {source}")]
    Store {
        /// What was read.
        path: String,
        /// Why.
        source: Arc<object_store::Error>,
    },
    /// A task of ours ended early.
    #[error("reading the manifest was cut off: {0}")]
    Cut(String),
}

/// A data file, as far as a scan needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path relative to the archive's root.
    pub path: Box<str>,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows inside.
    pub rows: u64,
}

impl From<FileRef> for File {
    fn from(file: FileRef) -> Self {
        Self { path: file.path.into(), bytes: file.bytes, rows: file.rows }
    }
}

/// What one entry says of its files: what pruning and statistics need, no more. There is one in memory for every
/// commit of the archive.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose range it is.
    pub lane: TopicPartition,
    /// The offsets covered.
    pub range: OffsetRange,
    /// Decoded columns.
    pub readings: Option<File>,
    /// Original bytes.
    pub records: Option<File>,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Smallest and largest source time, µs UTC.
    pub time_us: Option<(i64, i64)>,
    /// The machines inside, sorted, where they were listed.
    pub machines: Option<Arc<[String]>>,
    /// When it was written, µs UTC.
    pub written_us: i64,
}

impl Commit {
    /// The file of one kind.
    #[must_use]
    pub fn file(&self, kind: FileKind) -> Option<&File> {
        match kind {
            FileKind::Readings => self.readings.as_ref(),
            FileKind::Records => self.records.as_ref(),
        }
    }
}

/// The commits of one lane, in order, and their sums.
#[derive(Clone, Debug, Default)]
pub struct LaneCommits {
    commits: Vec<Arc<Commit>>,
    readings: u64,
    records: u64,
}

impl LaneCommits {
    /// The last commit.
    #[must_use]
    pub fn head(&self) -> Option<&Arc<Commit>> {
        self.commits.last()
    }

    /// Rows in all files of one kind.
    #[must_use]
    pub fn rows(&self, kind: FileKind) -> u64 {
        match kind {
            FileKind::Readings => self.readings,
            FileKind::Records => self.records,
        }
    }

    fn push(&mut self, commit: Commit) {
        let rows = |kind| commit.file(kind).map_or(0, |file| file.rows);
        self.readings += rows(FileKind::Readings);
        self.records += rows(FileKind::Records);
        self.commits.push(Arc::new(commit));
    }
}

/// Everything that was committed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    lanes: Vec<Arc<LaneCommits>>,
}

impl Snapshot {
    /// All commits, lane by lane, in order.
    pub fn commits(&self) -> impl Iterator<Item = &Arc<Commit>> {
        self.lanes.iter().flat_map(|lane| lane.commits.iter())
    }

    /// All lanes.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneCommits> {
        self.lanes.iter().map(|lane| &**lane)
    }

    /// The last commit of each lane.
    pub fn heads(&self) -> impl Iterator<Item = &Arc<Commit>> {
        self.lanes().filter_map(LaneCommits::head)
    }

    /// Rows in all files of one kind.
    #[must_use]
    pub fn rows(&self, kind: FileKind) -> u64 {
        self.lanes().map(|lane| lane.rows(kind)).sum()
    }

    /// When the newest commit was written, µs UTC.
    #[must_use]
    pub fn written_us(&self) -> Option<i64> {
        self.heads().map(|commit| commit.written_us).max()
    }
}

/// Reads the manifests of some topics and keeps what it has read.
#[derive(Debug)]
pub struct Catalogue {
    store: Arc<dyn ObjectStore>,
    topics: Vec<String>,
    lanes: Mutex<BTreeMap<TopicPartition, Lane>>,
    last: RwLock<Option<Snapshot>>,
}

#[derive(Debug)]
struct Lane {
    head: Head,
    commits: Arc<LaneCommits>,
}

impl Catalogue {
    /// A catalogue of `topics` in the archive that `store` holds at its root.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, topics: Vec<String>) -> Self {
        Self { store, topics, lanes: Mutex::default(), last: RwLock::default() }
    }

    /// What the last look saw; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<Snapshot> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that is committed now.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was read before the error stays.
    pub async fn refresh(&self) -> Result<Snapshot, ArchiveError> {
        let mut lanes = self.lanes.lock().await;
        for topic in &self.topics {
            for lane in self.partitions(topic).await? {
                lanes.entry(lane).or_insert_with(|| Lane { head: Head::genesis(), commits: Arc::default() });
            }
        }
        let reads = lanes.iter_mut().map(|(id, lane)| self.follow(id, lane));
        future::try_join_all(reads).await?;
        let snapshot = Snapshot { lanes: lanes.values().map(|lane| Arc::clone(&lane.commits)).collect() };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, ArchiveError> {
        let folder = Path::from(format!("{topic}/manifest"));
        let listed = match self.store.list_with_delimiter(Some(&folder)).await {
            Ok(listed) => listed,
            Err(error) if is_absent(&error) => {
                return Ok(Vec::new());
            }
            Err(source) => return Err(store_error(folder.as_ref(), source)),
        };
        let numbers = listed.common_prefixes.iter().filter_map(|path| path.filename()?.parse::<i32>().ok());
        Ok(numbers.map(|partition| TopicPartition::new(topic, partition)).collect())
    }

    /// Reads what follows a lane's head, a growing number of entries at a time.
    async fn follow(&self, id: &TopicPartition, lane: &mut Lane) -> Result<(), ArchiveError> {
        let first_look = lane.head.seq == 0;
        let mut ahead = 1;
        loop {
            let seqs = lane.head.seq..lane.head.seq + ahead;
            let objects: Vec<Option<Vec<u8>>> = stream::iter(seqs)
                .map(|seq| self.get(paths::entry(id, seq)))
                .buffered(FETCH_AHEAD_MAX as usize)
                .try_collect()
                .await?;
            let present: Vec<Vec<u8>> = objects.iter().map_while(Clone::clone).collect();
            let hole = present.len() < objects.iter().flatten().count();
            let ended = present.len() < objects.len();
            let before = lane.commits.head().and_then(|commit| commit.machines.clone());
            lane.append(check(id.clone(), lane.head.clone(), before, present).await?)?;
            if hole || (ended && first_look && self.has_later(id, lane.head.seq).await?) {
                return Err(ArchiveError::Missing { path: paths::entry(id, lane.head.seq) });
            }
            if ended {
                return Ok(());
            }
            ahead = (ahead * 2).min(FETCH_AHEAD_MAX);
        }
    }

    async fn get(&self, path: String) -> Result<Option<Vec<u8>>, ArchiveError> {
        let read = async { self.store.get(&Path::from(path.as_str())).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(store_error(&path, source)),
        }
    }

    /// Whether an entry after `seq` exists: asked once per lane, when its chain is first read.
    async fn has_later(&self, id: &TopicPartition, seq: u64) -> Result<bool, ArchiveError> {
        let folder = paths::manifest_folder(id);
        let mut listing = self.store.list(Some(&Path::from(folder.as_str())));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| store_error(&folder, source))?;
            let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            if name.and_then(|name| name.parse::<u64>().ok()).is_some_and(|found| found > seq) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn store_error(path: &str, source: object_store::Error) -> ArchiveError {
    ArchiveError::Store { path: path.to_owned(), source: Arc::new(source) }
}

/// Entries that are right, up to the first that is not.
struct Checked {
    head: Head,
    commits: Vec<Commit>,
    broken: Option<ArchiveError>,
}

impl Lane {
    /// Takes what was read. The lane's commits are copied only while a statement holds them.
    fn append(&mut self, checked: Checked) -> Result<(), ArchiveError> {
        let Checked { head, commits, broken } = checked;
        self.head = head;
        if !commits.is_empty() {
            let lane = Arc::make_mut(&mut self.commits);
            commits.into_iter().for_each(|commit| lane.push(commit));
        }
        broken.map_or(Ok(()), Err)
    }
}

/// Checks entries in order on a blocking thread: signatures and hashes are computation.
async fn check(
    id: TopicPartition,
    head: Head,
    machines: Option<Arc<[String]>>,
    objects: Vec<Vec<u8>>,
) -> Result<Checked, ArchiveError> {
    if objects.is_empty() {
        return Ok(Checked { head, commits: Vec::new(), broken: None });
    }
    let checked = tokio::task::spawn_blocking(move || check_all(&id, head, machines, objects)).await;
    checked.map_err(|error| ArchiveError::Cut(error.to_string()))
}

fn check_all(
    id: &TopicPartition,
    mut head: Head,
    mut machines: Option<Arc<[String]>>,
    objects: Vec<Vec<u8>>,
) -> Checked {
    let mut commits: Vec<Commit> = Vec::with_capacity(objects.len());
    for bytes in objects {
        let path = paths::entry(id, head.seq);
        let signed = SignedEntry::parse(bytes).and_then(|signed| {
            head.check(id, &signed.entry)?;
            Ok(signed)
        });
        let signed = match signed {
            Ok(signed) => signed,
            Err(source) => {
                let broken = Some(ArchiveError::Entry { path, source: Arc::new(source) });
                return Checked { head, commits, broken };
            }
        };
        head = signed.head();
        let commit = commit(id, signed, machines.take());
        machines.clone_from(&commit.machines);
        commits.push(commit);
    }
    Checked { head, commits, broken: None }
}

/// Machines change rarely, so that most commits of a lane share one list.
fn commit(id: &TopicPartition, signed: SignedEntry, before: Option<Arc<[String]>>) -> Commit {
    let entry = signed.entry;
    let machines = entry.machines.map(|machines| match before {
        Some(before) if *before == *machines => before,
        _ => machines.into(),
    });
    Commit {
        lane: id.clone(),
        range: entry.range,
        readings: entry.readings.map(File::from),
        records: entry.records.map(File::from),
        undecodable: entry.undecodable,
        time_us: entry.time_min_us.zip(entry.time_max_us),
        machines,
        written_us: entry.written_us,
    }
}
