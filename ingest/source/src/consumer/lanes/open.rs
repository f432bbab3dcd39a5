//! How a lane begins: its start is looked up from aside, then it is assigned to the client and runs.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use stillwell_schema::health::State;
use stillwell_schema::{Offset, TopicPartition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::client::{Client, enter};
use super::super::doubt::Marks;
use super::super::feed::Feed;
use super::super::held::Held;
use super::super::lookup::{Refusal, Start, start_of};
use super::super::slot::{Open, REOPEN_MAX, Slot, closed_for, describe, part};
use super::super::watermarks::Watched;
use super::{CHUNKS_WAITING_MAX, Lanes, Sources};
use crate::lane::{DisplayCommit, Lane, Stage};

impl<S: Stage> Lanes<S> {
    pub(super) fn look_up(&self, id: &TopicPartition, wait: Duration) -> Slot {
        let Sources { stage, ends, .. } = &self.sources;
        let group = self.settings.group.clone();
        let lookup = self.runtime.spawn(start_of(Arc::clone(stage), Arc::clone(ends), group, id.clone()));
        Slot::Starting { lookup, wait }
    }

    /// Starts the lane whose start has been looked up.
    pub(super) fn open(&mut self, client: &Client, at: usize) {
        let (id, Slot::Starting { lookup, wait }) = &mut self.slots[at] else { return };
        let (id, wait) = (id.clone(), *wait);
        let found = self.runtime.block_on(lookup).unwrap_or_else(|e| Err(Refusal::waiting(e.to_string())));
        let entered = found.and_then(|start| match enter(client, &id, start.fetched()) {
            Ok(()) => Ok(start),
            Err(error) => Err(Refusal::waiting(format!("kafka refuses to assign it: {error}"))),
        });
        self.slots[at].1 = match entered {
            Ok(start) => {
                if start.offset.0 < start.low {
                    tracing::error!(lane = %id, first = start.offset.0, next = start.low, "records fell to the topic's retention before they were read; keep them longer (retention.ms)");
                }
                self.settings.board.set(&part(&self.settings, &id), State::Ok, "");
                Slot::Open(Box::new(self.start(&id, start, wait)))
            }
            Err(Refusal { state, detail }) => {
                self.show(&id, state, detail);
                closed_for(if state == State::Failed { REOPEN_MAX } else { wait }, wait)
            }
        };
    }

    fn start(&self, id: &TopicPartition, start: Start, wait: Duration) -> Open {
        let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let revoked = CancellationToken::new();
        let end = Arc::new(AtomicI64::new(start.high));
        let received = Arc::new(AtomicI64::new(start.offset.0));
        let lane = Lane {
            id: id.clone(),
            start: start.offset,
            chunks: receiver,
            revoked: revoked.clone(),
            display: DisplayCommit::new(id.clone(), self.display.clone()),
            end: Arc::clone(&end),
            received: Arc::clone(&received),
        };
        let stage = Arc::clone(&self.sources.stage);
        let task = self.runtime.spawn(async move { stage.run(lane).await.map_err(|error| describe(&error)) });
        let mut watched = self.sources.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = Arc::<Marks>::default();
        watched.push(Watched {
            lane: id.clone(),
            end,
            received: Arc::clone(&received),
            marks: Arc::clone(&marks),
        });
        Open {
            feed: Feed::new(id.clone(), start.offset, Offset(start.low)),
            held: Held::default(),
            paused: false,
            is_wary: false,
            out_of_range: None,
            marks,
            chunks,
            revoked,
            task,
            received,
            records: counter!("stillwell_received_records_total", "stage" => self.settings.stage),
            bytes: counter!("stillwell_received_bytes_total", "stage" => self.settings.stage),
            opened: Instant::now(),
            wait,
        }
    }

    fn show(&self, id: &TopicPartition, state: State, detail: String) {
        if state == State::Failed {
            tracing::error!(lane = %id, detail, "a lane stands still");
        } else {
            tracing::warn!(lane = %id, detail, "a lane waits");
        }
        self.settings.board.set(&part(&self.settings, id), state, detail);
    }
}
