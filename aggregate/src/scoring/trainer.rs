//! Trains models in the background, one at a time, on a thread of its own.
//!
//! Who needs a model before its turn has come trains it himself: no lane waits for another's machines.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use stillwell_models::{Model, TrainSettings, train};

/// What a model is trained on.
#[derive(Clone, Debug)]
pub(super) struct Lesson {
    pub(super) sensors: Vec<String>,
    pub(super) rows: Vec<f32>,
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
        let model = match train(&lesson.sensors, &lesson.rows, &TrainSettings::default()) {
            Ok(model) => Some(Box::new(model)),
            Err(error) => {
                tracing::warn!(%error, sensors = lesson.sensors.len(), "no model");
                None
            }
        };
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
