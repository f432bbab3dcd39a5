//! A lane as its view stands: runs of entries with the files that hold them now, in order.

use stillwell_schema::ledger::{LeavesFile, Span, Standing, View};
use stillwell_schema::manifest::FileRef;
use stillwell_schema::{Head, SignedEntry, TopicPartition};

use crate::manifest::{Chain, ManifestError};
use crate::store::ArchiveStore;

/// Entries whose files are theirs together: one that no act covers, or all that one act covers.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The entries.
    pub span: Span,
    /// The act that covers them; none for an entry's own files.
    pub act: Option<u64>,
    /// Their readings, each file sorted.
    pub readings: Vec<FileRef>,
    /// Their records, in offset order.
    pub records: Vec<FileRef>,
    /// The leaves of their erased records.
    pub leaves: Vec<LeavesFile>,
    /// When the files were put in place, µs UTC.
    pub written_us: i64,
    /// Smallest and largest source time, µs UTC; none without readings.
    pub time_us: Option<(i64, i64)>,
}

impl Piece {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let leaves = self.leaves.iter().map(|leaves| &leaves.file);
        self.readings.iter().chain(&self.records).chain(leaves).map(|file| file.bytes).sum()
    }

    fn of_entry(signed: &SignedEntry) -> Option<Self> {
        let entry = &signed.entry;
        Some(Self {
            span: Span::of(std::slice::from_ref(signed))?,
            act: None,
            readings: entry.readings.iter().cloned().collect(),
            records: entry.records.iter().cloned().collect(),
            leaves: Vec::new(),
            written_us: entry.written_us,
            time_us: entry.time_min_us.zip(entry.time_max_us),
        })
    }

    fn of_cover(standing: &Standing) -> Self {
        let cover = &standing.cover;
        let times = || cover.readings.iter();
        let min = times().map(|file| file.time_min_us).min();
        Self {
            span: cover.span.clone(),
            act: Some(standing.act),
            readings: times().map(|file| file.file.clone()).collect(),
            records: cover.records.iter().map(|file| file.file.clone()).collect(),
            leaves: cover.leaves.clone(),
            written_us: standing.written_us,
            time_us: min.zip(times().map(|file| file.time_max_us).max()),
        }
    }
}

/// The pieces of a lane in order. Entries that are covered are not read: the act's signature stands for them.
pub struct Pieces<'a> {
    lane: TopicPartition,
    view: &'a View,
    chain: Chain<'a>,
    store: &'a dyn ArchiveStore,
    ahead: Option<Piece>,
}

impl<'a> Pieces<'a> {
    /// From the lane's first entry on.
    pub fn new(store: &'a dyn ArchiveStore, lane: &TopicPartition, view: &'a View) -> Self {
        Self { lane: lane.clone(), view, chain: Chain::new(store, lane.clone()), store, ahead: None }
    }

    /// From the entry that follows `head`, which the caller has checked before.
    pub fn after(store: &'a dyn ArchiveStore, lane: &TopicPartition, view: &'a View, head: Head) -> Self {
        let chain = Chain::after(store, lane.clone(), head);
        Self { lane: lane.clone(), view, chain, store, ahead: None }
    }

    /// The next piece, which stays the next.
    pub(super) fn peek(&mut self) -> Result<Option<Piece>, ManifestError> {
        if self.ahead.is_none() {
            self.ahead = self.next().transpose()?;
        }
        Ok(self.ahead.clone())
    }

    /// Goes on behind a piece that was peeked at.
    pub(super) fn pass(&mut self) {
        self.ahead = None;
    }

    /// Leaves out the pieces before the entry number `seq`.
    pub(super) fn skip_to(mut self, seq: u64) -> Result<Self, ManifestError> {
        while self.peek()?.is_some_and(|piece| piece.span.next_seq <= seq) {
            self.pass();
        }
        Ok(self)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(piece) = self.ahead.take() {
            return Some(Ok(piece));
        }
        if let Some(standing) = self.view.covering(self.chain.head().seq) {
            self.chain = Chain::after(self.store, self.lane.clone(), standing.cover.span.head());
            return Some(Ok(Piece::of_cover(standing)));
        }
        match self.chain.next()? {
            Ok(signed) => Piece::of_entry(&signed).map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}
