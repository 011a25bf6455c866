//! The traffic of the last minute: sessions, flows, and how many of them failed, by reason.
//!
//! Samples of the proxy's counters, which only grow while it runs and start again with a new proxy. A figure covers the time between two samples.

use std::collections::{BTreeMap, VecDeque};

use api::v1::Failures;
use contract::status::Totals;

use super::finding::rounded;

/// The time that the figures cover.
pub const WINDOW_MS: u64 = 60_000;
/// The shortest distance between samples.
const STEP_MS: u64 = 450;

/// Ends of sessions that count as failures of the service. An end by the client or an operator is none, and
/// neither is a time-out that the protocol may expect.
pub const FAILED_SESSIONS: [&str; 8] = [
    NO_BACKEND,
    "connect_refused",
    "connect_timeout",
    "backend_reset",
    "backend_lost",
    "backend_stalled",
    "backend_closed_unanswered",
    "internal_error",
];
/// Those that reached no backend.
const UNCONNECTED: [&str; 3] = [NO_BACKEND, "connect_refused", "connect_timeout"];
const FAILED_FLOWS: [&str; 3] = ["refused", "unanswered", "internal_error"];
/// The reason of a session or a datagram that came while no backend took any.
pub const NO_BACKEND: &str = "no_backend";

type ByReason = BTreeMap<String, u64>;

#[derive(Debug, Default)]
pub struct Window {
    /// The process of the samples.
    process: Option<(u32, Option<u64>)>,
    /// On the monotonic clock, the oldest first.
    samples: VecDeque<(u64, Sample)>,
}

#[derive(Debug, Clone, Default)]
struct Sample {
    sessions: u64,
    sessions_ended: ByReason,
    flows: u64,
    flows_ended: ByReason,
    retries: u64,
    dropped: ByReason,
}

/// The traffic between two samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    pub window_ms: u64,
    /// Sessions that began or ended, whichever number is larger: long ones end later, failed ones at once.
    pub sessions: u64,
    pub new_sessions: u64,
    pub failed: ByReason,
    pub flows: u64,
    pub flows_failed: ByReason,
    /// All ends, by reason.
    pub flows_ended: ByReason,
    pub retries: u64,
    pub dropped: ByReason,
}

impl Window {
    pub fn add(&mut self, process: (u32, Option<u64>), totals: &Totals, now_ms: u64) {
        if self.process != Some(process) {
            *self = Window {
                process: Some(process),
                samples: VecDeque::new(),
            };
        }
        if let Some((at_ms, _)) = self.samples.back()
            && now_ms < at_ms + STEP_MS
        {
            // The newest one only: the others stay apart, or they would be too many.
            if self.samples.len() > 1 {
                self.samples.pop_back();
            }
        }
        self.samples.push_back((
            now_ms,
            Sample {
                sessions: totals.counters.sessions_total,
                sessions_ended: totals.sessions_ended.clone(),
                flows: totals.counters.flows_total,
                flows_ended: totals.flows_ended.clone(),
                retries: totals.connect_retries,
                dropped: totals.datagrams_dropped.clone(),
            },
        ));
        while let Some((at_ms, _)) = self.samples.front()
            && *at_ms + WINDOW_MS < now_ms
        {
            self.samples.pop_front();
        }
    }

    /// The traffic of the last `span_ms`, or since the first sample.
    pub fn last(&self, span_ms: u64) -> Figures {
        let Some((newest_ms, newest)) = self.samples.back() else {
            return Figures::default();
        };
        let mut samples = self.samples.iter();
        let within = samples.find(|(at_ms, _)| at_ms + span_ms >= *newest_ms);
        let (oldest_ms, oldest) = within.expect("the newest one is within");
        let ended = grown(&oldest.sessions_ended, &newest.sessions_ended);
        let flows_ended = grown(&oldest.flows_ended, &newest.flows_ended);
        let new_sessions = newest.sessions.saturating_sub(oldest.sessions);
        Figures {
            window_ms: newest_ms - oldest_ms,
            sessions: new_sessions.max(ended.values().sum()),
            new_sessions,
            failed: only(&ended, &FAILED_SESSIONS),
            flows: newest
                .flows
                .saturating_sub(oldest.flows)
                .max(flows_ended.values().sum()),
            flows_failed: only(&flows_ended, &FAILED_FLOWS),
            flows_ended,
            retries: newest.retries.saturating_sub(oldest.retries),
            dropped: grown(&oldest.dropped, &newest.dropped),
        }
    }
}

