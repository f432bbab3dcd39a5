//! `POST /v1/sql`: a statement in, its answer out as JSON, CSV or Arrow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::encode::{self, Format};
use crate::archive::Pin;
use crate::engine::Request;
use crate::error::QueryError;

const FRESHNESS: HeaderName = HeaderName::from_static("x-stillwell-freshness");
const TRUNCATED: HeaderName = HeaderName::from_static("x-stillwell-truncated");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
    max_rows: Option<usize>,
    timeout_ms: Option<u64>,
}

/// Dropped when the client goes, which cancels the statement.
pub(super) async fn run(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Bytes) -> Response {
    let started = Instant::now();
    let format = match Format::accepted(&headers) {
        Ok(format) => format,
        Err(accept) => {
            let known = Format::ALL.map(Format::content_type).join(", ");
            return refusal(
                StatusCode::NOT_ACCEPTABLE,
                &format!("cannot answer as {accept}; ask for one of {known}"),
            );
        }
    };
    let request = match request(&headers, &body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let answered = answer(&gateway, &request, format, started).await;
    let outcome = answered.as_ref().map_or_else(QueryError::outcome, |_| "ok");
    metrics::counter!("stillwell_sql_total", "outcome" => outcome).increment(1);
    metrics::histogram!("stillwell_sql_seconds").record(started.elapsed().as_secs_f64());
    answered.unwrap_or_else(|error| failure(&error))
}

async fn answer(
    gateway: &Gateway,
    request: &Request,
    format: Format,
    started: Instant,
) -> Result<Response, QueryError> {
    let (engine, pipeline) = (&gateway.engine, &gateway.pipeline);
    let pin = Arc::new(Pin::default());
    let running = engine.begin(request.timeout, CancellationToken::new()).await?;
    let run = async {
        let planned = engine.plan(request, Arc::clone(&pin), &running).await?;
        let positions = pipeline.before(planned.reads_views).await;
        let answer = engine.collect(planned, request.max_rows).await?;
        Ok((answer, positions))
    };
    let (answer, positions) = running.cap(run).await?;
    let freshness = pipeline.freshness(pin.seen(), positions.as_ref().map(|all| all.as_slice()));
    let truncated = HeaderValue::from_static(if answer.truncated { "true" } else { "false" });
    let elapsed_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let limit = engine.limits().bytes;
    let encoded =
        tokio::task::spawn_blocking(move || encode::encode(&answer, format, freshness, elapsed_ms, limit));
    let body = encoded.await.map_err(|error| QueryError::Internal(error.to_string()))??;
    let fresh = serde_json::to_string(&freshness).unwrap_or_default();
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Ok(fresh) = HeaderValue::from_str(&fresh) {
        response.headers_mut().insert(FRESHNESS, fresh);
    }
    response.headers_mut().insert(TRUNCATED, truncated);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn request(headers: &HeaderMap, body: &Bytes) -> Result<Request, Box<Response>> {
    let bad = |message: &str| Box::new(refusal(StatusCode::BAD_REQUEST, message));
    let kind =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("text/plain");
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => {
            let body: Body = serde_json::from_slice(body)
                .map_err(|error| bad(&format!("the body is not {{\"sql\": …, \"params\": […]}}: {error}")))?;
            let timeout = body.timeout_ms.map(Duration::from_millis);
            Ok(Request { sql: body.sql, params: body.params, max_rows: body.max_rows, timeout })
        }
        "text/plain" | "application/sql" => {
            let sql = std::str::from_utf8(body).map_err(|_| bad("the statement is not UTF-8"))?;
            Ok(Request { sql: sql.to_owned(), ..Request::default() })
        }
        other => {
            let message = format!("cannot read {other}; send application/json or text/plain");
            Err(Box::new(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message)))
        }
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": {"message": message, "position": null}}))).into_response()
}

fn failure(error: &QueryError) -> Response {
    let status = match error {
        QueryError::Statement { .. } => StatusCode::BAD_REQUEST,
        QueryError::ReadOnly { .. } => StatusCode::FORBIDDEN,
        QueryError::Timeout(_) | QueryError::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        QueryError::TooLarge { .. } | QueryError::Memory(_) => StatusCode::PAYLOAD_TOO_LARGE,
        QueryError::Busy(_) | QueryError::Views(_) => StatusCode::SERVICE_UNAVAILABLE,
        QueryError::Archive(_) | QueryError::Listen { .. } | QueryError::Internal(_) => {
            tracing::warn!(%error, "statement failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    (status, Json(json!({"error": {"message": error.to_string(), "position": error.position()}})))
        .into_response()
}
