//! The decoder of `protobuf` over any bytes.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use stillwell_fuzz::targets::{Run, target};

thread_local! {
    static RUN: RefCell<Run> = RefCell::new(Run::new(target("protobuf")));
}

fuzz_target!(|bytes: &[u8]| {
    RUN.with_borrow_mut(|run| run.run(bytes));
});
