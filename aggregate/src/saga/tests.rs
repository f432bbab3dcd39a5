//! A saga on a log in memory, with crashes at every moment at which a process can die.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use stillwell_schema::Clock;
use tokio_util::sync::CancellationToken;

use super::*;

const STEPS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// What outlives a process, and when the next one dies.
#[derive(Default)]
struct World {
    lines: Mutex<Vec<Line>>,
    lease: Mutex<Option<Lease>>,
    effects: Mutex<[bool; STEPS.len()]>,
    /// Moments until the process dies; negative where it does not.
    left: AtomicI64,
    now_us: AtomicI64,
}

impl World {
    /// A moment at which a process may die.
    fn live(&self) -> Result<(), AggregateError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 { Err(AggregateError::Stopped) } else { Ok(()) }
    }
}

impl Log for World {
    async fn lines(&self, _: &str) -> Result<Vec<Line>, AggregateError> {
        self.live()?;
        Ok(self.lines.lock().unwrap().clone())
    }

    async fn append(&self, line: Line) -> Result<(), AggregateError> {
        self.live()?;
        self.lines.lock().unwrap().push(line);
        self.live()
    }

    async fn lease(&self, _: &str) -> Result<Option<Lease>, AggregateError> {
        Ok(self.lease.lock().unwrap().clone())
    }

    async fn hold(&self, _: &str, lease: Lease) -> Result<(), AggregateError> {
        self.live()?;
        *self.lease.lock().unwrap() = Some(lease);
        Ok(())
    }
}

struct Model<'a> {
    world: &'a World,
    may_undo: bool,
}

impl Saga for Model<'_> {
    fn steps(&self) -> &[&'static str] {
        &STEPS
    }

    async fn forward(&self, step: usize) -> Result<Value, StepError> {
        self.world.live()?;
        {
            let mut effects = self.world.effects.lock().unwrap();
            assert!(effects[..step].iter().all(|done| *done), "those before are done: {effects:?}");
            assert!(effects[step + 1..].iter().all(|done| !done), "those after are not: {effects:?}");
            effects[step] = true;
        }
        self.world.live()?;
        Ok(json!(step))
    }

    async fn compensate(&self, step: usize) -> Result<Value, StepError> {
        self.world.live()?;
        {
            let mut effects = self.world.effects.lock().unwrap();
            assert!(effects[step + 1..].iter().all(|done| !done), "those after are undone: {effects:?}");
            effects[step] = false;
        }
        self.world.live()?;
        Ok(Value::Null)
    }

    async fn may_undo(&self) -> Result<(), StepError> {
        if self.may_undo {
            Ok(())
        } else {
            Err(StepError::Refused("another came after; undo it first".into()))
        }
    }

    async fn forget(&self) -> Result<Value, StepError> {
        Ok(Value::Null)
    }
}

struct At(i64);

impl Clock for At {
    fn now_us(&self) -> i64 {
        self.0
    }
}

/// A process of this name; the one before it was last seen long ago.
fn driver<'a>(world: &'a World, owner: &str) -> Driver<'a, World> {
    let now_us = world.now_us.fetch_add(60_000_000, Ordering::Relaxed);
    driver_at(world, owner, now_us)
}

fn driver_at<'a>(world: &'a World, owner: &str, now_us: i64) -> Driver<'a, World> {
    Driver {
        log: world,
        owner: owner.to_owned(),
        by: "anna".to_owned(),
        why: "test".to_owned(),
        clock: Arc::new(At(now_us)),
        stop: CancellationToken::new(),
        die: Arc::new(|_, _| ()),
        watch: Arc::new(|_, _| ()),
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn planned() -> World {
    let world = World::default();
    world.left.store(-1, Ordering::Relaxed);
    wait(driver(&world, "first").plan("s", Value::Null)).unwrap();
    world
}

proptest! {
    #[test]
    fn whatever_dies_it_ends_whole_or_undone(
        lives in prop::collection::vec((any::<bool>(), 0..60i64), 0..8),
        ends_undone in any::<bool>(),
    ) {
        let world = planned();
        let model = Model { world: &world, may_undo: true };
        for (number, (is_undo, left)) in lives.into_iter().enumerate() {
            let driver = driver(&world, &format!("process {number}"));
            world.left.store(left, Ordering::Relaxed);
            let _ = wait(async {
                if is_undo { driver.undo("s", &model).await } else { driver.resume("s", &model).await }
            });
        }
        world.left.store(-1, Ordering::Relaxed);
        let last = driver(&world, "last");
        let phase = wait(async {
            if ends_undone { last.undo("s", &model).await } else { last.resume("s", &model).await }
        }).unwrap();
        let effects = *world.effects.lock().unwrap();
        match phase {
            Phase::Finished => prop_assert_eq!(effects, [true; STEPS.len()]),
            Phase::Undone => prop_assert_eq!(effects, [false; STEPS.len()]),
            other => prop_assert!(false, "ends as {:?}", other),
        }
        prop_assert!(!ends_undone || phase == Phase::Undone);
    }
}

#[test]
fn what_cannot_be_undone_stays_and_what_is_forgotten_is_for_good() {
    let world = planned();
    let finished = wait(driver(&world, "a").resume("s", &Model { world: &world, may_undo: true }));
    assert_eq!(finished.unwrap(), Phase::Finished);
    let lines = world.lines.lock().unwrap().len();
    let error = wait(driver(&world, "b").undo("s", &Model { world: &world, may_undo: false })).unwrap_err();
    assert!(error.to_string().contains("undo it first"), "{error}");
    assert_eq!(world.lines.lock().unwrap().len(), lines, "nothing is changed");
    let model = Model { world: &world, may_undo: true };
    assert_eq!(wait(driver(&world, "c").forget("s", &model)).unwrap(), Phase::Forgotten);
    assert!(matches!(wait(driver(&world, "d").undo("s", &model)), Err(SagaError::Refused { .. })));
    assert_eq!(*world.effects.lock().unwrap(), [true; STEPS.len()]);
}

#[test]
fn one_process_drives_until_it_is_not_seen_any_more() {
    let world = planned();
    let model = Model { world: &world, may_undo: true };
    let held = Lease { owner: "alive".into(), beat: 9, at_us: 100_000_000 };
    *world.lease.lock().unwrap() = Some(held);
    let soon = wait(driver_at(&world, "other", 101_000_000).resume("s", &model)).unwrap_err();
    assert!(matches!(soon, SagaError::Driven { age_s: 1, left_s: 6, .. }), "{soon}");
    assert_eq!(wait(driver_at(&world, "other", 120_000_000).resume("s", &model)).unwrap(), Phase::Finished);
    assert_eq!(world.lease.lock().unwrap().as_ref().unwrap().owner, "", "it is given up at the end");
    let again = wait(driver_at(&world, "third", 120_000_001).plan("s", Value::Null));
    assert!(matches!(again, Err(SagaError::Taken(_))), "{again:?}");
}
