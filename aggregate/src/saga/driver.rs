//! Drives a saga: takes the next step until there is none, and renews the lease meanwhile.

use std::sync::Arc;

use serde_json::{Value, json};
use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;

use super::lease::{self, BEAT};
use super::{Event, Line, Log, Phase, Progress, Saga, SagaError, StepError};

/// A moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is begun in the log, and nothing of it is done.
    Before,
    /// It is done, and the log does not say so.
    After,
}

impl Moment {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Called at each moment of each step, by the step's name: how a test ends a process where it wants to.
pub type Die = Arc<dyn Fn(&str, Moment) + Send + Sync>;

/// Told of each step by its name as it is begun, and whether it is being undone.
pub type Watch = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// One process, as it drives sagas.
pub struct Driver<'a, L> {
    /// Where lines and leases are kept.
    pub log: &'a L,
    /// The name of this process, its own.
    pub owner: String,
    /// Who asks.
    pub by: String,
    /// Why.
    pub why: String,
    /// Dates the lines.
    pub clock: Arc<dyn Clock>,
    /// Ends the work between two waits, in order.
    pub stop: CancellationToken,
    /// What is called at each moment of each step.
    pub die: Die,
    /// What is told of each step.
    pub watch: Watch,
}

impl<L: Log> Driver<'_, L> {
    /// Begins a saga; `detail` is all that it takes to go on with it in another process.
    ///
    /// # Errors
    /// [`SagaError::Taken`] where there is one of this name.
    pub async fn plan(&self, saga: &str, detail: Value) -> Result<(), SagaError> {
        lease::acquire(self.log, saga, &self.owner, self.clock.now_us()).await?;
        if !self.log.lines(saga).await?.is_empty() {
            self.release(saga).await;
            return Err(SagaError::Taken(saga.to_owned()));
        }
        self.append(saga, 0, "", Event::Planned, detail).await
    }

    /// Goes on with a saga to its end, whichever way it goes.
    ///
    /// # Errors
    /// [`SagaError`]; it can be resumed or undone after each.
    pub async fn resume(&self, id: &str, saga: &impl Saga) -> Result<Phase, SagaError> {
        self.driven(id, self.drive(id, saga)).await
    }

    /// Takes a saga back, whether it is at its end or on the way.
    ///
    /// # Errors
    /// [`SagaError::Refused`] where it cannot be, and nothing is changed; else [`SagaError`], and it can be resumed.
    pub async fn undo(&self, id: &str, saga: &impl Saga) -> Result<Phase, SagaError> {
        let work = async {
            let progress = self.progress(id, saga).await?;
            match progress.phase {
                Phase::Undone => return Ok(Phase::Undone),
                Phase::Forgotten => {
                    return Err(refused(id, "what an undo needs was removed by `saga forget`"));
                }
                Phase::Forward | Phase::Finished => {
                    saga.may_undo().await.map_err(|error| refused(id, &error.to_string()))?;
                    self.append(id, progress.next_seq, "", Event::Compensating, Value::Null).await?;
                }
                Phase::Backward => {}
            }
            self.drive(id, saga).await
        };
        self.driven(id, work).await
    }

    /// Removes what is kept for an undo of a finished saga.
    ///
    /// # Errors
    /// [`SagaError::Refused`] where it is not finished.
    pub async fn forget(&self, id: &str, saga: &impl Saga) -> Result<Phase, SagaError> {
        let work = async {
            let progress = self.progress(id, saga).await?;
            match progress.phase {
                Phase::Finished => {
                    // Said first: who undoes it now finds that it cannot be.
                    self.append(id, progress.next_seq, "", Event::Forgotten, Value::Null).await?;
                }
                Phase::Forgotten => {}
                Phase::Undone => return Err(refused(id, "it was undone, and nothing is kept of it")),
                Phase::Forward | Phase::Backward => {
                    let why = format!("it is {}; resume or undo it first", progress.phase.name());
                    return Err(refused(id, &why));
                }
            }
            saga.forget().await.map_err(|source| step_error(id, "forget", source))?;
            Ok(Phase::Forgotten)
        };
        self.driven(id, work).await
    }

    /// Does `work` while this process holds the lease.
    async fn driven(
        &self,
        id: &str,
        work: impl Future<Output = Result<Phase, SagaError>>,
    ) -> Result<Phase, SagaError> {
        lease::acquire(self.log, id, &self.owner, self.clock.now_us()).await?;
        let ended = tokio::select! {
            ended = work => ended,
            lost = self.beat(id) => Err(lost),
            () = self.stop.cancelled() => Err(SagaError::Stopped(id.to_owned())),
        };
        if !matches!(ended, Err(SagaError::Lost(_))) {
            self.release(id).await;
        }
        ended
    }

    /// Renews the lease until it is lost. A store that does not answer says nothing of it.
    async fn beat(&self, id: &str) -> SagaError {
        loop {
            tokio::time::sleep(BEAT).await;
            if let Err(lost @ SagaError::Lost(_)) =
                lease::renew(self.log, id, &self.owner, self.clock.now_us()).await
            {
                return lost;
            }
        }
    }

    /// A lease that is not given up ends by its age.
    async fn release(&self, id: &str) {
        let _ = lease::release(self.log, id, &self.owner, self.clock.now_us()).await;
    }

    async fn progress(&self, id: &str, saga: &impl Saga) -> Result<Progress, SagaError> {
        let lines = self.log.lines(id).await?;
        if lines.is_empty() {
            return Err(SagaError::Unknown(id.to_owned()));
        }
        Ok(Progress::of(&lines, saga.steps()))
    }

    /// Takes one step after the other; each time the log is read anew, and the lease looked at.
    async fn drive(&self, id: &str, saga: &impl Saga) -> Result<Phase, SagaError> {
        loop {
            lease::check(self.log, id, &self.owner).await?;
            let progress = self.progress(id, saga).await?;
            match (progress.phase, progress.next()) {
                (Phase::Forward, Some(step)) => self.forward(id, saga, step, progress.next_seq).await?,
                (Phase::Backward, Some(step)) => self.compensate(id, saga, step, progress.next_seq).await?,
                (Phase::Forward, None) => {
                    self.append(id, progress.next_seq, "", Event::Finished, Value::Null).await?;
                }
                (Phase::Backward, None) => {
                    self.append(id, progress.next_seq, "", Event::Undone, Value::Null).await?;
                }
                (phase, _) => return Ok(phase),
            }
        }
    }

    async fn forward(&self, id: &str, saga: &impl Saga, step: usize, seq: u64) -> Result<(), SagaError> {
        let name = saga.steps()[step];
        (self.watch)(name, false);
        self.append(id, seq, name, Event::Started, Value::Null).await?;
        (self.die)(name, Moment::Before);
        let detail = self.tried(id, name, seq + 1, saga.forward(step).await).await?;
        (self.die)(name, Moment::After);
        self.append(id, seq + 1, name, Event::Done, detail).await
    }

    async fn compensate(&self, id: &str, saga: &impl Saga, step: usize, seq: u64) -> Result<(), SagaError> {
        let name = saga.steps()[step];
        (self.watch)(name, true);
        self.append(id, seq, name, Event::Compensating, Value::Null).await?;
        (self.die)(name, Moment::Before);
        let detail = self.tried(id, name, seq + 1, saga.compensate(step).await).await?;
        (self.die)(name, Moment::After);
        self.append(id, seq + 1, name, Event::Compensated, detail).await
    }

    /// Notes a failure, as far as the log lets us: it changes nothing of what comes next.
    async fn tried(
        &self,
        id: &str,
        step: &str,
        seq: u64,
        outcome: Result<Value, StepError>,
    ) -> Result<Value, SagaError> {
        let source = match outcome {
            Ok(detail) => return Ok(detail),
            Err(StepError::Paused(why)) => return Err(SagaError::Paused { saga: id.to_owned(), why }),
            Err(source) => source,
        };
        let detail = json!({ "error": source.to_string() });
        let _ = self.append(id, seq, step, Event::Failed, detail).await;
        Err(step_error(id, step, source))
    }

    async fn append(
        &self,
        id: &str,
        seq: u64,
        step: &str,
        event: Event,
        detail: Value,
    ) -> Result<(), SagaError> {
        let line = Line {
            saga: id.to_owned(),
            seq,
            step: step.to_owned(),
            event,
            detail,
            by: self.by.clone(),
            why: self.why.clone(),
            at_us: self.clock.now_us(),
        };
        Ok(self.log.append(line).await?)
    }
}

fn refused(id: &str, why: &str) -> SagaError {
    SagaError::Refused { saga: id.to_owned(), why: why.to_owned() }
}

fn step_error(id: &str, step: &str, source: StepError) -> SagaError {
    SagaError::Step { saga: id.to_owned(), step: step.to_owned(), source: Box::new(source) }
}
