//! What is learned of one backend from the traffic and its reports. Only whoever scores touches it;
//! workers leave counts behind, of which it takes what is new ([`Traffic`]).

use contract::{GpuAware, Report};

use super::cost::{Cost, Reported, Warmth};
use super::log2;
use super::now::Now;
use super::trial::{Seen, Trial};

/// What is learned of one backend; it belongs to the backend's state and outlives reloads.
#[derive(Debug, Default)]
pub struct Learned {
    latency: Latency,
    vram: VramPerLoad,
    report: Option<Received>,
    reports_seen: u64,
    /// Since the last report.
    own_load: MeanLoad,
    warmth: Ramp,
    trial: Trial,
    begun_seen: u64,
    failures_seen: u32,
    /// The cost as it was last computed.
    pub explained: Option<Cost>,
}

/// What workers and reports have left at a backend by now. All counts only grow, and may wrap.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// As [`crate::load::Load::in_flight`].
    pub in_flight: f32,
    /// Whether a session or flow is busy there.
    pub is_busy: bool,
    /// Sessions and flows that ever began.
    pub begun: u64,
    /// Failures since the last answer.
    pub failures_in_a_row: u32,
    /// Answered requests.
    pub latency_samples: u64,
    /// Of those, the sum of `log2(latency) - log2(load at dispatch)`, in 1/65,536, two's complement.
    pub latency_log2_sum: u64,
    /// Reports that have come.
    pub reports: u64,
    /// The last of them.
    pub report: Report,
}

/// What a scoring goes by.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// The load at this moment.
    pub in_flight: f32,
    /// Whether it is warm.
    pub warmth: Warmth,
    /// Beside the load; `None` below [`FEWEST_SAMPLES`].
    pub latency_log2: Option<f32>,
    /// From 0 to 1, how much the latency is worth.
    pub confidence: f32,
    /// Answered requests so far.
    pub samples: u64,
    /// The last report, as it is worth now.
    pub report: Option<Reported>,
    /// Sessions and flows that ever began.
    pub begun: u64,
    /// Something of ours is or was at work there since the last time.
    pub is_used: bool,
    /// The next session goes there; see [`super::trial`].
    pub is_due: bool,
}

/// The mean of `log2(latency) - log2(load at dispatch)`.
#[derive(Debug, Default)]
struct Latency {
    mean: f32,
    samples: u64,
    last_us: u64,
    /// What of the workers' counts is in the mean already.
    drained_samples: u64,
    drained_sum: u64,
}

/// How much VRAM one session more takes: the slope of a regression through the changes between
/// reports, of which old ones fade, drawn to what is configured while there are few.
#[derive(Debug, Default)]
struct VramPerLoad {
    /// Of products of changes of load and VRAM.
    sxy: f32,
    /// Of squares of changes of load.
    sxx: f32,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    /// When it was true, on the monotonic clock.
    at_us: u64,
    heartbeat_us: u64,
    in_flight: f32,
    vram: Option<f32>,
    /// The part of the GPU that is busy with what is not ours.
    foreign_gpu: f32,
}

