//! What the tests of the data path begin with.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::ports::free_address;
use testkit::{Folder, Proxy, Session, proxy_config};

/// Backends of weight 10; `settings` are set above the base format's keys.
pub fn configuration(listen: SocketAddr, backends: &[SocketAddr], settings: Value) -> Value {
    let backends: Vec<_> = backends.iter().map(|addr| (*addr, 10)).collect();
    let mut config = proxy_config(listen, &backends);
    for (key, value) in settings.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// A proxy before some backends of weight 10.
pub struct ProxyBench {
    pub proxy: Proxy,
    pub listen: SocketAddr,
    pub folder: Folder,
}

impl ProxyBench {
    /// `settings` are set above the base format's keys.
    pub fn start(backends: &[SocketAddr], settings: Value) -> ProxyBench {
        ProxyBench::on(free_address(), backends, settings)
    }

    /// The same, listening on an address that is known to be free.
    pub fn on(listen: SocketAddr, backends: &[SocketAddr], settings: Value) -> ProxyBench {
        ProxyBench::run(listen, backends, settings, &[])
    }

    /// One worker, whose turns are those of all: each worker takes them for itself.
    pub fn with_one_worker(backends: &[SocketAddr], settings: Value) -> ProxyBench {
        ProxyBench::run(free_address(), backends, settings, &["-w", "1"])
    }

    fn run(
        listen: SocketAddr,
        backends: &[SocketAddr],
        settings: Value,
        arguments: &[&str],
    ) -> ProxyBench {
        let folder = Folder::new();
        let config = configuration(listen, backends, settings);
        ProxyBench {
            proxy: Proxy::start(&folder, &config, arguments),
            listen,
            folder,
        }
    }

    #[track_caller]
    pub fn open(&self) -> Session {
        Session::open(self.listen).expect("a session is served")
    }

    /// The reason stands in status, metrics and log, and nothing is left in flight.
    #[track_caller]
    pub fn assert_sessions_ended(&mut self, reason: &str, count: u64) {
        self.proxy.await_sessions_ended(reason, count);
        self.proxy.program.wait_for_line(reason);
        let metrics = self.proxy.admin.metrics();
        let counted = |line: &str| line.contains(reason) && line.ends_with(&format!(" {count}"));
        assert!(metrics.lines().any(counted), "{reason}: {metrics}");
        self.proxy.await_no_sessions();
    }

    /// How many flows have ended for `reason`.
    #[track_caller]
    pub fn flows_ended(&self, reason: &str) -> u64 {
        let ended = self.proxy.status().totals.flows_ended;
        ended.get(reason).copied().unwrap_or(0)
    }
}
