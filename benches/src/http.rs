//! Just enough HTTP to ask ClickHouse, the SQL endpoint and a process for its metrics: one request per connection.
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
    let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    ask(url, &format!("POST {path}"), &headers, body)
}

/// Gets `path` of `url`; the answer's body.
pub(crate) fn get(url: &str, path: &str) -> anyhow::Result<String> {
    ask(url, &format!("GET {path}"), "", "")
}

fn ask(url: &str, what: &str, headers: &str, body: &str) -> anyhow::Result<String> {
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (credentials, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let authorization = credentials
        .map(|user| format!("Authorization: Basic {}\r\n", STANDARD.encode(user)))
        .unwrap_or_default();
    let mut stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let head = format!(
        "{what} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n{authorization}{headers}\r\n"
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answer(with: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut buffer = [0; 1024];
            while !asked.ends_with(b"SELECT 1") {
                let n = stream.read(&mut buffer).unwrap();
                asked.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(with.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, server)
    }

    #[test]
    fn a_statement_goes_out_with_its_user_and_the_answer_comes_back() {
        let (address, server) = answer("HTTP/1.0 200 OK\r\nX: y\r\n\r\n1\n");
        assert_eq!(clickhouse(&format!("http://me:secret@{address}/"), "SELECT 1").unwrap(), "1\n");
        let asked = server.join().unwrap();
        assert!(asked.starts_with("POST / HTTP/1.0\r\n"), "{asked}");
        assert!(asked.contains("Authorization: Basic bWU6c2VjcmV0\r\n"), "{asked}");
    }

    #[test]
    fn an_error_is_told_with_its_body() {
        let (address, server) = answer("HTTP/1.0 404 Not Found\r\n\r\nCode: 60. UNKNOWN_TABLE");
        let error = format!("{:#}", clickhouse(&address, "SELECT 1").unwrap_err());
        server.join().unwrap();
        assert!(error.contains("404") && error.contains("UNKNOWN_TABLE"), "{error}");
    }
}
