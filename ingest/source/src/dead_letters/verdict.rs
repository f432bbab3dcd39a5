//! What a letter's failure asks for.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What to do about a letter that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes by itself, when the broker is back: try again, without end.
    Away,
    /// The producer is at its end, lost count of what it sent, or knows an old state of the topic: try again
    /// with a new one, a few times.
    Broken,
    /// Trying again cannot mend it.
    Refused,
}

/// The verdict on `failure` of a producer that has met a fatal error or not.
///
/// Only what is known to pass is waited for. An error that this table does not know is a refusal: the record
/// is in the archive either way, and a lane that waits for what never passes archives nothing more.
pub(super) fn verdict(failure: &KafkaError, is_fatal: bool) -> Verdict {
    use RDKafkaErrorCode as Code;
    if is_fatal {
        return Verdict::Broken;
    }
    match failure.rdkafka_error_code() {
        // The producer that held it was dropped for a new one.
        None if matches!(failure, KafkaError::Canceled) => Verdict::Away,
        Some(
            Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::BrokerTransportFailure
            | Code::DestroyBroker
            | Code::MessageTimedOut
            | Code::NodeUpdate
            | Code::OperationTimedOut
            | Code::PurgeInflight
            | Code::PurgeQueue
            | Code::QueueFull
            | Code::Resolve
            | Code::Retry
            | Code::TimedOutQueue
            | Code::WaitCache
            | Code::WaitingForCoordinator
            | Code::BrokerNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::FencedLeaderEpoch
            | Code::KafkaStorageError
            | Code::LeaderNotAvailable
            | Code::NetworkException
            | Code::NotController
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::RequestTimedOut
            | Code::ThrottlingQuotaExceeded
            | Code::UnknownLeaderEpoch,
        ) => Verdict::Away,
        Some(
            Code::Fatal
            | Code::Inconsistent
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::OutOfOrderSequenceNumber
            | Code::ProducerFenced
            | Code::State
            | Code::UnknownProducerId
            | Code::UnknownTopicOrPartition,
        ) => Verdict::Broken,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_what_is_unknown_is_a_refusal() {
        use RDKafkaErrorCode as Code;
        let cases = [
            (Code::MessageTimedOut, Verdict::Away),
            (Code::AllBrokersDown, Verdict::Away),
            (Code::NotEnoughReplicas, Verdict::Away),
            (Code::Fatal, Verdict::Broken),
            (Code::OutOfOrderSequenceNumber, Verdict::Broken),
            (Code::InvalidTimestamp, Verdict::Refused),
            (Code::MessageSizeTooLarge, Verdict::Refused),
            (Code::UnknownTopic, Verdict::Refused),
            (Code::TopicAuthorizationFailed, Verdict::Refused),
            (Code::PolicyViolation, Verdict::Refused),
            (Code::Unknown, Verdict::Refused),
        ];
        for (code, expected) in cases {
            assert_eq!(verdict(&KafkaError::MessageProduction(code), false), expected, "{code:?}");
            assert_eq!(verdict(&KafkaError::MessageProduction(code), true), Verdict::Broken, "{code:?}");
        }
        assert_eq!(verdict(&KafkaError::Canceled, false), Verdict::Away);
    }
}
