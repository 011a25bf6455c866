//! `POST pings`: several probes, each result as it comes, as one JSON object a line.

use api::v1::PingLine;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use contract::{Faults, Object};

use super::stream::stream;
use crate::actor::Actor;
use crate::ping::{MAX_PROBES, PROBES, Probe, Via};
use crate::web::App;
use crate::web::api::{note_ping, ping_target};
use crate::web::body::JsonObject;
use crate::web::error::ApiError;

pub async fn ping(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let mut faults = Faults::default();
    let mut object = Object::new(&body, "");
    object.take("ip");
    let probes = object.take_integer("probes", 1, u64::from(MAX_PROBES), &mut faults);
    object.unknown_keys(&mut faults);
    let said = body.get("ip").cloned().unwrap_or_default();
    let target = said.as_str().unwrap_or_default().to_owned();
    if !faults.is_empty() {
        note_ping(&app, &actor, &target, "refused: bad request");
        return Err(ApiError::from(faults).audited());
    }
    let (ip, ports) = ping_target(&app, &actor, &said)?;
    let started = app
        .pings
        .start(ip, ports, probes.unwrap_or(u64::from(PROBES)) as u16);
    let (via, mut results) = started.map_err(|busy| {
        note_ping(&app, &actor, &target, "refused: too many at once");
        ApiError::new(axum::http::StatusCode::TOO_MANY_REQUESTS, busy.to_string()).audited()
    })?;
    note_ping(&app, &actor, &target, "ok");
    let (mut sender, response) = stream("application/x-ndjson");
    tokio::spawn(async move {
        let mut all = Vec::new();
        let head = PingLine::Start {
            ip,
            via: match via {
                Via::Icmp => api::v1::Via::Icmp,
                Via::Tcp => api::v1::Via::Tcp,
            },
            probes,
        };
        if sender.send(line(&head)).await.is_err() {
            return;
        }
        while let Some(probe) = results.recv().await {
            let said = probe_line(&probe);
            all.push(probe);
            // A client that has gone ends the probes with us.
            if sender.send(line(&said)).await.is_err() {
                return;
            }
        }
        // The client may have gone just now.
        let _ = sender.send(line(&summary(&all))).await;
    });
    Ok(response)
}

fn probe_line(probe: &Probe) -> PingLine {
    let (time_ms, error) = match &probe.result {
        Ok(time) => (Some(time.as_secs_f64() * 1000.0), None),
        Err(error) => (None, Some(error.clone())),
    };
    PingLine::Probe {
        sequence: probe.sequence,
        port: probe.port,
        time_ms,
        error,
    }
}

fn summary(probes: &[Probe]) -> PingLine {
    let times = probes.iter().filter_map(|probe| probe.result.as_ref().ok());
    let times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1000.0).collect();
    let sum: f64 = times.iter().sum();
    PingLine::Summary {
        sent: probes.len(),
        received: times.len(),
        min_ms: times.iter().copied().reduce(f64::min),
        avg_ms: (!times.is_empty()).then(|| sum / times.len() as f64),
        max_ms: times.iter().copied().reduce(f64::max),
    }
}

fn line(line: &PingLine) -> axum::body::Bytes {
    let text = serde_json::to_string(line).expect("a line has only text as keys");
    format!("{text}\n").into()
}
