//! Where store calls and CPU work are done: on threads, or where and when a simulator says.
//!
//! A lane never blocks and never computes; it hands a job over and awaits the value. What becomes of a job is
//! beyond whoever asked: dropping the future leaves the job to its course, as a request on its way to a store
//! is, so that a creation may take effect long after its writer is gone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::store::ArchiveStore;

/// What a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A thread that may block on the store.
    Store,
    /// A core.
    Compute,
}

/// Work to be done once. Running it takes effect; what it returns gives the value to whoever waits.
pub type Job = Box<dyn FnOnce() -> Answer + Send>;

/// Hands a job's value over. One that is dropped instead is never heard of.
pub type Answer = Box<dyn FnOnce() + Send>;

/// Does the jobs of a process.
pub trait Workers: Send + Sync + 'static {
    /// Takes a job, to be done some time.
    fn take(&self, kind: JobKind, job: Job);
}

/// Store calls on tokio's blocking threads, CPU work on rayon's pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

impl Workers for Threads {
    fn take(&self, kind: JobKind, job: Job) {
        match kind {
            JobKind::Store => drop(tokio::task::spawn_blocking(move || job()())),
            JobKind::Compute => rayon::spawn(move || job()()),
        }
    }
}

/// Computes `f`. A panic in it is raised again here.
pub(crate) async fn compute<T: Send + 'static>(
    workers: &dyn Workers,
    f: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, value) = oneshot::channel();
    let job = move || -> Answer {
        let outcome = catch_unwind(AssertUnwindSafe(f));
        // Whoever asked may be gone; then nobody wants the value.
        Box::new(move || drop(done.send(outcome)))
    };
    workers.take(JobKind::Compute, Box::new(job));
    answered(value).await
}

/// Runs `f` on the store. A panic in it is raised again here.
pub(crate) async fn on_store<T: Send + 'static>(
    workers: &dyn Workers,
    store: &Arc<dyn ArchiveStore>,
    f: impl FnOnce(&dyn ArchiveStore) -> T + Send + 'static,
) -> T {
    let (store, (done, value)) = (Arc::clone(store), oneshot::channel());
    let job = move || -> Answer {
        let outcome = catch_unwind(AssertUnwindSafe(|| f(&*store)));
        Box::new(move || drop(done.send(outcome)))
    };
    workers.take(JobKind::Store, Box::new(job));
    answered(value).await
}

async fn answered<T>(value: oneshot::Receiver<std::thread::Result<T>>) -> T {
    match value.await {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => resume_unwind(panic),
        // Jobs are dropped unrun only when the runtime goes down, and then so are we.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_back_and_panics_are_raised_where_they_are_awaited() {
        assert_eq!(compute(&Threads, || 7).await, 7);
        let panicked = tokio::spawn(compute(&Threads, || -> u8 { panic!("as told") })).await.unwrap_err();
        assert!(panicked.is_panic());
    }
}