#[derive(Debug, Default)]
struct MeanLoad {
    sum: f32,
    count: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Ramp {
    #[default]
    Warm,
    Warming,
    WarmSince(u64),
}

/// Below, a latency is chance.
const FEWEST_SAMPLES: u64 = 4;
/// At so many samples, they count for half of what they say.
const HALF_TRUSTED: f32 = 8.0;
/// Of the regression, with each report.
const FADE: f32 = 0.9;
/// How many squares of load the configured VRAM per load weighs.
const PRIOR_WEIGHT: f32 = 8.0;
/// A report is as good as new for so many heartbeats: one is always on its way.
const FRESH_HEARTBEATS: f32 = 1.2;
/// A weight below this changes nothing any more.
const NEGLIGIBLE: f32 = 0.01;
/// A report above this weight can keep a trial away.
const COUNTS: f32 = 0.5;

impl Learned {
    /// Takes in what has happened since the last time.
    pub fn observe(
        &mut self,
        traffic: &Traffic,
        is_warming: bool,
        now: Now,
        parameters: &GpuAware,
    ) -> Observed {
        let in_flight = traffic.in_flight;
        let has_answered = self.latency.drain(traffic, now, parameters);
        self.own_load.add(in_flight);
        self.warmth = self.warmth.after(is_warming, now);
        if traffic.reports != self.reports_seen {
            self.reports_seen = traffic.reports;
            self.take_report(&traffic.report, in_flight, now, parameters);
        }
        let is_used = self.try_out(traffic, has_answered, now, parameters);
        let heartbeat_us = self.heartbeat_us(parameters);
        Observed {
            begun: traffic.begun,
            is_used,
            is_due: self.is_due(now, parameters),
            in_flight,
            warmth: self.warmth.at(now, parameters),
            latency_log2: (self.latency.samples >= FEWEST_SAMPLES).then_some(self.latency.mean),
            confidence: self.latency.confidence(now, heartbeat_us, parameters),
            samples: self.latency.samples,
            report: self.report.map(|report| Reported {
                weight: report.weight(now),
                age_us: now.us.saturating_sub(report.at_us),
                vram: report.vram.filter(|&vram| !self.trial.contradicts(vram)),
                foreign_gpu: report.foreign_gpu,
                in_flight: report.in_flight,
                vram_per_load: self.vram.get(parameters),
            }),
        }
    }

    /// Returns whether something of ours is or was at work there since the last time.
    fn try_out(
        &mut self,
        traffic: &Traffic,
        has_answered: bool,
        now: Now,
        parameters: &GpuAware,
    ) -> bool {
        let failures = traffic.failures_in_a_row;
        let is_failing = failures > std::mem::replace(&mut self.failures_seen, failures);
        let begun = traffic.begun;
        let has_begun = begun != std::mem::replace(&mut self.begun_seen, begun);
        let is_used = has_begun || traffic.is_busy || has_answered || is_failing;
        let seen = Seen {
            is_used,
            has_answered,
            is_failing,
            vram: self.report.and_then(|report| report.vram),
            full_from: self.full_from(parameters),
        };
        let interval_us = parameters.trial_interval_ms * 1_000;
        self.trial.observe(&seen, interval_us, now.us);
        is_used
    }

    /// The pool was used for so long, and this backend was not.
    pub fn left_aside(&mut self, us: u64) {
        self.trial.pass(us);
    }

    fn is_due(&self, now: Now, parameters: &GpuAware) -> bool {
        let is_fresh = |report: &Received| report.weight(now) > COUNTS;
        let report = self.report.filter(is_fresh);
        let vram = report.and_then(|report| report.vram);
        let is_full = vram.is_some_and(|vram| {
            vram >= self.full_from(parameters) && !self.trial.contradicts(vram)
        });
        let foreign_gpu = report.map_or(0.0, |report| report.foreign_gpu);
        let interval_us = parameters.trial_interval_ms * 1_000;
        self.trial.is_due(is_full, foreign_gpu, interval_us, now.us)
    }

    /// The share of VRAM from which one session more does not fit.
    fn full_from(&self, parameters: &GpuAware) -> f32 {
        parameters.vram_hard as f32 - self.vram.get(parameters)
    }

