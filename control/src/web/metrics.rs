//! `/metrics` for Prometheus, `/livez` and `/readyz` for supervisors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contract::Name;
use contract::exposition::Form;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::client::Client;
use super::{App, answers, costs};
use crate::auth::Need;
use crate::look::leads_to;
use crate::merge::{Row, RowState};
use crate::registry::Freeze;
use crate::standing::{Protocol, Seen, is_in_use};
use crate::verdict::{Level, Picture};

/// The process lives and its event loop turns.
pub async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "ok": true }))
}

/// Ready if the sources have been read and published. Refusals by the proxy are listed but do not make
/// control unready: the rest is applied. Anyone may read the status; details need the right to read.
pub async fn readyz(State(app): State<App>, Extension(client): Extension<Client>) -> Response {
    let outcome = app.publisher.outcome();
    let is_ready = outcome.generation.is_some() && outcome.failure.is_none();
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let grant = client.grant.as_ref();
    let may_read = grant.is_some_and(|grant| grant.scope.allows(Need::Read));
    if !may_read && !app.shared.live().open_metrics {
        return (status, Json(json!({ "ok": is_ready }))).into_response();
    }
    let body = json!({
        "ok": is_ready, "generation": outcome.generation, "warnings": answers::warnings(&app),
        "refusals": answers::refusals(&app, &outcome.incidents),
        "verdict": app.shared.verdicts().report().in_short(),
    });
    (status, Json(body)).into_response()
}

pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut registry = Registry::with_prefix("wicketgate");
    registry.register_collector(Box::new(VerdictLevels::read(&app)));
    let status = costs::status(&app).await;
    let values = Values::read(&app, &Seen::of(status.as_ref()));
    let of_control = registry.sub_registry_with_prefix("control");
    of_control.register_collector(Box::new(values));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let form = Form::wanted(accept);
    ([(header::CONTENT_TYPE, form.content_type())], form.of(text)).into_response()
}

/// The level of the whole and of each pool.
#[derive(Debug)]
struct VerdictLevels {
    whole: Level,
    pools: Vec<(Name, Level)>,
}

impl VerdictLevels {
    fn read(app: &App) -> VerdictLevels {
        let verdicts = app.shared.verdicts();
        let report = verdicts.report();
        VerdictLevels {
            whole: report.level(),
            pools: report
                .pools()
                .map(|(pool, level)| (pool.clone(), level))
                .collect(),
        }
    }
}

