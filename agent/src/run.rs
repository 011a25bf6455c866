//! All engines of a node: two threads each, until a signal comes.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use control_client::Signals;
use serde_json::{Value, json};

use crate::access::Entrance;
use crate::fetch::Http;
use crate::figures::Reading;
use crate::gpus::Gpus;
use crate::heartbeat::Heartbeat;
use crate::latest::Latest;
use crate::metrics::{self, Named};
use crate::sampler;
use crate::settings::{EngineSettings, Settings};
use crate::source;

/// Beyond its time-out, how long a reader is given to end, so that no command outlives the agent.
const GRACE: Duration = Duration::from_millis(500);

/// Which thread has ended.
enum Ended {
    Heartbeat,
    Reader,
}

/// Registers every engine and sends heartbeats until a signal comes; then deregisters them.
///
/// # Errors
/// In words, if signal handlers or threads cannot be created, or an engine's files cannot be used.
pub fn run(settings: Settings, entrance: Entrance, gpus: Arc<dyn Gpus>) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let signals = Signals::install().map_err(told)?;
    let (sender, ended) = channel();
    let entrance = Arc::new(entrance);
    let count = settings.engines.len();
    let longest = settings.engines.iter().map(|engine| engine.timeout).max();
    let mut all = Vec::with_capacity(count);
    for engine in &settings.engines {
        let latest = Arc::new(Latest::default());
        let http = Http::open(engine.timeout, &engine.reach)?;
        start_reader(&settings, engine, http, &gpus, &latest, sender.clone()).map_err(told)?;
        start_heartbeat(&settings, engine, &entrance, &latest, sender.clone()).map_err(told)?;
        all.push(latest);
    }
    if let Some(listen) = settings.metrics_listen {
        let names = settings.engines.iter().map(|engine| engine.advertise);
        let named = names.zip(&all).map(|(name, latest)| Named {
            name: name.to_string(),
            latest: Arc::clone(latest),
        });
        metrics::start(listen, named.collect(), settings.stale_after)
            .map_err(|error| format!("--metrics-listen {listen}: {error}"))?;
    }
    signals.wait_for_ever();
    tracing::info!("stopping; a second signal ends at once");
    thread::Builder::new()
        .name("second signal".into())
        .spawn(move || {
            signals.wait_for_ever();
            std::process::exit(1);
        })
        .map_err(told)?;
    for latest in &all {
        latest.stop();
    }
    // Each heartbeat ends by itself: its calls are bounded. A reader may hang in the driver.
    let deadline = Instant::now() + longest.unwrap_or_default() + GRACE;
    let (mut heartbeats, mut readers) = (count, count);
    while heartbeats > 0 || (readers > 0 && Instant::now() < deadline) {
        let ended = match heartbeats {
            0 => ended
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok(),
            _ => ended.recv().ok(),
        };
        match ended {
            Some(Ended::Heartbeat) => heartbeats -= 1,
            Some(Ended::Reader) => readers -= 1,
            None => break,
        }
    }
    Ok(())
}

fn start_reader(
    settings: &Settings,
    engine: &EngineSettings,
    http: Http,
    gpus: &Arc<dyn Gpus>,
    latest: &Arc<Latest>,
    ended: Sender<Ended>,
) -> io::Result<()> {
    let (interval, stale_after) = (settings.interval, settings.stale_after);
    let (engine, gpus, latest) = (engine.clone(), Arc::clone(gpus), Arc::clone(latest));
    let reader = thread::Builder::new().name(format!("read {}", engine.advertise));
    reader.spawn(move || {
        let gpus = gpus.as_ref();
        sampler::run(&engine, &http, interval, stale_after, gpus, &latest);
        // The receiver may be gone.
        let _ = ended.send(Ended::Reader);
    })?;
    Ok(())
}

fn start_heartbeat(
    settings: &Settings,
    engine: &EngineSettings,
    entrance: &Arc<Entrance>,
    latest: &Arc<Latest>,
    ended: Sender<Ended>,
) -> io::Result<()> {
    let (interval, stale_after) = (settings.interval, settings.stale_after);
    let (engine, latest) = (engine.clone(), Arc::clone(latest));
    let (controls, entrance) = (settings.control.clone(), Arc::clone(entrance));
    let heartbeat = thread::Builder::new().name(format!("beat {}", engine.advertise));
    heartbeat.spawn(move || {
        Heartbeat {
            settings: &engine,
            controls: &controls,
            entrance: &entrance,
            interval,
            stale_after,
            latest: &latest,
        }
        .run();
        let _ = ended.send(Ended::Heartbeat);
    })?;
    Ok(())
}

/// Reads one engine once, for `--once`: its figures, what is wrong with them, and whether it serves. The
/// second value is false if its source gave nothing.
///
/// # Errors
/// In words, if one of the engine's files cannot be used.
pub fn once(engine: &EngineSettings, gpus: &dyn Gpus) -> Result<(Value, bool), String> {
    let http = Http::open(engine.timeout, &engine.reach)?;
    let reading = source::read(engine, &http, gpus);
    let health = engine.health.check(&http, engine.timeout);
    let is_read = reading.is_ok();
    let Reading {
        figures,
        faults,
        warnings,
    } = reading.unwrap_or_else(|why| Reading {
        faults: vec![why],
        ..Reading::default()
    });
    let mut answer = figures.to_json();
    answer["advertise"] = json!(engine.advertise.to_string());
    answer["source"] = engine.source.name().into();
    answer["faults"] = faults.into();
    answer["warnings"] = warnings.into();
    answer["is_warming_up"] = health.is_err().into();
    answer["health"] = health.err().map_or("ok".into(), Value::from);
    Ok((answer, is_read))
}
