//! A lane's alerts on their way out, beside its rows: they do not wait for what is being written. Where the store is away
//! they go on until a lane cannot fold any more, as it needs stored windows or is full.
//!
//! **Invariant:** what a lane goes on from, its scorers' states and its position, is stored only when all alerts of
//! records below it are published ([`Awaited`]). A crash before that replays the records, which raise the same
//! alerts; [`Alerts`] keeps those out that are out already.

use std::time::Duration;

use metrics::{counter, histogram};
use stillwell_schema::TopicPartition;
use stillwell_schema::health::{Board, State};
use stillwell_source::settings::KafkaSettings;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::part;
use crate::alerts::{Alert, Alerts};

/// Bounds of the wait between two tries.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How lanes publish.
#[derive(Clone)]
pub(crate) struct Alerting {
    pub(crate) kafka: KafkaSettings,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) board: Board,
}

impl Alerting {
    /// Begins to connect for a lane that may raise alerts.
    pub(super) fn open(&self, lane: &TopicPartition) -> LaneAlerts {
        let (raised, queue) = mpsc::unbounded_channel();
        let (published, seen) = watch::channel(i64::MIN);
        let alerts = Alerts::new(self.kafka.clone(), self.topic.clone(), &self.group);
        let publisher = Publisher { alerts, lane: lane.clone(), queue, published, board: self.board.clone() };
        tokio::spawn(publisher.run());
        LaneAlerts { raised, published: seen, until: i64::MIN }
    }
}

/// The alerts of one lane; its publisher ends with it.
pub(super) struct LaneAlerts {
    raised: mpsc::UnboundedSender<Raised>,
    /// Alerts of records below this are out.
    published: watch::Receiver<i64>,
    /// Up to where they must be.
    until: i64,
}

impl LaneAlerts {
    /// Sends out what the records below `position` have raised since the last time.
    pub(super) fn raise(&mut self, alerts: Vec<Alert>, position: i64) {
        self.until = position;
        // Without a publisher nothing is published, and who waits for it learns that.
        let _ = self.raised.send(Raised { alerts, position, at: Instant::now() });
    }

    /// What has to be out before the lane may go on from here; none where it is.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        let awaited = Awaited { published: self.published.clone(), until: self.until };
        (!awaited.is_out()).then_some(awaited)
    }
}

/// Alerts that have to be out.
#[derive(Clone, Debug)]
pub struct Awaited {
    published: watch::Receiver<i64>,
    until: i64,
}

impl Awaited {
    /// Whether they are.
    pub(crate) fn is_out(&self) -> bool {
        *self.published.borrow() >= self.until
    }

    /// Waits until they are; false where nobody publishes them any more.
    pub(crate) async fn out(&mut self) -> bool {
        let until = self.until;
        self.published.wait_for(|published| *published >= until).await.is_ok()
    }
}

struct Raised {
    alerts: Vec<Alert>,
    position: i64,
    at: Instant,
}

struct Publisher {
    alerts: Alerts,
    lane: TopicPartition,
    queue: mpsc::UnboundedReceiver<Raised>,
    published: watch::Sender<i64>,
    board: Board,
}

impl Publisher {
    async fn run(mut self) {
        // The first alert is not to wait for a connection. Where there is none now, it is tried again then.
        if let Err(error) = self.alerts.prepare(&self.lane).await {
            tracing::debug!(lane = %self.lane, %error, "no connection for alerts yet");
        }
        while let Some(raised) = self.queue.recv().await {
            let Some(position) = self.publish(raised).await else { break };
            self.published.send_replace(position);
        }
        // Closing a producer waits for its thread.
        tokio::task::spawn_blocking(move || drop(self.alerts));
    }

    /// Publishes, however often it takes, and all that was raised meanwhile; none where the lane is gone, whose
    /// successor raises them again.
    async fn publish(&mut self, Raised { mut alerts, mut position, at }: Raised) -> Option<i64> {
        let mut wait = RETRY_MIN;
        loop {
            while let Ok(more) = self.queue.try_recv() {
                alerts.extend(more.alerts);
                position = more.position;
            }
            match self.alerts.publish(&self.lane, position, &mut alerts).await {
                Ok(()) => break,
                Err(_) if self.queue.is_closed() => return None,
                Err(error) => self.report(&error.to_string(), wait == RETRY_MIN),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
        histogram!("stillwell_alert_seconds").record(at.elapsed().as_secs_f64());
        if wait > RETRY_MIN && !self.queue.is_closed() {
            self.board.set(&part(&self.lane), State::Ok, "");
        }
        Some(position)
    }

    fn report(&self, why: &str, is_first: bool) {
        if is_first {
            tracing::warn!(lane = %self.lane, error = why, "alerts wait");
        }
        counter!("stillwell_errors_total", "stage" => "aggregate", "kind" => "alerts").increment(1);
        self.board.set(&part(&self.lane), State::Waiting, why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_goes_on_when_its_alerts_are_out_and_not_where_nobody_publishes_them() {
        let (raised, mut queue) = mpsc::unbounded_channel();
        let (out, published) = watch::channel(i64::MIN);
        let mut alerts = LaneAlerts { raised, published, until: i64::MIN };
        assert!(alerts.awaited().is_none(), "nothing was raised");
        alerts.raise(Vec::new(), 10);
        let mut first = alerts.awaited().unwrap();
        alerts.raise(Vec::new(), 20);
        let mut second = alerts.awaited().unwrap();
        let positions = [queue.recv().await.unwrap().position, queue.recv().await.unwrap().position];
        assert_eq!(positions, [10, 20]);
        out.send_replace(10);
        assert!(first.out().await && !second.is_out());
        drop(out);
        assert!(!second.out().await, "its lane's successor publishes them");
    }
}