    fn take_report(&mut self, report: &Report, in_flight: f32, now: Now, parameters: &GpuAware) {
        let (gpu, vram) = (
            report.gpu_usage.and_then(share),
            report.vram_usage.and_then(share),
        );
        if gpu.is_none() && vram.is_none() {
            self.report = None;
            return;
        }
        if let (Some(last), Some(vram)) = (&self.report, vram)
            && let Some(last_vram) = last.vram
        {
            self.vram
                .learn(in_flight - last.in_flight, vram - last_vram);
        }
        // What comes from the future is of now.
        let age_ms = report
            .reported_at_ms
            .map_or(0, |at| now.unix_ms.saturating_sub(at));
        let own_load = self.own_load.take().unwrap_or(in_flight);
        self.report = Some(Received {
            at_us: now.us.saturating_sub(age_ms.saturating_mul(1_000)),
            heartbeat_us: report
                .heartbeat_ms
                .unwrap_or(parameters.heartbeat_ms)
                .saturating_mul(1_000),
            in_flight,
            vram,
            foreign_gpu: gpu.map_or(0.0, |gpu| (gpu - own_load.min(1.0)).max(0.0)),
        });
    }

    fn heartbeat_us(&self, parameters: &GpuAware) -> u64 {
        let configured_us = parameters.heartbeat_ms * 1_000;
        self.report
            .map_or(configured_us, |report| report.heartbeat_us)
    }

    /// With nobody busy, in how many microseconds the cost changes by time alone: in `tick_us`
    /// where it does so already. `None`: never.
    pub fn changes_in_us(&self, now: Now, parameters: &GpuAware, tick_us: u64) -> Option<u64> {
        let cost = self.explained?;
        let heartbeat_us = self.heartbeat_us(parameters);
        let fades = self.latency.confidence(now, heartbeat_us, parameters) > NEGLIGIBLE
            && self.latency.samples >= FEWEST_SAMPLES;
        let ramps = matches!(self.warmth.at(now, parameters), Warmth::Ramp(_));
        if cost.failures > NEGLIGIBLE || fades || ramps {
            return Some(tick_us);
        }
        let report = self.report?;
        let stale_at_us = report.at_us + report.fresh_us();
        match report.weight(now) {
            _ if now.us < stale_at_us => Some(stale_at_us - now.us),
            weight if weight > NEGLIGIBLE => Some(tick_us),
            _ => None,
        }
    }
}

impl Observed {
    /// How many times longer it takes than the middle of the pool.
    pub fn slowness(&self, middle: f32, parameters: &GpuAware) -> f32 {
        let Some(latency_log2) = self.latency_log2.filter(|_| middle.is_finite()) else {
            return 1.0;
        };
        let slowness = (self.confidence * (latency_log2 - middle)).exp2();
        slowness.clamp(
            parameters.slowness_min as f32,
            parameters.slowness_max as f32,
        )
    }
}

impl Latency {
    /// Returns whether there was anything.
    fn drain(&mut self, traffic: &Traffic, now: Now, parameters: &GpuAware) -> bool {
        let (samples, sum) = (traffic.latency_samples, traffic.latency_log2_sum);
        let new = samples.wrapping_sub(self.drained_samples);
        if new == 0 {
            return false;
        }
        let mean = sum.wrapping_sub(self.drained_sum) as i64 as f32 / new as f32 / log2::ONE as f32;
        (self.drained_samples, self.drained_sum) = (samples, sum);
        self.samples += new;
        self.last_us = now.us;
        // All alike at first; later the newest counts for one in so many.
        let newest = new as f32 / self.samples.min(parameters.latency_samples.max(new)) as f32;
        self.mean += newest * (mean - self.mean);
        true
    }

    fn confidence(&self, now: Now, heartbeat_us: u64, parameters: &GpuAware) -> f32 {
        let samples = self.samples as f32;
        let silent_us = now
            .us
            .saturating_sub(self.last_us)
            .saturating_sub(heartbeat_us);
        let memory_us = parameters.latency_memory_ms as f32 * 1e3;
        samples / (samples + HALF_TRUSTED) * (-(silent_us as f32) / memory_us).exp()
    }
}

impl VramPerLoad {
    fn learn(&mut self, load_change: f32, vram_change: f32) {
        self.sxy = FADE * self.sxy + load_change * vram_change;
        self.sxx = FADE * self.sxx + load_change * load_change;
    }

