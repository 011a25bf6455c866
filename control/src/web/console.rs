//! The console's page and files: embedded in a release build, read from the repository in a debug
//! build, so that the page can be worked on without compiling.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::error::ApiError;
use super::path::PathOf;

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Templates;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// Where the build has brought no charts, the page must not ask for them.
const CHARTS: &str = "vendor/uPlot.iife.min.js";

pub async fn page() -> Response {
    match Templates::get("index.html") {
        Some(file) if Static::get(CHARTS).is_some() => {
            let page = String::from_utf8_lossy(&file.data);
            let page = page.replace("data-charts=\"missing\"", "data-charts=\"present\"");
            answer("index.html", page.into_bytes())
        }
        Some(file) => answer("index.html", file.data.into_owned()),
        None => ApiError::new(StatusCode::NOT_FOUND, "this build has no console").into_response(),
    }
}

pub async fn static_file(PathOf(path): PathOf<String>) -> Response {
    match Static::get(&path) {
        Some(file) => answer(&path, file.data.into_owned()),
        None => {
            let message = format!("no static file {path:?}");
            ApiError::new(StatusCode::NOT_FOUND, message).into_response()
        }
    }
}

/// `no-cache` asks again each time: a console of the last version beside a server of this one is
/// worse than a few kilobytes.
fn answer(name: &str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
