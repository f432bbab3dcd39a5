//! The child's side: loads ClickHouse's library and runs it until standard input ends.
//!
//! The library's entry point is `clickhouse-local`'s command line with the listeners of a server; its last
//! statement reads a pipe that we close when it is time to stop. Runs before any thread or runtime exists.

#![allow(unsafe_code, reason = "a C library's entry point, signal masks and _exit have no safe form")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr;

use anyhow::{Context, bail};
use clap::Args;

/// Arguments of the child.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// ClickHouse's library
    #[arg(long)]
    pub library: PathBuf,
    /// Where it keeps its data
    #[arg(long)]
    pub store: PathBuf,
    /// Its settings
    #[arg(long)]
    pub config_file: PathBuf,
    /// Port of the HTTP interface
    #[arg(long)]
    pub http_port: u16,
    /// Port of the native protocol
    #[arg(long)]
    pub tcp_port: u16,
}

type SetSignalHandlers = unsafe extern "C" fn(c_int);
type QueryCmdline = unsafe extern "C" fn(c_int, *const *const c_char) -> *mut c_void;
type ResultError = unsafe extern "C" fn(*mut c_void) -> *const c_char;

/// Serves until standard input ends or a SIGTERM comes, and then leaves the process.
///
/// # Errors
/// If the library cannot be loaded or the server cannot start; why, stands on standard error.
pub fn main(args: &ServerArgs) -> anyhow::Result<()> {
    let signals = block_stop_signals();
    let (read_end, write_end) = pipe()?;
    let write_end = std::sync::Arc::new(std::sync::Mutex::new(Some(write_end)));
    let on_signal = std::sync::Arc::clone(&write_end);
    std::thread::spawn(move || {
        wait_for(&signals);
        close(&on_signal);
    });
    std::thread::spawn(move || {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|n| n > 0) {}
        close(&write_end);
    });
    serve(args, &read_end)?;
    // SAFETY: leaves without running the library's destructors, as it asks for.
    unsafe { libc::_exit(0) }
}

fn close(end: &std::sync::Mutex<Option<OwnedFd>>) {
    end.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
}

fn serve(args: &ServerArgs, stop: &OwnedFd) -> anyhow::Result<()> {
    let command = [
        "clickhouse".to_owned(),
        format!("--path={}", args.store.display()),
        "--listen_host=127.0.0.1".to_owned(),
        format!("--http_port={}", args.http_port),
        format!("--tcp_port={}", args.tcp_port),
        format!("--config-file={}", args.config_file.display()),
        format!(
            "--query=SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT * FROM file('/proc/self/fd/{}', 'LineAsString') FORMAT Null; SYSTEM STOP LISTEN HTTP",
            stop.as_raw_fd()
        ),
    ];
    let command = command.map(|word| CString::new(word).unwrap_or_default());
    let argv: Vec<*const c_char> = command.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect();
    // SAFETY: the library is the one whose SHA-256 was checked; these are its documented C functions, the
    // argument vector is null-terminated and outlives the blocking call, and the library is never unloaded.
    unsafe {
        let library = libloading::Library::new(&args.library)
            .with_context(|| format!("cannot load {}", args.library.display()))?;
        let library = Box::leak(Box::new(library));
        library.get::<SetSignalHandlers>(b"chdb_set_signal_handlers_enabled\0")?(0);
        let run = library.get::<QueryCmdline>(b"chdb_query_cmdline\0")?;
        let error_of = library.get::<ResultError>(b"chdb_result_error\0")?;
        let result = run(c_int::try_from(command.len())?, argv.as_ptr());
        let error = if result.is_null() { ptr::null() } else { error_of(result) };
        if !error.is_null() {
            bail!("{}", std::ffi::CStr::from_ptr(error).to_string_lossy());
        }
    }
    Ok(())
}

fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = std::io::pipe().context("cannot make a pipe")?;
    Ok((read_end.into(), write_end.into()))
}

/// Blocks the stop signals for this and all later threads.
fn block_stop_signals() -> libc::sigset_t {
    // SAFETY: plain calls on a set that lives here.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        set
    }
}

fn wait_for(set: &libc::sigset_t) {
    let mut number = 0;
    // SAFETY: the set is initialised and the signals are blocked in all threads.
    unsafe {
        libc::sigwait(set, &raw mut number);
    }
}
