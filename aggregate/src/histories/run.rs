//! Plays histories by their seeds, on threads of their own, and tells how to replay one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::history::play;
use super::world::{Counts, World};

/// Lines of a failed history's account that are shown.
const LINES_SHOWN: usize = 150;

/// What came of a history.
pub(super) struct Played {
    pub(super) seed: u64,
    pub(super) account: Vec<String>,
    pub(super) failures: Vec<String>,
}

impl Played {
    /// For whoever has to find out why.
    pub(super) fn report(&self) -> String {
        let from = self.account.len().saturating_sub(LINES_SHOWN);
        format!(
            "history {} went wrong:\n  {}\nwhat happened (ms, the last {} lines):\n{}\nreplay: STILLWELL_SEED={} cargo test -p stillwell-aggregate histories",
            self.seed,
            self.failures.join("\n  "),
            self.account.len() - from,
            self.account[from..].join("\n"),
            self.seed,
        )
    }
}

/// Plays the history of `seed` on the calling thread, which must be [`alone`].
pub(super) fn play_seed(seed: u64, counts: &Arc<Counts>) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // Time stands still while anything is computed, and what is computed is so in the same order each time.
        .on_thread_park(|| while rayon::yield_local() == Some(rayon::Yield::Executed) {})
        .build()
        .unwrap();
    let world = runtime.block_on(async { Arc::new(World::new(seed, Arc::clone(counts))) });
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(&world))));
    if played.is_err() {
        world.fail("the model panicked".to_owned());
    }
    drop(runtime);
    // What was asked for last may not be computed yet.
    while rayon::yield_local() == Some(rayon::Yield::Executed) {}
    let account = world.account();
    counts.add("histories", 1);
    Played { seed, account, failures: world.failures() }
}

/// Plays `seeds` on two threads until one goes wrong.
pub(super) fn play_all(seeds: std::ops::Range<u64>, counts: &Arc<Counts>) -> Result<(), String> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        alone(|| {
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let played = play_seed(seed, counts);
                if !played.failures.is_empty() {
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

/// Runs `f` on a thread that computes all by itself: what it hands to the pool is done when it waits.
pub(super) fn alone<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
