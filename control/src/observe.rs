//! Reads the proxy's status: a client of its admin socket, HTTP over a unix socket.
//!
//! Every call has a time-out and a bounded answer; a proxy without the socket (`dummy_proxy`) is an
//! ordinary case and distinguished from one that does not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::BackendKey;
use contract::sessions::{SessionList, SessionQuery};
use contract::status::{Refusal, Reports, Running, States, Status};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The largest answer: a status of 20,000 backends takes about 14 MB.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// How many backends a question for their status names at most.
const MAX_NAMED: usize = 200;
/// How long `GET /status`, `POST /reports` and `POST /reload` may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long `GET /states` may take: it is read often, so it need not wait for long.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer than asked for a held-back answer may take.
const GRACE: Duration = Duration::from_millis(200);

/// Why the proxy's status is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// There is no such socket, or no process listens on it.
    #[error("the proxy has no admin socket ({path}: {error})")]
    NoSocket { path: PathBuf, error: io::Error },
    /// The proxy is older than this call.
    #[error("admin socket {path}: {call}: the proxy does not support this call")]
    NoSuchCall { path: PathBuf, call: String },
    #[error("admin socket {path}: {why}")]
    Failed { path: PathBuf, why: String },
}

/// The answer of `POST /check`.
#[derive(Debug, serde::Deserialize)]
struct Checked {
    refusals: Vec<Refusal>,
}

/// A client of one admin socket.
#[derive(Clone)]
pub struct Proxy {
    socket: PathBuf,
    /// Answers in the socket's place, for a simulation.
    #[cfg(test)]
    played: Option<Played>,
}

/// Takes method, path and body.
#[cfg(test)]
pub type Played =
    std::sync::Arc<dyn Fn(&Method, &str, &[u8]) -> Result<Bytes, Unknown> + Send + Sync>;

impl Proxy {
    pub fn at(socket: &Path) -> Proxy {
        Proxy {
            socket: socket.to_owned(),
            #[cfg(test)]
            played: None,
        }
    }

    /// A simulated proxy.
    #[cfg(test)]
    pub fn played(played: Played) -> Proxy {
        Proxy {
            socket: PathBuf::new(),
            played: Some(played),
        }
    }

    pub async fn status(&self) -> Result<Status, Unknown> {
        self.call(Method::GET, "/status", Bytes::new(), CALL_TIMEOUT)
            .await
    }

    /// The status with only these backends, if they are few; a whole status of many takes a second. An older
    /// proxy gives all of them.
    pub async fn status_of(&self, keys: &[BackendKey]) -> Result<Status, Unknown> {
        if keys.len() > MAX_NAMED {
            return self.status().await;
        }
        let names = keys.iter().map(BackendKey::to_string);
        let path = format!("/status?backends={}", names.collect::<Vec<_>>().join(","));
        self.call(Method::GET, &path, Bytes::new(), CALL_TIMEOUT)
            .await
    }

    /// The open sessions and flows that are asked for.
    pub async fn sessions(&self, asked: &SessionQuery) -> Result<SessionList, Unknown> {
        let path = format!("/sessions?{}", query_of(asked));
        self.call(Method::GET, &path, Bytes::new(), CALL_TIMEOUT)
            .await
    }

    /// Ends one of them; false if it is not open.
    pub async fn end_session(&self, id: &str) -> Result<bool, Unknown> {
        let path = format!("/sessions/{id}");
        match self
            .answer(Method::DELETE, &path, Bytes::new(), CALL_TIMEOUT)
            .await
        {
            Ok(_) => Ok(true),
            Err(Unknown::NoSuchCall { .. }) => Ok(false),
            Err(unknown) => Err(unknown),
        }
    }

    /// Whether states have changed, without the rest of a status.
    pub async fn states(&self) -> Result<States, Unknown> {
        self.call(Method::GET, "/states", Bytes::new(), LOOK_TIMEOUT)
            .await
    }

    /// Waits until the proxy runs `at_least` or a later generation, has refused it, or the time is over;
    /// returns what it runs then.
    pub async fn generation(&self, at_least: u64, wait: Duration) -> Result<Running, Unknown> {
        let milliseconds = wait.as_millis();
        let path = format!("/generation?at_least={at_least}&timeout_ms={milliseconds}");
        self.call(Method::GET, &path, Bytes::new(), wait + GRACE)
            .await
    }

    /// Makes the proxy read its file; returns what it runs afterwards.
    pub async fn reload(&self) -> Result<Running, Unknown> {
        self.call(Method::POST, "/reload", Bytes::new(), CALL_TIMEOUT)
            .await
    }

    /// What the proxy would refuse of `document` now; changes nothing.
    pub async fn check(&self, document: Vec<u8>) -> Result<Vec<Refusal>, Unknown> {
        let checked: Checked = self
            .call(Method::POST, "/check", document.into(), CALL_TIMEOUT)
            .await?;
        Ok(checked.refusals)
    }

    pub async fn report(&self, reports: &Reports) -> Result<(), Unknown> {
        let body = serde_json::to_vec(reports).expect("Reports is plain data");
        let path = "/reports";
        self.answer(Method::POST, path, body.into(), CALL_TIMEOUT)
            .await
            .map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<T, Unknown> {
        let bytes = self.answer(method, path, body, timeout).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.failed(format!("{path}: unexpected answer: {error}")))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Unknown> {
        #[cfg(test)]
        if let Some(played) = &self.played {
            // It says of all backends what it says of some.
            let path = match path.starts_with("/status?") {
                true => "/status",
                false => path,
            };
            return played(&method, path, &body);
        }
        match tokio::time::timeout(timeout, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failed(format!("{path}: no answer in {timeout:?}"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Unknown> {
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|error| self.not_connected(error))?;
        let failed = |error: &dyn std::fmt::Display| self.failed(format!("{path}: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "proxy")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("the paths above are valid");
        // The connection makes progress only while it is polled, and ends with this call.
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
            let bytes = body.collect().await.map_err(|error| failed(&error))?;
            match status {
                status if status.is_success() => Ok(bytes.to_bytes()),
                StatusCode::NOT_FOUND => Err(Unknown::NoSuchCall {
                    path: self.socket.clone(),
                    call: path.to_owned(),
                }),
                status => Err(failed(&status)),
            }
        };
        tokio::pin!(answer);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(failed(&error)),
            },
        }
    }

    fn not_connected(&self, error: io::Error) -> Unknown {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unknown::NoSocket {
                path: self.socket.clone(),
                error,
            },
            io::ErrorKind::PermissionDenied => self.failed(format!(
                "{error}: it belongs to another user; share it with proxy_server --socket-group"
            )),
            _ => self.failed(error.to_string()),
        }
    }

    fn failed(&self, why: String) -> Unknown {
        Unknown::Failed {
            path: self.socket.clone(),
            why,
        }
    }
}

/// A question as a query string. Brackets of IPv6 are the only characters that need an escape.
fn query_of(asked: &SessionQuery) -> String {
    let asked = serde_json::to_value(asked).expect("a question is plain data");
    let pairs = asked.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| match value {
        serde_json::Value::String(text) => {
            format!("{key}={}", text.replace('[', "%5B").replace(']', "%5D"))
        }
        other => format!("{key}={other}"),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests;
