//! `GET /metrics`: what the agent knows about its engines, and how many of its calls fail.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::routing::get;
use contract::exposition::Form;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::counts::Counts;
use crate::latest::{Latest, Word};

/// Limits on clients of the metrics.
const BOUNDS: serve::Bounds = serve::Bounds {
    connections: 8,
    exchange: Duration::from_secs(5),
};

/// One engine under the address by which clients reach it.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub latest: Arc<Latest>,
}

/// Serves the metrics in a thread of their own.
///
/// # Errors
/// `listen` cannot be bound, or the thread cannot be started.
pub fn start(listen: SocketAddr, engines: Vec<Named>, stale_after: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build()?;
    tracing::info!("metrics on {}", listener.local_addr()?);
    let answer = async move |headers: HeaderMap| {
        let accept = headers.get(header::ACCEPT);
        let form = Form::wanted(accept.and_then(|accept| accept.to_str().ok()));
        let text = form.of(text(&engines, stale_after, Instant::now()));
        ([(header::CONTENT_TYPE, form.content_type())], text)
    };
    let routes = Router::new().route("/metrics", get(answer));
    let thread = std::thread::Builder::new().name("metrics".into());
    thread.spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => serve::serve(listener, routes, BOUNDS).await,
                Err(error) => tracing::error!("metrics: {error}"),
            }
        });
    })?;
    Ok(())
}

/// As OpenMetrics text.
fn text(engines: &[Named], stale_after: Duration, now: Instant) -> String {
    let read = engines.iter().map(|engine| Engine {
        label: [("backend", engine.name.clone())],
        word: engine.latest.word(now, stale_after),
        latest: Arc::clone(&engine.latest),
    });
    let mut registry = Registry::with_prefix("wicketgate_agent");
    registry.register_collector(Box::new(Engines(read.collect())));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

/// All engines at one moment.
#[derive(Debug)]
struct Engines(Vec<Engine>);

#[derive(Debug)]
struct Engine {
    label: [(&'static str, String); 1],
    word: Word,
    latest: Arc<Latest>,
}

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        type Count = fn(&Counts) -> &AtomicU64;
        let counters: [(&str, &str, Count); 4] = [
            ("reads", "Reads of the engine", |counts| &counts.reads),
            ("read_failures", "Failed reads of the engine", |counts| {
                &counts.read_failures
            }),
            (
                "control_calls",
                "Calls to a control server; a heartbeat makes one for each that it tries",
                |counts| &counts.calls,
            ),
            (
                "control_call_failures",
                "Calls that failed or were refused",
                |counts| &counts.call_failures,
            ),
        ];
        for (name, help, count) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for engine in &self.0 {
                let count = count(engine.latest.counts()).load(Relaxed);
                ConstCounter::new(count).encode(metric.encode_family(&engine.label)?)?;
            }
        }
        type Value = fn(&Word) -> Option<f64>;
        let gauges: [(&str, &str, Option<Unit>, Value); 6] = [
            (
                "warming_up",
                "1 while the engine is warming up",
                None,
                |word| Some(f64::from(u8::from(word.is_warming_up))),
            ),
            ("gpu_usage_ratio", "GPU usage as reported", None, |word| {
                word.figures.gpu_usage
            }),
            ("vram_usage_ratio", "VRAM usage as reported", None, |word| {
                word.figures.vram_usage
            }),
            (
                "queued_requests",
                "Requests waiting in the engine's queue",
                None,
                |word| word.figures.queue.map(|queue| queue as f64),
            ),
            ("running_requests", "Requests in progress", None, |word| {
                word.figures.running.map(|running| running as f64)
            }),
            (
                "reading_age",
                "Age of the reported figures, in seconds",
                Some(Unit::Seconds),
                |word| word.reading.map(|(_, age)| age.as_secs_f64()),
            ),
        ];
        for (name, help, unit, value) in gauges {
            let kind = MetricType::Gauge;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for engine in &self.0 {
                if let Some(value) = value(&engine.word) {
                    ConstGauge::new(value).encode(metric.encode_family(&engine.label)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    #[test]
    fn what_is_unknown_has_no_value() {
        let named = |name: &str| Named {
            name: name.to_owned(),
            latest: Arc::default(),
        };
        let engines = [named("10.0.0.7:9001"), named("10.0.0.8:9001")];
        let now = Instant::now();
        let figures = Figures {
            gpu_usage: Some(0.5),
            queue: Some(3),
            ..Figures::default()
        };
        engines[0].latest.put(Some(figures), false, now);
        engines[0].latest.counts().read(true);
        engines[1].latest.counts().read(false);
        engines[1].latest.counts().called(true);
        let text = text(&engines, Duration::from_secs(5), now);
        let has = |line: &str| text.lines().any(|one| one == line);
        assert!(has(
            "wicketgate_agent_gpu_usage_ratio{backend=\"10.0.0.7:9001\"} 0.5"
        ));
        assert!(has(
            "wicketgate_agent_queued_requests{backend=\"10.0.0.7:9001\"} 3.0"
        ));
        assert!(!text.contains("vram_usage_ratio{"), "{text}");
        assert!(has(
            "wicketgate_agent_warming_up{backend=\"10.0.0.8:9001\"} 1.0"
        ));
        assert!(has(
            "wicketgate_agent_read_failures_total{backend=\"10.0.0.8:9001\"} 1"
        ));
        assert!(has(
            "wicketgate_agent_control_calls_total{backend=\"10.0.0.8:9001\"} 1"
        ));
    }
}
