//! A batch on its way into the archive: dead letters, encoding, commit, and only then the acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use metrics::{counter, gauge, histogram};
use stillwell_schema::health::State;
use stillwell_schema::{Head, TopicPartition};
use stillwell_source::dead_letters::KafkaError;
use stillwell_source::halt::Halted;
use stillwell_source::lane::DisplayCommit;

use super::patience;
use crate::commit::{Commit, Outcome};
use crate::dead::DeadLetterSink;
use crate::error::IngestError;
use crate::memory::{Load, Work};
use crate::stage::Shared;
use crate::workers::compute;
use crate::writer::{Batch, Encoded, encode};

/// What a commit needs besides its batch.
pub(super) struct Flight<D> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) dead_letters: String,
    /// Why nothing of it may go anywhere, where too much of it would go there.
    pub(super) halted: Option<Box<Halted>>,
    pub(super) display: DisplayCommit,
    /// What the entry must follow.
    pub(super) head: Head,
}

impl<D: DeadLetterSink> Flight<D> {
    pub(super) async fn run(mut self, batch: Batch, load: Load) -> Result<Outcome, IngestError> {
        let began = Instant::now();
        let lane = batch.lane().clone();
        if let Some(halted) = self.halted.take() {
            return Err(IngestError::Halted(halted));
        }
        self.send_dead_letters(&batch).await;
        let unique = self.shared.unique().to_string();
        let work = Work { readings: batch.readings(), kept_bytes: batch.kept_bytes() };
        let encoding = load.encoding(work).await;
        // The records' memory is given back here: what may wait for the store is only the encoded files.
        let (encoded, claim) = compute(&*self.shared.workers, move || {
            let encoded = encode(&batch, &unique);
            drop(batch);
            let files = encoded.iter().flat_map(|encoded| &encoded.files);
            let bytes = files.map(|file| file.bytes.capacity()).sum::<usize>();
            (encoded, encoding.done(bytes))
        })
        .await;
        let mut encoded = encoded.map_err(|source| IngestError::Encode { lane: lane.clone(), source })?;
        let shared = &self.shared;
        let entry = encoded
            .entry(&self.head, &shared.writer, shared.clock.now_us(), &shared.key)
            .map_err(|source| IngestError::Entry { lane: lane.clone(), source: Box::new(source) })?;
        let files = std::mem::take(&mut encoded.files);
        let sizes: Vec<_> = files.iter().map(|file| (file.kind, file.file.bytes)).collect();
        let commit = Commit::new(
            Arc::clone(&shared.store),
            Arc::clone(&shared.workers),
            files,
            entry,
            shared.limits.retry,
        )
        .holding(claim);
        let outcome = patience::run(shared, &lane, commit).await?;
        match &outcome {
            Outcome::Fenced => {
                counter!("stillwell_errors_total", "stage" => "ingest", "kind" => "fenced").increment(1);
                tracing::warn!(%lane, seq = self.head.seq, "fenced by another writer");
            }
            Outcome::Committed(head) => {
                for (kind, bytes) in sizes {
                    counter!("stillwell_archive_bytes_total", "kind" => kind.name()).increment(bytes);
                }
                histogram!("stillwell_commit_seconds").record(began.elapsed().as_secs_f64());
                self.acknowledge(&lane, head, &encoded);
            }
        }
        Ok(outcome)
    }

    /// Dead letters that the broker refuses for good never hold up the archive, which keeps the same records
    /// with their errors. While the broker is away the batch waits, so that no letter is forgotten.
    async fn send_dead_letters(&self, batch: &Batch) {
        if batch.failures() == 0 {
            return;
        }
        let (lane, topic) = (batch.lane(), &self.dead_letters);
        let waited = AtomicBool::new(false);
        let waiting = |error: &KafkaError| {
            waited.store(true, Ordering::Relaxed);
            tracing::warn!(%lane, topic, %error, "dead letters wait for kafka");
            self.shared.show(
                lane,
                State::Waiting,
                format!("dead letters wait for kafka, topic {topic}: {error}"),
            );
        };
        let sent = self.shared.dead_letters.send(topic, lane, &batch.undecodable(), &waiting).await;
        if let Err(error) = sent {
            counter!("stillwell_errors_total", "stage" => "ingest", "kind" => "dead_letters")
                .increment(error.refused as u64);
            tracing::error!(%lane, topic, %error, "check the dead letter topic, its limits and the rights to it; the records are kept in the archive with their errors");
        }
        if waited.into_inner() {
            self.shared.show(lane, State::Ok, "");
        }
    }

    /// The commit is durable: this is where the rest of the world learns it.
    fn acknowledge(&self, lane: &TopicPartition, head: &Head, encoded: &Encoded) {
        let Some(next) = head.next else { return };
        self.display.durable(next);
        self.shared.show(lane, State::Ok, "");
        counter!("stillwell_commits_total").increment(1);
        counter!("stillwell_readings_total", "stage" => "ingest").increment(encoded.readings());
        for (class, records) in &encoded.undecodable {
            let topic = lane.topic.to_string();
            counter!("stillwell_undecodable_total", "topic" => topic, "class" => *class).increment(*records);
        }
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats; offsets stay below 2^53")]
        gauge!("stillwell_watermark_offset", "stage" => "ingest", "topic" => lane.topic.to_string(),
            "partition" => lane.partition.to_string(), "mark" => "durable")
        .set(next.0 as f64);
    }
}
