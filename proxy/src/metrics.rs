//! `GET /metrics`: the status as OpenMetrics text.

use std::collections::BTreeMap;

use contract::status::{
    AdminState, BackendStatus, HealthStatus, ListenerStatus, OperationalState, Refusal, Status,
    Timings,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// The histograms' bounds: 2^6 us, and so on up to 2^26 us, which are 67 s.
const SHORTEST_OCTAVE: u32 = 6;
const LONGEST_OCTAVE: u32 = 26;

/// Metrics of `status`, as OpenMetrics text.
pub fn text(status: Status) -> String {
    let mut registry = Registry::with_prefix("wicketgate_proxy");
    registry.register_collector(Box::new(StatusCollector(status)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

#[derive(Debug)]
struct StatusCollector(Status);

type Encoded = Result<(), std::fmt::Error>;

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let Status {
            running,
            totals,
            limits,
            backends,
            health,
            ..
        } = &self.0;
        let all = &totals.counters;
        let mut out = Output(&mut encoder);
        out.gauge(
            "generation",
            "Generation of the running configuration",
            running.generation,
        )?;
        out.seconds(
            "loaded_timestamp",
            "When the running configuration was loaded, Unix time in seconds",
            running.loaded_at_ms as f64 / 1e3,
        )?;
        out.counter("reloads_ok", "Reloads that took effect", self.0.reloads_ok)?;
        out.counter(
            "reloads_refused",
            "Reloads that were refused",
            self.0.reloads_refused,
        )?;
        out.refusals(&running.refusals)?;
        out.gauge("sessions_active", "TCP sessions open", all.sessions_active)?;
        out.counter("sessions", "TCP sessions accepted", all.sessions_total)?;
        out.gauge("flows_active", "UDP flows open", all.flows_active)?;
        out.counter("flows", "UDP flows started", all.flows_total)?;
        out.counter(
            "bytes_up",
            "Payload bytes from clients to backends",
            all.bytes_up,
        )?;
        out.counter(
            "bytes_down",
            "Payload bytes from backends to clients",
            all.bytes_down,
        )?;
        out.counter(
            "connect_retries",
            "Further connect attempts of a session after the first",
            totals.connect_retries,
        )?;
        out.gauge(
            "max_sessions",
            "TCP sessions allowed at once",
            limits.max_sessions,
        )?;
        out.gauge("max_flows", "UDP flows allowed at once", limits.max_flows)?;
        out.counter(
            "accept_pauses",
            "Times that accepting paused at a limit",
            limits.accept_pauses,
        )?;
        out.counter(
            "log_lines_dropped",
            "Log lines lost",
            limits.log_lines_dropped,
        )?;
        out.timings(
            "first_byte",
            "Time from the client's first byte to the backend's first byte",
            &totals.first_byte,
        )?;
        out.by_reason(
            "sessions_ended",
            "TCP sessions ended",
            &totals.sessions_ended,
        )?;
        out.by_reason("flows_ended", "UDP flows ended", &totals.flows_ended)?;
        out.by_reason(
            "datagrams_dropped",
            "Datagrams dropped",
            &totals.datagrams_dropped,
        )?;
        out.of_health(health, &running.listeners)?;
        out.of_backends(backends)
    }
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

struct Output<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Output<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> Encoded {
        let unit = Some(&Unit::Seconds);
        let metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Encoded {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// A histogram in seconds, one bucket an octave. What was timed is cut to whole microseconds, so
    /// all that lies in a bucket below 2^n took less than that.
    fn timings(&mut self, name: &str, help: &str, timings: &Timings) -> Encoded {
        let Output(encoder) = self;
        let unit = Unit::Seconds;
        let mut metric =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        let bounds = SHORTEST_OCTAVE..=LONGEST_OCTAVE;
        let mut buckets: Vec<(u64, u64)> = bounds.map(|octave| (1 << octave, 0)).collect();
        buckets.push((u64::MAX, 0));
        for (most, count) in &timings.buckets {
            let bucket = buckets.iter_mut().find(|(bound, _)| most < bound);
            bucket.expect("the last one has no bound").1 += count;
        }
        let total = buckets.iter().map(|(_, count)| count).sum();
        let in_seconds = buckets.into_iter().map(|(bound, count)| match bound {
            u64::MAX => (f64::INFINITY, count),
            microseconds => (seconds(microseconds), count),
        });
        let in_seconds: Vec<(f64, u64)> = in_seconds.collect();
        metric.encode_histogram::<NoLabelSet>(seconds(timings.sum_us), total, &in_seconds, None)
    }

    fn by_reason<'a>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (&'a String, &'a u64)>,
    ) -> Encoded {
        let counts = counts
            .into_iter()
            .map(|(reason, count)| ([("reason", reason.clone())], *count));
        self.family(name, help, MetricType::Counter, counts)
    }

    /// None while all of the configuration is in force.
    fn refusals(&mut self, refusals: &[Refusal]) -> Encoded {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for refusal in refusals {
            let label = (refusal.code.word(), refusal.place.as_str());
            *counts.entry(label).or_default() += 1;
        }
        let counts = counts.into_iter().map(|((code, place), count)| {
            let labels = [("code", code.to_owned()), ("place", place.to_owned())];
            (labels, count)
        });
        let help = "Parts of the configuration that the proxy refuses";
        self.family("refusals", help, MetricType::Gauge, counts)
    }

    fn of_health(&mut self, health: &HealthStatus, listeners: &[ListenerStatus]) -> Encoded {
        let protocols = [("tcp", &health.tcp), ("udp", &health.udp)];
        let of = |name, count| ([("protocol", name)], count);
        // The configuration says the same of both.
        let help = "Backends that may get new sessions and flows, whatever their health";
        self.gauge("backends_in_use", help, health.tcp.ready)?;
        // For a protocol that no listener takes, or no backend, nothing is ready.
        let is_taken = [
            listeners.iter().any(|listener| listener.tcp) && !health.udp_alone,
            listeners.iter().any(|listener| listener.udp),
        ];
        let taken = protocols.iter().zip(is_taken).filter(|(_, is)| *is);
        let ready = taken.map(|((name, one), _)| of(*name, one.available));
        let help = "Backends in use whose health allows new sessions or flows";
        self.family("backends_ready", help, MetricType::Gauge, ready)?;
        let help = "1 while all backends are out and all_down applies";
        let all_down =
            protocols.map(|(name, one)| of(name, one.all_down_in_force.is_some().into()));
        self.family("all_down", help, MetricType::Gauge, all_down.into_iter())?;
        let help = "1 while flows are answered and no backend has ever accepted TCP";
        self.gauge("udp_alone", help, health.udp_alone.into())?;
        let help = "Ejections not made, since too few backends would remain";
        self.counter("ejections_spared", help, health.ejections_spared)
    }

    fn of_backends(&mut self, backends: &[BackendStatus]) -> Encoded {
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
            ("backend_weight_effective", "Share of new sessions", |b| {
                u64::from(b.weight_effective)
            }),
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
                let [(name, addr)] = label(backend);
                let labels = [(name, addr), ("part", part.to_owned())];
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn fractions<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl Iterator<Item = (L, f64)>,
    ) -> Encoded {
        let kind = MetricType::Gauge;
        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (L, u64)>,
    ) -> Encoded {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let member = metric.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(member)?,
                _ => ConstGauge::new(value).encode(member)?,
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

fn label(backend: &BackendStatus) -> [(&'static str, String); 1] {
    [("backend", addr_text(backend))]
}

/// A closed list of words for each label: the full reason, with its figures, is in the status.
fn state_label(backend: &BackendStatus) -> [(&'static str, String); 3] {
    let probe = backend.health.probe_result.clone().unwrap_or_default();
    let state = backend.operational.word().to_owned();
    [
        ("backend", addr_text(backend)),
        ("state", state),
        ("probe", probe),
    ]
}

fn addr_text(backend: &BackendStatus) -> String {
    contract::BackendAddr::new(backend.ip, backend.port).to_string()
}
