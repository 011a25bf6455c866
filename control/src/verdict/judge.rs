//! Derives findings from what is seen. There may be several; the worst one is the verdict.

use std::collections::BTreeMap;

use contract::{Name, RefusalCode};
use serde_json::Value;

use super::finding::{Finding, Found};
use super::picture::{Heard, Picture, PoolPicture};
use super::traffic::{Figures, NO_BACKEND, WINDOW_MS};
use crate::layer::Unusable;
use crate::merge::Place;
use crate::standing::Protocol;

/// Minimum number of failures in the last minute for a finding about their share.
pub const MIN_FAILED: u64 = 5;
/// The share from which sessions count as failing, and the one below which they no longer do.
const FAILING_SHARE: f64 = 0.01;
const RECOVERED_SHARE: f64 = 0.005;
/// The same for most of them failing.
const MOST_SHARE: f64 = 0.5;
const NO_MORE_MOST_SHARE: f64 = 0.4;
/// Failures count as current if one is younger than the first, and as continuing while one is younger than the second.
pub const RECENT_MS: u64 = 10_000;
pub const GOING_ON_MS: u64 = 30_000;

/// Whether the proxy's process is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// It answers.
    Heard,
    /// It is gone, or was never there.
    Gone {
        pid: Option<u32>,
    },
    /// It exists, but has not answered for this time.
    Stuck {
        pid: Option<u32>,
        silent_ms: u64,
    },
    /// It exists, but has no admin socket.
    WithoutStatus {
        pid: u32,
    },
    Unseen {
        why: String,
    },
}

/// A part that the proxy refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedPart {
    pub code: RefusalCode,
    pub place: String,
    pub value: String,
    pub detail: String,
    pub kept: Value,
}

/// The outcome of the last publish.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub published: Option<u64>,
    /// Without backends, which are left out one by one.
    pub refused: Vec<RefusedPart>,
    /// The listeners that the settings do not make, and whether the proxy keeps their last accepted ones.
    pub unusable: Vec<(Unusable, bool)>,
    pub failure: Option<String>,
    /// The file that the proxy reads, and the one that control writes.
    pub other_file: Option<(String, String)>,
    /// The proxy does not run it, although it had time to.
    pub is_behind: bool,
}

/// The failing state of a protocol at the last look, for hysteresis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    pub is_failing: bool,
    pub is_most: bool,
}

/// The traffic of three time spans.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    pub minute: Figures,
    pub going_on: Figures,
    pub recent: Figures,
}

impl Spans {
    /// Each from what `last` says of its time.
    pub fn of(last: impl Fn(u64) -> Figures) -> Spans {
        Spans {
            minute: last(WINDOW_MS),
            going_on: last(GOING_ON_MS),
            recent: last(RECENT_MS),
        }
    }
}

pub struct Facts<'a> {
    pub process: &'a Process,
    pub picture: &'a Picture,
    pub config: &'a Config,
    /// Of all listeners together.
    pub spans: &'a Spans,
    /// Of the listeners of each pool; empty where there is one pool, or an older proxy.
    pub of_pools: &'a BTreeMap<Name, Spans>,
    pub before: &'a BTreeMap<(Option<Name>, Protocol), Before>,
}

impl Facts<'_> {
    fn spans_of(&self, pool: &Name) -> &Spans {
        self.of_pools.get(pool).unwrap_or(self.spans)
    }
}

/// The worst first; never empty.
pub fn judge(facts: &Facts) -> Vec<Found> {
    let picture = facts.picture;
    let mut found: Vec<Found> = Vec::new();
    found.extend(of_process(facts.process).map(Found::of_whole));
    if let Some(heard) = &picture.heard {
        found.extend(of_listeners(heard, picture).map(Found::of_whole));
        let draining = heard.draining;
        let draining = draining.map(|sessions| Finding::ProxyDraining { sessions });
        found.extend(draining.map(Found::of_whole));
    }
    for (pool, of_pool) in &picture.pools {
        // Nothing is missed where no traffic can come.
        if of_pool.place != Place::Led {
            continue;
        }
        let spans = facts.spans_of(pool);
        let findings = of_backends(facts, of_pool, spans).into_iter();
        found.extend(findings.map(|finding| Found::of_pool(pool, finding)));
    }
    found.extend(of_failures(facts));
    found.extend(of_config(facts).into_iter().map(Found::of_whole));
    for (pool, of_pool) in &picture.pools {
        let counts = of_pool.counts;
        if counts.out() > 0 {
            found.push(Found::of_pool(pool, Finding::BackendsOut { counts }));
        }
    }
    if found.is_empty() {
        let counts = picture.counts;
        found.push(Found::of_whole(Finding::Serving { counts }));
    }
    for (pool, of_pool) in &picture.pools {
        let counts = of_pool.counts;
        let finding = match of_pool.place {
            Place::Led => continue,
            Place::NoListener => Finding::NoListener { counts },
            Place::Undefined => Finding::NoPool { counts },
        };
        found.push(Found::of_pool(pool, finding));
    }
    found.sort_by_key(|found| std::cmp::Reverse(found.finding.level()));
    found
}

