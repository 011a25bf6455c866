//! One run: the arrivals of a scenario under one policy, event by event.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use proxy_core::slot::SessionSlot;

use super::disturbance::Disturbance;
use super::oracle;
use super::outcome::Outcome;
use super::policy::Policy;
use super::proxy::{Listed, Proxy};
use super::scenario::{HEARTBEAT_MS, LOSS_TAKES, Scenario};
use super::server::{Job, Server};
use super::workload::Arrival;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Arrival(usize),
    Lost(u32),
    ReportMade(usize),
    ReportCame {
        server: usize,
        vram: f64,
        gpu: f64,
        said_at: f64,
    },
    Tick,
    BatchCloses(usize),
    Changes,
}

#[derive(Debug, PartialEq)]
struct Timed {
    at: f64,
    /// Of events at one time, the first one made comes first.
    order: u64,
    event: Event,
}

impl Eq for Timed {}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at
            .total_cmp(&other.at)
            .then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const HEARTBEAT: f64 = HEARTBEAT_MS as f64 / 1e3;
const REPORT_DELAY: f64 = 0.05;
const TICK: f64 = 0.1;
/// While a server is cold, its speed changes in steps of this.
const CHANGE: f64 = 0.5;
/// What one more request of a batch costs.
const MERGED_WORK: f64 = 0.06;
const MERGED_VRAM: f64 = 0.02;

struct InFlight {
    slot: Option<SessionSlot>,
    proxy: usize,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    policy: Policy,
    arrivals: &'a [Arrival],
    duration: f64,
    servers: Vec<Server>,
    is_there: Vec<bool>,
    /// Empty under the oracle.
    proxies: Vec<Proxy>,
    listed: Vec<Listed>,
    in_flight: Vec<Option<InFlight>>,
    /// What is being merged at each server.
    batches: Vec<Option<Job>>,
    events: BinaryHeap<Reverse<Timed>>,
    order: u64,
    random: fastrand::Rng,
    now: f64,
    outcome: Outcome,
}

/// Runs `scenario` under `policy`. The same seed gives the same arrivals, whatever the policy.
pub fn run(scenario: &Scenario, policy: Policy, seed: u64) -> Outcome {
    let arrivals = scenario.arrivals(seed);
    let mut simulation = Simulation::new(scenario, policy, &arrivals, seed);
    simulation.run();
    let mut outcome = simulation.outcome;
    outcome.latencies.sort_unstable_by(f64::total_cmp);
    outcome
}

