//! The decoders over mutated records: nothing panics, a failed record leaves no trace, and none takes more memory
//! than is stated. `STILLWELL_TEST_FUZZ_RUNS` sets the records of each decoder, `STILLWELL_TEST_FUZZ_TARGET` picks
//! one, and `STILLWELL_SEED` repeats a run; a record that fails is kept in a file that the message names.

#[path = "fuzz/engine.rs"]
mod engine;
#[path = "fuzz/memory.rs"]
mod memory;
#[path = "../fuzz/src/targets.rs"]
pub mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use engine::Engine;
use targets::{Run, TARGETS, Target, target};

/// Where none is asked for: two runs of the same code then see the same records, and a search takes other seeds.
const SEED: u64 = 1;

/// For each decoder, where nobody asks for more.
const WITHIN: Duration = Duration::from_secs(3);

/// The records of a folder; those in `refused` made a decoder panic once, or take too much memory.
fn records(folder: &str, target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target.name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn fuzz(target: &Target, seed: u64, runs_max: Option<u64>) {
    let seeds = records("corpus", target);
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    let mut run = Run::new(*target);
    for (i, record) in seeds.iter().enumerate() {
        assert!(run.run(record).is_ok(), "{}: seed {i} must decode: {:?}", target.name, run.run(record));
    }
    for record in records("refused", target) {
        assert!(run.run(&record).is_err(), "{}: it is refused by name", target.name);
    }
    let mut engine = Engine::new(seed, seeds, target.tokens);
    let (started, mut runs, mut accepted, mut worst) = (Instant::now(), 0u64, 0u64, 0usize);
    let is_done = |runs| match runs_max {
        Some(max) => runs >= max,
        None => started.elapsed() >= WITHIN,
    };
    while !is_done(runs) {
        let record = engine.next();
        memory::start();
        let outcome = catch_unwind(AssertUnwindSafe(|| run.run(record)));
        let taken = memory::peak();
        let bound = target.bytes_max + target.bytes_per_byte * record.len();
        let Ok(outcome) = outcome else { fail(target, seed, runs, record, "it panicked") };
        if taken > bound {
            fail(target, seed, runs, record, &format!("it took {taken} bytes; {bound} at most"));
        }
        worst = worst.max(taken);
        accepted += u64::from(outcome.is_ok());
        engine.learn(outcome);
        runs += 1;
    }
    eprintln!(
        "{}: {runs} records in {:.1} s, {accepted} accepted, {} kinds of outcome, {} MiB at most, seed {seed}",
        target.name,
        started.elapsed().as_secs_f64(),
        engine.kinds(),
        worst >> 20,
    );
    assert!(accepted > 0 && accepted < runs, "{}: mutation reaches neither side", target.name);
}

fn fail(target: &Target, seed: u64, run: u64, record: &[u8], why: &str) -> ! {
    let file = std::env::temp_dir().join(format!("stillwell-fuzz-{}-{}", target.name, std::process::id()));
    std::fs::write(&file, record).unwrap();
    panic!(
        "{}: {why}, record {run} of STILLWELL_SEED={seed}, {} bytes, kept in {}",
        target.name,
        record.len(),
        file.display()
    );
}

#[test]
fn any_bytes_are_read_or_refused() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seed = number("STILLWELL_SEED").unwrap_or(SEED);
    eprintln!("STILLWELL_SEED={seed}");
    let only = std::env::var("STILLWELL_TEST_FUZZ_TARGET").ok();
    let targets = only.map_or_else(|| TARGETS.to_vec(), |name| vec![target(&name)]);
    for target in &targets {
        fuzz(target, seed, number("STILLWELL_TEST_FUZZ_RUNS"));
    }
}
