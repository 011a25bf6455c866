//! The proxy's admin socket, as control and operators use it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::status::{Running, States, Status, Trial};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::{Answer, Request};

/// Longer than the longest wait that `GET /generation` allows.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// The admin socket that stands beside `pid_file`.
    pub fn beside(pid_file: &Path) -> Admin {
        Admin {
            socket: contract::paths::proxy_socket(pid_file),
        }
    }

    /// One exchange of any kind.
    pub fn exchange(&self, request: Request) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        request.header("Host", "proxy").exchange(&mut stream)
    }

    #[track_caller]
    pub fn status(&self) -> Status {
        self.json("/status")
    }

    #[track_caller]
    pub fn states(&self) -> States {
        self.json("/states")
    }

    /// What runs, asked as control does: held back until generation `at_least` runs, has been
    /// refused, or `timeout` has passed.
    #[track_caller]
    pub fn generation(&self, at_least: u64, timeout: Duration) -> Running {
        let timeout_ms = timeout.as_millis();
        self.json(&format!(
            "/generation?at_least={at_least}&timeout_ms={timeout_ms}"
        ))
    }

    /// Has the proxy read its file, without a signal; what it runs after that.
    #[track_caller]
    pub fn reload(&self) -> Running {
        let answer = self.exchange(Request::new("POST", "/reload"));
        let answer = answer.expect("the admin socket answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("as the contract says")
    }

    /// What the proxy would refuse of `config` now.
    #[track_caller]
    pub fn check(&self, config: &Value) -> Trial {
        let request = Request::new("POST", "/check").body(config.to_string());
        let answer = self.exchange(request).expect("the admin socket answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("as the contract says")
    }

    /// The metrics in Prometheus' text format.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.ok("/metrics").text()
    }

    #[track_caller]
    fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.ok(path);
        match serde_json::from_slice(&answer.body) {
            Ok(value) => value,
            Err(error) => panic!("{path} of the proxy: {error}: {}", answer.text()),
        }
    }

    #[track_caller]
    fn ok(&self, path: &str) -> Answer {
        match self.exchange(Request::new("GET", path)) {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => panic!("{path}: {} {}", answer.status, answer.text()),
            Err(error) => panic!("{path} on {}: {error}", self.socket.display()),
        }
    }
}
