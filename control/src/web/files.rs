//! A file of the console as it is sent: without comments, compressed, and not at all if the browser already has
//! it. Each is prepared once.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

#[derive(Clone)]
struct Prepared {
    tag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

/// `no-cache` asks again each time: a console of the last version beside a server of this one is
/// worse than a few bytes.
pub fn answer(asked: &HeaderMap, name: &str, source: &[u8]) -> Response {
    let Prepared { tag, plain, gzip } = prepared(name, source);
    let is_known = asked.get(header::IF_NONE_MATCH) == Some(&tag);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(name)),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
        (header::ETAG, tag),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if takes_gzip(asked) {
        return (headers, [(header::CONTENT_ENCODING, "gzip")], gzip).into_response();
    }
    (headers, plain).into_response()
}

/// By name, so there are never more than files; by content, since a debug build reads them again.
fn prepared(name: &str, source: &[u8]) -> Prepared {
    static ALL: LazyLock<Mutex<HashMap<String, Prepared>>> = LazyLock::new(Mutex::default);
    // Weak, since it goes compressed or not.
    let tag = format!("W/\"{}\"", &contract::digest(source)[..16]);
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes");
    let mut all = ALL.lock().expect("no holder of this lock panics");
    if let Some(known) = all.get(name).filter(|known| known.tag == tag) {
        return known.clone();
    }
    // What others wrote keeps its notices, and what is bundled has no comments.
    let is_ours = !name.starts_with("vendor/") && !name.starts_with("bundle/");
    let plain = match is_ours && (name.ends_with(".js") || name.ends_with(".css")) {
        true => without_comments(source),
        false => source.to_vec(),
    };
    let prepared = Prepared {
        tag,
        gzip: compressed(&plain).into(),
        plain: plain.into(),
    };
    all.insert(name.to_owned(), prepared.clone());
    prepared
}

/// Whether a client takes an answer compressed by gzip.
pub fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get_all(header::ACCEPT_ENCODING).iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.split(',').any(|one| one.trim() == "gzip"))
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail")
}

/// Leaves out indentation and the comments that begin a line, which are a fifth of the first load; their
/// lines stay, so that a browser's messages name the lines of our sources. A line of a template literal
/// would be changed, too: a test sees to it that there is none.
fn without_comments(source: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(source.len());
    let mut is_inside = false;
    for line in source.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii();
        is_inside |= text.starts_with(b"/*") && ends_or_goes_on(text);
        match is_inside || text.starts_with(b"//") {
            true => plain.push(b'\n'),
            false => plain.extend_from_slice(line.trim_ascii_start()),
        }
        if !is_inside && text.is_empty() {
            plain.push(b'\n');
        }
        is_inside &= !text.ends_with(b"*/");
    }
    plain
}

/// Whether a line that begins with a comment holds nothing behind it.
fn ends_or_goes_on(text: &[u8]) -> bool {
    let end = text.windows(2).position(|two| two == b"*/");
    end.is_none_or(|end| end + 2 == text.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_indentation_go_and_lines_and_everything_else_stay() {
        let source = "/**\n * A file.\n */\nimport a from 'b'; /* kept */\n  /** x */\n/* y */ z();\n\n\
                      const url = 'http://h/*';\n  // gone\n  f(); // kept\n/* 1\n2 */\nend();";
        let plain = "\n\n\nimport a from 'b'; /* kept */\n\n/* y */ z();\n\nconst url = 'http://h/*';\n\
                     \nf(); // kept\n\n\nend();";
        let left = without_comments(source.as_bytes());
        assert_eq!(String::from_utf8(left).expect("text"), plain);
    }

    #[test]
    fn no_file_of_ours_has_a_template_literal_of_several_lines() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/static"));
        let mut seen = 0;
        for entry in folder.expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "js") {
                continue;
            }
            let source = std::fs::read(&path).expect("read");
            let plain = without_comments(&source);
            let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines(&source), lines(&plain), "{}", path.display());
            for (at, line) in plain.split(|byte| *byte == b'\n').enumerate() {
                let quotes = line.iter().filter(|byte| **byte == b'`').count();
                assert_eq!(quotes % 2, 0, "{}:{}", path.display(), at + 1);
                seen += quotes;
            }
        }
        assert!(seen > 0);
    }
}