fn of_process(process: &Process) -> Option<Finding> {
    match process {
        Process::Heard => None,
        Process::Gone { pid } => Some(Finding::ProxyNotRunning { pid: *pid }),
        Process::Stuck { pid, silent_ms } => Some(Finding::ProxyStuck {
            pid: *pid,
            silent_ms: *silent_ms,
        }),
        Process::WithoutStatus { pid } => Some(Finding::ProxyWithoutStatus { pid: *pid }),
        Process::Unseen { why } => Some(Finding::ProxyUnseen { why: why.clone() }),
    }
}

fn of_listeners(heard: &Heard, picture: &Picture) -> Option<Finding> {
    let first = heard.unbound.first()?;
    let serves_any = picture.pools.values().any(|pool| !pool.served.is_empty());
    let values = heard.unbound.iter().map(|unbound| unbound.value.clone());
    Some(Finding::NotListening {
        protocol: first.protocol.filter(|_| serves_any),
        values: values.collect(),
        refusal: Some(first.code),
    })
}

fn of_backends(facts: &Facts, pool: &PoolPicture, spans: &Spans) -> Vec<Finding> {
    let counts = pool.counts;
    let refused_per_s = spans.recent.refused_per_s();
    if facts.picture.heard.is_none() {
        if !matches!(facts.process, Process::WithoutStatus { .. }) {
            return Vec::new();
        }
        // The proxy accepts what is published, so operators, registrations and discovery decide.
        let none_usable = Finding::NoBackendUsable {
            protocol: None,
            counts,
            refused_per_s: 0.0,
        };
        return match (counts.total, counts.unknown) {
            (0, _) => vec![Finding::NoBackendKnown { refused_per_s: 0.0 }],
            (_, 0) => vec![none_usable],
            (_, _) => Vec::new(),
        };
    }
    let out = pool.served.iter().filter(|served| served.usable == 0);
    let (open, shut): (Vec<_>, Vec<_>) = out.partition(|served| served.is_fail_open);
    // A finding about all protocols names none.
    let protocol = |of: &[&super::picture::Served]| match of {
        [one] if pool.served.len() > 1 => Some(one.protocol),
        _ => None,
    };
    let mut found = Vec::new();
    if !shut.is_empty() {
        found.push(match counts.total {
            0 => Finding::NoBackendKnown { refused_per_s },
            _ => Finding::NoBackendUsable {
                protocol: protocol(&shut),
                counts,
                refused_per_s,
            },
        });
    }
    if !open.is_empty() {
        let protocol = protocol(&open);
        found.push(Finding::FailOpen { protocol, counts });
    }
    if pool.is_udp_alone {
        let figures = &spans.minute;
        found.push(Finding::UdpAlone {
            failed: figures.failed.values().sum(),
            window_s: figures.window_ms.div_ceil(1000),
        });
    }
    found
}

fn of_failures(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    // A pool's failures are a share of its own traffic: beside a busy pool, they would not be seen.
    for (pool, spans) in facts.of_pools {
        let is_udp_alone = { facts.picture.pools.get(pool) }.is_some_and(|pool| pool.is_udp_alone);
        found.extend(of_failing(Some(pool), is_udp_alone, spans, facts));
    }
    if facts.of_pools.is_empty() {
        let mut pools = facts.picture.pools.values();
        let is_udp_alone = pools.all(|pool| pool.is_udp_alone);
        found.extend(of_failing(None, is_udp_alone, facts.spans, facts));
    }
    found
}

