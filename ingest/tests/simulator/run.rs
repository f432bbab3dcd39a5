//! Runs schedules by their seeds, many at once on threads of their own, and tells how to replay one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::oracle;
use crate::schedule::play;
use crate::store::{Defect, Store};
use crate::world::{Counts, World};

/// Lines of a failed schedule's account that are shown.
const LINES_SHOWN: usize = 150;

/// What came of a schedule.
pub(crate) struct Played {
    pub(crate) seed: u64,
    /// Of everything that happened.
    pub(crate) hash: u64,
    pub(crate) account: Vec<String>,
    /// What the lanes and their surroundings met that they must not.
    pub(crate) failures: Vec<String>,
    /// What the oracle found in the archive.
    pub(crate) problems: Vec<String>,
}

impl Played {
    /// For whoever has to find out why.
    pub(crate) fn report(&self) -> String {
        let from = self.account.len().saturating_sub(LINES_SHOWN);
        format!(
            "schedule {} went wrong:\n  {}\nwhat happened (ms, the last {} lines):\n{}\nreplay: STILLWELL_SEED={} cargo test -p stillwell-ingest --test simulator",
            self.seed,
            self.failures.iter().chain(&self.problems).cloned().collect::<Vec<_>>().join("\n  "),
            self.account.len() - from,
            self.account[from..].join("\n"),
            self.seed,
        )
    }
}

/// Plays the schedule of `seed` on the calling thread, which does nothing else meanwhile.
pub(crate) fn play_seed(seed: u64, defect: Defect, counts: &Arc<Counts>) -> Played {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (world, store) = runtime.block_on(async {
        let world = Arc::new(World::new(seed, Arc::clone(counts)));
        (Arc::clone(&world), Arc::new(Store::new(world, defect)))
    });
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&world, &store))));
    if played.is_err() {
        world.fail("the simulator panicked".to_owned());
    }
    let problems = oracle::judge(&world, &store);
    let failures = world.failures();
    drop(runtime);
    // Calls under way hold the store, which holds the world, which holds them.
    world.pending.lock().unwrap().clear();
    let (hash, account) = world.account();
    counts.add("schedules", 1);
    Played { seed, hash, account, failures, problems }
}

/// Plays `seeds` on two threads until one goes wrong.
pub(crate) fn play_all(seeds: std::ops::Range<u64>, counts: &Arc<Counts>) -> Result<(), String> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        on_a_core(|| {
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let played = play_seed(seed, Defect::None, counts);
                if !played.failures.is_empty() || !played.problems.is_empty() {
                    failed.store(true, Ordering::Relaxed);
                    return Err(played.report());
                }
            }
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

/// Runs `f` with the calling thread as the only one that computes: encoding both files of a batch at once then
/// wakes no other.
pub(crate) fn on_a_core<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
