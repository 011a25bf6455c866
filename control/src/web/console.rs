//! The console's page and files: embedded in a release build, read from the repository in a debug
//! build, so that the page can be worked on without compiling.

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use rust_embed::RustEmbed;

use super::error::ApiError;
use super::files::answer;
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
            answer(&asked, "index.html", page.as_bytes())
        }
        Some(_) | None => template(&asked, "index.html"),
    }
}

/// Where a token becomes a session.
pub async fn login(asked: HeaderMap) -> Response {
    template(&asked, "login.html")
}

/// The console's page that shows `openapi.json`.
pub async fn docs() -> Redirect {
    Redirect::to("/?page=api")
}

fn template(asked: &HeaderMap, name: &str) -> Response {
    match Templates::get(name) {
        Some(file) => answer(asked, name, &file.data),
        None => ApiError::new(StatusCode::NOT_FOUND, "this build has no console").into_response(),
    }
}

pub async fn static_file(PathOf(path): PathOf<String>, asked: HeaderMap) -> Response {
    match Static::get(&path) {
        Some(file) => answer(&asked, &path, &file.data),
        None => {
            let message = format!("no static file {path:?}");
            ApiError::new(StatusCode::NOT_FOUND, message).into_response()
        }
    }
}
