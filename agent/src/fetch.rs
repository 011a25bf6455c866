//! What an engine answers over HTTP: bounded in bytes and in time, one request at a time.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control_client::{Authorities, arguments as words, http_agent, tls_config};
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::watched::{Look, MAX_FILE_BYTES, MAX_SECRET_BYTES, Watched, secret};

/// The longest answer that is read, unpacked. A scrape of vLLM is some 100 kB; nothing of it is kept
/// but the samples that are wanted, so this bounds the work and not the memory.
pub const MAX_BODY_BYTES: u64 = 128 << 20;
/// What of an answer is held at a time.
const BUFFER_BYTES: usize = 8 << 10;
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// The text format; an engine that knows several answers in this one.
const FORMATS: &str = "text/plain;version=0.0.4,*/*;q=0.5";

/// The other format, which says where it ends.
const OPEN_METRICS: &[u8] = b"application/openmetrics-text";

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Authorities that may sign the engine's certificate; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    pub login: Option<Login>,
}

/// A file with the credentials that an engine requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A bearer token (RFC 6750).
    Token(PathBuf),
    /// `USER:PASSWORD` (RFC 7617).
    Password(PathBuf),
}

/// One engine's HTTP.
pub struct Http {
    timeout: Duration,
    state: RefCell<State>,
}

struct State {
    agent: Agent,
    authorities: Option<Watched<Authorities>>,
    /// The value of the header.
    login: Option<Watched<String>>,
    /// Whether the last answer refused the credentials.
    is_refused: bool,
}

impl Http {
    /// `timeout` is for a whole exchange, from connect to the last byte, redirects included.
    ///
    /// # Errors
    /// What is wrong with a file, in words that do not reveal a secret.
    pub fn open(timeout: Duration, reach: &Reach) -> Result<Http, String> {
        let authorities = reach
            .ca_file
            .as_ref()
            .map(|path| Watched::open(path, MAX_FILE_BYTES, Authorities::from_pem));
        let login = reach.login.as_ref().map(|login| match login {
            Login::Token(path) => Watched::open(path, MAX_SECRET_BYTES, bearer),
            Login::Password(path) => Watched::open(path, MAX_SECRET_BYTES, basic),
        });
        let authorities = authorities.transpose()?;
        let state = State {
            agent: agent(authorities.as_ref().map(Watched::get)),
            authorities,
            login: login.transpose()?,
            is_refused: false,
        };
        Ok(Http {
            timeout,
            state: RefCell::new(state),
        })
    }

    /// The result of `take` on the bytes at a URL, as they arrive.
    ///
    /// # Errors
    /// In words, where there is no answer of status 200 within the bounds, or `take` refuses it.
    pub fn read<T>(
        &self,
        url: &str,
        take: impl FnOnce(&mut dyn Read) -> Result<T, String>,
    ) -> Result<T, String> {
        let answer = self.get(url)?;
        let status = answer.status();
        if status != 200 {
            return Err(format!(
                "status {status}, allowed: 200{}",
                hint(status.as_u16())
            ));
        }
        // gzip has been unpacked already, and its header removed.
        if let Some(encoding) = answer.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(format!(
                "found content encoding {encoding:?}, allowed: gzip"
            ));
        }
        let kind = answer.headers().get(CONTENT_TYPE);
        let is_open_metrics = kind.is_some_and(|kind| kind.as_bytes().starts_with(OPEN_METRICS));
        let mut body = answer.into_body();
        let mut body = body.with_config().limit(MAX_BODY_BYTES).reader();
        match is_open_metrics {
            true => take(&mut Ended::new(body)),
            false => take(&mut body),
        }
    }

    /// Whether a URL answers with success.
    ///
    /// # Errors
    /// In words, the answer instead.
    pub fn answers(&self, url: &str) -> Result<(), String> {
        let status = self.get(url)?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("status {status}{}", hint(status.as_u16()))),
        }
    }

    /// The answer at a URL, or at its redirects on the same host.
    fn get(&self, url: &str) -> Result<Response<Body>, String> {
        let mut state = self.state.borrow_mut();
        state.look();
        let end = Instant::now() + self.timeout;
        let first: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let left = end.saturating_duration_since(Instant::now());
            let mut request = state.agent.get(&uri).header(ACCEPT, FORMATS);
            // The credentials are for this URL; no other port of that host may see them.
            if let Some(login) = &state.login
                && origin(&uri) == origin(&first)
            {
                request = request.header(AUTHORIZATION, login.get());
            }
            let request = request.config().timeout_global(Some(left)).build();
            let answer = request.call().map_err(|error| error.to_string())?;
            state.is_refused = matches!(answer.status().as_u16(), 401 | 403);
            match redirect(&answer) {
                None => return Ok(answer),
                Some(to) => uri = follow(&uri, to)?,
            }
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }
}

impl State {
    /// Reads the files again that have changed.
    fn look(&mut self) {
        if let Some(file) = &mut self.login {
            tell(file.look_at(self.is_refused));
        }
        if let Some(file) = &mut self.authorities
            && tell(file.look_at(false))
        {
            self.agent = agent(Some(file.get()));
        }
    }
}

/// An OpenMetrics document. Its last line proves that it is complete, which the transport may not do: an
/// answer without a length ends wherever its connection is closed.
struct Ended<R> {
    document: R,
    /// The last bytes so far.
    tail: Vec<u8>,
}