impl<'a> Simulation<'a> {
    fn new(
        scenario: &'a Scenario,
        policy: Policy,
        arrivals: &'a [Arrival],
        seed: u64,
    ) -> Simulation<'a> {
        let duration = arrivals.last().map_or(0.0, |arrival| arrival.at);
        let servers = scenario.servers.iter();
        let servers: Vec<Server> = servers
            .map(|&kind| Server::new(kind, scenario.mode))
            .collect();
        let count = servers.len();
        let mut is_there = vec![true; count];
        if scenario.disturbance.is_joining() {
            is_there[count - 1] = false;
        }
        let listed: Vec<Listed> = (0..count)
            .filter(|&server| is_there[server])
            .map(|server| Listed {
                server,
                weight: scenario.weights[server],
                is_warming_up: false,
            })
            .collect();
        let proxies = match policy {
            Policy::Picker(algorithm) => (0..scenario.proxies as u64)
                .map(|proxy| Proxy::new(algorithm, &listed, scenario.batch, seed * 64 + proxy))
                .collect(),
            Policy::Oracle => Vec::new(),
        };
        let mut simulation = Simulation {
            scenario,
            policy,
            arrivals,
            duration,
            is_there,
            proxies,
            listed,
            in_flight: arrivals.iter().map(|_| None).collect(),
            batches: servers.iter().map(|_| None).collect(),
            servers,
            events: BinaryHeap::new(),
            order: 0,
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            now: 0.0,
            outcome: Outcome {
                vram_shares: scenario.batch.map(|_| 0.0),
                ..Outcome::default()
            },
        };
        simulation.plan_first_events();
        simulation
    }

    fn plan_first_events(&mut self) {
        self.plan(self.arrivals[0].at, Event::Arrival(0));
        self.plan(TICK, Event::Tick);
        for server in 0..self.servers.len() {
            let phase = self.random.f64() * HEARTBEAT;
            self.plan(phase, Event::ReportMade(server));
        }
        for at in self.scenario.disturbance.changes_at(self.duration, CHANGE) {
            self.plan(at, Event::Changes);
        }
    }

    fn plan(&mut self, at: f64, event: Event) {
        self.order += 1;
        self.events.push(Reverse(Timed {
            at,
            order: self.order,
            event,
        }));
    }

    /// Until every request has been answered or lost.
    fn run(&mut self) {
        loop {
            let finishes = self.servers.iter().enumerate();
            let finishes = finishes.filter_map(|(at, server)| Some((server.next_finish()?, at)));
            let finish = finishes.min_by(|a, b| a.0.total_cmp(&b.0));
            let next = self.events.peek().map(|Reverse(timed)| timed.at);
            match (finish, next) {
                (Some((at, server)), next) if next.is_none_or(|next| at <= next) => {
                    self.advance(at);
                    self.finish(server);
                }
                (_, Some(_)) => {
                    let Some(Reverse(timed)) = self.events.pop() else {
                        unreachable!("one was seen just now")
                    };
                    self.advance(timed.at);
                    self.happen(timed.event);
                }
                (_, None) => return,
            }
        }
    }

    fn advance(&mut self, now: f64) {
        self.now = now;
        self.servers
            .iter_mut()
            .for_each(|server| server.advance(now));
    }

    /// Whether reports, ticks and changes still matter to anybody.
    fn goes_on(&self) -> bool {
        let is_busy = |server: &Server| server.next_finish().is_some();
        self.now < self.duration || self.servers.iter().any(is_busy)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival(index) => {
                if let Some(next) = self.arrivals.get(index + 1) {
                    self.plan(next.at, Event::Arrival(index + 1));
                }
                self.arrive(index);
            }
            Event::Lost(request) => self.lose(request),
            Event::ReportMade(server) => {
                let truth = self.servers[server].report(HEARTBEAT);
                let lie = self.scenario.lie.filter(|_| server % 2 == 1);
                let (vram, gpu) = lie.map_or(truth, |lie| (lie, lie));
                let came = Event::ReportCame {
                    server,
                    vram,
                    gpu,
                    said_at: self.now,
                };
                self.plan(self.now + REPORT_DELAY, came);
                if self.goes_on() {
                    self.plan(self.now + HEARTBEAT, Event::ReportMade(server));
                }
            }
            Event::ReportCame {
                server,
                vram,
                gpu,
                said_at,
            } => {
                for proxy in &self.proxies {
                    proxy.report(server, vram, gpu, said_at, self.now);
                }
            }
            Event::Tick => {
                self.proxies.iter().for_each(|proxy| proxy.tick(self.now));
                if self.goes_on() {
                    self.plan(self.now + TICK, Event::Tick);
                }
            }
            Event::BatchCloses(server) => {
                if let Some(job) = self.batches[server].take() {
                    self.start(server, job);
                }
            }
            Event::Changes => self.change(),
        }
    }

    fn arrive(&mut self, index: usize) {
        let Arrival { work, memory, .. } = self.arrivals[index];
        let request = index as u32;
        let job = Job {
            work,
            memory,
            requests: vec![request],
        };
        let proxy = self.random.usize(..self.scenario.proxies);
        let (server, slot) = match self.proxies.get_mut(proxy) {
            Some(proxy) => {
                let (server, slot) = proxy.dispatch(self.now);
                (server, Some(slot))
            }
            None => (
                oracle::pick(&self.servers, &self.is_there, &job, self.now),
                None,
            ),
        };
        self.in_flight[index] = Some(InFlight { slot, proxy });
        if self.scenario.batch.is_some() {
            self.merge(server, job);
        } else {
            self.start(server, job);
        }
    }

    /// Adds to what the server merges; the first of a batch waits for the window.
    fn merge(&mut self, server: usize, job: Job) {
        let limits = self
            .scenario
            .batch
            .expect("only called where there are limits");
        let Some(open) = &mut self.batches[server] else {
            self.batches[server] = Some(job);
            let closes = self.now + f64::from(limits.window_ms) / 1e3;
            return self.plan(closes, Event::BatchCloses(server));
        };
        // The longest decides, and the largest; the rest goes beside it.
        open.work = open.work.max(job.work);
        open.memory = open.memory.max(job.memory);
        open.requests.extend(job.requests);
        if open.requests.len() >= usize::from(limits.max)
            && let Some(job) = self.batches[server].take()
        {
            self.start(server, job);
        }
    }

    fn start(&mut self, server: usize, mut job: Job) {
        let others = job.requests.len() as f64 - 1.0;
        job.work *= 1.0 + MERGED_WORK * others;
        job.memory *= 1.0 + MERGED_VRAM * others;
        let is_measured = self.is_measured(job.requests[0]);
        if let Some(shares) = self.outcome.vram_shares.as_mut().filter(|_| is_measured) {
            *shares += 1.0 + MERGED_VRAM * others;
        }
        let mut lost = Vec::new();
        self.servers[server].take(job, &mut lost);
        self.plan_losses(lost);
    }

    fn finish(&mut self, server: usize) {
        let mut lost = Vec::new();
        let finished = self.servers[server].finish(&mut lost);
        self.plan_losses(lost);
        for request in finished {
            let in_flight = self.in_flight[request as usize].take();
            let InFlight { slot, proxy } = in_flight.expect("it was dispatched");
            if let Some(slot) = slot {
                self.proxies[proxy].answered(slot, self.now);
            }
            if self.is_measured(request) {
                let latency = self.now - self.arrivals[request as usize].at;
                self.outcome.latencies.push(latency);
            }
        }
    }

    fn plan_losses(&mut self, lost: Vec<u32>) {
        for request in lost {
            self.plan(self.now + LOSS_TAKES, Event::Lost(request));
        }
    }

    fn lose(&mut self, request: u32) {
        let in_flight = self.in_flight[request as usize].take();
        let InFlight { slot, proxy } = in_flight.expect("it was dispatched");
        if let Some(slot) = slot {
            self.proxies[proxy].lost(slot, self.now);
        }
        if self.is_measured(request) {
            self.outcome.lost += 1;
        }
    }

    fn is_measured(&self, request: u32) -> bool {
        let window = self.scenario.disturbance.window(self.duration);
        window.contains(&self.arrivals[request as usize].at)
    }

    /// Brings servers and configuration to what the disturbance says of now.
    fn change(&mut self) {
        let disturbance = self.scenario.disturbance;
        disturbance.apply(&mut self.servers[0], self.now / self.duration);
        if disturbance.is_joining() {
            self.warm();
        }
    }

    fn warm(&mut self) {
        let cold = self.servers.len() - 1;
        let age = self.now - self.scenario.disturbance.window(self.duration).start;
        let knows_of_warm_up =
            self.scenario.disturbance == Disturbance::ColdTold || self.policy == Policy::GPU_AWARE;
        let is_warming_up = knows_of_warm_up && age < Disturbance::WARMING;
        self.servers[cold].pace = Disturbance::pace_of_cold(age);
        let listed = Listed {
            server: cold,
            weight: self.scenario.weights[cold],
            is_warming_up,
        };
        if self.listed.last() == Some(&listed) {
            return;
        }
        self.listed.retain(|one| one.server != cold);
        self.listed.push(listed);
        self.is_there[cold] = true;
        for proxy in &mut self.proxies {
            proxy.reload(&self.listed, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::choice::{Overrides, choose};
    use crate::sched::scenario::Scenario;

    fn scenario(name: &str) -> Scenario {
        let found = choose(Some(name), None, &Overrides::default());
        let mut scenario = found.expect("a scenario").remove(0);
        scenario.jobs = 2_000;
        scenario
    }

    #[test]
    fn every_request_is_answered_or_lost_under_every_policy() {
        for name in [
            "mixed_86",
            "pressure_92",
            "black_hole",
            "cold",
            "bursts",
            "four_proxies",
        ] {
            let scenario = scenario(name);
            for policy in Policy::ALL {
                let outcome = run(&scenario, policy, 1);
                let window = scenario.disturbance;
                let arrivals = scenario.arrivals(1);
                let window = window.window(arrivals.last().expect("arrivals").at);
                let expected = arrivals
                    .iter()
                    .filter(|one| window.contains(&one.at))
                    .count();
                assert_eq!(outcome.requests(), expected, "{name} {policy}");
                assert!(outcome.quantile(0.5) > 0.0, "{name} {policy}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_run_again() {
        let scenario = scenario("mixed_86");
        let run = |seed| run(&scenario, Policy::GPU_AWARE, seed);
        assert_eq!(run(5), run(5));
        assert_ne!(run(5).latencies, run(6).latencies);
    }
}