impl Collector for VerdictLevels {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "1 at the current verdict: ok, degraded, unknown or down";
        let mut family = encoder.encode_descriptor("verdict", help, None, MetricType::Gauge)?;
        for level in Level::ALL {
            let stands = ConstGauge::new(i64::from(level == self.whole));
            stands.encode(family.encode_family(&[("level", level.word())])?)?;
        }
        let help = "The same for each pool";
        let mut family =
            encoder.encode_descriptor("pool_verdict", help, None, MetricType::Gauge)?;
        for (pool, stands) in &self.pools {
            for level in Level::ALL {
                let labels = [("pool", pool.as_str()), ("level", level.word())];
                let stands = ConstGauge::new(i64::from(level == *stands));
                stands.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// All values at one moment, with name and help.
#[derive(Debug)]
struct Values {
    counters: Vec<(&'static str, &'static str, u64)>,
    gauges: Vec<(&'static str, &'static str, i64)>,
    /// In the order of their names.
    pools: Vec<PoolValues>,
    /// Parts that the proxy refuses, by code and place.
    refusals: BTreeMap<(&'static str, String), i64>,
}

/// How many backends a pool has, of each kind.
#[derive(Debug)]
struct PoolValues {
    pool: Name,
    /// In the order of [`PoolValues::NAMES`].
    backends: [usize; PoolValues::NAMES.len()],
    /// Of each protocol that the proxy is known to serve.
    ready: Vec<(Protocol, usize)>,
}

impl PoolValues {
    /// Name and help of each count.
    const NAMES: [(&'static str, &'static str); 9] = [
        ("backends", "Known backends"),
        (
            "backends_in_use",
            "Backends in a pool with a listener that are neither drained, disabled nor expired",
        ),
        ("backends_warming", "Backends in state warming"),
        ("backends_drain", "Backends in state drain"),
        ("backends_disabled", "Backends in state disabled"),
        ("backends_expired", "Backends in state expired"),
        ("backends_left_out", "Backends that the proxy refuses"),
        ("backends_no_pool", "Backends whose pool is not defined"),
        (
            "backends_no_listener",
            "Backends in state no_listener: no listener leads to their pool",
        ),
    ];

    /// `left_out` as the verdict counts it.
    fn of(pool: Name, rows: &[Row], left_out: usize, seen: &Seen) -> PoolValues {
        let in_state = |state| rows.iter().filter(|row| row.state() == state).count();
        let ready = Protocol::ALL
            .into_iter()
            .filter_map(|protocol| Some((protocol, seen.count_ready(&pool, rows, protocol)?)));
        PoolValues {
            backends: [
                rows.len(),
                rows.iter().filter(|row| is_in_use(row)).count(),
                in_state(RowState::Warming),
                in_state(RowState::Drain),
                in_state(RowState::Disabled),
                in_state(RowState::Expired),
                left_out,
                in_state(RowState::NoPool),
                in_state(RowState::NoListener),
            ],
            ready: ready.collect(),
            pool,
        }
    }

    /// Of each pool that has a backend, and of `default`, which every configuration has.
    fn of_all(rows: &[Row], picture: &Picture, seen: &Seen) -> Vec<PoolValues> {
        // Rows are in the order of pools.
        let by_pool = rows.chunk_by(|one, next| one.key.pool == next.key.pool);
        let mut pools: BTreeMap<Name, &[Row]> = by_pool
            .map(|rows| (rows[0].key.pool.clone(), rows))
            .collect();
        pools.entry(Name::default()).or_default();
        let pools = pools.into_iter();
        pools
            .map(|(pool, rows)| {
                let counts = picture.pools.get(&pool).map(|of_pool| of_pool.counts);
                let left_out = counts.unwrap_or_default().left_out;
                PoolValues::of(pool, rows, left_out, seen)
            })
            .collect()
    }
}

impl Values {
    fn read(app: &App, seen: &Seen) -> Values {
        let counters = &app.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (audit_lines, audit_failures) = app.shared.audit.counts();
        let outcome = app.publisher.outcome();
        let (rows, is_frozen) = {
            let model = app.shared.model();
            let is_frozen = matches!(model.registry.freeze, Freeze::Held { .. });
            (model.rows(), is_frozen)
        };
        let left_out = outcome.left_out.iter().map(|out| &out.key);
        let led = leads_to(&app.shared).into_values().flatten().collect();
        let picture = Picture::of(&rows, seen.status(), left_out, &led);
        let mut refusals = BTreeMap::new();
        for incident in outcome.incidents.iter() {
            let labels = (incident.code.word(), incident.part.place());
            *refusals.entry(labels).or_default() += 1;
        }
        Values {
            pools: PoolValues::of_all(&rows, &picture, seen),
            refusals,
            counters: vec![
                (
                    "heartbeats",
                    "Heartbeats that changed no state",
                    load(&counters.heartbeats),
                ),
                ("requests", "HTTP requests", load(&counters.requests)),
                (
                    "requests_refused",
                    "HTTP requests refused",
                    load(&counters.requests_refused),
                ),
                (
                    "published",
                    "Times the configuration was written",
                    load(&counters.published),
                ),
                (
                    "publish_failures",
                    "Times the configuration could not be written",
                    load(&counters.publish_failures),
                ),
                ("signals", "Reload signals sent", load(&counters.signals)),
                (
                    "signal_failures",
                    "Reload signals not sent",
                    load(&counters.signal_failures),
                ),
                (
                    "reloads_asked",
                    "Reloads asked for over the admin socket",
                    load(&counters.reloads_asked),
                ),
                (
                    "not_applied",
                    "Publishes that the proxy did not confirm",
                    load(&counters.not_applied),
                ),
                (
                    "expired",
                    "Registrations that expired",
                    load(&counters.expired),
                ),
                (
                    "reports_sent",
                    "Backend reports sent to the proxy",
                    load(&counters.reports_sent),
                ),
                ("audit_lines", "Audit lines written", audit_lines),
                ("audit_failures", "Audit lines lost", audit_failures),
            ],
            gauges: vec![
                (
                    "generation",
                    "Published generation",
                    outcome.generation.unwrap_or(0) as i64,
                ),
                (
                    "expiry_frozen",
                    "1 while a mass expiry is held back",
                    i64::from(is_frozen),
                ),
                (
                    "other_file",
                    "1 while the proxy reads a different file from the one that control writes",
                    i64::from(outcome.seen.is_some_and(|seen| seen.other_file.is_some())),
                ),
                (
                    "publish_failing",
                    "1 while publishing fails",
                    i64::from(outcome.failure.is_some()),
                ),
            ],
        }
    }
}

impl Collector for Values {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for (name, help, value) in &self.counters {
            let metric = ConstCounter::new(*value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        for (name, help, value) in &self.gauges {
            let metric = ConstGauge::new(*value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        for (place, (name, help)) in PoolValues::NAMES.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for of_pool in &self.pools {
                let metric = ConstGauge::new(of_pool.backends[place] as i64);
                metric.encode(family.encode_family(&[("pool", of_pool.pool.as_str())])?)?;
            }
        }
        let help = "Backends in use that get new sessions or flows from the proxy";
        let mut family =
            encoder.encode_descriptor("backends_ready", help, None, MetricType::Gauge)?;
        for of_pool in &self.pools {
            for (protocol, ready) in &of_pool.ready {
                let metric = ConstGauge::new(*ready as i64);
                let labels = [
                    ("pool", of_pool.pool.as_str()),
                    ("protocol", protocol.word()),
                ];
                metric.encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Parts of the configuration that the proxy refuses";
        let kind = MetricType::Gauge;
        let mut family = encoder.encode_descriptor("refusals", help, None, kind)?;
        for ((code, place), count) in &self.refusals {
            let labels = [("code", *code), ("place", place.as_str())];
            ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::{key, key_in};
    use crate::merge::{Place, merge};
    use crate::sources::entry::Said;
    use crate::sources::listed::{Discovered, Listed};

    #[test]
    fn backends_are_counted_by_pool_and_default_is_always_there() {
        let counts = |listed: &[(contract::BackendKey, u16)]| {
            let said = listed.iter().map(|(key, weight)| {
                let said = Said {
                    weight: Some(*weight),
                    ..Said::nothing_of(key.clone())
                };
                (key.clone(), said)
            });
            let listed = Listed {
                statics: &BTreeMap::new(),
                discovered: &[Discovered::of("k8s", said.collect())],
            };
            let rows = merge(listed, &crate::registry::Registry::default());
            let mut rows = rows;
            for row in &mut rows {
                row.place = match row.key.pool.as_str() {
                    "web" => Place::Undefined,
                    "spare" => Place::NoListener,
                    _ => Place::Led,
                };
            }
            let left_out = [key(2), key_in("web", 1)];
            let led = [Name::default()].into();
            let picture = Picture::of(&rows, None, left_out.iter(), &led);
            let pools = PoolValues::of_all(&rows, &picture, &Seen::of(None));
            let counts = pools.into_iter().map(|of_pool| {
                assert!(of_pool.ready.is_empty(), "the proxy does not answer");
                (of_pool.pool.to_string(), of_pool.backends)
            });
            counts.collect::<Vec<_>>()
        };
        let of = |pool: &str, counts| (pool.to_owned(), counts);
        assert_eq!(counts(&[]), [of("default", [0; 9])]);
        let listed = [
            (key_in("chat", 1), 0),
            (key(1), 10),
            (key(2), 10),
            (key_in("spare", 1), 10),
            (key_in("spare", 2), 0),
            (key_in("web", 1), 10),
        ];
        let expected = [
            of("chat", [1, 0, 0, 1, 0, 0, 0, 0, 0]),
            of("default", [2, 2, 0, 0, 0, 0, 1, 0, 0]),
            of("spare", [2, 0, 0, 1, 0, 0, 0, 0, 1]),
            of("web", [1, 0, 0, 0, 0, 0, 0, 1, 0]),
        ];
        assert_eq!(counts(&listed), expected);
    }
}