impl<R> Ended<R> {
    const END: &'static [u8] = b"# EOF";

    fn new(document: R) -> Ended<R> {
        let tail = Vec::with_capacity(Self::END.len() + 1);
        Ended { document, tail }
    }
}

impl<R: Read> Read for Ended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.document.read(buffer)?;
        if length == 0 && !buffer.is_empty() && !self.tail.trim_ascii_end().ends_with(Self::END) {
            let why = "the answer was cut off: its last line is not # EOF";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let kept = Self::END.len() + 1;
        self.tail
            .extend(&buffer[length.saturating_sub(kept)..length]);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        Ok(length)
    }
}

/// Whether there is something new.
fn tell(look: Look) -> bool {
    if let Look::Bad(why) = &look {
        tracing::warn!("{why}; using the last good content");
    }
    look == Look::Changed
}

fn agent(authorities: Option<&Authorities>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        // Engines are on this node, so proxies of the environment are not used.
        .proxy(None)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .tls_config(tls_config(authorities))
        .build();
    http_agent(config)
}

fn bearer(bytes: &[u8]) -> Result<String, String> {
    let token = secret(bytes, words::token)?;
    Ok(format!("Bearer {token}"))
}

fn basic(bytes: &[u8]) -> Result<String, String> {
    let login = secret(bytes, |text| {
        let (user, _) = text.split_once(':').unwrap_or_default();
        let is_plain = !text.chars().any(char::is_control);
        match !user.is_empty() && is_plain {
            true => Ok(text.to_owned()),
            false => Err("allowed: USER:PASSWORD".to_owned()),
        }
    })?;
    Ok(format!("Basic {}", base64(login.as_bytes())))
}

/// RFC 4648, section 4. A header's worth of bytes, so that no crate is needed for it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() {
                letter.into()
            } else {
                '='
            });
        }
    }
    text
}

/// What to do about a status that asks for credentials.
fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => "; use --engine-token-file or --engine-login-file",
        _ => "",
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<(&str, &str, u16)> {
    let scheme = uri.scheme_str()?;
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, uri.host()?, uri.port_u16().unwrap_or(usual)))
}

/// The target of a redirect.
fn redirect(answer: &Response<Body>) -> Option<&str> {
    match answer.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => answer.headers().get(LOCATION)?.to_str().ok(),
        _ => None,
    }
}

/// The place that `to` means, seen from `from` (RFC 3986, section 5.2, without `..`): on the same host,
/// and never from TLS to plain text.
fn follow(from: &Uri, to: &str) -> Result<Uri, String> {
    let refuse = |why: &str| format!("it redirects to {to:?}, {why}");
    let scheme = from.scheme_str().unwrap_or_default();
    let authority = from.authority().map(|authority| authority.as_str());
    let authority = authority.unwrap_or_default();
    let text = if to.contains("://") {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{to}")
    };
    let uri: Uri = text.parse().map_err(|_| refuse("which is not a URL"))?;
    let is_same_host = match (uri.host(), from.host()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    };
    let has_name = uri
        .authority()
        .is_some_and(|part| part.as_str().contains('@'));
    match uri.scheme_str() {
        _ if !is_same_host || has_name => Err(refuse("allowed: the same host")),
        Some("https") => Ok(uri),
        Some("http") if scheme == "http" => Ok(uri),
        _ => Err(refuse("allowed: https from https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host_and_in_tls() {
        let follow = |from: &str, to: &str| {
            let uri = follow(&from.parse().expect("a URL"), to);
            uri.map(|uri| uri.to_string()).ok()
        };
        let plain = "http://gpu-1:8000/a/metrics?x=1";
        for (to, expected) in [
            ("/metrics/", "http://gpu-1:8000/metrics/"),
            ("prometheus", "http://gpu-1:8000/a/prometheus"),
            ("//gpu-1/m", "http://gpu-1/m"),
            ("http://GPU-1:9/m", "http://gpu-1:9/m"),
            ("https://gpu-1/m", "https://gpu-1/m"),
        ] {
            let found = follow(plain, to).map(|uri| uri.to_ascii_lowercase());
            assert_eq!(found.as_deref(), Some(expected), "{to}");
        }
        for to in [
            "http://gpu-2:8000/metrics",
            "//gpu-2/",
            "http://gpu-1:8000@evil/",
            "http://user@gpu-1:8000/",
            "ftp://gpu-1/",
            "http://",
            "/ \n",
        ] {
            assert_eq!(follow(plain, to), None, "{to}");
        }
        assert_eq!(follow("https://gpu-1/m", "http://gpu-1/m"), None);
        let [one, other] = ["http://a/x", "http://a:80/y"].map(|url| url.parse().expect("a URL"));
        assert_eq!(origin(&one), origin(&other));
    }

    #[test]
    fn passwords_go_as_the_standard_says() {
        // RFC 7617, section 2, and RFC 4648, section 10.
        let header = basic(b"Aladdin:open sesame\n").expect("a login");
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        for bad in ["", "\n", "no colon", ":only a password", "a:b\nc"] {
            assert!(basic(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(bearer(b"s3cret\n").as_deref(), Ok("Bearer s3cret"));
    }
}
