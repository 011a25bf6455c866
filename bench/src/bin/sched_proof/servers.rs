//! The model servers on real sockets: each a listener whose connections carry one job each, and
//! behind it the same model of a GPU that the simulation uses.
//!
//! A job is answered when it ends, as by a server that does not stream: JSON completions, images,
//! embeddings. Streaming language servers send their first byte when a job leaves the queue and has
//! read its prompt, and then pieces all the time; that is [`Answers::Streamed`]. The two matter to a
//! proxy that learns from first bytes: a streamed answer's first byte tells of the queue alone. A
//! job that does not fit into the VRAM is reset, as where a process dies of it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bench::poll::{self, Interest, Poll};
use bench::sched::scenario::{HEARTBEAT_MS, LOSS_TAKES, Scenario};
use bench::sched::server::{Job, Server};
use serde::Serialize;
use slab::Slab;
use socket2::SockRef;

use crate::clock::Clock;
use crate::wire::{END, PIECE, Request};

/// When the bytes of an answer are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// All of it when the job ends.
    Whole,
    /// A piece in each second of the model in which the job runs.
    Streamed,
}

/// What a server says of itself, as a share of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    pub server: usize,
    pub vram: f64,
    pub gpu: f64,
}

/// What the servers saw of a run.
#[derive(Debug, Default)]
pub struct Served {
    pub by_server: Vec<u64>,
    pub answers: u64,
    /// Answers that were sent late for want of CPU, by more than is tolerated.
    pub late_answers: u64,
    /// Reports that the reporter had no time for.
    pub reports_dropped: u64,
}

const HEARTBEAT: f64 = HEARTBEAT_MS as f64 / 1e3;
/// Seconds of the model between two pieces of a streamed answer.
const PIECES_EVERY: f64 = 1.0;
/// So often a wait is cut short to look whether the run has ended.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// The listeners, bound before anybody is told their addresses.
pub fn bind(count: usize) -> io::Result<Vec<TcpListener>> {
    let bind = |_| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    (0..count).map(bind).collect()
}

pub fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// What one run of the servers is given.
pub struct Plan<'a> {
    pub scenario: &'a Scenario,
    pub answers: Answers,
    pub listeners: &'a [TcpListener],
    pub clock: Clock,
    /// Seconds of the model until the last arrival.
    pub duration: f64,
    /// An answer later than this, in seconds of the model, is counted as late.
    pub tolerance: f64,
    /// Draws the phases of the reports.
    pub seed: u64,
}

/// Serves until `stop`. Reports go to `reports`, which never holds it up.
pub fn serve(
    plan: &Plan<'_>,
    reports: SyncSender<Report>,
    stop: &AtomicBool,
) -> io::Result<Served> {
    let mut servers = Servers::new(plan, reports)?;
    while !stop.load(Relaxed) {
        let now = plan.clock.now();
        servers.pass_time(now);
        let wait = plan.clock.until(servers.next_change()).min(LONGEST_WAIT);
        let count = servers.poll.wait(Some(wait))?;
        // Before the jobs that have come: what has ended by now ended before them.
        let now = plan.clock.now();
        servers.pass_time(now);
        for index in 0..count {
            let token = servers.poll.ready(index).token;
            match token.checked_sub(plan.listeners.len()) {
                None => servers.accept(token)?,
                Some(key) => servers.read(key, now),
            }
        }
    }
    Ok(servers.served)
}

struct Servers<'a> {
    plan: &'a Plan<'a>,
    poll: Poll,
    models: Vec<Server>,
    connections: Slab<Connection>,
    /// Keys of jobs that are lost, and when their senders are told; in that order.
    losses: VecDeque<(f64, usize)>,
    reports_due: Vec<f64>,
    reports: SyncSender<Report>,
    pieces_due: f64,
    served: Served,
}

struct Connection {
    server: usize,
    /// `None` once the peer is gone; the job goes on, since a GPU does not notice.
    stream: Option<TcpStream>,
    request: [u8; Request::BYTES],
    received: usize,
}

impl Connection {
    fn has_job(&self) -> bool {
        self.received == Request::BYTES
    }
}

