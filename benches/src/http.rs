//! Just enough HTTP to ask ClickHouse and the SQL endpoint: one POST per connection.
//!
//! HTTP/1.0, because its answers end with the connection and are never chunked.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Posts `body` to `url` (`http://[user:password@]host:port`, the scheme optional) and returns the answer's
/// body.
pub(crate) fn post(url: &str, path: &str, content_type: &str, body: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (credentials, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let authorization = credentials
        .map(|user| format!("Authorization: Basic {}\r\n", STANDARD.encode(user)))
        .unwrap_or_default();
    let mut stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: {content_type}\r\nAccept: application/json\r\n\
         {authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no whole answer from {host}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{host} answers {status}: {}", body.chars().take(500).collect::<String>());
    }
    Ok(body.to_owned())
}

/// Runs a statement on ClickHouse and returns the answer as its format says.
pub(crate) fn clickhouse(url: &str, statement: &str) -> anyhow::Result<String> {
    post(url, "/", "text/plain", statement).with_context(|| format!("ClickHouse: {statement}"))
}
