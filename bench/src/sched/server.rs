//! The model of one GPU server: up to `slots` jobs at once, each at `speed / (1 + beta (n - 1))`, a
//! queue behind them, and VRAM that each running job takes a part of.
//!
//! Jobs share the server evenly, so all of them have done the same work since they began: `done` is
//! what a job would have done that was there all the time, and a job is finished when `done` reaches
//! what it was at its start and its work more.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use clap::ValueEnum;

/// What becomes of a job that does not fit into the VRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It waits, and those behind it.
    Queue,
    /// It is lost.
    Oom,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    pub speed: f64,
    pub slots: usize,
    /// Share of VRAM in use without a job.
    pub base: f64,
    /// What a job's memory is multiplied by here.
    pub scale: f64,
    /// How much each job slows the others.
    pub beta: f64,
}

impl Kind {
    fn rate(&self, running: usize) -> f64 {
        self.speed / (1.0 + self.beta * (running as f64 - 1.0))
    }

    /// Work a second with all slots in use.
    pub fn capacity(&self) -> f64 {
        self.slots as f64 * self.rate(self.slots)
    }
}

/// A job of one request, or of several that were merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub work: f64,
    /// Before the server's scale.
    pub memory: f64,
    pub requests: Vec<u32>,
}

#[derive(Debug)]
struct Running {
    finishes_at_done: f64,
    vram: f64,
    requests: Vec<u32>,
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> Ordering {
        self.finishes_at_done.total_cmp(&other.finishes_at_done)
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Running {}

#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    mode: Mode,
    /// What the speed is multiplied by: below 1 while it is slow or cold.
    pub pace: f64,
    /// Share of VRAM that something else holds.
    pub held_vram: f64,
    running: BinaryHeap<Reverse<Running>>,
    queue: VecDeque<Job>,
    vram: f64,
    done: f64,
    now: f64,
    /// Time with something running, since it was last asked for.
    busy: f64,
}

impl Server {
    pub fn new(kind: Kind, mode: Mode) -> Server {
        Server {
            kind,
            mode,
            pace: 1.0,
            held_vram: 0.0,
            running: BinaryHeap::new(),
            queue: VecDeque::new(),
            vram: 0.0,
            done: 0.0,
            now: 0.0,
            busy: 0.0,
        }
    }

    fn rate(&self) -> f64 {
        self.pace * self.kind.rate(self.running.len())
    }

    /// Brings it to `now`; nothing finishes on the way.
    pub fn advance(&mut self, now: f64) {
        if !self.running.is_empty() {
            let passed = now - self.now;
            self.done += passed * self.rate();
            self.busy += passed;
        }
        self.now = now;
    }

    /// When the next job finishes if nothing changes.
    pub fn next_finish(&self) -> Option<f64> {
        let Reverse(next) = self.running.peek()?;
        Some(self.now + ((next.finishes_at_done - self.done) / self.rate()).max(0.0))
    }

    /// Takes the job that has finished now. Those that are lost for want of VRAM as the queue moves
    /// up are added to `lost`.
    pub fn finish(&mut self, lost: &mut Vec<u32>) -> Vec<u32> {
        let Some(Reverse(finished)) = self.running.pop() else {
            return Vec::new();
        };
        self.vram -= finished.vram;
        self.start_waiting(lost);
        finished.requests
    }

    pub fn take(&mut self, job: Job, lost: &mut Vec<u32>) {
        self.queue.push_back(job);
        self.start_waiting(lost);
    }

    fn start_waiting(&mut self, lost: &mut Vec<u32>) {
        while self.running.len() < self.kind.slots
            && let Some(job) = self.queue.pop_front()
        {
            if self.fits(&job) {
                self.start(job);
                continue;
            }
            match self.mode {
                Mode::Oom => lost.extend(job.requests),
                // What fits nowhere would wait for ever.
                Mode::Queue if self.running.is_empty() && self.held_vram == 0.0 => self.start(job),
                Mode::Queue => return self.queue.push_front(job),
            }
        }
    }

    fn start(&mut self, job: Job) {
        let vram = job.memory * self.kind.scale;
        self.vram += vram;
        self.running.push(Reverse(Running {
            finishes_at_done: self.done + job.work,
            vram,
            requests: job.requests,
        }));
    }

