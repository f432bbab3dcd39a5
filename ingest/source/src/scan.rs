//! Reads stretches of a topic from given offsets to given ends, as often as anyone likes: for checks, and for
//! what is looked through by hand. It joins no group, commits nothing and moves nobody's position.
//!
//! It reads as the stages do: CRCs checked, committed records only, no offset reset. A stretch ends where a log
//! ended when the scan began, so a scan of a topic that grows comes to an end. What Kafka does not deliver
//! inside (transaction markers, aborted records) and what retention took are gaps, as in every lane.
//!
//! Its calls block: give it a thread of its own.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use stillwell_schema::{Offset, TopicPartition};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::chunk::RecordChunk;
use crate::consumer::feed::Feed;
use crate::consumer::{ConsumerError, headers, properties};
use crate::settings::{KafkaSettings, canonical};

/// A chunk is handed on when it holds this many bytes, as large as those of a stage's lane.
const CHUNK_BYTES: usize = 1 << 20;
/// A stop, a deadline and a silence are noticed within this.
const POLL: Duration = Duration::from_millis(50);
/// How long Kafka may take to say what partitions there are and where their logs begin and end.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Librdkafka wants a group's name before it takes an assignment; nothing joins it.
const GROUP: &str = "stillwell-scan";

/// Where a partition's log begins, and where it ends for a reader of committed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The earliest offset that retention left.
    pub low: Offset,
    /// The offset after the last that can be read now. A transaction that is still open holds it back.
    pub high: Offset,
}

/// What is read of one partition: `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which partition.
    pub partition: i32,
    /// The first offset.
    pub from: Offset,
    /// The offset after the last.
    pub to: Offset,
}

/// How long a scan may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// It fails after so long without a record, as a broker that is away would keep it for ever.
    pub silence: Duration,
    /// It fails when all of it takes longer than this.
    pub whole: Option<Duration>,
}

impl Default for Patience {
    /// A minute of silence, as a broker that is started again needs some tens of seconds; no other limit.
    fn default() -> Self {
        Self { silence: Duration::from_secs(60), whole: None }
    }
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Offsets passed, gaps among them.
    pub offsets: u64,
    /// Of how many.
    pub offsets_total: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every stretch was read to its end.
    Whole,
    /// It was cancelled, or its reader had enough.
    Stopped,
}

/// Why a scan cannot be made or ended early.
#[derive(Debug, Error)]
pub enum ScanError {
    /// The settings are not right.
    #[error(transparent)]
    Settings(#[from] ConsumerError),
    /// Kafka refuses.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Kafka does not answer a question.
    #[error("kafka does not answer about {about}: {error}; check that the brokers are up and reachable")]
    NoAnswer {
        /// What was asked.
        about: String,
        /// What librdkafka says.
        error: KafkaError,
    },
    /// There is no such topic.
    #[error("topic {0:?} does not exist; check its name and the brokers")]
    NoTopic(String),
    /// A stretch ends where there is nothing yet.
    #[error(
        "{lane} is to be read to {to} but ends at {high}: the topic was made anew or cut, or a transaction is still open"
    )]
    BeyondEnd {
        /// Of which partition.
        lane: TopicPartition,
        /// The end that is wanted.
        to: Offset,
        /// The end that there is.
        high: Offset,
    },
    /// Nothing came for too long.
    #[error("no record of {lane} from offset {at} on came in {} s: {why}", silence.as_secs())]
    Silence {
        /// The first partition that is not read to its end.
        lane: TopicPartition,
        /// Its next offset.
        at: Offset,
        /// How long.
        silence: Duration,
        /// What librdkafka said last.
        why: String,
    },
    /// The whole took too long.
    #[error("reading {topic} was not done in {} s: {} of {} offsets", within.as_secs(), progress.offsets, progress.offsets_total)]
    Deadline {
        /// Which topic.
        topic: String,
        /// The limit.
        within: Duration,
        /// How far it came.
        progress: Progress,
    },
    /// Bytes in the log are damaged, or of a kind that nobody can read.
    #[error("{topic} cannot be read: {error}; look at the broker's disk and its log")]
    Damaged {
        /// Which topic.
        topic: String,
        /// What librdkafka says.
        error: KafkaError,
    },
}

/// A reader of one topic.
pub struct Scan {
    client: BaseConsumer,
    topic: String,
}

impl Scan {
    /// A reader of `topic`, which connects when it is asked something.
    ///
    /// # Errors
    /// [`ScanError::Settings`] where the properties are not right.
    pub fn new(kafka: &KafkaSettings, topic: &str) -> Result<Self, ScanError> {
        let mut config = properties::config(kafka, GROUP)?;
        config.remove(canonical("group.instance.id")).set("enable.partition.eof", "true");
        Ok(Self { client: config.create()?, topic: topic.to_owned() })
    }

