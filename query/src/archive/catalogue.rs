//! The manifest as a catalogue: which files exist, what is inside them, and how far each lane got.
//!
//! Each lane's chains are read once, checked object by object, and kept; a query only looks for what follows. Of
//! entries that an act of the lane's ledger covers, only the last is read: the act's signature stands for the others,
//! and its files for theirs. Nothing lists a data folder to answer a query.
//!
//! **Architecture invariant:** an entry or act that does not parse, verify or follow its predecessor is an error that
//! names it. It is never left out.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{StreamExt, TryStreamExt, future, stream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use stillwell_schema::ledger::{ActError, Deed, SignedAct, Standing, View};
use stillwell_schema::manifest::EntryError;
use stillwell_schema::original::RestoreError;
use stillwell_schema::paths;
use stillwell_schema::signed::SignedError;
use stillwell_schema::{Head, SignedEntry, TopicPartition};
use thiserror::Error;
use tokio::sync::Mutex;

use super::commits::{Commit, LaneCommits, Snapshot, commit, covering};
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
    /// An act of a ledger is not what it should be.
    #[error(
        "ledger act {path} is broken: {source}; the archive is not read past it, restore this object from a backup"
    )]
    Act {
        /// The object.
        path: String,
        /// What is wrong.
        source: Arc<ActError>,
    },
    /// It is whole, but this version does not know how to read it.
    #[error("{path} was written by a later version: {reason}")]
    Later {
        /// The object or file.
        path: String,
        /// What is not known, and that stillwell is to be upgraded.
        reason: String,
    },
    /// Later entries or acts exist, this one does not.
    #[error("{path} is missing, but later objects of its chain exist; restore this object from a backup")]
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
    /// The readings that a record's bytes are rebuilt from cannot be read.
    #[error(
        "the record at offset {offset} cannot be rebuilt, its readings in {path} cannot be read: {reason}; \
         run stillwell verify, which names what is damaged"
    )]
    Readings {
        /// The first record that needs them.
        offset: i64,
        /// Their file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The readings that are there do not rebuild a record's bytes.
    #[error(
        "{source}; its readings were looked for in {path}, run stillwell verify, which names what is damaged"
    )]
    Original {
        /// Where the readings were looked for: files, or the manifest that names none.
        path: String,
        /// Which record, and what is wrong.
        source: Arc<RestoreError>,
    },
    /// A task of ours ended early.
    #[error("reading the manifest was cut off: {0}")]
    Cut(String),
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
    view: View,
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
                lanes.entry(lane).or_insert_with(Lane::new);
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

    /// Reads what follows in a lane's ledger, and then in its manifest, a growing number of entries at a time.
    async fn follow(&self, id: &TopicPartition, lane: &mut Lane) -> Result<(), ArchiveError> {
        let first_look = lane.head.seq == 0;
        self.follow_ledger(id, lane, first_look).await?;
        let mut ahead = 1;
        loop {
            while let Some(standing) = lane.view.covering(lane.head.seq).cloned() {
                self.cover(id, lane, &standing).await?;
            }
            let covered = lane.view.covers().map(|standing| standing.cover.span.first_seq);
            let end = covered.filter(|first| *first > lane.head.seq).fold(lane.head.seq + ahead, u64::min);
            let objects: Vec<Option<Vec<u8>>> = stream::iter(lane.head.seq..end)
                .map(|seq| self.get(paths::entry(id, seq)))
                .buffered(FETCH_AHEAD_MAX as usize)
                .try_collect()
                .await?;
            let present: Vec<Vec<u8>> = objects.iter().map_while(Clone::clone).collect();
            let hole = present.len() < objects.iter().flatten().count();
            let ended = present.len() < objects.len();
            let before = lane.commits.head().and_then(|commit| commit.machines.clone());
            lane.append(check(id.clone(), lane.head.clone(), before, present).await?)?;
            let folder = paths::manifest_folder(id);
            if hole || (ended && first_look && self.has_later(&folder, lane.head.seq).await?) {
                return Err(ArchiveError::Missing { path: paths::entry(id, lane.head.seq) });
            }
            if ended {
                return Ok(());
            }
            ahead = (ahead * 2).min(FETCH_AHEAD_MAX);
        }
    }

    /// Applies the acts that follow. Entries that are read later than the ledger may be covered by then: they are
    /// seen with their own files, which stay for a day.
    async fn follow_ledger(
        &self,
        id: &TopicPartition,
        lane: &mut Lane,
        first_look: bool,
    ) -> Result<(), ArchiveError> {
        loop {
            let path = paths::act(id, lane.view.head().seq);
            let Some(bytes) = self.get(path.clone()).await? else { break };
            let (lane_id, mut view) = (id.clone(), lane.view.clone());
            let applied = tokio::task::spawn_blocking(move || {
                let act = SignedAct::parse(bytes)?;
                view.apply(&lane_id, &act)?;
                Ok((view, act))
            });
            let applied = applied.await.map_err(|error| ArchiveError::Cut(error.to_string()))?;
            let (view, act) = applied.map_err(|source: ActError| act_error(path, source))?;
            let span = act.act.deed.cover().map(|cover| &cover.span);
            // What begins beyond the entries read so far is met on the way.
            if let Some(span) = span.filter(|span| span.first_seq < lane.head.seq)
                && let Some(standing) = view.covering(span.first_seq)
            {
                self.cover(id, lane, standing).await?;
            }
            if let Deed::Erase(erase) = &act.act.deed {
                Arc::make_mut(&mut lane.commits).erased.add(&erase.rules);
            }
            lane.view = view;
        }
        if first_look && self.has_later(&paths::ledger_folder(id), lane.view.head().seq).await? {
            return Err(ArchiveError::Missing { path: paths::act(id, lane.view.head().seq) });
        }
        Ok(())
    }

    /// Puts the files of a cover in the place of what was read of its entries; those that were not read yet are
    /// passed over.
    async fn cover(
        &self,
        id: &TopicPartition,
        lane: &mut Lane,
        standing: &Standing,
    ) -> Result<(), ArchiveError> {
        let span = &standing.cover.span;
        let mut passed = None;
        if span.next_seq > lane.head.seq {
            let last = self.entry(id, span.next_seq - 1).await?;
            let follows =
                span.first_seq < lane.head.seq || lane.head.next.is_none_or(|next| next == span.range.first);
            if !span.fits(&last) || !follows {
                let reason =
                    format!("entries {} to {} are not those it covers", span.first_seq, span.next_seq);
                let source = Arc::new(ActError::Cover { seq: standing.act, reason });
                return Err(ArchiveError::Act { path: paths::act(id, standing.act), source });
            }
            passed = Some(last);
        }
        let commits = Arc::make_mut(&mut lane.commits);
        commits.replace(span.first_seq..span.next_seq, covering(id, standing));
        if let Some(last) = passed {
            lane.head = last.head();
            commits.head = Some(Arc::new(commit(id, last, None)));
        }
        Ok(())
    }

    /// An entry that is known to be there. It outlives its files.
    pub(super) async fn entry(&self, id: &TopicPartition, seq: u64) -> Result<SignedEntry, ArchiveError> {
        let path = paths::entry(id, seq);
        let Some(bytes) = self.get(path.clone()).await? else {
            return Err(ArchiveError::Missing { path });
        };
        let entry = tokio::task::spawn_blocking(move || SignedEntry::parse(bytes)).await;
        let entry = entry.map_err(|error| ArchiveError::Cut(error.to_string()))?;
        entry.map_err(|source| entry_error(path, source))
    }

    async fn get(&self, path: String) -> Result<Option<Vec<u8>>, ArchiveError> {
        let read = async { self.store.get(&Path::from(path.as_str())).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(store_error(&path, source)),
        }
    }

    /// Whether an object after number `seq` of a chain exists: asked once, when the chain is first read.
    async fn has_later(&self, folder: &str, seq: u64) -> Result<bool, ArchiveError> {
        let mut listing = self.store.list(Some(&Path::from(folder)));
        while let Some(object) = listing.next().await {
            let object = object.map_err(|source| store_error(folder, source))?;
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

fn entry_error(path: String, source: EntryError) -> ArchiveError {
    match source {
        EntryError::Schema { .. } => ArchiveError::Later { path, reason: source.to_string() },
        EntryError::Signed(later @ SignedError::Format(_)) => {
            ArchiveError::Later { path, reason: later.to_string() }
        }
        source => ArchiveError::Entry { path, source: Arc::new(source) },
    }
}

fn act_error(path: String, source: ActError) -> ArchiveError {
    match source {
        ActError::Signed(later @ SignedError::Format(_)) => {
            ArchiveError::Later { path, reason: later.to_string() }
        }
        source => ArchiveError::Act { path, source: Arc::new(source) },
    }
}

/// Entries that are right, up to the first that is not.
struct Checked {
    head: Head,
    commits: Vec<Commit>,
    broken: Option<ArchiveError>,
}

impl Lane {
    fn new() -> Self {
        Self { head: Head::genesis(), view: View::default(), commits: Arc::default() }
    }

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
                return Checked { head, commits, broken: Some(entry_error(path, source)) };
            }
        };
        head = signed.head();
        let commit = commit(id, signed, machines.take());
        machines.clone_from(&commit.machines);
        commits.push(commit);
    }
    Checked { head, commits, broken: None }
}
