//! Whether Kafka is there and its records can be read, said once a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use stillwell_schema::health::{Board, State};

use super::ConsumerSettings;

/// A second error after so long came although the lanes had started over, and needs an operator;
const DAMAGE_STAYS: Duration = Duration::from_secs(1);
/// none for so long, which is longer than a lane stays closed, and the records are read again.
const DAMAGE_OVER: Duration = Duration::from_secs(60);

/// What one consumer says of Kafka.
pub(super) struct Weather {
    stage: &'static str,
    board: Board,
    trouble: Option<Trouble>,
    damage: Option<Damage>,
    /// How often Kafka has answered the watch.
    answers: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Not reached when it had answered so often; another answer or a record ends it.
    Away { answers: u64 },
    /// It answers, and says no; a record or an assignment ends it.
    Refused,
}

/// Records came that cannot be read: not as they were written, or in a form that this client does not know.
#[derive(Clone, Debug)]
struct Damage {
    first: Instant,
    last: Instant,
    detail: String,
}

impl Trouble {
    fn of(code: Option<RDKafkaErrorCode>, answers: u64) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Self::Refused,
            _ => Self::Away { answers },
        }
    }

    /// One answer may have been under way before the trouble, the next was not.
    fn is_over(self, answers: u64) -> bool {
        matches!(self, Self::Away { answers: then } if answers >= then + 2)
    }
}

impl Damage {
    fn state(&self) -> State {
        if self.last.duration_since(self.first) >= DAMAGE_STAYS { State::Failed } else { State::Waiting }
    }
}

impl Weather {
    pub(super) fn new(settings: &ConsumerSettings, answers: Arc<AtomicU64>) -> Self {
        let (stage, board) = (settings.stage, settings.board.clone());
        Self { stage, board, trouble: None, damage: None, answers }
    }

    pub(super) fn stage(&self) -> &'static str {
        self.stage
    }

    /// A record came, or an assignment.
    #[inline]
    pub(super) fn fine(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(stage = self.stage, "kafka is back");
            self.show(State::Ok, "");
        }
    }

    /// A topic may be quiet for hours: that Kafka is back is seen without a record too.
    pub(super) fn look(&mut self, now: Instant) {
        if self.trouble.is_some_and(|trouble| trouble.is_over(self.answers.load(Ordering::Relaxed))) {
            self.fine();
        }
        if self.damage.as_ref().is_some_and(|damage| now.duration_since(damage.last) >= DAMAGE_OVER) {
            self.damage = None;
            tracing::info!(stage = self.stage, "records are read again");
            match self.trouble {
                None => self.show(State::Ok, ""),
                Some(_) => self.show(State::Waiting, "kafka is away or refuses"),
            }
        }
    }

    /// Kafka is away or refuses.
    pub(super) fn trouble(&mut self, error: &KafkaError) {
        let trouble = Trouble::of(error.rdkafka_error_code(), self.answers.load(Ordering::Relaxed));
        let before = self.trouble.replace(trouble);
        if before.is_some_and(|before| (before == Trouble::Refused) == (trouble == Trouble::Refused)) {
            return;
        }
        let detail = match trouble {
            Trouble::Away { .. } => format!("kafka is away: {error}"),
            Trouble::Refused => format!("kafka refuses: {error}; check the topics and the rights to them"),
        };
        tracing::warn!(stage = self.stage, detail, "waiting for kafka");
        self.show(State::Waiting, &detail);
    }

    /// Records cannot be read. Those of other partitions may well be, so none of them ends it.
    pub(super) fn damage(&mut self, error: &KafkaError, now: Instant) {
        counter!("stillwell_errors_total", "stage" => self.stage, "kind" => "unreadable").increment(1);
        let before = self.damage.as_ref().map(Damage::state);
        let first = self.damage.as_ref().map_or(now, |damage| damage.first);
        let detail = format!(
            "records of a partition cannot be read: {error}; its lane starts over. If it stays, check the brokers' disks, or delete the damaged records"
        );
        let damage = Damage { first, last: now, detail };
        let state = damage.state();
        if before != Some(state) {
            tracing::error!(stage = self.stage, detail = damage.detail, "records cannot be read");
        }
        self.damage = Some(damage);
        if before != Some(state) {
            self.show(state, "");
        }
    }

    /// Damage is worse than what else there may be to say.
    fn show(&self, state: State, detail: &str) {
        match &self.damage {
            Some(damage) => self.board.set(self.stage, damage.state(), damage.detail.clone()),
            None => self.board.set(self.stage, state, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> (Weather, Board) {
        let board = Board::default();
        let answers = Arc::default();
        (Weather { stage: "s", board: board.clone(), trouble: None, damage: None, answers }, board)
    }

    fn error(code: RDKafkaErrorCode) -> KafkaError {
        KafkaError::MessageConsumption(code)
    }

    #[test]
    fn an_outage_ends_with_an_answer_that_was_asked_for_after_it() {
        let away = Trouble::of(Some(RDKafkaErrorCode::AllBrokersDown), 7);
        assert!(!away.is_over(7));
        assert!(!away.is_over(8));
        assert!(away.is_over(9));
    }

    #[test]
    fn a_refusal_does_not_end_because_kafka_answers() {
        assert!(!Trouble::of(Some(RDKafkaErrorCode::UnknownTopicOrPartition), 0).is_over(100));
    }

    #[test]
    fn records_that_stay_unreadable_need_an_operator_until_none_was_met_for_a_while() {
        let (mut weather, board) = weather();
        let (began, state) = (Instant::now(), || board.read()["s"].state);
        weather.damage(&error(RDKafkaErrorCode::BadMessage), began);
        weather.damage(&error(RDKafkaErrorCode::BadMessage), began);
        assert_eq!(state(), State::Waiting);
        weather.damage(&error(RDKafkaErrorCode::BadMessage), began + DAMAGE_STAYS);
        assert_eq!(state(), State::Failed);
        weather.trouble(&error(RDKafkaErrorCode::AllBrokersDown));
        weather.fine();
        assert_eq!(state(), State::Failed);
        weather.look(began + DAMAGE_OVER);
        assert_eq!(state(), State::Failed);
        weather.look(began + DAMAGE_STAYS + DAMAGE_OVER);
        assert_eq!(state(), State::Ok);
    }

    #[test]
    fn what_is_away_waits_and_comes_back() {
        let (mut weather, board) = weather();
        weather.trouble(&error(RDKafkaErrorCode::AllBrokersDown));
        assert_eq!(board.read()["s"].state, State::Waiting);
        weather.fine();
        assert_eq!(board.read()["s"].state, State::Ok);
    }
}
