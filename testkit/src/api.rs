//! Control's HTTP API, as its clients use it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Answer, Request};

/// Longer than any call may take.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
pub struct Api {
    addr: SocketAddr,
}

impl Api {
    pub fn at(addr: SocketAddr) -> Api {
        Api { addr }
    }

    /// A GET; the status and the JSON of the answer, or the text where it is no JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.call(Request::new("GET", path))
    }

    /// A POST of JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::new("POST", path).body(body.to_string());
        self.call(request.header("Content-Type", "application/json"))
    }

    /// A PUT of JSON.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::new("PUT", path).body(body.to_string());
        self.call(request.header("Content-Type", "application/json"))
    }

    /// A POST without a body and without a content type.
    #[track_caller]
    pub fn post_nothing(&self, path: &str) -> (u16, Value) {
        self.call(Request::new("POST", path))
    }

    /// A DELETE, with JSON where a body is given.
    #[track_caller]
    pub fn delete(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = Request::new("DELETE", path);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json");
            request = request.body(body.to_string());
        }
        self.call(request)
    }

    /// Sets a backend's weight, as the console does.
    #[track_caller]
    pub fn set_weight(&self, backend: SocketAddr, weight: u64) -> (u16, Value) {
        let path = format!("/api/backends/{}/{}/weight", backend.ip(), backend.port());
        self.post(&path, &serde_json::json!({ "weight": weight }))
    }

    /// Any request; without a `Host` among its headers it gets the right one.
    #[track_caller]
    pub fn call(&self, request: Request) -> (u16, Value) {
        match self.exchange(request.clone()) {
            Ok(answer) => {
                let value = serde_json::from_slice(&answer.body);
                let value = value.unwrap_or_else(|_| Value::String(answer.text()));
                (answer.status, value)
            }
            Err(error) => panic!("{} {}: {error}", request.method, request.path),
        }
    }

    /// Any request, answered or not.
    pub fn exchange(&self, mut request: Request) -> io::Result<Answer> {
        let named = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if !request.headers.iter().any(named) {
            request = request.header("Host", &self.addr.to_string());
        }
        let mut stream = TcpStream::connect_timeout(&self.addr, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        request.exchange(&mut stream)
    }
}
