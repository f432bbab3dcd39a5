//! What is fuzzed: the decoders, each as a target with seeds ([`targets`]).
//!
//! With a nightly compiler and cargo-fuzz, from `ingest/source`: `cargo +nightly fuzz run line`. On a stable one the
//! test `fuzz` of the crate above mutates the same seeds by itself: some seconds in CI, and as long as one likes with
//! `STILLWELL_TEST_FUZZ_RUNS=10000000 cargo test --release -p stillwell-source --test fuzz`.

pub mod targets;
