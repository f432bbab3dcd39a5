//! Who drives a saga.

use std::time::Duration;

use super::{Log, SagaError};

/// How often a lease is renewed.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// From this age on its owner counts as gone.
const OLD_US: i64 = 6_000_000;

const _: () = assert!(OLD_US >= 4 * (BEAT.as_secs() as i64) * 1_000_000, "a beat may be late three times");

/// Who drives a saga, and when it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process; empty for nobody.
    pub owner: String,
    /// Counts up with each statement about the saga.
    pub beat: u64,
    /// When it was seen, µs UTC.
    pub at_us: i64,
}

/// Takes a lease, unless another process holds it.
pub(super) async fn acquire(log: &impl Log, saga: &str, owner: &str, now_us: i64) -> Result<(), SagaError> {
    let held = log.lease(saga).await?;
    if let Some(Lease { owner: other, at_us, .. }) = &held
        && !other.is_empty()
        && *other != owner
        && now_us - at_us < OLD_US
    {
        let (age_s, left_s) = ((now_us - at_us) / 1_000_000, (at_us + OLD_US - now_us) / 1_000_000 + 1);
        return Err(SagaError::Driven { saga: saga.to_owned(), owner: other.clone(), age_s, left_s });
    }
    let beat = held.map_or(0, |lease| lease.beat + 1);
    log.hold(saga, Lease { owner: owner.to_owned(), beat, at_us: now_us }).await?;
    check(log, saga, owner).await.map(drop)
}

/// Renews a lease that is still held.
pub(super) async fn renew(log: &impl Log, saga: &str, owner: &str, now_us: i64) -> Result<(), SagaError> {
    let held = check(log, saga, owner).await?;
    log.hold(saga, Lease { owner: owner.to_owned(), beat: held.beat + 1, at_us: now_us }).await?;
    Ok(())
}

/// Gives a lease up that is still held.
pub(super) async fn release(log: &impl Log, saga: &str, owner: &str, now_us: i64) -> Result<(), SagaError> {
    let held = check(log, saga, owner).await?;
    log.hold(saga, Lease { owner: String::new(), beat: held.beat + 1, at_us: now_us }).await?;
    Ok(())
}

/// The lease, if it is held.
pub(super) async fn check(log: &impl Log, saga: &str, owner: &str) -> Result<Lease, SagaError> {
    let held = log.lease(saga).await?.filter(|lease| lease.owner == owner);
    held.ok_or_else(|| SagaError::Lost(saga.to_owned()))
}
