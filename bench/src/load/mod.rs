//! The load generator: one thread, so that it takes one core at most and its own cost is the same
//! for every program it drives.
//!
//! Closed loop: each connection or flow has a fixed number of requests under way and sends the next
//! when an answer is in. The latencies are thus those at full load, not those at a given rate.
//! [`Load::prepare`] opens what the work needs, so that a caller can read clocks between that and
//! [`Load::run`]; `run` ends only when everything that was asked has been answered, so that units
//! of work and CPU time belong together.

mod datagram;
mod exchange;
mod short;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::load::datagram::DatagramLoad;
use crate::load::exchange::ExchangeLoad;
use crate::load::short::ShortLoad;
use crate::load::stream::StreamLoad;

/// Connections, flows or streams at once.
pub const MAX_PARALLEL: usize = 10_000;
/// The longest run.
pub const MAX_DURATION: Duration = Duration::from_secs(60);
/// How long answers may be outstanding after the end before the load gives up.
const GRACE: Duration = Duration::from_secs(10);
/// Failures of single sessions after which a run is given up: it then measures something else.
const MAX_FAILURES: u64 = 1_000;

/// What is asked of the program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Requests and answers of `bytes` each on open connections. Unit: an exchange.
    Exchange { connections: usize, bytes: u32 },
    /// Connect, ask with 64 B, read 64 B, close; `parallel` at once. Unit: a connection.
    Short { parallel: usize },
    /// The backend sends all the time. Unit: a byte.
    Download { streams: usize },
    /// The client sends all the time. Unit: a byte.
    Upload { streams: usize },
    /// Datagrams of `bytes`, `window` under way in each flow. Unit: a datagram's round trip.
    Datagrams {
        flows: usize,
        window: usize,
        bytes: usize,
    },
}

/// What a run has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    pub units: u64,
    pub seconds: f64,
    /// Units a second.
    pub rate: f64,
    /// Absent for streams, which have no answers to wait for.
    pub latency: Option<Latency>,
    /// Datagrams without an answer.
    pub lost: u64,
    /// Connections that did not get their answer.
    pub failed: u64,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{what}: {error}")]
    Io {
        what: &'static str,
        error: io::Error,
    },
    #[error("{0} answers had not come {GRACE:?} after the end")]
    Stalled(usize),
    #[error("more than {MAX_FAILURES} sessions failed, the last one with: {0}")]
    TooManyFailures(io::Error),
    #[error("at most {MAX_PARALLEL} connections and {MAX_DURATION:?}")]
    OutOfBounds,
}

/// For `map_err`: says what could not be done.
fn failed_to(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |error| LoadError::Io { what, error }
}

/// A load that is connected and waits for its start.
#[derive(Debug)]
pub enum Load {
    Exchange(ExchangeLoad),
    Short(ShortLoad),
    Stream(StreamLoad),
    Datagram(DatagramLoad),
}

impl Load {
    pub fn prepare(target: SocketAddr, work: Work) -> Result<Load, LoadError> {
        if work.parallel() > MAX_PARALLEL {
            return Err(LoadError::OutOfBounds);
        }
        Ok(match work {
            Work::Exchange { connections, bytes } => {
                Load::Exchange(ExchangeLoad::open(target, connections, bytes)?)
            }
            Work::Short { parallel } => Load::Short(ShortLoad::new(target, parallel)?),
            Work::Download { streams } => Load::Stream(StreamLoad::down(target, streams)?),
            Work::Upload { streams } => Load::Stream(StreamLoad::up(target, streams)?),
            Work::Datagrams {
                flows,
                window,
                bytes,
            } => Load::Datagram(DatagramLoad::open(target, flows, window, bytes)?),
        })
    }

    /// Works for `duration` and until the last answer; may be called again.
    pub fn run(&mut self, duration: Duration) -> Result<Measured, LoadError> {
        if duration > MAX_DURATION {
            return Err(LoadError::OutOfBounds);
        }
        let mut clock = Clock::start(duration);
        let tally = match self {
            Load::Exchange(load) => load.run(&mut clock)?,
            Load::Short(load) => load.run(&mut clock)?,
            Load::Stream(load) => load.run(&mut clock)?,
            Load::Datagram(load) => load.run(&mut clock)?,
        };
        Ok(tally.measured(clock.begun.elapsed()))
    }

    /// Changes the length of requests and answers; open exchange connections only.
    pub fn set_exchange_bytes(&mut self, bytes: u32) {
        if let Load::Exchange(load) = self {
            load.set_bytes(bytes);
        }
    }
}

impl Work {
    fn parallel(self) -> usize {
        match self {
            Work::Exchange { connections, .. } => connections,
            Work::Short { parallel } => parallel,
            Work::Download { streams } | Work::Upload { streams } => streams,
            Work::Datagrams { flows, window, .. } => flows.saturating_mul(window),
        }
    }
}

