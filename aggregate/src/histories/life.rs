//! Whether a process lives and moves. It may die at any of its steps, so that a death between any two of them is
//! met, and stand still for a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::world::World;

pub(super) struct Life {
    pub(super) name: String,
    dead: AtomicBool,
    /// It dies after so many more steps.
    steps: Mutex<Option<u64>>,
    /// Its store answers nothing before that.
    frozen_until: Mutex<Option<Instant>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Life {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            dead: AtomicBool::new(false),
            steps: Mutex::default(),
            frozen_until: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// It dies at one of its next steps, or at none.
    pub(super) fn dies_after(&self, steps: Option<u64>) {
        *self.steps.lock().unwrap() = steps;
    }

    /// It waits for its store for so long, or no more.
    pub(super) fn freeze(&self, span: Option<Duration>) {
        *self.frozen_until.lock().unwrap() = span.map(|span| Instant::now() + span);
    }

    /// It is killed: nothing of it goes on but what has left it.
    pub(super) fn die(&self, world: &World) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            world.note(format_args!("{} is killed", self.name));
            world.counts.add("crashes", 1);
            self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
        }
    }

    /// Ends `task` when the process dies.
    pub(super) fn owns(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// One step, which is never done where it dies.
    pub(super) async fn step(&self, world: &World) {
        let is_last = {
            let mut steps = self.steps.lock().unwrap();
            let is_last = *steps == Some(0);
            *steps = steps.and_then(|steps| steps.checked_sub(1));
            is_last
        };
        if is_last {
            self.die(world);
        }
        self.moves().await;
    }

    /// Waits until it moves; for ever, where it is dead.
    pub(super) async fn moves(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = self.frozen_until.lock().unwrap().filter(|until| *until > Instant::now());
            match until {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }
}
