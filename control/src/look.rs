//! Looks at the proxy for as long as control runs, and notes what it finds: the states that backends
//! are in, and the verdict.
//!
//! A whole status of many backends costs both planes milliseconds, so it is read only when its
//! mark has changed; the counters come with the mark. Readers of the live view cause additional looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use contract::Name;
use contract::pidfile::ReadError;
use contract::reload::{NotSent, find_proxy};
use contract::status::{States, Status};
use tokio::sync::watch;

use crate::merge::Row;
use crate::observe::{Proxy, Unknown};
use crate::proxies::Known;
use crate::publish::{Incident, Outcome};
use crate::render::Head;
use crate::series::Heard;
use crate::services::Kind;
use crate::shared::Shared;
use crate::verdict::{Config, Level, Look, Picture, Process, RefusedPart};

/// An outage must be visible within two seconds, on the page too.
const PERIOD: Duration = Duration::from_millis(500);

/// What was seen last, while it is valid.
struct Last {
    mark: String,
    /// The model's, and what it keeps.
    revision: u64,
    kept: Head,
    status: Status,
    picture: Picture,
}

pub async fn run(shared: Arc<Shared>, proxy: Proxy, outcome: watch::Receiver<Outcome>) {
    let mut last: Option<Last> = None;
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let states = proxy.states().await;
        let (revision, kept) = {
            let model = shared.model();
            (model.revision, model.kept.clone())
        };
        if let (Ok(states), Some(last)) = (&states, &mut last)
            && (&last.mark, last.revision) == (&states.mark, revision)
            && last.kept == kept
            && let Some(totals) = &states.totals
        {
            last.status.totals = totals.clone();
            last.status.listener_totals = states.listener_totals.clone();
            let outcome = outcome.borrow().clone();
            let status = Some(&last.status);
            judge(&shared, &outcome, Process::Heard, status, &last.picture);
            continue;
        }
        // An older proxy has no `GET /states`, and is asked for everything.
        let (mark, seen) = match states {
            Ok(States { mark, .. }) => (Some(mark), proxy.status().await),
            Err(Unknown::NoSuchCall { .. }) => (None, proxy.status().await),
            Err(unknown) => (None, Err(unknown)),
        };
        let rows = shared.model().rows();
        let outcome = outcome.borrow().clone();
        let picture = note(&shared, &outcome, &rows, seen.as_ref()).await;
        last = mark.zip(seen.ok()).map(|(mark, status)| Last {
            mark,
            revision,
            kept,
            status,
            picture,
        });
    }
}

/// Notes the seen state of backends and proxy.
pub async fn note(
    shared: &Shared,
    outcome: &Outcome,
    rows: &[Row],
    seen: Result<&Status, &Unknown>,
) -> Picture {
    let process = match seen {
        Ok(_) => Process::Heard,
        Err(unknown) => {
            tracing::debug!("the state of the proxy is unknown: {unknown}");
            process(shared, unknown).await
        }
    };
    let status = seen.ok();
    let now = shared.clock.now();
    let changed = shared.history().note(rows, status, now);
    shared.series().marks.states(now.unix_ms, changed);
    let left_out = outcome.left_out.iter().map(|out| &out.key);
    let led = leads_to(shared).into_values().flatten().collect();
    let picture = Picture::of(rows, status, left_out, &led);
    judge(shared, outcome, process, status, &picture);
    picture
}

