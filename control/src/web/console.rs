//! The console's page and files: embedded in a release build, read from the repository in a debug
//! build, so that the page can be worked on without compiling.

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::client::Client;
use super::error::ApiError;
use super::files::answer;
use super::path::PathOf;

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Templates;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Static;

/// The styles of the console's page, in the order in which they count; they come as one file.
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

/// Where the build has brought no charts, the page must not ask for them.
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

/// Where `index.html` has the links of [`preloads`].
const MODULES: &str = "<!-- modules -->";

/// The module of the page that a query names, as `pages.js` has it.
fn first_module(query: Option<&str>) -> String {
    let mut pairs = query.unwrap_or_default().split('&');
    let named = pairs.find_map(|pair| pair.strip_prefix("page="));
    let source = Static::get("pages.js").map(|file| file.data);
    let source = source.unwrap_or_default();
    let source = String::from_utf8_lossy(&source);
    let module_of = |page: &str| {
        let (_, rest) = source.split_once(&format!("  {page}: () => import('./"))?;
        rest.split_once('\'').map(|(name, _)| name.to_owned())
    };
    let module = named.and_then(module_of).or_else(|| module_of("overview"));
    module.unwrap_or_default()
}

/// The words of the language that the browser prefers, which the console speaks until a person chooses
/// another.
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

/// Links that make a browser fetch all modules of the first page at once. Without them it knows of a
/// module when it has read the one that imports it: round after round over the network.
fn preloads(first: [String; 2]) -> String {
    let mut known = vec!["main.js".to_owned()];
    known.extend(first);
    let mut next = 0;
    while let Some(name) = known.get(next) {
        let source = script(name).map(|(_, file)| file.data).unwrap_or_default();
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

/// The modules that a module imports, apart from those that it loads when it needs them; a bundled one
/// has all its imports in one line.
fn imports(source: &str) -> impl Iterator<Item = &str> {
    let begins = ["import", "export", "} from"];
    let lines = source.lines();
    let lines = lines.filter(move |line| begins.iter().any(|word| line.starts_with(word)));
    lines.flat_map(|line| {
        let parts = line.split(['\'', '"']).collect::<Vec<&str>>();
        let named = parts.windows(2).filter_map(|two| {
            let before = two[0].trim_end();
            let is_static = before.ends_with("from") || before.ends_with("import");
            two[1].strip_prefix("./").filter(|_| is_static)
        });
        named.collect::<Vec<&str>>()
    })
}

/// The file of a name, with its path among the embedded files: the bundled one if the bundle is current,
/// otherwise the module itself.
fn script(name: &str) -> Option<(String, EmbeddedFile)> {
    let bundled = format!("bundle/{name}");
    match is_bundled().then(|| Static::get(&bundled)).flatten() {
        Some(file) => Some((bundled, file)),
        None => Some((name.to_owned(), Static::get(name)?)),
    }
}

/// `build.rs` has compared the bundle that is embedded with the modules.
#[cfg(not(debug_assertions))]
fn is_bundled() -> bool {
    cfg!(bundled)
}

#[cfg(debug_assertions)]
fn is_bundled() -> bool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/static");
    super::bundle::is_fresh(folder.as_ref())
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
    if path == ALL_STYLES {
        let files = STYLES.iter().filter_map(|name| Static::get(name));
        let all: Vec<u8> = files.flat_map(|file| file.data.into_owned()).collect();
        return answer(&asked, &path, &all);
    }
    match script(&path) {
        Some((path, file)) => answer(&asked, &path, &file.data),
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
        for name in ["main.js", "overview.js", "words-zh.js"] {
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
    fn imports_are_found_in_modules_and_in_a_bundle() {
        let module = "import { a } from './a.js';\nimport {\n  b,\n} from './b.js';\nimport './c.js';\n\
                      // from './no.js'\nconst d = () => import('./no.js');\nexport { e } from './e.js';";
        let found: Vec<&str> = imports(module).collect();
        assert_eq!(found, ["a.js", "b.js", "c.js", "e.js"]);
        let bundled =
            r#"import{t as e,n}from"./first.js";import"./c.js";let x=()=>import("./no.js");"#;
        let found: Vec<&str> = imports(bundled).collect();
        assert_eq!(found, ["first.js", "c.js"]);
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
