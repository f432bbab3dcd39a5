//! Trains models in the background, one at a time, on a thread of its own.
//!
//! Who needs a model before its turn has come trains it himself: no lane waits for another's machines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use stillwell_models::{Model, ModelError, TrainSettings, train};

/// What a model is trained on.
#[derive(Clone, Debug)]
pub(super) struct Lesson {
    pub(super) machine: String,
    pub(super) sensors: Vec<String>,
    pub(super) rows: Vec<f32>,
}

impl Lesson {
    /// The model, if one can be had. A panic gives none: those who wait for the model must not wait for ever.
    fn learn(&self) -> Option<Box<Model>> {
        match attempt(|| train(&self.sensors, &self.rows, &TrainSettings::default())) {
            Ok(model) => Some(Box::new(model)),
            Err(error) => {
                tracing::warn!(machine = self.machine, error, sensors = self.sensors.len(), "no model");
                None
            }
        }
    }
}

/// A panic as an error.
fn attempt<T>(work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("training panicked".to_owned()),
    }
}

enum State {
    Waiting(Lesson),
    Running,
    Done(Option<Box<Model>>),
}

/// A model to be.
pub(super) struct Training {
    state: Mutex<State>,
    changed: Condvar,
}

impl Training {
    pub(super) fn new(lesson: Lesson) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(lesson)), changed: Condvar::new() })
    }

    /// One that is done already.
    pub(super) fn done(model: Model) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Done(Some(Box::new(model)))), changed: Condvar::new() })
    }

    /// Trains, unless somebody else does.
    fn run(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Waiting(lesson) = std::mem::replace(&mut *state, State::Running) else { return };
        drop(state);
        let model = lesson.learn();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::Done(model);
        self.changed.notify_all();
    }

    /// The model, as soon as it is there; none where training failed, and from the second time on.
    pub(super) fn wait(&self) -> Option<Box<Model>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Waiting(_)) {
            drop(state);
            self.run();
            return self.wait();
        }
        let mut state = self
            .changed
            .wait_while(state, |state| matches!(state, State::Running))
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Done(model) => model.take(),
            State::Waiting(_) | State::Running => None,
        }
    }
}

/// The background.
pub(super) struct Trainer {
    queue: Sender<Arc<Training>>,
}

impl Trainer {
    pub(super) fn start() -> Arc<Self> {
        let (queue, waiting): (Sender<Arc<Training>>, Receiver<Arc<Training>>) = mpsc::channel();
        let thread = std::thread::Builder::new().name("train".into()).spawn(move || {
            for training in waiting {
                // Nobody waits any more for what only the queue holds.
                if Arc::strong_count(&training) > 1 {
                    training.run();
                }
            }
        });
        if let Err(error) = thread {
            tracing::warn!(%error, "models are trained by the lanes that need them");
        }
        Arc::new(Self { queue })
    }

    /// Puts a model to be on the list.
    pub(super) fn queue(&self, lesson: Lesson) -> Arc<Training> {
        let training = Training::new(lesson);
        // Without the background, the lane trains when it needs the model.
        let _ = self.queue.send(Arc::clone(&training));
        training
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_that_cannot_be_learnt_keeps_nobody_waiting() {
        let lesson = |sensors: usize, cells: usize| Lesson {
            machine: "press".into(),
            sensors: (0..sensors).map(|sensor| sensor.to_string()).collect(),
            rows: vec![1.0; cells],
        };
        for lesson in [lesson(0, 0), lesson(2, 20), lesson(2, 201)] {
            let training = Trainer::start().queue(lesson);
            assert!(training.wait().is_none());
            assert!(training.wait().is_none(), "nor the second time");
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        assert!(attempt::<()>(|| panic!("a bug")).is_err());
        assert_eq!(attempt(|| Ok(1)), Ok(1));
    }
}