/// If the service has no TCP, all its sessions fail.
fn of_failing(pool: Option<&Name>, is_udp_alone: bool, spans: &Spans, facts: &Facts) -> Vec<Found> {
    let is_judged = |protocol: &Protocol| !(is_udp_alone && *protocol == Protocol::Tcp);
    let protocols = Protocol::ALL.into_iter().filter(is_judged);
    let found = protocols.filter_map(|protocol| {
        let before = facts.before.get(&(pool.cloned(), protocol));
        let finding = failing(protocol, spans, before.copied().unwrap_or_default())?;
        let pool = pool.cloned();
        Some(Found { pool, finding })
    });
    found.collect()
}

fn failing(protocol: Protocol, spans: &Spans, before: Before) -> Option<Finding> {
    let minute = failed_of(protocol, &spans.minute);
    let recent = failed_of(protocol, &spans.recent);
    let going_on = failed_of(protocol, &spans.going_on);
    let is_failing = match before.is_failing {
        false => {
            let is_enough = minute.failed >= MIN_FAILED && recent.failed > 0;
            is_enough && minute.share() >= FAILING_SHARE
        }
        true => going_on.failed > 0 && minute.share() >= RECOVERED_SHARE,
    };
    if !is_failing {
        return None;
    }
    // If sessions are rare, the last seconds hold too few to judge; one success without a failure ends the
    // finding.
    let is_over = recent.of > 0 && recent.failed == 0;
    let (judged, span) = match recent.of >= MIN_FAILED {
        true => (&recent, &spans.recent),
        false => (&minute, &spans.minute),
    };
    let is_most = match before.is_most {
        false => judged.failed >= MIN_FAILED && judged.share() >= MOST_SHARE,
        true => judged.share() >= NO_MORE_MOST_SHARE,
    };
    let is_most = is_most && !is_over;
    let (shown, figures) = match is_most {
        true => (judged, span),
        false => (&minute, &spans.minute),
    };
    Some(Finding::Failing {
        protocol,
        is_most,
        share: shown.share(),
        per_s: figures.per_s(shown.failed),
        reason: shown.reason.clone(),
        failed: shown.failed,
        of: shown.of,
        window_s: figures.window_ms.div_ceil(1000),
    })
}

struct Failed {
    failed: u64,
    of: u64,
    /// The reason of most failures.
    reason: String,
}

impl Failed {
    fn share(&self) -> f64 {
        match self.of {
            0 => 0.0,
            of => self.failed as f64 / of as f64,
        }
    }
}

/// Without sessions that came while no backend took any: these belong to the finding about backends.
fn failed_of(protocol: Protocol, figures: &Figures) -> Failed {
    let (reasons, of) = match protocol {
        Protocol::Tcp => (&figures.failed, figures.sessions),
        Protocol::Udp => (&figures.flows_failed, figures.flows),
    };
    let reasons = reasons.iter().filter(|(reason, _)| *reason != NO_BACKEND);
    let failed = reasons.clone().map(|(_, count)| count).sum();
    // Of equal counts the first by name, as the console orders them.
    let most = reasons.rev().max_by_key(|(_, count)| **count);
    Failed {
        failed,
        of,
        reason: most.map(|(reason, _)| reason.clone()).unwrap_or_default(),
    }
}

fn of_config(facts: &Facts) -> Vec<Finding> {
    let config = facts.config;
    let running = facts.picture.heard.as_ref().map(|heard| heard.generation);
    let mut found = Vec::new();
    if let Some(why) = &config.failure {
        found.push(Finding::NotPublished { why: why.clone() });
    }
    if let Some((proxy, control)) = &config.other_file {
        let (proxy, control) = (proxy.clone(), control.clone());
        found.push(Finding::OtherFile { proxy, control });
    }
    let behind = config
        .published
        .filter(|published| running.is_some_and(|running| running < *published));
    if let Some(first) = config.refused.first() {
        found.push(Finding::Refused {
            generation: behind,
            running,
            code: first.code,
            place: first.place.clone(),
            value: first.value.clone(),
            detail: first.detail.clone(),
            kept: first.kept.clone(),
            parts: config.refused.len(),
        });
    } else if let Some(published) = behind.filter(|_| config.is_behind) {
        found.push(Finding::NotApplied { published, running });
    }
    if let Some((first, is_kept)) = config.unusable.first() {
        found.push(Finding::ListenerNotApplied {
            listener: first.name.clone(),
            place: first.place.clone(),
            why: first.why.clone(),
            is_kept: *is_kept,
            listeners: config.unusable.len(),
        });
    }
    found
}
