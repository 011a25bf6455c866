//! The console's page and files: embedded in a release build, read from the repository in a debug
//! build, so that the page can be worked on without compiling.

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use rust_embed::RustEmbed;

use super::error::ApiError;
use super::guard::Client;
use super::path::PathOf;

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Templates;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// Where the build has brought no charts, the page must not ask for them.
const CHARTS: &str = "vendor/uPlot.iife.min.js";

/// The console; who has to sign in first is led there, with what the address asks for.
pub async fn page(
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    if client.grant.is_none() {
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        return Redirect::to(&format!("/login{query}")).into_response();
    }
    match Templates::get("index.html") {
        Some(file) if Static::get(CHARTS).is_some() => {
            let page = String::from_utf8_lossy(&file.data);
            let page = page.replace("data-charts=\"missing\"", "data-charts=\"present\"");
            answer(&asked, "index.html", page.into_bytes())
        }
        Some(_) | None => template(&asked, "index.html"),
    }
}

/// Where a token becomes a session.
pub async fn login(asked: HeaderMap) -> Response {
    template(&asked, "login.html")
}

fn template(asked: &HeaderMap, name: &str) -> Response {
    match Templates::get(name) {
        Some(file) => answer(asked, name, file.data.into_owned()),
        None => ApiError::new(StatusCode::NOT_FOUND, "this build has no console").into_response(),
    }
}

pub async fn static_file(PathOf(path): PathOf<String>, asked: HeaderMap) -> Response {
    match Static::get(&path) {
        Some(file) => answer(&asked, &path, file.data.into_owned()),
        None => {
            let message = format!("no static file {path:?}");
            ApiError::new(StatusCode::NOT_FOUND, message).into_response()
        }
    }
}

/// `no-cache` asks again each time: a console of the last version beside a server of this one is
/// worse than a few bytes. A file that is the same is not sent again.
fn answer(asked: &HeaderMap, name: &str, bytes: Vec<u8>) -> Response {
    // Weak, since it goes compressed or not.
    let tag = format!("W/\"{}\"", &contract::digest(&bytes)[..16]);
    let known = asked.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, &tag),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, bytes).into_response(),
    }
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
