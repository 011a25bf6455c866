//! One run: an act under one policy with one seed, from start to figures.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use bench::processes::{ProcessTree, busy_time_of_machine};
use bench::sched::policy::Policy;
use bench::sched::simulation;
use bench::sched::workload::Arrival;
use bench::statistics::quantile;
use contract::status::Status;
use contract::{Algorithm, BackendAddr};
use control_client::{Access, ControlClient};
use serde::{Deserialize, Serialize};

use crate::act::Act;
use crate::clock::{Clock, real_ms};
use crate::load::{self, Fate, Seen};
use crate::planes::{Binaries, Planes, registration};
use crate::servers::{self, Plan, Report, Served};

/// Between the planes being ready and the first arrival.
const LEAD: Duration = Duration::from_millis(200);
/// Seconds of the model that answers are waited for after the last arrival.
pub const PATIENCE: f64 = 60.0;
/// A tenth of a mean job: what is sent or answered later than this is late.
pub const TOLERANCE: f64 = 0.1;
/// The share of late ones from which a run says more of this machine than of a policy.
const MOST_LATE: f64 = 0.01;
/// Reports that wait for the reporter.
const REPORTS_WAITING: usize = 64;

/// The figures of one run. Times are real ones; divided by 50 ms they are in mean jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    pub act: String,
    pub policy: String,
    pub round: u64,
    /// Where it is not, generator or servers fell behind, and the figures count for nothing.
    pub is_valid: bool,
    /// Jobs that arrived in the time that is looked at.
    pub jobs: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Some jobs were unanswered at the end, at an age that is below this quantile: it is at least
    /// as long.
    pub p99_is_at_least: bool,
    pub lost_share: f64,
    pub unanswered_share: f64,
    /// Jobs that each server got, in the whole run.
    pub by_server: Vec<u64>,
    /// What the simulation says of the same arrivals, to the same scale.
    pub simulated: Simulated,
    /// Of the jobs: the share that was sent late; of the answers the same.
    pub sent_late_share: f64,
    pub answered_late_share: f64,
    /// Of one core: both planes, servers, clients and reporter together.
    pub cores_used: f64,
    /// Of one core: whatever else ran on the machine.
    pub cores_of_others: f64,
    pub reports_taken_by_control: u64,
    pub reports_failed: u64,
    /// Reloads in the whole run: figures reach the proxy without one.
    pub reloads: u64,
    /// The age of the oldest report that the proxy had at the end.
    pub oldest_report_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Simulated {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub lost_share: f64,
}

pub fn run(
    binaries: &Binaries,
    act: &Act,
    algorithm: Algorithm,
    round: u64,
    interrupted: &AtomicBool,
) -> Result<Sample, Box<dyn std::error::Error>> {
    let arrivals = act.scenario.arrivals(round);
    let duration = arrivals.last().map_or(0.0, |last| last.at);
    let listeners = servers::bind(act.scenario.servers.len())?;
    let addrs = backend_addrs(&listeners)?;
    let kinds = act.scenario.servers.iter().zip(&act.scenario.weights);
    let first = addrs.iter().zip(kinds);
    let first = first.map(|(addr, (kind, weight))| registration(*addr, *weight, kind.base, 0.0));
    let planes = Planes::start(binaries, algorithm, act.health, &first.collect::<Vec<_>>())?;
    let before = planes.status()?;

    let plan = Plan {
        scenario: &act.scenario,
        answers: act.answers,
        listeners: &listeners,
        clock: Clock::beginning_in(LEAD),
        duration,
        tolerance: TOLERANCE,
        seed: round,
    };
    let played = play(&planes, &plan, &addrs, &arrivals, interrupted)?;
    let Played { seen, served, .. } = &played;

    let window = act.scenario.disturbance.window(duration);
    let inside = arrivals.iter().zip(&seen.fates);
    let inside = inside.filter(|(arrival, _)| window.contains(&arrival.at));
    let latencies = Latencies::of(inside.map(|(_, fate)| *fate));
    let sent_late_share = late_share(seen);
    let answered_late_share = served.late_answers as f64 / served.answers.max(1) as f64;
    Ok(Sample {
        act: act.name.to_owned(),
        policy: algorithm.name().to_owned(),
        round,
        is_valid: sent_late_share.max(answered_late_share) <= MOST_LATE,
        jobs: latencies.jobs(),
        p50_ms: real_ms(latencies.quantile(0.5).0),
        p99_ms: real_ms(latencies.quantile(0.99).0),
        p99_is_at_least: latencies.quantile(0.99).1,
        lost_share: latencies.share(latencies.lost),
        unanswered_share: latencies.share(latencies.unanswered),
        simulated: simulated(act, algorithm, round),
        sent_late_share,
        answered_late_share,
        cores_used: played.usage.own,
        cores_of_others: played.usage.others,
        reports_taken_by_control: played.reported.taken,
        reports_failed: played.reported.failed + served.reports_dropped,
        reloads: played.after.reloads_ok - before.reloads_ok,
        oldest_report_ms: oldest_report_ms(&played.after),
        by_server: served.by_server.clone(),
    })
}

