//! What `backend_gone_timeout_ms` makes of the open sessions of a backend that a reload removed or
//! disabled. Without it they go on, which `reload.rs` shows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::sessions::{assert_alive, open_sessions};
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{Backend, Folder, Manner, Proxy, Session, proxy_config};

/// A proxy of two workers before two backends that echo.
struct Bench {
    proxy: Proxy,
    listen: SocketAddr,
    leaving: Backend,
    staying: Backend,
    timeout_ms: u64,
    _folder: Folder,
}

impl Bench {
    fn start(timeout_ms: u64) -> Bench {
        let [leaving, staying] =
            ["leaving", "staying"].map(|name| Backend::start(name, Manner::Echo));
        let (listen, folder) = (free_address(), Folder::new());
        let mut config = proxy_config(listen, &[(leaving.addr, 10)]);
        config["backend_gone_timeout_ms"] = json!(timeout_ms);
        Bench {
            proxy: Proxy::start(&folder, &config, &["-w", "2"]),
            listen,
            leaving,
            staying,
            timeout_ms,
            _folder: folder,
        }
    }

    fn config(&self, weights: &[(&Backend, u64)]) -> Value {
        let weights: Vec<_> = weights
            .iter()
            .map(|(b, weight)| (b.addr, *weight))
            .collect();
        let mut config = proxy_config(self.listen, &weights);
        config["backend_gone_timeout_ms"] = json!(self.timeout_ms);
        config
    }

    /// Twelve sessions to the one that will leave, then four to the other one.
    fn sessions(&mut self) -> (Vec<Session>, Vec<Session>) {
        let leaving = open_sessions(self.listen, 12);
        let config = self.config(&[(&self.leaving, 0), (&self.staying, 10)]);
        self.proxy.reload(&config);
        (leaving, open_sessions(self.listen, 4))
    }
}

#[test]
fn at_once_sessions_of_a_removed_backend_are_reset_and_no_others() {
    let mut bench = Bench::start(0);
    let (_leaving, mut staying) = bench.sessions();
    let config = bench.config(&[(&bench.staying, 10)]);
    bench.proxy.reload(&config);
    bench.proxy.await_sessions_ended("backend_gone", 12);
    bench.proxy.program.wait_for_line("backend_gone");
    assert_alive(&mut staying);
    assert_eq!(bench.proxy.status().totals.counters.sessions_active, 4);
}

#[test]
fn sessions_of_a_disabled_backend_go_on_for_their_time() {
    let mut bench = Bench::start(800);
    let (mut leaving, mut staying) = bench.sessions();
    let mut config = bench.config(&[(&bench.leaving, 10), (&bench.staying, 10)]);
    config["backends"][0]["enabled"] = json!(false);
    bench.proxy.reload(&config);
    let begun = Instant::now();
    assert_alive(&mut leaving);
    bench.proxy.await_sessions_ended("backend_gone", 12);
    assert!(begun.elapsed() >= Duration::from_millis(700), "too soon");
    assert_alive(&mut staying);
}

#[test]
fn a_backend_that_comes_back_in_time_keeps_its_sessions() {
    let mut bench = Bench::start(600);
    let (mut leaving, mut staying) = bench.sessions();
    let without = bench.config(&[(&bench.staying, 10)]);
    bench.proxy.reload(&without);
    let with = bench.config(&[(&bench.leaving, 10), (&bench.staying, 10)]);
    bench.proxy.reload(&with);
    // Longer than the time that they would have had.
    std::thread::sleep(Duration::from_millis(900));
    assert_alive(&mut leaving);
    assert_alive(&mut staying);
    // Removed again, it has all of that time again.
    let begun = Instant::now();
    bench.proxy.reload(&without);
    bench.proxy.await_sessions_ended("backend_gone", 12);
    assert!(begun.elapsed() >= Duration::from_millis(500), "too soon");
}
