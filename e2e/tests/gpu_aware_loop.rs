//! What servers say of their GPUs, through the whole loop: registered at control, handed on over the
//! admin socket, and seen in where the proxy sends new sessions.

use std::net::SocketAddr;
use std::time::Duration;

use contract::status::BackendCost;
use e2e::scripted::{Scripted, ask};
use serde_json::json;
use testkit::ports::free_address;
use testkit::{Control, Folder, LONG, Proxy, until};

/// Both planes before three servers that register: one is slow, one says that its VRAM is full.
struct Pool {
    control: Control,
    proxy: Proxy,
    listen: SocketAddr,
    fast: Scripted,
    slow: Scripted,
    full: Scripted,
    _folder: Folder,
}

const CALM: f64 = 0.30;
const FULL: f64 = 0.98;

impl Pool {
    fn start(algorithm: &str) -> Pool {
        let quickly = Duration::from_millis(1);
        let folder = Folder::new();
        let listen = free_address();
        let settings = json!({ "default_algorithm": algorithm, "runtime_ttl_sec": 3600 });
        let control = Control::start(&folder, listen, &settings);
        let [fast, full] = [(); 2].map(|()| Scripted::answering_after(quickly));
        let slow = Scripted::answering_after(Duration::from_millis(30));
        for (server, vram) in [(&fast, CALM), (&slow, CALM), (&full, FULL)] {
            beat(&control, server, vram);
        }
        until("all are published", LONG, || {
            let config = folder.proxy_config()?;
            (config["backends"].as_array()?.len() == 3).then_some(())
        });
        let proxy = Proxy::start_on(&folder, &["-w", "1"]);
        Pool {
            control,
            proxy,
            listen,
            fast,
            slow,
            full,
            _folder: folder,
        }
    }

    /// Sends requests one after the other; returns how many of them fast, slow and full got.
    #[track_caller]
    fn ask(&self, count: usize) -> [u64; 3] {
        let served = || [&self.fast, &self.slow, &self.full].map(Scripted::served);
        let before = served();
        (0..count).for_each(|_| assert!(ask(self.listen), "every request is answered"));
        let after = served();
        [0, 1, 2].map(|at| after[at] - before[at])
    }

    fn cost(&self, server: &Scripted) -> BackendCost {
        let row = self.proxy.backend(server.addr);
        row.cost.expect("gpu_aware explains")
    }
}

/// What a server says of itself in each heartbeat. These tests beat by hand, so the next one is said
/// to be far away: the figures stay fresh.
#[track_caller]
fn beat(control: &Control, server: &Scripted, vram: f64) {
    let body = json!({
        "ip": server.addr.ip(), "port": server.addr.port(), "weight": 10,
        "gpu_usage": 0.0, "vram_usage": vram, "heartbeat_ms": 600_000,
    });
    let (status, answer) = control.api.post("/api/register", &body);
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
}

#[test]
fn slow_and_full_servers_get_clearly_less_than_under_rules_that_do_not_look() {
    const REQUESTS: usize = 60;
    for algorithm in ["round_robin", "least_connections"] {
        let pool = Pool::start(algorithm);
        let [_, slow, full] = pool.ask(REQUESTS);
        // One request at a time: nothing is in flight when the next one is placed.
        assert!(slow >= 10 && full >= 10, "{algorithm}: {slow}, {full}");
    }
    let pool = Pool::start("gpu_aware");
    pool.ask(REQUESTS / 2);
    let [fast, slow, full] = pool.ask(REQUESTS);
    assert!(slow <= 5 && full <= 2, "{fast}, {slow}, {full}");
    assert!(pool.cost(&pool.slow).slowness > pool.cost(&pool.fast).slowness);
}

#[test]
fn a_heartbeat_moves_the_next_sessions_without_a_reload_and_status_says_why() {
    let pool = Pool::start("gpu_aware");
    let before = pool.proxy.status();
    assert_eq!(pool.ask(10)[2], 0, "the full one gets nothing");

    beat(&pool.control, &pool.full, CALM);
    beat(&pool.control, &pool.fast, FULL);
    beat(&pool.control, &pool.slow, FULL);
    until("the proxy knows what was said", LONG, || {
        let full_now = [&pool.fast, &pool.slow].map(|server| pool.cost(server).vram);
        (full_now.iter().all(|cost| *cost > 10.0) && pool.cost(&pool.full).vram == 0.0)
            .then_some(())
    });
    assert_eq!(pool.ask(10), [0, 0, 10]);

    let after = pool.proxy.status();
    assert_eq!(after.running.generation, before.running.generation);
    assert_eq!(after.running.digest, before.running.digest);
    assert_eq!(
        (after.reloads_ok, after.reloads_refused),
        (before.reloads_ok, before.reloads_refused)
    );
    let row = pool.proxy.backend(pool.fast.addr);
    assert_eq!(row.vram_usage, Some(FULL));
    let cost = pool.cost(&pool.fast);
    assert!(cost.vram_expected >= Some(FULL), "{cost:?}");
    assert_eq!(cost.report_weight, 1.0, "{cost:?}");
    let load = (cost.in_flight + 1.0 + cost.failures) * cost.slowness;
    let parts = load / (cost.weight * cost.warm_up) + cost.report_weight * (cost.vram + cost.gpu);
    assert!((cost.total - parts).abs() < 0.01, "{cost:?}");
}