fn judge(
    shared: &Shared,
    outcome: &Outcome,
    process: Process,
    status: Option<&Status>,
    picture: &Picture,
) {
    let heard = status.map(|status| Heard {
        monotonic_ms: shared.clock.now().monotonic_ms,
        process: (status.running.pid, status.running.started_at_ms),
        totals: status.totals.clone(),
        taking: picture.counts.usable,
    });
    shared.series().look(heard);
    let leads_to = match picture.pools.len() {
        0 | 1 => BTreeMap::new(),
        _ => leads_to(shared),
    };
    let look = Look {
        process,
        picture,
        config: &config(shared, outcome),
        totals: status.map(|status| {
            let running = &status.running;
            (running.pid, running.started_at_ms, &status.totals)
        }),
        listeners: status.map_or(&[], |status| &status.listener_totals),
        leads_to: &leads_to,
    };
    let changed = {
        let mut verdicts = shared.verdicts();
        let is_news = verdicts.note(look, shared.clock.now());
        let worst = &verdicts.report().verdict().found.finding;
        shared.proxies().note_local(Known {
            published: outcome.generation,
            generation: status.map(|status| status.running.generation),
            applied: outcome.applied(),
            level: worst.level(),
            code: worst.code(),
        });
        is_news.then(|| verdicts.report().verdict().clone())
    };
    let Some(verdict) = changed else {
        return;
    };
    let (level, code) = (verdict.found.finding.level(), verdict.found.finding.code());
    let (word, text) = (level.word(), verdict.text());
    match level {
        Level::Ok => tracing::info!("verdict level={word} code={code}: {text}"),
        Level::Degraded | Level::Unknown | Level::Down => {
            tracing::warn!("verdict level={word} code={code}: {text}");
        }
    }
    shared.verdict_changed.notify_one();
}

/// The pools that each listener leads to.
pub fn leads_to(shared: &Shared) -> BTreeMap<String, BTreeSet<Name>> {
    let listening = shared.model().listening().into_iter();
    let named = listening.map(|one| {
        let pools = one.pools.iter().filter_map(|pool| Name::new(pool));
        (one.name.to_string(), pools.collect())
    });
    named.collect()
}

/// Why the proxy does not answer, by its pid file.
async fn process(shared: &Shared, unknown: &Unknown) -> Process {
    let settings = shared.live();
    let find = move || find_proxy(&settings.proxy_pid_path, &settings.proxy_process_names);
    // The file may lie on a slow disk.
    let found = tokio::task::spawn_blocking(find).await;
    match found.expect("finding a process does not panic") {
        Ok(pid) => {
            let pid = pid.unsigned_abs();
            match unknown {
                Unknown::NoSocket { .. } => Process::WithoutStatus { pid },
                Unknown::NoSuchCall { .. } | Unknown::Failed { .. } => Process::Stuck {
                    pid: Some(pid),
                    silent_ms: 0,
                },
            }
        }
        Err(NotSent::NoProcess(pid)) => Process::Gone {
            pid: Some(pid.unsigned_abs()),
        },
        Err(NotSent::PidFile(ReadError::Missing(_))) => Process::Gone { pid: None },
        Err(error) => match unknown {
            // Its pid file proves nothing, and it does not answer.
            Unknown::NoSocket { .. } => Process::Unseen {
                why: error.to_string(),
            },
            Unknown::NoSuchCall { .. } | Unknown::Failed { .. } => Process::Stuck {
                pid: None,
                silent_ms: 0,
            },
        },
    }
}

fn config(shared: &Shared, outcome: &Outcome) -> Config {
    let unusable = {
        let model = shared.model();
        let unusable = model.unusable_listeners().into_iter();
        let with_kept = unusable.map(|one| {
            let key = Kind::Listener.key(one.name.as_str());
            let is_kept = model.kept.iter().any(|(own, _)| *own == key);
            (one, is_kept)
        });
        with_kept.collect()
    };
    let incidents = outcome.incidents.iter();
    let refused = incidents.filter(|one| !one.is_of_backend());
    let part = |one: &Incident| RefusedPart {
        code: one.code,
        place: one.part.place(),
        value: one.value.clone(),
        detail: one.detail.clone(),
        kept: one.stays().cloned().unwrap_or_default(),
    };
    let seen = outcome.seen_of_published();
    let other_file = seen.and_then(|seen| seen.other_file.as_ref());
    Config {
        published: outcome.generation,
        refused: refused.map(part).collect(),
        unusable,
        failure: outcome.failure.as_ref().map(ToString::to_string),
        other_file: other_file.map(|other| (other.proxy.clone(), other.control.clone())),
        is_behind: outcome.applied() == Some(false),
    }
}
