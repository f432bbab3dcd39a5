//! The page, built into the binary.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Everything comes from here and nothing from elsewhere.
pub(super) const SECURITY: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
             connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Embeds files of `query/page/`.
macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/page/", $name)))),*]
    };
}

const ASSETS: &[(&str, &[u8])] = assets![
    "index.html",
    "app.js",
    "style.css",
    "favicon.svg",
    "anomalies.js",
    "api.js",
    "chart.js",
    "console.js",
    "dom.js",
    "format.js",
    "gestures.js",
    "machine.js",
    "machines.js",
    "pipeline.js",
    "plant.js",
    "scale.js",
    "sensors.js",
    "series.js",
    "theme.js",
    "tiles.js",
    "tooltip.js",
    "trace.js",
];

pub(super) async fn index() -> Response {
    serve("index.html")
}

pub(super) async fn asset(Path(file): Path<String>) -> Response {
    serve(&file)
}

fn serve(file: &str) -> Response {
    let Some((_, bytes)) = ASSETS.iter().find(|(name, _)| *name == file) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    // Built into the binary, so that a new version is seen at once.
    let headers = [(header::CONTENT_TYPE, content_type(file)), (header::CACHE_CONTROL, "no-cache")];
    (headers, *bytes).into_response()
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_file() && !name.ends_with(".md") {
                assert!(ASSETS.iter().any(|(asset, _)| *asset == name), "{name} is not in ASSETS");
            }
        }
    }
}
