//! The binary: parses the command line and says what went wrong in one line.

use std::process::ExitCode;

use clap::Parser;
use stillwell::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("stillwell: {error:#}");
            ExitCode::FAILURE
        }
    }
}
