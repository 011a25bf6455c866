//! The current verdict, since when, and what led to it.
//!
//! In memory: the beginning of a state from before control's start is unknown.

use std::collections::{BTreeMap, BTreeSet};

use api::v1::{Finding as Described, Verdict};
use contract::status::{ListenerTotals, Totals};
use contract::{DEFAULT_NAME, Name};
use serde_json::{Map, Value};

use super::finding::{Finding, Found, Level};
use super::judge::{Before, Config, Facts, Process, Spans, judge};
use super::picture::Picture;
use super::text;
use super::traffic::{Figures, Window};
use crate::clock::Now;
use crate::standing::Protocol;

/// How long the proxy may be silent before it counts as stuck.
pub const STUCK_MS: u64 = 3_000;

/// One finding with the time since which it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub found: Found,
    /// Unix milliseconds; `None`: already so at control's first look.
    pub since: Option<u64>,
}

/// The result of the last look.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The worst first; never empty.
    findings: Vec<Standing>,
    pools: BTreeMap<Name, Standing>,
    traffic: Figures,
    /// Unix milliseconds.
    at_ms: u64,
}

#[derive(Debug)]
pub struct Verdicts {
    window: Window,
    /// Of each listener: what it counted stays its own when it leads to another pool.
    listeners: BTreeMap<String, Window>,
    before: BTreeMap<(Option<Name>, Protocol), Before>,
    /// When it last answered, on the monotonic clock.
    heard_at_ms: Option<u64>,
    pid: Option<u32>,
    report: Report,
}

impl Default for Verdicts {
    fn default() -> Verdicts {
        let not_looked = Standing {
            found: Found::of_whole(Finding::NotLooked),
            since: None,
        };
        Verdicts {
            window: Window::default(),
            listeners: BTreeMap::new(),
            before: BTreeMap::new(),
            heard_at_ms: None,
            pid: None,
            report: Report {
                pools: [(Name::default(), not_looked.clone())].into(),
                findings: vec![not_looked],
                traffic: Figures::default(),
                at_ms: 0,
            },
        }
    }
}

/// The input of one look.
pub struct Look<'a> {
    pub process: Process,
    pub picture: &'a Picture,
    pub config: &'a Config,
    /// The process and its counters; `None` if it did not answer.
    pub totals: Option<(u32, Option<u64>, &'a Totals)>,
    /// The counters of each listener; empty of an older proxy.
    pub listeners: &'a [ListenerTotals],
    /// The pool that each listener leads to.
    pub leads_to: &'a BTreeMap<String, BTreeSet<Name>>,
}

impl Verdicts {
    /// Judges the input; true if level or code of the whole have changed.
    pub fn note(&mut self, look: Look, now: Now) -> bool {
        let Look {
            mut process,
            picture,
            config,
            totals,
            listeners,
            leads_to,
        } = look;
        if let Some((pid, started_at_ms, totals)) = totals {
            self.window
                .add((pid, started_at_ms), totals, now.monotonic_ms);
            self.pid = Some(pid);
            self.listeners
                .retain(|name, _| listeners.iter().any(|one| one.name == *name));
            for one in listeners {
                let window = self.listeners.entry(one.name.clone()).or_default();
                window.add((pid, started_at_ms), &one.totals, now.monotonic_ms);
            }
        }
        match &mut process {
            Process::Heard => self.heard_at_ms = Some(now.monotonic_ms),
            Process::Gone { pid } => *pid = pid.or(self.pid),
            Process::Stuck { pid, silent_ms } => {
                // A proxy that never answered counts as silent from the first look.
                let heard_at_ms = *self.heard_at_ms.get_or_insert(now.monotonic_ms);
                *silent_ms = now.monotonic_ms.saturating_sub(heard_at_ms);
                *pid = pid.or(self.pid);
                if *silent_ms < STUCK_MS {
                    return false;
                }
            }
            Process::WithoutStatus { .. } | Process::Unseen { .. } => {}
        }
        let (spans, of_pools) = match process {
            Process::Heard => (
                Spans::of(|span_ms| self.window.last(span_ms)),
                self.spans_of_pools(picture, leads_to),
            ),
            // Earlier counts do not describe the present.
            _ => Default::default(),
        };
        let found = judge(&Facts {
            process: &process,
            picture,
            config,
            spans: &spans,
            of_pools: &of_pools,
            before: &self.before,
        });
        self.before = found.iter().filter_map(failing).collect();
        let report = self.report_of(found, picture, spans.minute, now);
        let is_news = !report.verdict().found.is_same(&self.report.verdict().found);
        self.report = report;
        is_news
    }

