//! The metrics of backends.

use std::collections::BTreeMap;

use contract::status::{AdminState, BackendStatus, OperationalState};
use prometheus_client::encoding::EncodeMetric as _;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::families::{Encoded, Label, Output, seconds};

impl Output<'_, '_> {
    pub(super) fn of_backends(&mut self, backends: &[BackendStatus]) -> Encoded {
        type Value = fn(&BackendStatus) -> u64;
        let gauges: [(&str, &str, Value); 8] = [
            (
                "backend_up",
                "1 unless the backend is down or ejected",
                |b| u64::from(is_up(b.operational)),
            ),
            (
                "backend_takes_sessions",
                "1 if health and warm-up allow new sessions",
                |b| u64::from(b.health.takes_sessions),
            ),
            ("backend_takes_flows", "1 if health allows new flows", |b| {
                u64::from(b.health.takes_flows)
            }),
            (
                "backend_in_use",
                "1 if the configuration uses the backend",
                |b| u64::from(b.admin == AdminState::Ready),
            ),
            ("backend_weight", "Weight as configured", |b| {
                u64::from(b.weight)
            }),
            (
                "backend_weight_effective",
                "Weight that decides the share of new sessions",
                |b| u64::from(b.weight_effective),
            ),
            ("backend_sessions_active", "TCP sessions open", |b| {
                b.counters.sessions_active
            }),
            ("backend_flows_active", "UDP flows open", |b| {
                b.counters.flows_active
            }),
        ];
        let counters: [(&str, &str, Value); 9] = [
            ("backend_sessions", "TCP sessions connected", |b| {
                b.counters.sessions_total
            }),
            ("backend_flows", "UDP flows started", |b| {
                b.counters.flows_total
            }),
            ("backend_bytes_up", "Payload bytes to the backend", |b| {
                b.counters.bytes_up
            }),
            (
                "backend_bytes_down",
                "Payload bytes from the backend",
                |b| b.counters.bytes_down,
            ),
            ("backend_probes", "Probes made", |b| b.health.probes_total),
            ("backend_probe_failures", "Probes failed", |b| {
                b.health.probe_failures_total
            }),
            ("backend_ejections", "Ejections", |b| {
                b.health.ejections_total
            }),
            ("backend_connect_failures", "Connects refused", |b| {
                b.counters.connect_failures
            }),
            ("backend_connect_timeouts", "Connects timed out", |b| {
                b.counters.connect_timeouts
            }),
        ];
        for (name, help, value) in gauges {
            self.family(
                name,
                help,
                MetricType::Gauge,
                backends.iter().map(|b| (label(b), value(b))),
            )?;
        }
        for (name, help, value) in counters {
            let counts = backends.iter().map(|b| (label(b), value(b)));
            self.family(name, help, MetricType::Counter, counts)?;
        }
        type Failed = fn(&BackendStatus) -> &BTreeMap<String, u64>;
        let failed: [(&str, &str, Failed); 2] = [
            (
                "backend_sessions_failed",
                "TCP sessions that the backend failed after the connect",
                |b| &b.sessions_failed,
            ),
            (
                "backend_flows_failed",
                "UDP flows that the backend refused or left without an answer",
                |b| &b.flows_failed,
            ),
        ];
        for (name, help, failed) in failed {
            let counts = backends.iter().flat_map(|b| {
                failed(b).iter().map(|(reason, count)| {
                    let [pool, addr] = label(b);
                    let labels = [pool, addr, ("reason", reason.clone())];
                    (labels, *count)
                })
            });
            self.family(name, help, MetricType::Counter, counts)?;
        }
        let help = "1, labelled with the operational state and last probe result";
        let states = backends.iter().map(|b| (state_label(b), 1));
        self.family("backend_state", help, MetricType::Gauge, states)?;
        let help = "Progress of slow start, 0 to 1";
        let slow_start = backends.iter().map(|b| (label(b), b.health.slow_start));
        self.fractions("backend_slow_start_ratio", help, None, slow_start)?;
        let help = "Time left of an ejection, in seconds";
        let ejected_s = |b: &BackendStatus| b.health.ejected_for_ms.unwrap_or(0) as f64 / 1e3;
        let ejected = backends.iter().map(|b| (label(b), ejected_s(b)));
        self.fractions("backend_ejected", help, Some(&Unit::Seconds), ejected)?;
        type Latency = fn(&BackendStatus) -> Option<u64>;
        let latencies: [(&str, &str, Latency); 3] = [
            (
                "backend_connect_latency",
                "Recent mean connect time, in seconds",
                |b| b.connect_latency_us,
            ),
            (
                "backend_probe_latency",
                "Duration of the last passed probe, in seconds",
                |b| b.health.probe_latency_us,
            ),
            (
                "backend_first_byte_latency",
                "Recent mean time to the first byte, in seconds",
                |b| b.first_byte_latency_us,
            ),
        ];
        for (name, help, latency) in latencies {
            let known = backends.iter();
            let known = known.filter_map(|b| Some((label(b), seconds(latency(b)?))));
            self.fractions(name, help, Some(&Unit::Seconds), known)?;
        }
        self.costs(backends)
    }

    /// Under `gpu_aware`: what one session more costs, and the parts of it.
    fn costs(&mut self, backends: &[BackendStatus]) -> Encoded {
        let costs = || backends.iter().filter_map(|b| Some((b, b.cost.as_ref()?)));
        let help = "gpu_aware cost of one more session, and its parts";
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor("backend_cost", help, None, kind)?;
        for (backend, cost) in costs() {
            let parts = [
                ("total", cost.total),
                ("in_flight", cost.in_flight),
                ("slowness", cost.slowness),
                ("warm_up", cost.warm_up),
                ("failures", cost.failures),
                ("vram", cost.vram),
                ("gpu", cost.gpu),
                ("report_weight", cost.report_weight),
            ];
            for (part, value) in parts {
                let [pool, addr] = label(backend);
                let labels = [pool, addr, ("part", part.to_owned())];
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn is_up(state: OperationalState) -> bool {
    match state {
        OperationalState::Down | OperationalState::Ejected => false,
        OperationalState::Up | OperationalState::Checking | OperationalState::Warming => true,
    }
}

fn label(backend: &BackendStatus) -> [Label; 2] {
    [
        ("pool", backend.pool.clone()),
        ("backend", addr_text(backend)),
    ]
}

/// A closed list of words for each label: the full reason, with its figures, is in the status.
fn state_label(backend: &BackendStatus) -> [Label; 4] {
    let [pool, addr] = label(backend);
    let probe = backend.health.probe_result.clone().unwrap_or_default();
    let state = backend.operational.word().to_owned();
    [pool, addr, ("state", state), ("probe", probe)]
}

fn addr_text(backend: &BackendStatus) -> String {
    contract::BackendAddr::new(backend.ip, backend.port).to_string()
}
