//! One simulated proxy: the real registry, snapshot, picker and scorer, told in virtual time what a
//! proxy sees of its sessions and of the reports of its backends.

use std::net::IpAddr;
use std::sync::Arc;

use contract::{
    Algorithm, Backend, BackendAddr, Batch, Config, Name, Pool, ProcessSettings, Report,
};
use proxy_core::health::Unanswered;
use proxy_core::health::sources::{AnsweredSources, Source};
use proxy_core::latency::add;
use proxy_core::meter::Moment;
use proxy_core::pick::{BackendIndex, Request};
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::score::Now;
use proxy_core::slot::SessionSlot;
use proxy_core::snapshot::{PoolSnapshot, Snapshot};

use super::scenario::HEARTBEAT_MS;

/// What the configuration says of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Listed {
    pub server: usize,
    pub weight: u16,
    pub is_warming_up: bool,
}

pub struct Proxy {
    algorithm: Algorithm,
    batch: Option<Batch>,
    registry: BackendRegistry,
    snapshot: Arc<Snapshot>,
    /// Of each backend of the snapshot, the server.
    servers: Vec<usize>,
    random: fastrand::Rng,
    answered: AnsweredSources,
}

/// Any time of day will do.
const UNIX_MS_AT_START: u64 = 1_700_000_000_000;
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

impl Proxy {
    pub fn new(algorithm: Algorithm, listed: &[Listed], batch: Option<Batch>, seed: u64) -> Proxy {
        let mut registry = BackendRegistry::new(1);
        let snapshot = build(None, algorithm, listed, batch, &mut registry, 0.0);
        let proxy = Proxy {
            algorithm,
            batch,
            servers: listed.iter().map(|one| one.server).collect(),
            snapshot: Arc::new(snapshot),
            registry,
            random: fastrand::Rng::with_seed(seed),
            answered: AnsweredSources::default(),
        };
        proxy.tick(0.0);
        proxy
    }

    fn pool(&self) -> &PoolSnapshot {
        &self.snapshot.pools[0]
    }

    /// A reload.
    pub fn reload(&mut self, listed: &[Listed], now: f64) {
        let new = build(
            Some(&self.snapshot),
            self.algorithm,
            listed,
            self.batch,
            &mut self.registry,
            now,
        );
        self.servers = listed.iter().map(|one| one.server).collect();
        self.snapshot = Arc::new(new);
        self.tick(now);
    }

    /// Chooses a server for a new job and counts it there.
    pub fn dispatch(&mut self, now: f64) -> (usize, SessionSlot) {
        let request = Request {
            client_ip: CLIENT,
            tried: &[],
        };
        let pool = &self.snapshot.pools[0];
        let picked = pool.pick(Protocol::Tcp, &request, us(now), &mut self.random);
        let picked = picked.expect("every scenario has candidates");
        let backend = pool.backend(picked.backend);
        let mut slot = SessionSlot::take(backend);
        add(&backend.worker(0).sessions_total, 1);
        if let Some(moment) = self.moment(now) {
            if picked.joins_batch {
                slot.join_batch();
            }
            slot.mark_active(moment);
            slot.sent(moment);
        }
        (self.servers[picked.backend.0 as usize], slot)
    }

    pub fn answered(&self, mut slot: SessionSlot, now: f64) {
        let (source, now_ms) = (Source::of(CLIENT), us(now) / 1_000);
        slot.backend().answered(&self.answered, source, now_ms);
        if let Some(moment) = self.moment(now) {
            slot.answered(moment);
        }
    }

    /// The server closed without a byte.
    pub fn lost(&self, mut slot: SessionSlot, now: f64) {
        // All are of one client, which counts while another server serves it.
        let (source, now_ms) = (Source::of(CLIENT), us(now) / 1_000);
        let (backend, sources) = (slot.backend(), &self.answered);
        let unanswered = backend.left_unanswered(0, sources, source, 0, now_ms);
        let is_held_against = unanswered != Unanswered::Ignored;
        if let Some(moment) = self.moment(now).filter(|_| is_held_against) {
            slot.aborted(moment);
        }
    }

    pub fn report(&self, server: usize, vram_usage: f64, gpu_usage: f64, said_at: f64, now: f64) {
        let Some(index) = self.servers.iter().position(|&one| one == server) else {
            return;
        };
        let index = BackendIndex(index as u32);
        let at_ms = UNIX_MS_AT_START + us(said_at) / 1_000;
        self.pool().backend(index).telemetry().set(&Report {
            gpu_usage: Some(gpu_usage),
            vram_usage: Some(vram_usage),
            reported_at_ms: Some(at_ms),
            heartbeat_ms: Some(HEARTBEAT_MS),
        });
        self.pool().score_report(index, in_both_clocks(now));
    }

    /// Scores, as the proxy does every 100 ms while something is in flight.
    pub fn tick(&self, now: f64) {
        self.pool().score(in_both_clocks(now));
    }

    fn moment(&self, now: f64) -> Option<Moment<'_>> {
        let metering = self.pool().metering.as_ref()?;
        Some(Moment {
            metering,
            worker: 0,
            now_us: us(now),
        })
    }
}

fn build(
    previous: Option<&Snapshot>,
    algorithm: Algorithm,
    listed: &[Listed],
    batch: Option<Batch>,
    registry: &mut BackendRegistry,
    now: f64,
) -> Snapshot {
    let backends = listed.iter().map(|one| Backend {
        addr: BackendAddr::new([10, 0, 0, one.server as u8].into(), 80),
        weight: one.weight,
        enabled: true,
        is_warming_up: one.is_warming_up,
        report: Report::default(),
        batch,
    });
    let pool = Pool::new(Name::default(), algorithm, backends.collect());
    let config = Config {
        generation: None,
        updated_at: None,
        listeners: Vec::new(),
        pools: vec![pool],
        process: ProcessSettings::default(),
    };
    Snapshot::build(previous, &config, registry, 1, 1, us(now) / 1_000)
}

fn us(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

fn in_both_clocks(now: f64) -> Now {
    Now {
        us: us(now),
        unix_ms: UNIX_MS_AT_START + us(now) / 1_000,
    }
}
