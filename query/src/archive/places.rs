//! Where a record and its readings lie: in the files of its commit, or in those of its cover.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use stillwell_schema::paths::{self, FileKind};
use stillwell_schema::{Offset, OffsetRange, TopicPartition};

use super::commits::{File, LaneCommits, Snapshot};

/// Commits of a lane that stand for the same entries: the readings of the records of one lie in the files of all.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    lane: Arc<LaneCommits>,
    commits: Range<usize>,
    range: OffsetRange,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lane, &other.lane) && self.commits == other.commits
    }
}

impl Origin {
    /// Whether the record at this place is one of its own.
    pub(super) fn holds(&self, topic: &str, partition: i32, offset: i64) -> bool {
        self.range.contains(Offset(offset)) && self.is_of(topic, partition)
    }

    /// The files that may hold readings of these offsets.
    pub(super) fn readings(&self, offsets: RangeInclusive<i64>) -> impl Iterator<Item = &File> {
        self.files(FileKind::Readings, offsets).map(|(_, file)| file)
    }

    /// The files of one kind that may hold rows of these offsets, and the ranges that these lie in.
    pub(super) fn files(
        &self,
        kind: FileKind,
        offsets: RangeInclusive<i64>,
    ) -> impl Iterator<Item = (OffsetRange, &File)> {
        let commits = self.lane.commits().get(self.commits.clone()).unwrap_or_default().iter();
        let (first, last) = offsets.into_inner();
        let meets = move |range: &OffsetRange| range.first.0 <= last && first < range.next.0;
        let meeting = commits.filter(move |commit| meets(&commit.range));
        meeting.filter_map(move |commit| Some((commit.range, commit.file(kind)?)))
    }

    /// The entries that it stands for.
    pub(super) fn seqs(&self) -> Range<u64> {
        self.lane.commits().get(self.commits.start).map_or(0..0, |commit| commit.seqs.clone())
    }

    /// The folder of the entries that name its files.
    pub(super) fn manifest(&self) -> String {
        self.id().map(paths::manifest_folder).unwrap_or_default()
    }

    fn is_of(&self, topic: &str, partition: i32) -> bool {
        self.id().is_some_and(|lane| lane.partition == partition && *lane.topic == *topic)
    }

    /// Its lane; none where it is empty.
    pub(super) fn id(&self) -> Option<&TopicPartition> {
        self.lane.commits().first().map(|commit| &commit.lane)
    }
}

/// All origins of a moment, lane by lane in the order of their offsets.
#[derive(Debug)]
pub(super) struct Places {
    lanes: Vec<Vec<Origin>>,
}

impl Places {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { lanes: snapshot.lanes.iter().map(origins).collect() }
    }

    /// The origin of the record at this place.
    pub(super) fn origin(&self, topic: &str, partition: i32, offset: i64) -> Option<&Origin> {
        let is_it = |lane: &&Vec<Origin>| lane.first().is_some_and(|origin| origin.is_of(topic, partition));
        let lane = self.lanes.iter().find(is_it)?;
        let behind = lane.partition_point(|origin| origin.range.first.0 <= offset);
        lane.get(behind.checked_sub(1)?).filter(|origin| origin.holds(topic, partition, offset))
    }
}

fn origins(lane: &Arc<LaneCommits>) -> Vec<Origin> {
    let mut next = 0;
    let runs = lane.commits().chunk_by(|a, b| a.seqs == b.seqs).filter_map(|run| {
        let commits = next..next + run.len();
        next = commits.end;
        let hull = |a: OffsetRange, b: OffsetRange| OffsetRange {
            first: a.first.min(b.first),
            next: a.next.max(b.next),
        };
        let range = run.iter().map(|commit| commit.range).reduce(hull)?;
        Some(Origin { lane: Arc::clone(lane), commits, range })
    });
    runs.collect()
}
