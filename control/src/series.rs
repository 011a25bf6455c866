//! Past figures: of the whole every 5 seconds for an hour and every minute for a day, of each backend every
//! minute for an hour, and the events of that time.
//!
//! In memory, within `history_max_bytes`: a restart of control leaves a gap, and so does a proxy that does
//! not answer. Rates come from two readings of counters that only grow; a restarted proxy starts at 0.

mod backends;
mod marks;
mod ring;
pub mod task;

use std::collections::BTreeMap;

use contract::BackendKey;
use contract::status::{BackendStatus, Totals};
use serde_json::{Value, json};

use crate::merge::Row;
use crate::verdict::{FAILED_SESSIONS, failed_flows, failed_sessions, unconnected_sessions};
use backends::Backends;
pub use marks::Marks;
use ring::Ring;

/// The pace of the figures of the last hour.
pub const STEP_MS: u64 = 5_000;
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// The pace of the figures of the last day, and of those of each backend.
pub const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// `history_max_bytes`: what is kept without any backend, and the default.
pub const LEAST_BYTES: u64 = 4 << 20;
pub const DEFAULT_BYTES: u64 = 64 << 20;
const WHOLE_BYTES: u64 =
    Ring::<WIDTH>::bytes(STEP_MS, HOUR_MS) + Ring::<WIDTH>::bytes(MINUTE_MS, DAY_MS) + marks::BYTES;
const _: () = assert!(WHOLE_BYTES <= LEAST_BYTES);

/// The figures of the whole, in the order in which they are kept; then `failed_REASON_rate` of each of
/// [`FAILED_SESSIONS`]. Rates are a second.
const NAMES: [&str; 18] = [
    "backends",
    "taking",
    "sessions",
    "flows",
    "session_rate",
    "flow_rate",
    "failed_rate",
    "retry_rate",
    "drop_rate",
    "bytes_up_rate",
    "bytes_down_rate",
    "first_byte_p50_us",
    "first_byte_p99_us",
    "gpu",
    "vram",
    "vram_batched",
    "vram_unbatched",
    "flow_failed_rate",
];
const WIDTH: usize = NAMES.len() + FAILED_SESSIONS.len();
/// `NAN` where a figure is not known.
type Moment = [f32; WIDTH];
/// The figures that are of a moment: a minute keeps their mean. The others are rates, which are computed
/// over the minute, as its quantiles are.
const GAUGES: [usize; 8] = [0, 1, 2, 3, 13, 14, 15, 16];

/// What a look at the proxy finds: what it has counted since its start, and how many backends take new
/// sessions or flows.
#[derive(Debug, Clone)]
pub struct Heard {
    pub monotonic_ms: u64,
    /// Pid and start time.
    pub process: (u32, Option<u64>),
    pub totals: Totals,
    pub taking: usize,
}

/// The backends at one moment, as control knows them.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub backends: usize,
    /// Means of those that report.
    pub gpu: Option<f64>,
    pub vram: Option<f64>,
    /// Of those that serve requests together, and of those that take each by itself.
    pub vram_batched: Option<f64>,
    pub vram_unbatched: Option<f64>,
}

impl Fleet {
    pub fn of(rows: &[Row]) -> Fleet {
        let reports = rows.iter().map(|row| row.backend.report);
        let vram_where = |batched: bool| {
            let some = rows
                .iter()
                .filter(move |row| is_batched(row) == Some(batched));
            mean(some.map(|row| row.backend.report.vram_usage))
        };
        Fleet {
            backends: rows.len(),
            gpu: mean(reports.clone().map(|report| report.gpu_usage)),
            vram: mean(reports.map(|report| report.vram_usage)),
            vram_batched: vram_where(true),
            vram_unbatched: vram_where(false),
        }
    }
}

/// Whether a backend serves requests together; `None` where it says neither.
fn is_batched(row: &Row) -> Option<bool> {
    match row.backend.batch {
        Some(batch) => Some(batch.max > 1),
        None => {
            let requests = row.registered.as_ref()?.requests;
            requests.running.map(|_| false)
        }
    }
}