/// Which ends count as failures, for those who compute rates from the proxy's counters.
pub fn failures() -> Failures {
    let words = |reasons: &[&str]| reasons.iter().map(|&reason| reason.to_owned()).collect();
    Failures {
        sessions: words(&FAILED_SESSIONS),
        unconnected: words(&UNCONNECTED),
        flows: words(&FAILED_FLOWS),
    }
}

/// Sessions since its start that reached no backend.
pub fn unconnected_sessions(totals: &Totals) -> u64 {
    only(&totals.sessions_ended, &UNCONNECTED).values().sum()
}

/// Failed sessions since its start.
pub fn failed_sessions(totals: &Totals) -> u64 {
    only(&totals.sessions_ended, &FAILED_SESSIONS)
        .values()
        .sum()
}

/// Failed flows since its start.
pub fn failed_flows(totals: &Totals) -> u64 {
    only(&totals.flows_ended, &FAILED_FLOWS).values().sum()
}

fn grown(before: &ByReason, now: &ByReason) -> ByReason {
    let grown = now.iter().map(|(reason, count)| {
        let before = before.get(reason).copied().unwrap_or(0);
        (reason.clone(), count.saturating_sub(before))
    });
    grown.filter(|(_, count)| *count > 0).collect()
}

fn only(counts: &ByReason, reasons: &[&str]) -> ByReason {
    let counts = counts.iter();
    let kept = counts.filter(|(reason, _)| reasons.contains(&reason.as_str()));
    kept.map(|(reason, count)| (reason.clone(), *count))
        .collect()
}

impl Figures {
    /// These and `other` together, of the same time.
    pub fn plus(mut self, other: Figures) -> Figures {
        fn add(sum: &mut ByReason, counts: ByReason) {
            for (reason, count) in counts {
                *sum.entry(reason).or_default() += count;
            }
        }
        let Figures {
            window_ms,
            sessions,
            new_sessions,
            failed,
            flows,
            flows_failed,
            flows_ended,
            retries,
            dropped,
        } = other;
        self.window_ms = self.window_ms.max(window_ms);
        self.sessions += sessions;
        self.new_sessions += new_sessions;
        self.flows += flows;
        self.retries += retries;
        add(&mut self.failed, failed);
        add(&mut self.flows_failed, flows_failed);
        add(&mut self.flows_ended, flows_ended);
        add(&mut self.dropped, dropped);
        self
    }

    pub fn per_s(&self, count: u64) -> f64 {
        match self.window_ms {
            0 => 0.0,
            window_ms => count as f64 * 1000.0 / window_ms as f64,
        }
    }

    /// Refusals per second because no backend was usable.
    pub fn refused_per_s(&self) -> f64 {
        let of = |counts: &ByReason| counts.get(NO_BACKEND).copied().unwrap_or(0);
        self.per_s(of(&self.failed) + of(&self.dropped))
    }

    /// As in answers.
    pub fn described(&self) -> api::v1::Traffic {
        let failed: u64 = self.failed.values().sum();
        let flows_failed: u64 = self.flows_failed.values().sum();
        let share = |part: u64, of: u64| (of > 0).then(|| rounded(part as f64 / of as f64));
        api::v1::Traffic {
            window_s: self.window_ms.div_ceil(1000),
            sessions: self.sessions,
            new_sessions: self.new_sessions,
            failed,
            failed_share: share(failed, self.sessions),
            failed_per_s: rounded(self.per_s(failed)),
            failed_reasons: self.failed.clone(),
            retries: self.retries,
            flows: self.flows,
            flows_failed,
            flows_failed_share: share(flows_failed, self.flows),
            flows_ended: self.flows_ended.clone(),
            datagrams_dropped: self.dropped.values().sum(),
            dropped_reasons: self.dropped.clone(),
        }
    }
}
