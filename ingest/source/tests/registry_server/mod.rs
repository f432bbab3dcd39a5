//! A server that speaks a schema registry's REST interface, on a port of its own, plain or with TLS.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    body: String,
    after: Duration,
}

#[allow(dead_code, reason = "each test binary uses a part")]
impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned(), after: Duration::ZERO }
    }

    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// The server; it ends when it is dropped.
pub(crate) struct RegistryServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Box<dyn Fn(&str) -> Answer + Send + Sync>,
    /// The only `Authorization` that is let in, if any is asked for.
    authorization: Option<String>,
    asked: Mutex<HashMap<String, usize>>,
    is_over: AtomicBool,
}

#[allow(dead_code, reason = "each test binary uses a part")]
impl RegistryServer {
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::open(answer, None, None)
    }

    /// With TLS, and basic authentication by that header.
    pub(crate) fn start_tls(
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
        authorization: Option<&str>,
    ) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls");
        let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("server-key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::open(answer, authorization.map(str::to_owned), Some(Arc::new(config)))
    }

    fn open(
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
        authorization: Option<String>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, is_over) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { answer: Box::new(answer), authorization, asked, is_over });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (server, tls) = (Arc::clone(&server), tls.clone());
                std::thread::spawn(move || match tls {
                    None => server.serve(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        server.serve(StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        Self { address, scheme, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.shared.asked.lock().unwrap().get(path).copied().unwrap_or_default()
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Whoever waits for a connection sees it.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: impl Read + Write) {
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                // A client that does not like the certificate goes away.
                Ok(0) | Err(_) => return,
                Ok(len) => request.extend_from_slice(&buffer[..len]),
            }
        }
        let text = String::from_utf8(request).unwrap();
        let path = text.split(' ').nth(1).unwrap();
        *self.asked.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        let header = |line: &str| line.to_ascii_lowercase().starts_with("authorization:");
        let given = text.lines().find(|line| header(line)).map(|line| line["authorization:".len()..].trim());
        let answer = if self.authorization.as_deref().is_some_and(|wanted| given != Some(wanted)) {
            Answer::text(401, "Unauthorized")
        } else {
            (self.answer)(path)
        };
        let Answer { status, body, after } = answer;
        std::thread::sleep(after);
        let head =
            format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.flush());
    }
}
