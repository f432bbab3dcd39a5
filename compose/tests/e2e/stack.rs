//! A running `stillwell up` of its own: free ports, a temporary folder, ended with the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The first start may have to fetch the engines.
const READY_WITHIN: Duration = Duration::from_secs(900);
/// How long a condition may take to come true on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Two stacks at once would fight for two cores; tests of this binary take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A stack.
pub(crate) struct Stack {
    child: Child,
    endpoints: Value,
    folder: tempfile::TempDir,
    args: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Stack {
    /// Starts one with more arguments to `up`, and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut stack = Self::begin(args);
        stack.wait_ready();
        stack
    }

    /// Starts one and does not wait.
    pub(crate) fn begin(args: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let child = spawn(folder.path(), &args);
        Self { child, endpoints: Value::Null, folder, args, _turn: turn }
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The process of `up`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All processes whose command line names the data folder, with that line.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let data = self.data().display().to_string();
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(of);
        all.filter(|(_, line)| line.contains(&data)).collect()
    }

    /// The engine of this stack whose command line holds `word`, not its guard; waited for.
    pub(crate) fn process(&self, word: &str) -> u32 {
        let until = Instant::now() + SOON;
        loop {
            let engine = |line: &str| line.contains(word) && !line.contains(" guard ");
            let found = self.processes().into_iter().find(|(_, line)| engine(line));
            if let Some((pid, _)) = found {
                return pid;
            }
            assert!(Instant::now() < until, "no process {word} of {}", self.data().display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One of the endpoints.
    pub(crate) fn endpoint(&self, key: &str) -> &str {
        self.endpoints[key].as_str().unwrap_or_else(|| panic!("endpoint {key} in {}", self.endpoints))
    }

    /// Kills `up` itself, and nothing else, the hard way.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same folder.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.folder.path(), &self.args);
        self.wait_ready();
    }

    /// Stops it as a user would, and gives its exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "up does not stop\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `up` has printed.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
        log.chars().rev().take(6000).collect::<Vec<_>>().into_iter().rev().collect()
    }

    /// Runs another command of the binary against this stack.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_stillwell"))
            .args(args)
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The rows of a query over HTTP.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.log()))
    }

    /// The rows, or what went wrong.
    pub(crate) fn try_rows(&self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        let body = serde_json::json!({ "sql": sql, "max_rows": 100_000 }).to_string();
        let (status, answer) = self.http("POST", "/v1/sql", &body)?;
        let answer: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        if status != 200 {
            return Err(format!("{status}: {answer}"));
        }
        Ok(serde_json::from_value(answer["rows"].clone()).unwrap())
    }

    /// One number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        rows[0][0].as_i64().unwrap_or_else(|| panic!("{sql}: {rows:?}"))
    }

    /// Waits until a query gives one number that `accept`s; only readers' answers are asked.
    pub(crate) fn wait_number(&self, sql: &str, what: &str, accept: impl Fn(i64) -> bool) -> i64 {
        let until = Instant::now() + SOON;
        loop {
            let rows = self.try_rows(sql);
            if let Ok(Some(number)) = rows.as_ref().map(|rows| rows[0][0].as_i64())
                && accept(number)
            {
                return number;
            }
            assert!(Instant::now() < until, "{what}: {sql} stays at {rows:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until the views of every width show what is archived.
    pub(crate) fn wait_views(&self) {
        let behind = "select cast(sum(case when visible >= durable then 0 else 1 end) as bigint) \
                      from pipeline_watermarks";
        self.wait_number(behind, "partitions that a view is behind in", |n| n == 0);
    }

    /// Status and body of a request.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
        let base = self.endpoint("http").trim_start_matches("http://").trim_end_matches('/').to_owned();
        http(&base, method, path, body)
    }

    fn wait_ready(&mut self) {
        let file = self.data().join("endpoints.json");
        let until = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                let endpoints: Value = serde_json::from_str(&text).unwrap();
                if endpoints["pid"].as_u64() == Some(u64::from(self.child.id())) {
                    self.endpoints = endpoints;
                    return;
                }
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "up ended with {ended:?}\n{}", self.log());
            assert!(Instant::now() < until, "up is not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.child.id(), "TERM");
            let until = Instant::now() + Duration::from_secs(60);
            while Instant::now() < until && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Status and body of a request to `host:port`.
pub(crate) fn http(base: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(base)?;
        stream.set_read_timeout(Some(SOON))?;
        // HTTP/1.0: the answer comes whole and unchunked, and ends with the connection.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: {base}\r\ncontent-type: application/json\r\naccept: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

fn spawn(folder: &Path, args: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("up.log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_stillwell"))
        .arg("up")
        .arg("--data")
        .arg(folder.join("data"))
        .args(["--http", "127.0.0.1:0", "--pg", "127.0.0.1:0"])
        .args(args)
        // As a shell does it: Ctrl-C goes to this group and not to the tests.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