/// What was seen from all sides.
struct Played {
    seen: Seen,
    served: Served,
    reported: Reported,
    usage: Cores,
    /// The proxy, when all answers had come or were given up.
    after: Status,
}

/// Servers, reporter and clients, each on a thread of its own.
fn play(
    planes: &Planes,
    plan: &Plan<'_>,
    addrs: &[BackendAddr],
    arrivals: &[Arrival],
    interrupted: &AtomicBool,
) -> Result<Played, Box<dyn std::error::Error>> {
    let stop = AtomicBool::new(false);
    let control = ControlClient::new(planes.base.clone(), Access::default());
    let (reports, to_report) = sync_channel(REPORTS_WAITING);
    std::thread::scope(|scope| {
        let servers = scope.spawn(|| servers::serve(plan, reports, &stop));
        let weights = &plan.scenario.weights;
        let reporter = scope.spawn(|| report_all(&control, addrs, weights, to_report));
        let usage = Usage::begin();
        let seen = load::run(planes.listen, arrivals, plan.clock, PATIENCE, interrupted);
        // While all threads are still there to be counted.
        let usage = usage.so_far();
        let after = planes.status();
        stop.store(true, Relaxed);
        let served = servers.join().expect("a model server does not panic");
        let reported = reporter.join().expect("the reporter does not panic");
        Ok(Played {
            seen: seen?,
            served: served?,
            reported,
            usage,
            after: after?,
        })
    })
}

fn backend_addrs(listeners: &[TcpListener]) -> std::io::Result<Vec<BackendAddr>> {
    let addrs = servers::addresses(listeners)?.into_iter();
    Ok(addrs
        .map(|addr| BackendAddr::new(addr.ip(), addr.port()))
        .collect())
}

#[derive(Debug, Default)]
struct Reported {
    taken: u64,
    failed: u64,
}

/// Tells control what the servers say, as `gpu_agent` does; until there are no more servers.
fn report_all(
    control: &ControlClient,
    addrs: &[BackendAddr],
    weights: &[u16],
    reports: Receiver<Report>,
) -> Reported {
    let mut reported = Reported::default();
    for Report { server, vram, gpu } in reports {
        let beat = registration(addrs[server], weights[server], vram, gpu);
        match control.register(&beat) {
            Ok(_) => reported.taken += 1,
            Err(_) => reported.failed += 1,
        }
    }
    reported
}

/// CPU time of all that we run, and of the rest of the machine.
struct Usage {
    begun: Instant,
    own: Duration,
    machine: Duration,
}

struct Cores {
    own: f64,
    others: f64,
}

impl Usage {
    fn begin() -> Usage {
        Usage {
            begun: Instant::now(),
            own: ProcessTree::of(std::process::id()).cpu_time(),
            machine: busy_time_of_machine(),
        }
    }