    pub fn fits(&self, job: &Job) -> bool {
        self.vram_in_use() + job.memory * self.kind.scale <= 1.0
    }

    fn vram_in_use(&self) -> f64 {
        self.kind.base + self.held_vram + self.vram
    }

    /// What it would report: the share of VRAM in use, and of time with something running since the
    /// last report, `interval` ago.
    pub fn report(&mut self, interval: f64) -> (f64, f64) {
        let busy = std::mem::take(&mut self.busy);
        (self.vram_in_use().min(1.0), (busy / interval).min(1.0))
    }

    /// The requests that are worked on, in no order.
    pub fn running(&self) -> impl Iterator<Item = u32> {
        let running = self.running.iter();
        running.flat_map(|Reverse(running)| running.requests.iter().copied())
    }

    /// When `job` would finish if it came now and nothing came after it; `None` where it would be
    /// lost.
    pub fn would_finish(&self, job: &Job) -> Option<f64> {
        let mut imagined = Server {
            running: BinaryHeap::new(),
            queue: VecDeque::with_capacity(self.queue.len() + 1),
            ..*self
        };
        let copies = self.running.iter().map(|Reverse(running)| {
            Reverse(Running {
                requests: Vec::new(),
                ..*running
            })
        });
        imagined.running = copies.collect();
        let unnamed = |job: &Job| Job {
            requests: Vec::new(),
            ..*job
        };
        imagined.queue.extend(self.queue.iter().map(unnamed));
        let mut lost = Vec::new();
        imagined.take(
            Job {
                requests: vec![0],
                ..*job
            },
            &mut lost,
        );
        loop {
            if !lost.is_empty() {
                return None;
            }
            let next = imagined.next_finish()?;
            imagined.advance(next);
            if imagined.finish(&mut lost) == [0] {
                return Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        speed: 1.0,
        slots: 2,
        base: 0.2,
        scale: 1.0,
        beta: 0.5,
    };

    fn job(work: f64, memory: f64, request: u32) -> Job {
        Job {
            work,
            memory,
            requests: vec![request],
        }
    }

    /// Runs until nothing is left; returns when each request finished.
    fn run(server: &mut Server) -> Vec<(u32, f64)> {
        let mut finished = Vec::new();
        while let Some(next) = server.next_finish() {
            server.advance(next);
            let at = (next * 1e6).round() / 1e6;
            finished.extend(
                server
                    .finish(&mut Vec::new())
                    .into_iter()
                    .map(|id| (id, at)),
            );
        }
        finished
    }

    #[test]
    fn jobs_share_the_speed_and_the_third_waits() {
        let mut server = Server::new(KIND, Mode::Queue);
        for (id, work) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
            server.take(job(work, 0.1, id), &mut Vec::new());
        }
        assert_eq!(server.running().max(), Some(1), "the third waits");
        // Two at 2/3: the first ends at 1.5; then the second has 1 left beside the third's 1.
        assert_eq!(server.would_finish(&job(1.0, 0.1, 9)), Some(4.0));
        assert_eq!(run(&mut server), [(0, 1.5), (1, 3.0), (2, 3.0)]);
        assert_eq!(server.report(4.0), (0.2, 0.75));
    }

    #[test]
    fn what_does_not_fit_waits_or_is_lost() {
        for mode in [Mode::Queue, Mode::Oom] {
            let mut server = Server::new(KIND, mode);
            let mut lost = Vec::new();
            server.take(job(1.0, 0.7, 0), &mut lost);
            server.take(job(1.0, 0.2, 1), &mut lost);
            server.take(job(1.0, 0.1, 2), &mut lost);
            let expected = match mode {
                Mode::Queue => (vec![], vec![(0, 1.0), (1, 2.5), (2, 2.5)]),
                Mode::Oom => (vec![1], vec![(0, 1.5), (2, 1.5)]),
            };
            assert_eq!((lost, run(&mut server)), expected, "{mode:?}");
        }
    }

    #[test]
    fn what_fits_nowhere_does_not_wait_for_ever() {
        let mut server = Server::new(KIND, Mode::Queue);
        server.take(job(1.0, 5.0, 0), &mut Vec::new());
        assert_eq!(run(&mut server), [(0, 1.0)]);
    }
}