    /// What the listeners of each pool counted that lead to no other; empty where there is one pool, which has
    /// everything.
    fn spans_of_pools(
        &self,
        picture: &Picture,
        leads_to: &BTreeMap<String, BTreeSet<Name>>,
    ) -> BTreeMap<Name, Spans> {
        if picture.pools.len() < 2 || self.listeners.is_empty() {
            return BTreeMap::new();
        }
        let of_pool = |pool: &Name| {
            let own = self.listeners.iter();
            let own = own.filter(|(listener, _)| {
                let led = leads_to.get(*listener);
                led.is_some_and(|led| led.len() == 1 && led.contains(pool))
            });
            let windows: Vec<&Window> = own.map(|(_, window)| window).collect();
            Spans::of(|span_ms| {
                let figures = windows.iter().map(|window| window.last(span_ms));
                figures.fold(Figures::default(), Figures::plus)
            })
        };
        let pools = picture.pools.keys();
        pools.map(|pool| (pool.clone(), of_pool(pool))).collect()
    }

    fn report_of(
        &self,
        found: Vec<Found>,
        picture: &Picture,
        traffic: Figures,
        now: Now,
    ) -> Report {
        let standing = |found: Found, mut before: std::slice::Iter<Standing>| {
            let before = before.find(|standing| standing.found.is_same(&found));
            let since = match (before, &found.finding) {
                (Some(before), _) => before.since,
                (None, _) if self.report.at_ms == 0 => None,
                (None, Finding::ProxyStuck { silent_ms, .. }) => Some(now.unix_ms - silent_ms),
                (None, _) => Some(now.unix_ms),
            };
            Standing { found, since }
        };
        let pools = picture.pools.iter().map(|(pool, of_pool)| {
            let concerns = |found: &&Found| match &found.pool {
                Some(own) => own == pool,
                // A finding that stops everything applies to each pool.
                None => found.finding.is_of_each_pool(),
            };
            let worst = found.iter().find(concerns);
            let counts = of_pool.counts;
            let finding = worst.map_or(Finding::Serving { counts }, |found| found.finding.clone());
            let before = self.report.pools.get(pool);
            let before = before.map(std::slice::from_ref).unwrap_or_default();
            let of_pool = standing(Found::of_whole(finding), before.iter());
            (pool.clone(), of_pool)
        });
        let pools = pools.collect();
        let findings = found.into_iter();
        Report {
            findings: findings
                .map(|found| standing(found, self.report.findings.iter()))
                .collect(),
            pools,
            traffic,
            at_ms: now.unix_ms,
        }
    }

    pub fn report(&self) -> &Report {
        &self.report
    }
}

fn failing(found: &Found) -> Option<((Option<Name>, Protocol), Before)> {
    match &found.finding {
        Finding::Failing {
            protocol, is_most, ..
        } => Some((
            (found.pool.clone(), *protocol),
            Before {
                is_failing: true,
                is_most: *is_most,
            },
        )),
        _ => None,
    }
}

impl Standing {
    /// As in answers.
    fn described(&self) -> Described {
        let finding = &self.found.finding;
        Described {
            level: finding.level().into(),
            code: finding.code().to_owned(),
            args: match finding.args() {
                Value::Object(args) => args,
                _ => Map::new(),
            },
            since: self.since,
            text: self.text(),
            pool: self.other_pool().map(Name::to_string),
        }
    }

    /// The pool that it is about, unless it is `default`, which needs no name.
    fn other_pool(&self) -> Option<&Name> {
        let pool = self.found.pool.as_ref();
        pool.filter(|pool| pool.as_str() != DEFAULT_NAME)
    }

    pub fn text(&self) -> String {
        let sentence = text::sentence(&self.found.finding, self.since);
        match self.other_pool() {
            Some(pool) => format!("Pool {pool}: {sentence}"),
            None => sentence,
        }
    }
}

impl Report {
    /// The worst finding.
    pub fn verdict(&self) -> &Standing {
        &self.findings[0]
    }

    pub fn level(&self) -> Level {
        self.verdict().found.finding.level()
    }

    pub fn pools(&self) -> impl Iterator<Item = (&Name, Level)> {
        let pools = self.pools.iter();
        pools.map(|(name, standing)| (name, standing.found.finding.level()))
    }

    /// Why no backend takes traffic, for warnings, which already name everything else. A pool that has got a
    /// backend since the last look is not said to have none.
    pub fn no_backend(&self, has_backend: impl Fn(&Name) -> bool) -> impl Iterator<Item = String> {
        let findings = self.findings.iter();
        let of_backends = findings.filter(move |standing| match standing.found.finding {
            Finding::NoBackendKnown { .. } => {
                !standing.found.pool.as_ref().is_some_and(&has_backend)
            }
            ref other => matches!(
                other,
                Finding::NoBackendUsable { .. } | Finding::FailOpen { .. }
            ),
        });
        of_backends.map(Standing::text)
    }

    /// As in answers.
    pub fn described(&self) -> Verdict {
        let others = self.findings[1..].iter().map(Standing::described);
        let pools = self.pools.iter();
        let pools = pools.map(|(name, standing)| (name.to_string(), standing.described()));
        Verdict {
            finding: self.in_short(),
            others: others.collect(),
            pools: pools.collect(),
            traffic: self.traffic.described(),
            at_ms: self.at_ms,
        }
    }

    /// The verdict alone, for `/readyz`.
    pub fn in_short(&self) -> Described {
        self.verdict().described()
    }
}
