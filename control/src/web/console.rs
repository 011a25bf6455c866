//! The console's page and files: embedded in a release build, read from the repository in a debug
//! build, so that the page can be worked on without compiling.

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
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

/// The style sheets of the console's page, in cascade order; sent as one file.
const STYLES: [&str; 11] = [
    "style.css",
    "layout.css",
    "rail.css",
    "table.css",
    "side.css",
    "log.css",
    "charts.css",
    "narrow.css",
    "edit.css",
    "pages.css",
    "tools.css",
];
const ALL_STYLES: &str = "console.css";

/// In a build without charts, the page must not request them.
const CHARTS: &str = "vendor/uPlot.iife.min.js";

/// The console; a visitor who has to sign in first is redirected there, and back afterwards.
pub async fn page(
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Response {
    if client.grant.is_none() {
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        return Redirect::to(&format!("/login{query}")).into_response();
    }
    let Some(file) = Templates::get("index.html") else {
        return template(&asked, "index.html");
    };
    let has_charts = Static::get(CHARTS).is_some();
    let charts = if has_charts { "present" } else { "missing" };
    let page = String::from_utf8_lossy(&file.data);
    let page = page.replace(
        "data-charts=\"missing\"",
        &format!("data-charts=\"{charts}\""),
    );
    let first = [
        first_module(query.as_deref()),
        first_words(&asked).to_owned(),
    ];
    let page = page.replace(MODULES, &preloads(first));
    answer(&asked, "index.html", page.as_bytes())
}

/// The place in `index.html` for the links of [`preloads`].
const MODULES: &str = "<!-- modules -->";

/// The module of the page that a query names, as `pages.js` has it.
fn first_module(query: Option<&str>) -> String {
    let mut pairs = query.unwrap_or_default().split('&');
    let named = pairs.find_map(|pair| pair.strip_prefix("page="));
    let source = Static::get("pages.js")
        .map(|file| file.data)
        .unwrap_or_default();
    let source = String::from_utf8_lossy(&source);
    let module_of = |page: &str| {
        let (_, rest) = source.split_once(&format!("  {page}: () => import('./"))?;
        rest.split_once('\'').map(|(name, _)| name.to_owned())
    };
    let module = named.and_then(module_of).or_else(|| module_of("overview"));
    module.unwrap_or_default()
}

/// The words of the browser's preferred language, which the console uses until a person chooses another.
fn first_words(asked: &HeaderMap) -> &'static str {
    let languages = asked.get(header::ACCEPT_LANGUAGE);
    let languages = languages.and_then(|languages| languages.to_str().ok());
    let mut tags = languages.unwrap_or_default().split(',').map(str::trim);
    tags.find_map(|tag| match tag.get(..2)?.to_ascii_lowercase().as_str() {
        "en" => Some("words-en.js"),
        "zh" => Some("words-zh.js"),
        _ => None,
    })
    .unwrap_or("words-en.js")
}

/// Links that make a browser fetch all modules of the first page at once. Without them it learns of a module only
/// from the one that imports it, with a network round trip each.
fn preloads(first: [String; 2]) -> String {
    let mut known = vec!["main.js".to_owned()];
    known.extend(first);
    let mut next = 0;
    while let Some(name) = known.get(next) {
        let source = Static::get(name).map(|file| file.data).unwrap_or_default();
        let source = String::from_utf8_lossy(&source);
        for imported in imports(&source) {
            if !known.iter().any(|name| name == imported) {
                known.push(imported.to_owned());
            }
        }
        next += 1;
    }
    let links = known
        .iter()
        .map(|name| format!("<link rel=\"modulepreload\" href=\"/static/{name}\">"));
    links.collect::<Vec<String>>().join("\n    ")
}

/// The modules that a module imports statically.
fn imports(source: &str) -> impl Iterator<Item = &str> {
    let begins = ["import ", "export ", "} from "];
    let lines = source.lines();
    let lines = lines.filter(move |line| begins.iter().any(|word| line.starts_with(word)));
    lines.filter_map(|line| {
        let (_, from) = line.split_once(" from './")?;
        let (name, _) = from.split_once('\'')?;
        Some(name)
    })
}

/// The login page.
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
    if path == ALL_STYLES {
        let files = STYLES.iter().filter_map(|name| Static::get(name));
        let all: Vec<u8> = files.flat_map(|file| file.data.into_owned()).collect();
        return answer(&asked, &path, &all);
    }
    match Static::get(&path) {
        Some(file) => answer(&asked, &path, &file.data),
        None => {
            let message = format!("no static file {path:?}");
            ApiError::new(StatusCode::NOT_FOUND, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn all_modules_of_the_first_page_are_named_once_and_no_others() {
        assert_eq!(first_module(Some("page=settings&filter=a")), "settings.js");
        assert_eq!(first_module(Some("page=nowhere")), "overview.js");
        let links = preloads([first_module(None), "words-zh.js".to_owned()]);
        for name in [
            "main.js",
            "overview.js",
            "feed.js",
            "patch.js",
            "words-zh.js",
        ] {
            assert_eq!(
                links.matches(&format!("/static/{name}\"")).count(),
                1,
                "{links}"
            );
        }
        for name in ["settings.js", "shapes.js", "words-en.js"] {
            assert!(
                !links.contains(&format!("/static/{name}\"")),
                "{name}: {links}"
            );
        }
    }

    #[test]
    fn the_words_are_those_of_the_first_language_that_the_console_speaks() {
        for (asked, expected) in [
            ("zh-CN,zh;q=0.9,en;q=0.8", "words-zh.js"),
            ("de-DE,de;q=0.9,EN-us;q=0.8,zh;q=0.7", "words-en.js"),
            ("fr", "words-en.js"),
            ("é", "words-en.js"),
            ("", "words-en.js"),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(asked.as_bytes()).expect("a value");
            headers.insert(header::ACCEPT_LANGUAGE, value);
            assert_eq!(first_words(&headers), expected, "{asked}");
        }
        assert_eq!(first_words(&HeaderMap::new()), "words-en.js");
    }
}