    /// Its partitions, ascending.
    ///
    /// # Errors
    /// [`ScanError::NoTopic`] or [`ScanError::NoAnswer`].
    pub fn partitions(&self) -> Result<Vec<i32>, ScanError> {
        let asked = self.client.fetch_metadata(Some(&self.topic), ANSWER_WITHIN);
        let metadata = asked.map_err(|error| self.no_answer(error))?;
        let found = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let ids = found.into_iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        let mut ids: Vec<i32> = ids.map(rdkafka::metadata::MetadataPartition::id).collect();
        if ids.is_empty() {
            return Err(ScanError::NoTopic(self.topic.clone()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where a partition's log begins and ends.
    ///
    /// # Errors
    /// [`ScanError::NoAnswer`].
    pub fn ends(&self, partition: i32) -> Result<Ends, ScanError> {
        let asked = self.client.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN);
        let (low, high) = asked.map_err(|error| self.no_answer(error))?;
        Ok(Ends { low: Offset(low), high: Offset(high) })
    }

    /// Everything that the topic holds now.
    ///
    /// # Errors
    /// As [`Scan::partitions`] and [`Scan::ends`].
    pub fn whole(&self) -> Result<Vec<Stretch>, ScanError> {
        let stretch = |partition| {
            let Ends { low, high } = self.ends(partition)?;
            Ok(Stretch { partition, from: low, to: high })
        };
        self.partitions()?.into_iter().map(stretch).collect()
    }

    /// Reads `stretches`, one a partition. `take` gets chunks, each partition's in order and adjacent: together
    /// they cover its stretch, every offset a record or in a gap. It breaks the scan off where it answers
    /// [`ControlFlow::Break`]. `progress` hears of every chunk and of every poll without one.
    ///
    /// # Errors
    /// [`ScanError`]; what was taken until then is right.
    pub fn read(
        &self,
        stretches: &[Stretch],
        patience: Patience,
        stop: &CancellationToken,
        mut take: impl FnMut(RecordChunk) -> ControlFlow<()>,
        mut progress: impl FnMut(&Progress),
    ) -> Result<End, ScanError> {
        let mut parts = stretches
            .iter()
            .filter(|stretch| stretch.from < stretch.to)
            .map(|stretch| self.part(stretch))
            .collect::<Result<Vec<_>, _>>()?;
        let mut reading = Reading {
            progress: Progress {
                offsets_total: parts.iter().map(|part| (part.to.0 - part.from.0).cast_unsigned()).sum(),
                ..Progress::default()
            },
            began: Instant::now(),
            heard: Instant::now(),
            why: "the broker said nothing".to_owned(),
        };
        self.assign(&parts)?;
        let end = self.run(&mut parts, &mut reading, patience, stop, &mut take, &mut progress);
        // The next scan of this reader assigns anew; what is on its way here is not to disturb it.
        self.client.unassign()?;
        end
    }

    fn run(
        &self,
        parts: &mut Vec<Part>,
        reading: &mut Reading,
        patience: Patience,
        stop: &CancellationToken,
        take: &mut impl FnMut(RecordChunk) -> ControlFlow<()>,
        progress: &mut impl FnMut(&Progress),
    ) -> Result<End, ScanError> {
        while !parts.is_empty() {
            if stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            let chunk = match self.client.poll(POLL) {
                Some(Ok(message)) => {
                    reading.heard = Instant::now();
                    let (left, partition) = (parts.len(), message.partition());
                    let chunk = Part::take(parts, &message, reading);
                    if parts.len() < left {
                        // What follows is nobody's.
                        self.client.pause(&self.list([partition]))?;
                    }
                    chunk
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    reading.heard = Instant::now();
                    Part::end(parts, partition)
                }
                Some(Err(error)) => {
                    self.take_error(error, parts, reading)?;
                    None
                }
                None => None,
            };
            if let Some(chunk) = chunk {
                reading.progress.offsets += (chunk.range().next.0 - chunk.range().first.0).cast_unsigned();
                reading.progress.bytes += chunk.payload_bytes() as u64;
                progress(&reading.progress);
                if take(chunk).is_break() {
                    return Ok(End::Stopped);
                }
                // However long the reader took, that was not Kafka's silence.
                reading.heard = Instant::now();
            } else if reading.is_quiet() {
                progress(&reading.progress);
            }
            self.check(parts, reading, patience)?;
        }
        Ok(End::Whole)
    }

    fn check(&self, parts: &[Part], reading: &Reading, patience: Patience) -> Result<(), ScanError> {
        if let Some(within) = patience.whole.filter(|within| reading.began.elapsed() > *within) {
            return Err(ScanError::Deadline {
                topic: self.topic.clone(),
                within,
                progress: reading.progress,
            });
        }
        match parts.first() {
            Some(part) if reading.heard.elapsed() > patience.silence => Err(ScanError::Silence {
                lane: part.lane.clone(),
                at: part.feed.expects(),
                silence: patience.silence,
                why: reading.why.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// A stretch to be read. Its end is there, so that the end of the log, as Kafka tells it from now on, means
    /// that all of the stretch was delivered.
    fn part(&self, stretch: &Stretch) -> Result<Part, ScanError> {
        let lane = TopicPartition::new(&*self.topic, stretch.partition);
        let Ends { low, high } = self.ends(stretch.partition)?;
        if stretch.to > high {
            return Err(ScanError::BeyondEnd { lane, to: stretch.to, high });
        }
        let feed = Feed::new(lane.clone(), stretch.from, low);
        Ok(Part { lane, from: stretch.from, to: stretch.to, feed })
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    fn assign(&self, parts: &[Part]) -> Result<(), ScanError> {
        // librdkafka keeps a pause beyond the assignment in which it was made.
        self.client.resume(&self.list(parts.iter().map(|part| part.lane.partition)))?;
        let mut list = TopicPartitionList::new();
        for part in parts {
            let at = rdkafka::Offset::Offset(part.feed.expects().0);
            list.add_partition_offset(&self.topic, part.lane.partition, at)?;
        }
        Ok(self.client.assign(&list)?)
    }

    /// Damage ends the scan; retention that overtook it is a gap; anything else passes or ends in silence.
    fn take_error(
        &self,
        error: KafkaError,
        parts: &mut [Part],
        reading: &mut Reading,
    ) -> Result<(), ScanError> {
        use RDKafkaErrorCode as Code;
        match error {
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                for part in parts.iter_mut() {
                    let Ends { low, high } = self.ends(part.lane.partition)?;
                    if part.to > high {
                        return Err(ScanError::BeyondEnd { lane: part.lane.clone(), to: part.to, high });
                    }
                    part.feed.lost_below(low);
                }
                self.assign(parts)
            }
            KafkaError::MessageConsumption(
                Code::BadMessage | Code::BadCompression | Code::NotImplemented,
            ) => Err(ScanError::Damaged { topic: self.topic.clone(), error }),
            KafkaError::MessageConsumption(
                Code::TopicAuthorizationFailed | Code::UnknownTopicOrPartition | Code::UnknownTopic,
            )
            | KafkaError::MessageConsumptionFatal(_) => Err(error.into()),
            _ => {
                reading.why = error.to_string();
                Ok(())
            }
        }
    }

    fn no_answer(&self, error: KafkaError) -> ScanError {
        let unknown = [RDKafkaErrorCode::UnknownTopic, RDKafkaErrorCode::UnknownTopicOrPartition];
        if error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code)) {
            return ScanError::NoTopic(self.topic.clone());
        }
        ScanError::NoAnswer { about: self.topic.clone(), error }
    }
}

/// A scan under way.
struct Reading {
    progress: Progress,
    began: Instant,
    /// When Kafka last delivered something.
    heard: Instant,
    why: String,
}

impl Reading {
    fn is_quiet(&self) -> bool {
        self.heard.elapsed() >= POLL
    }
}

/// A stretch that is not read to its end.
struct Part {
    lane: TopicPartition,
    from: Offset,
    to: Offset,
    feed: Feed,
}

impl Part {
    /// Takes a record into its part; a full or last chunk comes out. A record beyond the end shows that nothing
    /// more of the stretch will come.
    fn take(
        parts: &mut Vec<Self>,
        message: &BorrowedMessage<'_>,
        reading: &mut Reading,
    ) -> Option<RecordChunk> {
        let at = parts.iter().position(|part| part.lane.partition == message.partition())?;
        let (part, offset) = (&mut parts[at], Offset(message.offset()));
        if offset < part.to {
            let headers = headers::of(message);
            let headers = headers.iter().map(|(name, value)| (&**name, *value));
            let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
            part.feed.take(offset, timestamp_ms, message.key(), message.payload(), headers, reading.heard);
            reading.progress.records += 1;
        }
        if offset.0 + 1 >= part.to.0 {
            return parts.remove(at).finish();
        }
        if part.feed.holds(CHUNK_BYTES) { part.feed.flush() } else { None }
    }

    /// The log's end was reached, and so was the stretch's.
    fn end(parts: &mut Vec<Self>, partition: i32) -> Option<RecordChunk> {
        let at = parts.iter().position(|part| part.lane.partition == partition)?;
        parts.remove(at).finish()
    }

    /// The last chunk, with the gap that leads to the stretch's end.
    fn finish(mut self) -> Option<RecordChunk> {
        self.feed.finish(self.to)
    }
}

#[cfg(test)]
mod tests;
