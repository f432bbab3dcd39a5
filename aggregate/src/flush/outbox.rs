//! Alerts on their way out, each lane's by itself: one whose alerts cannot be published waits alone.

use std::collections::HashMap;
use std::future::pending;
use std::time::{Duration, Instant};

use metrics::counter;
use stillwell_schema::TopicPartition;
use stillwell_schema::health::{Board, State};
use stillwell_source::settings::KafkaSettings;
use tokio::task::JoinSet;

use super::{RETRY_MAX, RETRY_MIN, Snapshot};
use crate::alerts::Alerts;
use crate::stage::part;

/// A lane that has published nothing for so long gives its connection up: it may be another process's by now.
const IDLE: Duration = Duration::from_secs(600);

/// Publishes the alerts of snapshots whose rows are stored.
pub(crate) struct Outbox {
    kafka: KafkaSettings,
    topic: String,
    group: String,
    board: Board,
    /// Publishers of lanes that have nothing on the way, and since when.
    idle: HashMap<TopicPartition, (Alerts, Instant)>,
    tasks: JoinSet<(Alerts, Option<Snapshot>)>,
}

impl Outbox {
    pub(crate) fn new(kafka: KafkaSettings, topic: String, group: String, board: Board) -> Self {
        Self { kafka, topic, group, board, idle: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Takes a snapshot in, the only one of its lane.
    pub(super) fn send(&mut self, snapshot: Snapshot) {
        let new = || Alerts::new(self.kafka.clone(), self.topic.clone(), &self.group);
        let alerts = self.idle.remove(&snapshot.lane).map_or_else(new, |(alerts, _)| alerts);
        self.tasks.spawn(publish(alerts, snapshot, self.board.clone()));
        let unused: Vec<_> = self.idle.extract_if(|_, (_, since)| since.elapsed() > IDLE).collect();
        if !unused.is_empty() {
            // Closing a producer waits for its thread.
            tokio::task::spawn_blocking(move || drop(unused));
        }
    }

    /// The next snapshot whose alerts are out; never, while there is none. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn sent(&mut self) -> Snapshot {
        loop {
            match self.tasks.join_next().await {
                None => pending().await,
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                Some(Ok((_, None))) => {}
                Some(Ok((alerts, Some(snapshot)))) => {
                    self.idle.insert(snapshot.lane.clone(), (alerts, Instant::now()));
                    return snapshot;
                }
            }
        }
    }
}

/// Publishes, however often it takes; gives no snapshot where the lane is gone, whose successor replays it.
async fn publish(mut alerts: Alerts, mut snapshot: Snapshot, board: Board) -> (Alerts, Option<Snapshot>) {
    let part = part(&snapshot.lane);
    let mut wait = RETRY_MIN;
    while let Err(error) = alerts.publish(&snapshot.lane, snapshot.position, &mut snapshot.alerts).await {
        if snapshot.stored.is_closed() {
            return (alerts, None);
        }
        let why = error.to_string();
        if wait == RETRY_MIN {
            tracing::warn!(lane = %snapshot.lane, error = why, "alerts wait");
        }
        counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "alerts").increment(1);
        board.set(&part, State::Waiting, why);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
    if wait > RETRY_MIN && !snapshot.stored.is_closed() {
        board.set(&part, State::Ok, "");
    }
    (alerts, Some(snapshot))
}
