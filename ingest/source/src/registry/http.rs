//! GET over HTTP/1.1, plain or with TLS: what asking a registry takes. Schemas are few and are kept, so each request
//! has a connection of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Failure, Password, RegistryError, RegistrySettings};

/// Bytes of an answer: a schema of a megabyte is a large one.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    bases: Arc<[Base]>,
    user: Arc<str>,
    password: Password,
    tls: Option<TlsConnector>,
    timeout: Duration,
}

/// One address of the registry.
pub(super) struct Base {
    host: String,
    port: u16,
    is_tls: bool,
    /// With neither a slash at its end nor anything after.
    path: String,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let bases = Base::all(&settings.url)?;
        let tls =
            bases.iter().any(|base| base.is_tls).then(|| tls(settings.ca_file.as_deref())).transpose()?;
        Ok(Self {
            bases: bases.into(),
            user: settings.user.as_str().into(),
            password: settings.password.clone(),
            tls,
            timeout: settings.timeout,
        })
    }

    /// The answer to a GET of `path`, of the first of the addresses that answers.
    ///
    /// # Errors
    /// Why none does.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let authorization = self.authorization().await?;
        let mut reasons = Vec::new();
        for base in &*self.bases {
            let asked =
                tokio::time::timeout(self.timeout, self.ask(base, path, authorization.as_ref())).await;
            match asked {
                Ok(Ok(answer)) if !answer.status.is_server_error() => return Ok(answer),
                Ok(Ok(answer)) => {
                    reasons.push(format!("{}:{} answers {}", base.host, base.port, answer.status));
                }
                Ok(Err(Failure::Away(reason))) => {
                    reasons.push(format!("{}:{}: {reason}", base.host, base.port));
                }
                Ok(Err(lasting)) => return Err(lasting),
                Err(_) => {
                    reasons
                        .push(format!("{}:{} does not answer in {:?}", base.host, base.port, self.timeout));
                }
            }
        }
        Err(Failure::Away(reasons.join("; ")))
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        if self.user.is_empty() {
            return Ok(None);
        }
        let password = match &self.password {
            Password::Plain(password) => password.clone(),
            Password::File(file) => tokio::fs::read_to_string(file)
                .await
                .map_err(|error| format!("the password file {} cannot be read: {error}", file.display()))?,
        };
        let coded = STANDARD.encode(format!("{}:{}", self.user, password.trim_end_matches(['\r', '\n'])));
        let mut header =
            HeaderValue::try_from(format!("Basic {coded}")).map_err(|error| error.to_string())?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    async fn ask(
        &self,
        base: &Base,
        path: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let stream = TcpStream::connect((&*base.host, base.port)).await.map_err(|error| error.to_string())?;
        let mut request = Request::get(format!("{}{path}", base.path))
            .header(HOST, format!("{}:{}", base.bracketed(), base.port))
            .header(ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        match &self.tls {
            Some(tls) if base.is_tls => {
                let name = ServerName::try_from(base.host.clone()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                exchange(stream, request).await
            }
            _ => exchange(stream, request).await,
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match body {
            Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
            Err(error) if status == StatusCode::OK && error.is::<LengthLimitError>() => {
                Err(Failure::Unusable(format!("it takes more than {ANSWER_BYTES_MAX} bytes")))
            }
            Err(error) => Err(Failure::Away(format!("the answer cannot be read: {error}"))),
        }
    };
    // The connection is driven by whoever waits for the answer, and ends with it.
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(Failure::Away(error.to_string())),
        },
    }
}

impl Base {
    /// Those of a list with commas.
    pub(super) fn all(urls: &str) -> Result<Vec<Self>, RegistryError> {
        let base = |url: &str| {
            Self::parse(url)
                .map_err(|message| RegistryError::Url { url: url.to_owned(), message: message.to_owned() })
        };
        urls.split(',').map(|url| base(url.trim())).collect()
    }

    fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "it is not of the form http[s]://host[:port][/path]")?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it begins with neither http:// nor https://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("give user and password by their own keys, not in the url");
        }
        if uri.query().is_some() {
            return Err("a registry's url has no query");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("it names no host");
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { host, port, is_tls, path: uri.path().trim_end_matches('/').to_owned() })
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, RegistryError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let wrong = |message: String| RegistryError::Ca { file: file.to_owned(), message };
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?
            {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("it holds no certificate".to_owned()));
            }
        }
        None => {
            // What the system has that cannot be read is not trusted, which is the safe side.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(RegistryError::NoAuthorities);
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the versions that rustls has by default")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_or_refused() {
        let check = |url: &str, expected: Result<(&str, u16, bool, &str), &str>| {
            let found = Base::parse(url).map(|base| (base.host, base.port, base.is_tls, base.path));
            match (found, expected) {
                (Ok((host, port, is_tls, path)), Ok(wanted)) => {
                    assert_eq!((&*host, port, is_tls, &*path), wanted, "{url}");
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{url}: {message}"),
                (found, expected) => panic!("{url}: {found:?}, not {expected:?}"),
            }
        };
        check("http://registry", Ok(("registry", 80, false, "")));
        check("https://registry:8443/apis/ccompat/v7/", Ok(("registry", 8443, true, "/apis/ccompat/v7")));
        check("http://[::1]:8081", Ok(("::1", 8081, false, "")));
        check("registry:8081", Err("http"));
        check("ftp://registry", Err("neither http"));
        check("https://me:secret@registry", Err("by their own keys"));
        check("http://registry?x=1", Err("no query"));
    }
}