fn mean(figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) = figures
        .flatten()
        .fold((0.0, 0), |(sum, count), figure| (sum + figure, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[derive(Debug)]
pub struct Series {
    hour: Ring<WIDTH>,
    day: Ring<WIDTH>,
    backends: Backends,
    pub marks: Marks,
    /// What the last look at the proxy found; `None` where it was not heard.
    heard: Option<Heard>,
    /// The same at the last step, and when the minute began.
    at_step: Option<Heard>,
    at_minute: Option<Heard>,
    minute: Minute,
}

/// The minute that is going on.
#[derive(Debug, Default)]
struct Minute {
    /// Since the Unix epoch.
    number: u64,
    sums: [f64; GAUGES.len()],
    counts: [u32; GAUGES.len()],
}

impl Series {
    pub fn new(max_bytes: u64) -> Series {
        Series {
            hour: Ring::new(STEP_MS, HOUR_MS),
            day: Ring::new(MINUTE_MS, DAY_MS),
            backends: Backends::new(backends_within(max_bytes)),
            marks: Marks::default(),
            heard: None,
            at_step: None,
            at_minute: None,
            minute: Minute::default(),
        }
    }

    pub fn set_max_bytes(&mut self, max_bytes: u64) {
        self.backends.resize(backends_within(max_bytes));
    }

    /// What a look at the proxy has found; kept until the next step.
    pub fn look(&mut self, heard: Option<Heard>) {
        self.heard = heard;
    }

    /// Keeps a moment. `Some` where a minute has ended by it: its beginning in Unix milliseconds, and
    /// now the backends' figures are due.
    pub fn step(&mut self, unix_ms: u64, fleet: Fleet) -> Option<u64> {
        let now = self.heard.clone();
        let moment = moment(self.at_step.as_ref(), now.as_ref(), fleet);
        self.hour.push(unix_ms, moment);
        let ended = self.end_minute(unix_ms, now.as_ref());
        for (place, gauge) in GAUGES.into_iter().enumerate() {
            if !moment[gauge].is_nan() {
                self.minute.sums[place] += f64::from(moment[gauge]);
                self.minute.counts[place] += 1;
            }
        }
        self.at_step = now;
        ended
    }

    /// Keeps the minute that has ended, if one has.
    fn end_minute(&mut self, unix_ms: u64, now: Option<&Heard>) -> Option<u64> {
        let number = unix_ms / MINUTE_MS;
        if number == self.minute.number {
            return None;
        }
        let ended = std::mem::replace(
            &mut self.minute,
            Minute {
                number,
                ..Minute::default()
            },
        );
        let before = std::mem::replace(&mut self.at_minute, now.cloned());
        if ended.counts == [0; GAUGES.len()] {
            // The first one, of which nothing is known.
            return None;
        }
        let mut whole = rates(before.as_ref(), now);
        for (place, gauge) in GAUGES.into_iter().enumerate() {
            let count = ended.counts[place];
            if count > 0 {
                whole[gauge] = (ended.sums[place] / f64::from(count)) as f32;
            }
        }
        let began_ms = ended.number * MINUTE_MS;
        self.day.push(began_ms, whole);
        Some(began_ms)
    }

    /// Keeps the minute of each backend that began at `unix_ms`.
    pub fn minute(
        &mut self,
        unix_ms: u64,
        process: (u32, Option<u64>),
        backends: &[BackendStatus],
    ) {
        self.backends.push(unix_ms, process, backends);
    }

    /// The figures of the whole from one time to another, both in Unix milliseconds, at a pace of
    /// [`STEP_MS`] or [`MINUTE_MS`]: an array a figure, with `null` where it is not known.
    pub fn whole(&self, step_ms: u64, from_ms: u64, to_ms: u64) -> Value {
        let ring = match step_ms {
            STEP_MS => &self.hour,
            _ => &self.day,
        };
        let (first_ms, moments) = ring.between(from_ms, to_ms);
        let reasons = FAILED_SESSIONS.iter();
        let names = NAMES.iter().map(ToString::to_string);
        let names = names.chain(reasons.map(|reason| format!("failed_{reason}_rate")));
        let figures = names.enumerate().map(|(place, name)| {
            let figures = moments.iter().map(|moment| known(moment[place]));
            (name, figures.collect())
        });
        json!({
            "step_ms": ring.step_ms, "first_ms": first_ms, "count": moments.len(),
            "oldest_ms": ring.oldest_ms(), "series": figures.collect::<BTreeMap<_, Value>>(),
            "marks": self.marks.between(from_ms, to_ms),
        })
    }

    /// The figures of a backend in the last hour; `None` where nothing is kept of it.
    pub fn backend(&self, key: &BackendKey, from_ms: u64, to_ms: u64) -> Option<Value> {
        let (oldest_ms, figures) = self.backends.of(key)?;
        let moments = figures.into_iter().enumerate();
        let moments =
            moments.map(|(place, figures)| (oldest_ms + place as u64 * MINUTE_MS, figures));
        let within: Vec<_> = moments
            .filter(|(at_ms, _)| (from_ms..=to_ms).contains(at_ms))
            .collect();
        let names = backends::Figures::NAMES.iter().enumerate();
        let series = names.map(|(place, name)| {
            let figures = within
                .iter()
                .map(|(_, figures)| known(figures.all()[place]));
            (*name, figures.collect())
        });
        Some(json!({
            "step_ms": MINUTE_MS, "first_ms": within.first().map_or(from_ms, |(at_ms, _)| *at_ms),
            "count": within.len(), "oldest_ms": oldest_ms,
            "series": series.collect::<BTreeMap<_, Value>>(),
        }))
    }

    /// Number of backends without history, because there is no room for them.
    pub fn left_out(&self) -> usize {
        self.backends.left_out
    }
}

fn backends_within(max_bytes: u64) -> usize {
    (max_bytes.saturating_sub(WHOLE_BYTES) / backends::BYTES) as usize
}

/// Four digits are more than a chart shows.
fn known(figure: f32) -> Value {
    if !figure.is_finite() {
        return Value::Null;
    }
    let digits = format!("{figure:.3e}");
    let rounded: f64 = digits.parse().expect("it was a number");
    match rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        true => json!(rounded as i64),
        false => json!(rounded),
    }
}

fn moment(before: Option<&Heard>, now: Option<&Heard>, fleet: Fleet) -> Moment {
    let mut moment = rates(before, now);
    let share = |share: Option<f64>| share.map_or(f32::NAN, |share| share as f32);
    let active = |of: fn(&Totals) -> u64| now.map_or(f32::NAN, |now| of(&now.totals) as f32);
    let gauges = [
        fleet.backends as f32,
        now.map_or(f32::NAN, |now| now.taking as f32),
        active(|totals| totals.counters.sessions_active),
        active(|totals| totals.counters.flows_active),
        share(fleet.gpu),
        share(fleet.vram),
        share(fleet.vram_batched),
        share(fleet.vram_unbatched),
    ];
    for (place, figure) in GAUGES.into_iter().zip(gauges) {
        moment[place] = figure;
    }
    moment
}

/// What happened each second between two looks at one process, and how long first bytes took.
fn rates(before: Option<&Heard>, now: Option<&Heard>) -> Moment {
    let mut moment = [f32::NAN; WIDTH];
    let (Some(before), Some(now)) = (before, now) else {
        return moment;
    };
    let passed_ms = now.monotonic_ms.saturating_sub(before.monotonic_ms);
    if before.process != now.process || passed_ms == 0 {
        return moment;
    }
    let growth = |before: u64, now: u64| {
        (now.saturating_sub(before) as f64 * 1000.0 / passed_ms as f64) as f32
    };
    let grown = |of: fn(&Totals) -> u64| growth(of(&before.totals), of(&now.totals));
    // One that reaches no backend is no traffic; that it does not may be known a step later.
    moment[4] = grown(|totals| {
        let all = totals.counters.sessions_total;
        all.saturating_sub(unconnected_sessions(totals))
    });
    moment[5] = grown(|totals| totals.counters.flows_total);
    moment[6] = grown(failed_sessions);
    moment[7] = grown(|totals| totals.connect_retries);
    moment[8] = grown(|totals| totals.datagrams_dropped.values().sum());
    moment[9] = grown(|totals| totals.counters.bytes_up);
    moment[10] = grown(|totals| totals.counters.bytes_down);
    let counts: Vec<(u64, u64)> = first_bytes(&before.totals, &now.totals);
    moment[11] = quantile(&counts, 0.50);
    moment[12] = quantile(&counts, 0.99);
    moment[17] = grown(failed_flows);
    for (place, reason) in FAILED_SESSIONS.iter().enumerate() {
        let of = |totals: &Totals| totals.sessions_ended.get(*reason).copied().unwrap_or(0);
        moment[NAMES.len() + place] = growth(of(&before.totals), of(&now.totals));
    }
    moment
}

/// First bytes that came between two looks, by how long they took at most.
fn first_bytes(before: &Totals, now: &Totals) -> Vec<(u64, u64)> {
    let before: BTreeMap<u64, u64> = before.first_byte.buckets.iter().copied().collect();
    let now = now.first_byte.buckets.iter();
    now.map(|(most_us, count)| {
        let earlier = before.get(most_us).copied().unwrap_or(0);
        (*most_us, count.saturating_sub(earlier))
    })
    .collect()
}

/// How long a share of them took at most; `NAN` where there are none.
fn quantile(counts: &[(u64, u64)], share: f64) -> f32 {
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let mut left = (share * all as f64).ceil() as u64;
    for (most_us, count) in counts {
        if left > 0 && *count >= left {
            return *most_us as f32;
        }
        left = left.saturating_sub(*count);
    }
    f32::NAN
}

#[cfg(test)]
mod tests;
