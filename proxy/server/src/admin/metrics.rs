//! `GET /metrics`: the status as OpenMetrics text.

mod backends;
mod families;

use std::collections::BTreeMap;

use contract::status::{
    ListenerStatus, ListenerTotals, PoolStatus, ProtocolHealth, Refusal, Status,
};
use families::{Encoded, Label, Output};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

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

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        let Status {
            running,
            listener_totals,
            limits,
            backends,
            pools,
            ..
        } = &self.0;
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
        out.of_listeners(listener_totals)?;
        out.gauge(
            "max_sessions",
            "TCP sessions allowed at once",
            limits.max_sessions,
        )?;
        out.gauge("max_flows", "UDP flows allowed at once", limits.max_flows)?;
        out.counter(
            "log_lines_dropped",
            "Log lines lost",
            limits.log_lines_dropped,
        )?;
        out.of_pools(pools, &running.listeners)?;
        out.of_backends(backends)
    }
}

impl Output<'_, '_> {
    /// What is counted of each listener.
    fn of_listeners(&mut self, listeners: &[ListenerTotals]) -> Encoded {
        type Value = fn(&ListenerTotals) -> u64;
        let of_each = |value: Value| {
            let each = listeners.iter();
            each.map(move |one| (listener_label(one), value(one)))
        };
        let metrics: [(&str, &str, MetricType, Value); 8] = [
            (
                "sessions_active",
                "TCP sessions open",
                MetricType::Gauge,
                |one| one.totals.counters.sessions_active,
            ),
            (
                "sessions",
                "TCP sessions accepted",
                MetricType::Counter,
                |one| one.totals.counters.sessions_total,
            ),
            ("flows_active", "UDP flows open", MetricType::Gauge, |one| {
                one.totals.counters.flows_active
            }),
            ("flows", "UDP flows started", MetricType::Counter, |one| {
                one.totals.counters.flows_total
            }),
            (
                "bytes_up",
                "Payload bytes from clients to backends",
                MetricType::Counter,
                |one| one.totals.counters.bytes_up,
            ),
            (
                "bytes_down",
                "Payload bytes from backends to clients",
                MetricType::Counter,
                |one| one.totals.counters.bytes_down,
            ),
            (
                "connect_retries",
                "Further connect attempts of a session after the first",
                MetricType::Counter,
                |one| one.totals.connect_retries,
            ),
            (
                "accept_pauses",
                "Times that accepting paused at a limit",
                MetricType::Counter,
                |one| one.accept_pauses,
            ),
        ];
        for (name, help, kind, value) in metrics {
            self.family(name, help, kind, of_each(value))?;
        }
        self.timings(
            "first_byte",
            "Time from the client's first byte to the backend's first byte",
            listeners
                .iter()
                .map(|one| (listener_label(one), &one.totals.first_byte)),
        )?;
        type Reasons = fn(&ListenerTotals) -> &BTreeMap<String, u64>;
        let by_reason: [(&str, &str, Reasons); 3] = [
            ("sessions_ended", "TCP sessions ended", |one| {
                &one.totals.sessions_ended
            }),
            ("flows_ended", "UDP flows ended", |one| {
                &one.totals.flows_ended
            }),
            ("datagrams_dropped", "Datagrams dropped", |one| {
                &one.totals.datagrams_dropped
            }),
        ];
        for (name, help, reasons) in by_reason {
            let counts = listeners.iter().flat_map(|one| {
                let [of_listener] = listener_label(one);
                reasons(one).iter().map(move |(reason, count)| {
                    ([of_listener.clone(), ("reason", reason.clone())], *count)
                })
            });
            self.family(name, help, MetricType::Counter, counts)?;
        }
        Ok(())
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

    fn of_pools(&mut self, pools: &[PoolStatus], listeners: &[ListenerStatus]) -> Encoded {
        let gauge = MetricType::Gauge;
        // The configuration says the same of both protocols, and nothing comes where no listener leads.
        let in_use = pools.iter().map(|pool| {
            let is_led = pool.tcp || pool.udp;
            (
                pool_label(pool),
                if is_led { pool.health.tcp.ready } else { 0 },
            )
        });
        let help = "Backends that may get new sessions and flows, whatever their health; 0 without a listener";
        self.family("backends_in_use", help, gauge, in_use)?;
        // For a protocol that no listener takes, or no backend, nothing is ready.
        let takes_tcp = listeners.iter().any(|listener| listener.tcp);
        let takes_udp = listeners.iter().any(|listener| listener.udp);
        let ready = pools.iter().flat_map(|pool| {
            let is_taken = [
                takes_tcp && pool.tcp && !pool.health.udp_alone,
                takes_udp && pool.udp,
            ];
            let taken = of_protocols(pool).into_iter().zip(is_taken);
            let taken = taken.filter(|(_, is_taken)| *is_taken);
            taken.map(|((labels, one), _)| (labels, one.available))
        });
        let help = "Backends in use whose health allows new sessions or flows";
        self.family("backends_ready", help, gauge, ready)?;
        let help = "1 while all backends are out and all_down applies";
        let all_down = pools.iter().flat_map(of_protocols);
        let all_down =
            all_down.map(|(labels, one)| (labels, one.all_down_in_force.is_some().into()));
        self.family("all_down", help, gauge, all_down)?;
        let help = "1 while flows are answered and no backend has ever accepted TCP";
        let udp_alone = pools.iter();
        let udp_alone = udp_alone.map(|p| (pool_label(p), p.health.udp_alone.into()));
        self.family("udp_alone", help, gauge, udp_alone)?;
        let help = "Ejections not made, since too few backends would remain";
        let spared = pools.iter();
        let spared = spared.map(|p| (pool_label(p), p.health.ejections_spared));
        self.family("ejections_spared", help, MetricType::Counter, spared)
    }
}

fn listener_label(listener: &ListenerTotals) -> [Label; 1] {
    [("listener", listener.name.clone())]
}

fn pool_label(pool: &PoolStatus) -> [Label; 1] {
    [("pool", pool.name.clone())]
}

/// The health of a pool for TCP and for UDP.
fn of_protocols(pool: &PoolStatus) -> [([Label; 2], &ProtocolHealth); 2] {
    let both = [("tcp", &pool.health.tcp), ("udp", &pool.health.udp)];
    both.map(|(protocol, health)| {
        let [of_pool] = pool_label(pool);
        ([of_pool, ("protocol", protocol.to_owned())], health)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn counters(sessions: u64) -> Value {
        json!({
            "sessions_active": 0, "sessions_total": sessions, "flows_active": 0, "flows_total": 0,
            "bytes_up": 0, "bytes_down": 0, "connect_failures": 0, "connect_timeouts": 0,
        })
    }

    fn with(mut object: Value, more: Value) -> Value {
        for (key, value) in more.as_object().expect("an object") {
            object[key] = value.clone();
        }
        object
    }

    fn totals(sessions: u64) -> Value {
        let more = json!({
            "first_byte_p50_us": 1, "first_byte_p99_us": 1,
            "first_byte": {"sum_us": sessions, "buckets": [[1, sessions]]}, "connect_retries": 0,
            "sessions_ended": {"client_closed": sessions}, "flows_ended": {}, "datagrams_dropped": {},
        });
        with(counters(sessions), more)
    }

    fn backend(pool: &str, sessions: u64) -> Value {
        let more = json!({
            "pool": pool, "ip": "10.0.0.1", "port": 80, "configured": true, "admin": "ready",
            "operational": "up", "reason": "", "weight": 10, "weight_effective": 10,
            "gpu_usage": null, "vram_usage": null, "reported_at_ms": null,
            "connect_latency_us": null, "first_byte_latency_us": null,
        });
        with(counters(sessions), more)
    }

    fn pool(name: &str, ready: u64) -> Value {
        let protocol = json!({"ready": 3, "available": ready, "all_down_in_force": null});
        let health = json!({
            "probe": "tcp", "all_down": "reject", "tcp": protocol, "udp": protocol, "udp_alone": false,
            "ejections_spared": 0,
        });
        json!({"name": name, "algorithm": "random", "tcp": true, "udp": false, "health": health})
    }

    fn status() -> Status {
        let listener = |name: &str, sessions| {
            with(
                totals(sessions),
                json!({"name": name, "accept_pauses": sessions}),
            )
        };
        let status = json!({
            "version": "0", "pid": 7, "generation": 1, "digest": "", "loaded_at_ms": 0,
            "last_reload": null, "reloads_ok": 0, "reloads_refused": 0,
            "draining": false, "algorithm": "random", "workers": [],
            "listeners": [{"name": "l", "addr": "127.0.0.1:80", "tcp": true, "udp": true}],
            "backends": [backend("a", 3), backend("b", 4)],
            "pools": [pool("a", 1), pool("b", 2), with(pool("c", 3), json!({"tcp": false}))],
            "totals": totals(7),
            "listener_totals": [listener("l", 5), listener("m", 2)],
            "limits": {"max_sessions": 1, "max_flows": 1, "accept_pauses": 7, "log_lines_dropped": 0},
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn one_address_in_two_pools_has_two_series_and_each_listener_has_its_own() {
        let text = text(status());
        for line in [
            r#"backend_sessions_total{pool="a",backend="10.0.0.1:80"} 3"#,
            r#"backend_sessions_total{pool="b",backend="10.0.0.1:80"} 4"#,
            r#"backends_ready{pool="a",protocol="tcp"} 1"#,
            r#"backends_ready{pool="b",protocol="tcp"} 2"#,
            r#"backends_in_use{pool="b"} 3"#,
            r#"backends_in_use{pool="c"} 0"#,
            r#"sessions_total{listener="l"} 5"#,
            r#"sessions_total{listener="m"} 2"#,
            r#"sessions_ended_total{listener="m",reason="client_closed"} 2"#,
            r#"accept_pauses_total{listener="l"} 5"#,
            r#"first_byte_seconds_count{listener="m"} 2"#,
            r#"first_byte_seconds_bucket{le="0.000064",listener="m"} 2"#,
        ] {
            let line = format!("wicketgate_proxy_{line}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}{text}");
        }
        // No listener of these pools takes UDP.
        assert!(!text.contains("protocol=\"udp\"} 1"), "{text}");
    }
}