impl<'a> Servers<'a> {
    fn new(plan: &'a Plan<'a>, reports: SyncSender<Report>) -> io::Result<Servers<'a>> {
        let poll = Poll::new()?;
        for (token, listener) in plan.listeners.iter().enumerate() {
            poll.add(listener, token, Interest::Read)?;
        }
        let kinds = plan.scenario.servers.iter();
        let models: Vec<Server> = kinds
            .map(|&kind| Server::new(kind, plan.scenario.mode))
            .collect();
        let mut random = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
        let mut phase = || random.f64() * HEARTBEAT;
        Ok(Servers {
            plan,
            poll,
            reports_due: models.iter().map(|_| phase()).collect(),
            connections: Slab::new(),
            losses: VecDeque::new(),
            reports,
            pieces_due: PIECES_EVERY,
            served: Served {
                by_server: vec![0; models.len()],
                ..Served::default()
            },
            models,
        })
    }

    /// When something happens next that no socket tells of.
    fn next_change(&self) -> f64 {
        let finishes = self.models.iter().filter_map(Server::next_finish);
        let loss = self.losses.front().map(|&(at, _)| at);
        let reports = self.reports_due.iter().copied();
        let piece = (self.plan.answers == Answers::Streamed).then_some(self.pieces_due);
        let all = finishes.chain(loss).chain(reports).chain(piece);
        all.fold(f64::INFINITY, f64::min)
    }

    /// Brings all servers to `now`, and does what was due.
    fn pass_time(&mut self, now: f64) {
        let disturbance = self.plan.scenario.disturbance;
        disturbance.apply(&mut self.models[0], now / self.plan.duration);
        for server in 0..self.models.len() {
            while let Some(at) = self.models[server].next_finish().filter(|&at| at <= now) {
                self.models[server].advance(at);
                self.finish(server, now);
            }
            self.models[server].advance(now);
        }
        while self.losses.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, key)) = self.losses.pop_front() {
                self.reset(key);
            }
        }
        for server in 0..self.models.len() {
            if self.reports_due[server] <= now {
                self.reports_due[server] += HEARTBEAT;
                self.report(server);
            }
        }
        if self.plan.answers == Answers::Streamed && self.pieces_due <= now {
            self.pieces_due = now + PIECES_EVERY;
            self.send_pieces();
        }
    }

    fn finish(&mut self, server: usize, now: f64) {
        let due = self.models[server].next_finish();
        let mut lost = Vec::new();
        let finished = self.models[server].finish(&mut lost);
        self.plan_losses(lost, now);
        let is_late = due.is_some_and(|due| now - due > self.plan.tolerance);
        for request in finished {
            let connection = self.connections.remove(request as usize);
            self.served.answers += 1;
            self.served.late_answers += u64::from(is_late);
            if let Some(mut stream) = connection.stream {
                // Closing follows; a peer that is gone is no concern of a model.
                let _ = stream.write(&[END]);
            }
        }
    }

    fn plan_losses(&mut self, lost: Vec<u32>, now: f64) {
        let told = lost.into_iter().map(|key| (now + LOSS_TAKES, key as usize));
        self.losses.extend(told);
    }

    fn reset(&mut self, key: usize) {
        if let Some(stream) = self.connections.remove(key).stream {
            // Without it the close that follows would be one in order.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn report(&mut self, server: usize) {
        let (vram, gpu) = self.models[server].report(HEARTBEAT);
        let report = Report { server, vram, gpu };
        self.served.reports_dropped += u64::from(self.reports.try_send(report).is_err());
    }

    fn send_pieces(&mut self) {
        for request in self.models.iter().flat_map(Server::running) {
            if let Some(stream) = &mut self.connections[request as usize].stream {
                let _ = stream.write(&[PIECE]);
            }
        }
    }

    fn accept(&mut self, server: usize) -> io::Result<()> {
        while let Some(stream) = poll::accept(&self.plan.listeners[server])? {
            let entry = self.connections.vacant_entry();
            let token = self.plan.listeners.len() + entry.key();
            self.poll.add(&stream, token, Interest::Read)?;
            entry.insert(Connection {
                server,
                stream: Some(stream),
                request: [0; Request::BYTES],
                received: 0,
            });
        }
        Ok(())
    }

    fn read(&mut self, key: usize, now: f64) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(stream) = &mut connection.stream else {
            return;
        };
        let mut beyond = [0; 1];
        let rest = match connection.received {
            Request::BYTES => &mut beyond[..],
            received => &mut connection.request[received..],
        };
        match stream.read(rest) {
            Ok(length @ 1..) if !connection.has_job() => connection.received += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // It closes, has failed, or says more than a job.
            Ok(_) | Err(_) if connection.has_job() => connection.stream = None,
            // A probe, or a client that gave up.
            Ok(_) | Err(_) => {
                self.connections.remove(key);
                return;
            }
        }
        if connection.has_job() && connection.stream.is_some() {
            self.take(key, now);
        }
    }

    fn take(&mut self, key: usize, now: f64) {
        let connection = &self.connections[key];
        let server = connection.server;
        let Some(request) = Request::from_bytes(connection.request) else {
            self.connections.remove(key);
            return;
        };
        self.served.by_server[server] += 1;
        let job = Job {
            work: request.work,
            memory: request.memory,
            requests: vec![key as u32],
        };
        let mut lost = Vec::new();
        self.models[server].take(job, &mut lost);
        self.plan_losses(lost, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act;
    use crate::load::{self, Fate};
    use bench::sched::workload::Arrival;
    use std::sync::mpsc::sync_channel;

    /// Sends all to the first server, straight; returns the fates, and how many it was sent.
    fn play(act_name: &str, arrivals: &[Arrival]) -> (Vec<Fate>, u64) {
        let act = act::all(100).into_iter().find(|act| act.name == act_name);
        let act = act.expect("an act");
        let listeners = bind(act.scenario.servers.len()).expect("free ports");
        let plan = Plan {
            scenario: &act.scenario,
            answers: act.answers,
            listeners: &listeners,
            clock: Clock::beginning_in(Duration::ZERO),
            duration: 1.0,
            tolerance: 0.1,
            seed: 1,
        };
        let stop = AtomicBool::new(false);
        let (reports, reported) = sync_channel(64);
        let (seen, served) = std::thread::scope(|scope| {
            let servers = scope.spawn(|| serve(&plan, reports, &stop));
            let target = addresses(&listeners).expect("bound")[0];
            let seen = load::run(target, arrivals, plan.clock, 400.0, &stop);
            stop.store(true, Relaxed);
            let served = servers.join().expect("it does not panic");
            (seen.expect("loopback"), served.expect("loopback"))
        });
        assert!(
            reported.iter().all(|report| report.vram <= 1.0),
            "shares of 1"
        );
        (seen.fates, served.by_server[0])
    }

    fn jobs(count: u32, memory: f64) -> Vec<Arrival> {
        let job = |at| Arrival {
            at: f64::from(at) * 0.1,
            work: 0.5,
            memory,
        };
        (0..count).map(job).collect()
    }

    #[test]
    fn every_job_is_answered_no_sooner_than_its_work_takes() {
        for act in ["mixed", "mixed_streamed"] {
            let (fates, served) = play(act, &jobs(40, 0.01));
            assert_eq!((fates.len(), served), (40, 40), "{act}");
            for fate in fates {
                let Fate::Answered { latency } = fate else {
                    panic!("{act}: {fate:?}");
                };
                assert!(latency >= 0.5, "{act}: {latency}");
            }
        }
    }

    #[test]
    fn a_job_that_does_not_fit_is_lost_and_the_others_are_not() {
        let mut arrivals = jobs(3, 0.01);
        arrivals[1].memory = 0.9;
        let (fates, _) = play("pressure", &arrivals);
        assert_eq!(fates[1], Fate::Lost);
        let answered = |fate: &Fate| matches!(fate, Fate::Answered { .. });
        assert!(answered(&fates[0]) && answered(&fates[2]), "{fates:?}");
    }
}