    fn get(&self, parameters: &GpuAware) -> f32 {
        let prior = parameters.vram_per_load as f32 * PRIOR_WEIGHT;
        ((self.sxy + prior) / (self.sxx + PRIOR_WEIGHT)).max(0.0)
    }
}

impl Received {
    fn fresh_us(&self) -> u64 {
        (self.heartbeat_us as f32 * FRESH_HEARTBEATS) as u64
    }

    /// 1 while it is fresh; fades by a factor of e in each further heartbeat.
    fn weight(&self, now: Now) -> f32 {
        let stale_us = now
            .us
            .saturating_sub(self.at_us)
            .saturating_sub(self.fresh_us());
        (-(stale_us as f32) / self.heartbeat_us as f32).exp()
    }
}

impl MeanLoad {
    fn add(&mut self, load: f32) {
        self.sum += load;
        self.count += 1;
    }

    fn take(&mut self) -> Option<f32> {
        let MeanLoad { sum, count } = std::mem::take(self);
        (count > 0).then(|| sum / count as f32)
    }
}

impl Ramp {
    fn after(self, is_warming: bool, now: Now) -> Ramp {
        match (self, is_warming) {
            (_, true) => Ramp::Warming,
            (Ramp::Warming, false) => Ramp::WarmSince(now.us),
            (Ramp::Warm | Ramp::WarmSince(_), false) => self,
        }
    }

    fn at(self, now: Now, parameters: &GpuAware) -> Warmth {
        let ramp_us = parameters.ramp_ms * 1_000;
        match self {
            Ramp::Warming => Warmth::Warming,
            Ramp::WarmSince(since) if now.us.saturating_sub(since) < ramp_us => {
                Warmth::Ramp((now.us - since) as f32 / ramp_us as f32)
            }
            Ramp::Warm | Ramp::WarmSince(_) => Warmth::Warm,
        }
    }
}

/// A share as reported, brought into 0..=1; NaN says nothing.
fn share(reported: f64) -> Option<f32> {
    (!reported.is_nan()).then(|| reported.clamp(0.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            us: seconds * 1_000_000,
            unix_ms: seconds * 1_000,
        }
    }

    #[test]
    fn a_report_counts_whole_for_a_heartbeat_and_then_fades() {
        let received = Received {
            at_us: 0,
            heartbeat_us: 5_000_000,
            in_flight: 0.0,
            vram: None,
            foreign_gpu: 0.0,
        };
        for (second, weight) in [(0, 1.0), (6, 1.0), (11, 0.368), (16, 0.135), (3_600, 0.0)] {
            let found = received.weight(at(second));
            assert!((found - weight).abs() < 0.001, "{found} after {second} s");
        }
    }

    #[test]
    fn vram_per_load_is_learned_from_changes_and_never_negative() {
        let mut vram = VramPerLoad::default();
        let parameters = GpuAware::default();
        assert_eq!(vram.get(&parameters), 0.02);
        (0..50).for_each(|_| vram.learn(4.0, 0.2));
        assert!((vram.get(&parameters) - 0.05).abs() < 0.003);
        (0..50).for_each(|_| vram.learn(4.0, -0.2));
        assert_eq!(vram.get(&parameters), 0.0);
    }

    #[test]
    fn a_ramp_begins_when_warming_ends_and_only_then() {
        let parameters = GpuAware::default();
        let mut ramp = Ramp::default();
        for (second, is_warming, expected) in [
            (0, false, Warmth::Warm),
            (1, true, Warmth::Warming),
            (9, false, Warmth::Ramp(0.0)),
            (24, false, Warmth::Ramp(0.5)),
            (39, false, Warmth::Warm),
        ] {
            ramp = ramp.after(is_warming, at(second));
            assert_eq!(ramp.at(at(second), &parameters), expected);
        }
    }
}
