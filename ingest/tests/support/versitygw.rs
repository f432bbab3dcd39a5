//! A real S3-compatible server for tests: versitygw (Apache-2.0) over a folder, built once from the sources that
//! `tests/versitygw/go.sum` pins by SHA-256, and kept in the cache of the engines.
//!
//! It was chosen by racing 16 creators for one name (`If-None-Match: *`): in 360 rounds of 360 exactly one won.
//! S3Proxy 3.1.0 over a folder lets several win in 27 rounds of 60; it is what `store::probe` is for.
#![allow(dead_code, reason = "each test file uses its share")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pinned by SHA-256 in go.sum.
const VERSION: &str = "1.8.0";
const PACKAGE: &str = "github.com/versity/versitygw/cmd/versitygw";
const MODULE: [(&str, &str); 2] =
    [("go.mod", include_str!("../versitygw/go.mod")), ("go.sum", include_str!("../versitygw/go.sum"))];

pub(crate) const ACCESS_KEY: &str = "stillwell";
pub(crate) const SECRET_KEY: &str = "not-a-real-secret";
pub(crate) const BUCKET: &str = "plant";

/// A server of its own: a free port, a temporary folder whose folders are its buckets; ended with the test.
pub(crate) struct Versitygw {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

impl Versitygw {
    /// Starts one with the bucket [`BUCKET`]. None, with the reason printed, where it cannot be had; with
    /// `STILLWELL_TEST_ALL` set, that is a failure.
    pub(crate) fn start() -> Option<Self> {
        match program() {
            Ok(program) => Some(Self::run(&program)),
            Err(why) if std::env::var_os("STILLWELL_TEST_ALL").is_some() => panic!("{why}"),
            Err(why) => {
                eprintln!("left out: {why}");
                None
            }
        }
    }

    fn run(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(BUCKET)).unwrap();
        for _ in 0..5 {
            // Another may take the port before the server does.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = Command::new(program)
                .args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "posix"])
                .arg(folder.path())
                .env("ROOT_ACCESS_KEY", ACCESS_KEY)
                .env("ROOT_SECRET_KEY", SECRET_KEY)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let mut server = Self { child, port, folder: tempfile::tempdir().unwrap() };
            if server.answers() {
                server.folder = folder;
                return server;
            }
        }
        panic!("{} does not start", program.display());
    }

    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where an object lies in the server's folder.
    pub(crate) fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }
}

impl Drop for Versitygw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built if this machine has not done so yet.
fn program() -> Result<PathBuf, String> {
    // The tests of one binary begin at once.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = cache().join(format!("versitygw-{VERSION}"));
    let program = home.join("versitygw");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("building versitygw {VERSION} (once, some minutes)");
    let build = tempfile::tempdir().map_err(|error| error.to_string())?;
    for (name, text) in MODULE {
        fs::write(build.path().join(name), text).map_err(|error| error.to_string())?;
    }
    let built = Command::new("go")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-o", "versitygw", PACKAGE])
        .current_dir(build.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("versitygw is built by Go 1.25 or newer, which is not there: {error}"))?;
    if !built.status.success() {
        return Err(format!("go could not build versitygw: {}", String::from_utf8_lossy(&built.stderr)));
    }
    // Two tests may build at once: each moves a whole file into place.
    let beside = home.join(format!("versitygw.{}", std::process::id()));
    fs::create_dir_all(&home)
        .and_then(|()| fs::copy(build.path().join("versitygw"), &beside))
        .and_then(|_| fs::rename(&beside, &program))
        .map_err(|error| format!("cannot fill {}: {error}", home.display()))?;
    Ok(program)
}

/// As the engines' cache is found.
fn cache() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    named("STILLWELL_CACHE").unwrap_or_else(|| {
        let base = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
        base.unwrap_or_else(std::env::temp_dir).join("stillwell")
    })
}
