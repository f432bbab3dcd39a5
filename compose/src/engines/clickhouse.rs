//! A local ClickHouse: its library, run as a server in a child process of our own binary.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::guard;
use super::ports::Ports;

pub mod server;

const CONFIG: &str = include_str!("../../engines/clickhouse.xml");
/// The user that Stillwell's stages log in as.
pub const USER: &str = "stillwell";
/// More than the views of 10,000 series need; the machine is shared with Kafka and the stages.
const MEMORY_BYTES_MAX: u64 = 2 << 30;

/// A ClickHouse that belongs to a data folder.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    /// ClickHouse's library.
    pub library: PathBuf,
    /// The data folder of the whole stack.
    pub data: PathBuf,
    /// Its ports.
    pub ports: Ports,
}

impl ClickHouse {
    /// Its HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.clickhouse_http)
    }

    /// The password of [`USER`], made at first use and kept where only the owner can read it.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn password(&self) -> anyhow::Result<String> {
        let path = self.data.join("keys/clickhouse-password");
        if let Ok(password) = fs::read_to_string(&path) {
            return Ok(password);
        }
        let password = Uuid::new_v4().simple().to_string();
        crate::files::write_secret(&path, password.as_bytes())?;
        Ok(password)
    }

    /// Writes its settings.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn prepare(&self) -> anyhow::Result<()> {
        guard::outlive(&self.pid_file(), &self.mark())?;
        let home = self.home();
        fs::create_dir_all(home.join("store"))
            .with_context(|| format!("cannot create {}", home.display()))?;
        let logs = self.data.join("logs");
        let config = fill(
            CONFIG,
            &[
                ("LOGS", &logs.display().to_string()),
                ("CONFIG", &self.mark()),
                ("MEMORY_BYTES", &MEMORY_BYTES_MAX.to_string()),
                ("PASSWORD_SHA256", &hex::encode(Sha256::digest(self.password()?))),
                ("USER", USER),
            ],
        );
        crate::files::write_secret(&self.config_file(), config.as_bytes())
    }

    /// Starts it; it ends when its standard input does.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        use std::os::unix::process::CommandExt;
        let log = super::log_file(&self.data, "clickhouse.out")?;
        let child = Command::new(std::env::current_exe()?)
            .arg("clickhouse-server")
            .arg("--library")
            .arg(&self.library)
            .arg("--store")
            .arg(self.home().join("store"))
            .arg("--config-file")
            .arg(self.config_file())
            .args(["--http-port", &self.ports.clickhouse_http.to_string()])
            .args(["--tcp-port", &self.ports.clickhouse_tcp.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start clickhouse")?;
        crate::files::write_atomically(&self.pid_file(), child.id().to_string().as_bytes())?;
        Ok(child)
    }

    /// Whether it answers, as the server of this folder: only that one knows the password.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ask("SELECT 1").is_ok_and(|answer| answer.trim_end().ends_with('1'))
    }

    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports.clickhouse_http));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "POST / HTTP/1.0\r\nx-clickhouse-user: {USER}\r\nx-clickhouse-key: {}\r\ncontent-length: {}\r\n\r\n{sql}",
            self.password()?,
            sql.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.0 200") && !answer.starts_with("HTTP/1.1 200") {
            bail!("clickhouse answers {}", answer.lines().next().unwrap_or_default());
        }
        Ok(answer)
    }

    fn home(&self) -> PathBuf {
        self.data.join("clickhouse")
    }

    fn config_file(&self) -> PathBuf {
        self.home().join("config.xml")
    }

    fn pid_file(&self) -> PathBuf {
        self.home().join("pid")
    }

    fn mark(&self) -> String {
        display(&self.config_file())
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// `template` with each `{NAME}` replaced by its value as XML text, in one pass: a value is never read again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let known = values
            .iter()
            .find_map(|(name, value)| Some((value, after.strip_prefix(name)?.strip_prefix('}')?)));
        match known {
            Some((value, behind)) => {
                out.push_str(&value.replace('&', "&amp;").replace('<', "&lt;"));
                rest = behind;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_and_never_a_template() {
        let values = [("LOGS", "/tmp/{USER}&co"), ("USER", "stillwell")];
        assert_eq!(fill("<l>{LOGS}</l><{USER}/>{", &values), "<l>/tmp/{USER}&amp;co</l><stillwell/>{");
        assert!(
            !fill(
                CONFIG,
                &[("LOGS", ""), ("CONFIG", ""), ("MEMORY_BYTES", ""), ("PASSWORD_SHA256", ""), ("USER", "")]
            )
            .contains('{')
        );
    }
}
