//! The gateway: SQL, health, metrics, the pipeline's marks, and the page.

pub(crate) mod encode;
mod page;
mod sql;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use stillwell_schema::Clock;
use stillwell_schema::health::{self, Board};

use crate::engine::Engine;
use crate::pipeline::Pipeline;

/// The largest statement with its parameters.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the handlers share.
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pipeline: Pipeline,
    pub(crate) board: Board,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) clock: Arc<dyn Clock>,
    /// Names under which this server may be reached, beside addresses and `localhost`.
    pub(crate) hosts: Vec<String>,
}

/// All routes.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/sql", post(sql::run))
        .route("/v1/pipeline", get(pipeline))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/", get(page::index))
        .route("/{file}", get(page::asset))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), guard))
        .with_state(gateway)
}

/// Pages of other sites may not use a visitor's browser to ask here, nor frame or sniff what is answered.
async fn guard(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let refused = if !is_ours(request.headers(), &gateway.hosts) {
        Some("this server is not reached by that name; use its address, or list the name in `hosts`")
    } else if foreign(request.headers()) {
        Some("requests from pages of other origins are refused")
    } else {
        None
    };
    if let Some(message) = refused {
        return (StatusCode::FORBIDDEN, Json(json!({"error": {"message": message, "position": null}})))
            .into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in page::SECURITY {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether the request names this server as it should be named. A page elsewhere can point a name of its own at
/// this address (DNS rebinding), and its requests then look like our page's, but for that name.
fn is_ours(headers: &HeaderMap, hosts: &[String]) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let Ok(host) = host.to_str() else { return false };
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let listed = |known: &str| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        address.is_ok() || listed("localhost") || hosts.iter().any(|known| listed(known))
    })
}

/// `name`, `[::1]` or `127.0.0.1` of `name:port` and the like.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a browser says that the request comes from a page that was not served here.
fn foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => origin.split_once("://").is_none_or(|(_, from)| from != host),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

async fn pipeline(State(gateway): State<Arc<Gateway>>) -> Response {
    Json(gateway.pipeline.report(gateway.clock.now_us()).await).into_response()
}

async fn health(State(gateway): State<Arc<Gateway>>) -> Response {
    gateway.pipeline.look().await;
    health_of(&gateway.board)
}

/// What `/health` answers: the worst state and each part's, 503 where one has failed.
pub fn health_of(board: &Board) -> Response {
    let status = board.worst();
    let code = if status == health::State::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(json!({"status": status, "parts": board.read()}))).into_response()
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    metrics_of(&gateway.metrics)
}

/// What `/metrics` answers.
pub fn metrics_of(metrics: &PrometheusHandle) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_answered() {
        let check = |host: &str, expected| {
            let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
            assert_eq!(is_ours(&headers, &["plant.example".into()]), expected, "{host}");
        };
        for host in ["127.0.0.1:8080", "10.1.2.3", "[::1]:80", "[::1]", "localhost", "LocalHost:1"] {
            check(host, true);
        }
        check("plant.example:8080", true);
        check("Plant.Example", true);
        for host in
            ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "plant.example.x"]
        {
            check(host, false);
        }
        assert!(is_ours(&HeaderMap::new(), &[]), "HTTP/1.0 names no host");
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let check = |origin: &str, host: &str, expected| {
            let headers = [(header::ORIGIN, origin), (header::HOST, host)];
            let headers = headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
            assert_eq!(foreign(&headers), expected, "{origin} {host}");
        };
        check("http://127.0.0.1:8080", "127.0.0.1:8080", false);
        check("http://evil.example", "127.0.0.1:8080", true);
        check("null", "127.0.0.1:8080", true);
    }
}