    fn so_far(self) -> Cores {
        let now = Usage::begin();
        let seconds = (now.begun - self.begun).as_secs_f64();
        let own = now.own.saturating_sub(self.own);
        let machine = now.machine.saturating_sub(self.machine);
        Cores {
            own: own.as_secs_f64() / seconds,
            others: machine.saturating_sub(own).as_secs_f64() / seconds,
        }
    }
}

fn simulated(act: &Act, algorithm: Algorithm, seed: u64) -> Simulated {
    let outcome = simulation::run(&act.scenario, Policy::Picker(algorithm), seed);
    Simulated {
        p50_ms: real_ms(outcome.quantile(0.5)),
        p99_ms: real_ms(outcome.quantile(0.99)),
        lost_share: outcome.lost_share(),
    }
}

fn late_share(seen: &Seen) -> f64 {
    let late = seen.lateness.iter().filter(|&&late| late > TOLERANCE);
    late.count() as f64 / seen.lateness.len().max(1) as f64
}

fn oldest_report_ms(status: &Status) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as u64);
    let reported = status.backends.iter().map(|backend| backend.reported_at_ms);
    let oldest = reported.map(Option::unwrap_or_default).min();
    now_ms.saturating_sub(oldest.unwrap_or_default())
}

/// What became of the jobs that are looked at.
#[derive(Debug, Default)]
struct Latencies {
    /// Of answered ones, and ages of those that were not answered by the end; sorted.
    sorted: Vec<f64>,
    /// The least age of an unanswered one.
    youngest_unanswered: Option<f64>,
    unanswered: usize,
    lost: usize,
}

impl Latencies {
    fn of(fates: impl Iterator<Item = Fate>) -> Latencies {
        let mut latencies = Latencies::default();
        for fate in fates {
            match fate {
                Fate::Answered { latency } => latencies.sorted.push(latency),
                Fate::Lost => latencies.lost += 1,
                Fate::Unanswered { age } => {
                    latencies.sorted.push(age);
                    latencies.unanswered += 1;
                    let youngest = latencies.youngest_unanswered.unwrap_or(age).min(age);
                    latencies.youngest_unanswered = Some(youngest);
                }
            }
        }
        latencies.sorted.sort_unstable_by(f64::total_cmp);
        latencies
    }

    fn jobs(&self) -> usize {
        self.sorted.len() + self.lost
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.jobs().max(1) as f64
    }

    /// Of those that were not lost; and whether it is only a bound from below.
    fn quantile(&self, share: f64) -> (f64, bool) {
        let value = quantile(&self.sorted, share).unwrap_or_default();
        let is_bound = self.youngest_unanswered.is_some_and(|age| age <= value);
        (value, is_bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(fates: &[Fate]) -> Latencies {
        Latencies::of(fates.iter().copied())
    }

    #[test]
    fn an_unanswered_job_makes_a_quantile_above_its_age_a_bound() {
        let answered = [1.0, 2.0, 3.0, 8.0].map(|latency| Fate::Answered { latency });
        let mut fates = answered.to_vec();
        assert_eq!(latencies(&fates).quantile(0.99), (8.0, false));
        fates.extend([Fate::Unanswered { age: 5.0 }, Fate::Lost]);
        let with_one = latencies(&fates);
        assert_eq!(with_one.quantile(0.5), (3.0, false));
        assert_eq!(with_one.quantile(0.99), (8.0, true));
        assert_eq!((with_one.jobs(), with_one.lost), (6, 1));
        assert_eq!(with_one.share(with_one.unanswered), 1.0 / 6.0);
    }

    #[test]
    fn nothing_answered_is_no_latency() {
        assert_eq!(latencies(&[]).quantile(0.5), (0.0, false));
        assert_eq!(latencies(&[Fate::Lost]).share(1), 1.0);
    }
}