/// When a run began, when it asks nothing new any more, and when it gives up.
#[derive(Debug)]
struct Clock {
    begun: Instant,
    end: Instant,
}

impl Clock {
    fn start(duration: Duration) -> Clock {
        let begun = Instant::now();
        Clock {
            begun,
            end: begun + duration,
        }
    }

    /// # Errors
    /// Where `waiting` answers are outstanding long after the end.
    fn check(&self, waiting: usize) -> Result<(), LoadError> {
        if Instant::now() > self.end + GRACE {
            return Err(LoadError::Stalled(waiting));
        }
        Ok(())
    }
}

/// What a run counts.
#[derive(Debug, Default)]
struct Tally {
    units: u64,
    latency: Histogram,
    lost: u64,
    failed: u64,
}

impl Tally {
    fn answered(&mut self, after: Duration) {
        self.units += 1;
        self.latency.record(after.as_nanos() as u64);
    }

    fn session_failed(&mut self, error: io::Error) -> Result<(), LoadError> {
        self.failed += 1;
        if self.failed > MAX_FAILURES {
            return Err(LoadError::TooManyFailures(error));
        }
        Ok(())
    }

    fn measured(&self, elapsed: Duration) -> Measured {
        let seconds = elapsed.as_secs_f64();
        let in_us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let latency = self.latency.quantile(0.5).map(|p50| Latency {
            p50: in_us(p50),
            p99: self.latency.quantile(0.99).map_or(0.0, in_us),
            p999: self.latency.quantile(0.999).map_or(0.0, in_us),
            max: in_us(self.latency.max()),
        });
        Measured {
            units: self.units,
            seconds,
            rate: self.units as f64 / seconds,
            latency,
            lost: self.lost,
            failed: self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;

    /// A backend in a thread of its own, which ends with the test's process.
    fn backend() -> SocketAddr {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut backend = Backend::bind(any).expect("loopback has free ports");
            let addr = backend.addr().expect("it is bound");
            tell.send(addr).expect("the test waits for it");
            backend.serve()
        });
        told.recv().expect("the backend is bound")
    }

    fn run(work: Work) -> Measured {
        let mut load = Load::prepare(backend(), work).expect("prepared");
        let first = load.run(Duration::from_millis(30)).expect("run");
        let second = load.run(Duration::from_millis(30)).expect("run again");
        assert!(first.units > 0, "{work:?}");
        second
    }

    #[test]
    fn every_kind_of_work_is_done_and_counted() {
        let all = [
            Work::Exchange {
                connections: 1,
                bytes: 64,
            },
            Work::Exchange {
                connections: 20,
                bytes: 16_384,
            },
            Work::Exchange {
                connections: 3,
                bytes: 5_000_000,
            },
            Work::Short { parallel: 4 },
            Work::Datagrams {
                flows: 1,
                window: 1,
                bytes: 64,
            },
            Work::Datagrams {
                flows: 4,
                window: 8,
                bytes: 1_200,
            },
        ];
        for work in all {
            // A machine that stands still for longer than an answer is awaited loses it once.
            let mut runs = std::iter::repeat_with(|| run(work)).take(3);
            let measured = runs.find(|measured| measured.lost == 0);
            let measured = measured.unwrap_or_else(|| panic!("{work:?}: lost three times"));
            assert!(measured.units > 0, "{work:?}");
            assert_eq!(measured.failed, 0, "{work:?}");
            let latency = measured.latency.expect("answers were awaited");
            assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99, "{work:?}");
        }
    }

    #[test]
    fn streams_are_counted_in_whole_blocks() {
        for work in [Work::Download { streams: 2 }, Work::Upload { streams: 2 }] {
            let measured = run(work);
            assert!(measured.units > 0, "{work:?}");
            assert_eq!(measured.units % stream::BLOCK_BYTES, 0, "{work:?}");
            assert!(measured.latency.is_none());
        }
    }

    #[test]
    fn a_stream_that_comes_to_its_turn_after_the_end_is_not_waited_for() {
        for work in [Work::Download { streams: 2 }, Work::Upload { streams: 2 }] {
            let mut load = Load::prepare(backend(), work).expect("prepared");
            let measured = load.run(Duration::ZERO).expect("run");
            assert!(measured.units >= 2 * stream::BLOCK_BYTES, "{work:?}");
            assert_eq!(measured.units % stream::BLOCK_BYTES, 0, "{work:?}");
        }
    }

    #[test]
    fn a_run_out_of_bounds_is_refused() {
        let work = Work::Short {
            parallel: MAX_PARALLEL + 1,
        };
        let refused = Load::prepare(backend(), work);
        assert!(matches!(refused, Err(LoadError::OutOfBounds)));
        let mut load = Load::prepare(backend(), Work::Short { parallel: 1 }).expect("prepared");
        let refused = load.run(MAX_DURATION + Duration::from_secs(1));
        assert!(matches!(refused, Err(LoadError::OutOfBounds)));
    }
}
