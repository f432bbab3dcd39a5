//! The gateway: SQL, health, metrics, the pipeline's marks, and the page.

pub(crate) mod encode;
mod page;
mod sql;

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
        .layer(middleware::from_fn(guard))
        .with_state(gateway)
}

/// Pages of other sites may not use a visitor's browser to ask here, nor frame or sniff what is answered.
async fn guard(request: Request, next: Next) -> Response {
    if foreign(request.headers()) {
        let message = "requests from pages of other origins are refused";
        return (StatusCode::FORBIDDEN, Json(json!({"error": {"message": message, "position": null}})))
            .into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in page::SECURITY {
        response.headers_mut().insert(name, value);
    }
    response
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
    let status = gateway.board.worst();
    let code = if status == health::State::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(json!({"status": status, "parts": gateway.board.read()}))).into_response()
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], gateway.metrics.render())
        .into_response()
}
