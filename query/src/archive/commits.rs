//! What is committed at one moment: the files that readers see, lane by lane, and what is known of each.

use std::ops::Range;
use std::sync::Arc;

use stillwell_schema::ledger::Standing;
use stillwell_schema::manifest::FileRef;
use stillwell_schema::paths::FileKind;
use stillwell_schema::{OffsetRange, SignedEntry, TopicPartition};

use super::erased::Erased;

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

/// What one entry says of its files, or one act of a file that stands for several entries: what pruning and statistics
/// need, no more. There is one in memory for every commit of the archive that is not merged yet.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose range it is.
    pub lane: TopicPartition,
    /// The entries that it stands for, or a part of what they hold.
    pub seqs: Range<u64>,
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
    /// By their entries.
    commits: Vec<Arc<Commit>>,
    /// The last entry.
    pub(super) head: Option<Arc<Commit>>,
    /// What has run out.
    pub(super) erased: Erased,
    readings: u64,
    records: u64,
}

impl LaneCommits {
    /// The last commit, as its entry states it.
    #[must_use]
    pub fn head(&self) -> Option<&Arc<Commit>> {
        self.head.as_ref()
    }

    /// What retention may have taken from them.
    #[must_use]
    pub fn erased(&self) -> &Erased {
        &self.erased
    }

    /// All of them, by their entries.
    pub(super) fn commits(&self) -> &[Arc<Commit>] {
        &self.commits
    }

    /// Rows in all files of one kind.
    #[must_use]
    pub fn rows(&self, kind: FileKind) -> u64 {
        match kind {
            FileKind::Readings => self.readings,
            FileKind::Records => self.records,
        }
    }

    /// Appends what an entry says.
    pub(super) fn push(&mut self, commit: Commit) {
        let commit = Arc::new(commit);
        self.head = Some(Arc::clone(&commit));
        self.replace(commit.seqs.clone(), vec![commit]);
    }

    /// Puts `new` in the place of all that stands for the entries `seqs`.
    pub(super) fn replace(&mut self, seqs: Range<u64>, new: Vec<Arc<Commit>>) {
        let before = |seq| self.commits.partition_point(|commit| commit.seqs.start < seq);
        let place = before(seqs.start)..before(seqs.end);
        let rows = |commits: &[Arc<Commit>], kind| -> u64 {
            commits.iter().filter_map(|commit| commit.file(kind)).map(|file| file.rows).sum()
        };
        for (sum, kind) in [(&mut self.readings, FileKind::Readings), (&mut self.records, FileKind::Records)]
        {
            *sum = *sum + rows(&new, kind) - rows(&self.commits[place.clone()], kind);
        }
        self.commits.splice(place, new);
    }
}

/// Everything that was committed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) lanes: Vec<Arc<LaneCommits>>,
}

impl Snapshot {
    /// All commits, lane by lane, in order.
    pub fn commits(&self) -> impl Iterator<Item = &Arc<Commit>> {
        self.lanes.iter().flat_map(|lane| lane.commits.iter())
    }

    /// The commits whose file of this kind holds rows, lane by lane, in order.
    pub(super) fn holding(&self, kind: FileKind) -> Vec<Arc<Commit>> {
        let holds = |commit: &&Arc<Commit>| commit.file(kind).is_some_and(|file| file.rows > 0);
        self.commits().filter(holds).cloned().collect()
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

/// Machines change rarely, so that most commits of a lane share one list.
pub(super) fn commit(id: &TopicPartition, signed: SignedEntry, before: Option<Arc<[String]>>) -> Commit {
    let entry = signed.entry;
    let machines = entry.machines.map(|machines| match before {
        Some(before) if *before == *machines => before,
        _ => machines.into(),
    });
    Commit {
        lane: id.clone(),
        seqs: entry.seq..entry.seq + 1,
        range: entry.range,
        readings: entry.readings.map(File::from),
        records: entry.records.map(File::from),
        undecodable: entry.undecodable,
        time_us: entry.time_min_us.zip(entry.time_max_us),
        machines,
        written_us: entry.written_us,
    }
}

/// The files of a cover, one by one.
pub(super) fn covering(id: &TopicPartition, standing: &Standing) -> Vec<Arc<Commit>> {
    let cover = &standing.cover;
    let part = |range| Commit {
        lane: id.clone(),
        seqs: cover.span.first_seq..cover.span.next_seq,
        range,
        readings: None,
        records: None,
        undecodable: 0,
        time_us: None,
        machines: None,
        written_us: standing.written_us,
    };
    let readings = cover.readings.iter().map(|one| Commit {
        readings: Some(one.file.clone().into()),
        time_us: Some((one.time_min_us, one.time_max_us)),
        machines: one.machines.as_deref().map(Arc::from),
        ..part(one.range)
    });
    let records = cover.records.iter().map(|one| Commit {
        records: Some(one.file.clone().into()),
        undecodable: one.undecodable,
        ..part(one.range)
    });
    readings.chain(records).map(Arc::new).collect()
}
