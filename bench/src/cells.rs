//! What is measured, and what is to be reached.

use serde::{Deserialize, Serialize};

use crate::load::Work;
use crate::programs::{Program, Setup};

/// One kind of work, done by several programs in turn.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// As `ONLY` takes it.
    pub name: &'static str,
    pub about: &'static str,
    pub job: Job,
    pub setup: Setup,
    pub programs: &'static [Program],
    /// nginx's buffer for a direction: what serves it best at this work.
    pub nginx_buffer: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Work(Work),
    /// Sessions that are open and silent.
    Idle {
        sessions: usize,
    },
}

/// What one unit of work is, and with it what CPU is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Request,
    Connection,
    RoundTrip,
    Gigabyte,
    Session,
}

impl Unit {
    pub fn of(job: Job) -> Unit {
        match job {
            Job::Work(Work::Exchange { .. }) => Unit::Request,
            Job::Work(Work::Short { .. }) => Unit::Connection,
            Job::Work(Work::Download { .. } | Work::Upload { .. }) => Unit::Gigabyte,
            Job::Work(Work::Datagrams { .. }) => Unit::RoundTrip,
            Job::Idle { .. } => Unit::Session,
        }
    }

    /// The primary figure in words.
    pub fn cost(self) -> &'static str {
        match self {
            Unit::Request => "µs of CPU a request",
            Unit::Connection => "µs of CPU a connection",
            Unit::RoundTrip => "µs of CPU a round trip",
            Unit::Gigabyte => "ms of CPU a GB",
            Unit::Session => "bytes of memory a session",
        }
    }

    /// The primary figure from the CPU time of `units` as the load counts them, streams in bytes.
    pub fn cost_of(self, cpu_seconds: f64, units: u64) -> f64 {
        let each = cpu_seconds / units.max(1) as f64;
        match self {
            Unit::Request | Unit::Connection | Unit::RoundTrip | Unit::Session => each * 1e6,
            Unit::Gigabyte => each * 1e9 * 1e3,
        }
    }
}

const ALL: &[Program] = &[
    Program::Direct,
    Program::Ours,
    Program::Haproxy,
    Program::Nginx,
    Program::Envoy,
];
/// haproxy forwards no UDP.
const OF_UDP: &[Program] = &[
    Program::Direct,
    Program::Ours,
    Program::Nginx,
    Program::Envoy,
];
const OF_IDLE: &[Program] = &[
    Program::Ours,
    Program::Haproxy,
    Program::Nginx,
    Program::Envoy,
];

/// nginx's own default.
const NGINX_DEFAULT: &str = "16k";
/// Measured best of 16k to 1m for streams: 250-300 ms a GB, against 350-440 with 64k.
const NGINX_FOR_STREAMS: &str = "256k";

const fn exchange(name: &'static str, about: &'static str, connections: usize, bytes: u32) -> Cell {
    Cell {
        name,
        about,
        job: Job::Work(Work::Exchange { connections, bytes }),
        setup: Setup::OneWorker,
        programs: ALL,
        nginx_buffer: NGINX_DEFAULT,
    }
}

const fn stream(name: &'static str, about: &'static str, work: Work) -> Cell {
    Cell {
        name,
        about,
        job: Job::Work(work),
        setup: Setup::OneWorker,
        programs: ALL,
        nginx_buffer: NGINX_FOR_STREAMS,
    }
}

/// As many flows as make the proxy busy without losing datagrams in full socket buffers.
const FLOWS: usize = 16;

const fn datagrams(name: &'static str, about: &'static str, window: usize, bytes: usize) -> Cell {
    let flows = FLOWS;
    Cell {
        name,
        about,
        job: Job::Work(Work::Datagrams {
            flows,
            window,
            bytes,
        }),
        setup: Setup::OneWorker,
        programs: OF_UDP,
        nginx_buffer: NGINX_DEFAULT,
    }
}

const SHORT: Cell = Cell {
    name: "short",
    about: "connect, 64 B, answer, close; 64 at once",
    job: Job::Work(Work::Short { parallel: 64 }),
    setup: Setup::OneWorker,
    programs: ALL,
    nginx_buffer: NGINX_DEFAULT,
};

const IDLE: Cell = Cell {
    name: "idle-4500",
    about: "4,500 sessions open and silent",
    job: Job::Idle { sessions: 4_500 },
    setup: Setup::OneWorker,
    programs: OF_IDLE,
    nginx_buffer: NGINX_DEFAULT,
};

/// The same work with two workers that are free to run anywhere.
const fn by_two(name: &'static str, about: &'static str, cell: Cell) -> Cell {
    Cell {
        name,
        about,
        setup: Setup::TwoWorkers,
        ..cell
    }
}

const EXCHANGE_64: Cell = exchange("rr64-c64", "64 B requests, 64 connections", 64, 64);
const DOWN_8: Cell = stream("down-8", "8 streams down", Work::Download { streams: 8 });
const UDP_64: Cell = datagrams("udp64-w1", "64 B datagrams, window 1", 1, 64);

pub const CELLS: [Cell; 21] = [
    exchange("rr64-c1", "64 B requests, 1 connection", 1, 64),
    EXCHANGE_64,
    exchange("rr64-c1000", "64 B requests, 1,000 connections", 1_000, 64),
    exchange("rr16k-c1", "16 KiB requests, 1 connection", 1, 16_384),
    exchange("rr16k-c64", "16 KiB requests, 64 connections", 64, 16_384),
    exchange(
        "rr16k-c1000",
        "16 KiB requests, 1,000 connections",
        1_000,
        16_384,
    ),
    SHORT,
    stream("down-1", "1 stream down", Work::Download { streams: 1 }),
    DOWN_8,
    stream("up-1", "1 stream up", Work::Upload { streams: 1 }),
    stream("up-8", "8 streams up", Work::Upload { streams: 8 }),
    UDP_64,
    datagrams("udp64-w8", "64 B datagrams, window 8", 8, 64),
    datagrams("udp1200-w1", "1,200 B datagrams, window 1", 1, 1_200),
    datagrams("udp1200-w8", "1,200 B datagrams, window 8", 8, 1_200),
    IDLE,
    Cell {
        name: "spin",
        about: "64 B requests, 1 connection, ours with busy_poll_us=60",
        setup: Setup::BusyPoll,
        programs: &[
            Program::Direct,
            Program::Ours,
            Program::Haproxy,
            Program::Nginx,
            Program::Envoy,
            Program::HaproxyBusy,
        ],
        ..exchange("", "", 1, 64)
    },
    by_two(
        "two-rr64-c64",
        "two workers: 64 B requests, 64 connections",
        EXCHANGE_64,
    ),
    by_two("two-short", "two workers: short connections", SHORT),
    by_two("two-down-8", "two workers: 8 streams down", DOWN_8),
    by_two(
        "two-udp64-w1",
        "two workers: 64 B datagrams, window 1",
        UDP_64,
    ),
];

/// The cells that are no work of several programs, by the name that `ONLY` takes.
pub const PICKS: &str = "picks";
pub const RELOAD: &str = "reload";
pub const SPREAD: &str = "spread";

/// What is to be reached in a cell: a figure of ours, held against something.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub cell: &'static str,
    pub figure: Figure,
    pub against: Against,
    pub at_most: f64,
    pub stretch: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// The cell's primary figure, in its unit.
    Cost,
    /// The cost of an idle session after it has exchanged much.
    CostAfterBurst,
    /// The median latency less the one without any program, in microseconds.
    P50Added,
    /// In microseconds.
    P99,
    /// Datagrams in the worst round; none may be lost where the one it is held against loses none.
    Lost,
    /// Of a worker when the largest pool is reloaded, in microseconds: the slowest algorithm.
    LongestAdoption,
    /// Of a worker while the largest pool is reloaded, in microseconds, as it measures it itself.
    ReloadStall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Ratio to the peer with the least.
    BestPeer,
    /// Ratio to this one.
    One(Program),
    /// Ratio to our own ratio to the best peer in another cell.
    RatioIn(&'static str),
    /// The figure itself.
    Nothing,
}

const fn target(cell: &'static str, figure: Figure, against: Against, at_most: f64) -> Target {
    Target {
        cell,
        figure,
        against,
        at_most,
        stretch: None,
    }
}

impl Target {
    const fn stretch(self, stretch: f64) -> Target {
        Target {
            stretch: Some(stretch),
            ..self
        }
    }
}

/// How much worse two unpinned workers may stand to the peers than one.
const WITHIN_A_TENTH: f64 = 1.10;

pub const TARGETS: [Target; 22] = [
    target("rr64-c64", Figure::Cost, Against::BestPeer, 0.90).stretch(0.85),
    target("rr64-c64", Figure::P99, Against::BestPeer, 1.0),
    target("rr64-c1000", Figure::Cost, Against::BestPeer, 0.95).stretch(0.75),
    target("rr64-c1000", Figure::P99, Against::BestPeer, 1.0),
    target("rr16k-c64", Figure::Cost, Against::BestPeer, 0.70).stretch(0.60),
    target("short", Figure::Cost, Against::BestPeer, 1.0).stretch(0.92),
    target("down-8", Figure::Cost, Against::One(Program::Haproxy), 1.0),
    target("down-8", Figure::Cost, Against::One(Program::Nginx), 0.40),
    target("down-1", Figure::Cost, Against::One(Program::Haproxy), 1.20).stretch(1.0),
    target("udp64-w1", Figure::Cost, Against::One(Program::Nginx), 0.85).stretch(0.75),
    target("udp64-w8", Figure::Cost, Against::One(Program::Nginx), 0.85).stretch(0.75),
    target("udp64-w1", Figure::Lost, Against::One(Program::Nginx), 0.0),
    target("udp64-w8", Figure::Lost, Against::One(Program::Nginx), 0.0),
    target("idle-4500", Figure::Cost, Against::Nothing, 700.0),
    target("idle-4500", Figure::CostAfterBurst, Against::Nothing, 700.0),
    target("spin", Figure::P50Added, Against::BestPeer, 0.40),
    target(
        "two-rr64-c64",
        Figure::Cost,
        Against::RatioIn("rr64-c64"),
        WITHIN_A_TENTH,
    ),
    target(
        "two-short",
        Figure::Cost,
        Against::RatioIn("short"),
        WITHIN_A_TENTH,
    ),
    target(
        "two-down-8",
        Figure::Cost,
        Against::RatioIn("down-8"),
        WITHIN_A_TENTH,
    ),
    target(
        "two-udp64-w1",
        Figure::Cost,
        Against::RatioIn("udp64-w1"),
        WITHIN_A_TENTH,
    ),
    target(PICKS, Figure::LongestAdoption, Against::Nothing, 1_000.0),
    target(RELOAD, Figure::ReloadStall, Against::Nothing, 1_000.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_targets_name_cells() {
        let mut names: Vec<_> = CELLS.iter().map(|cell| cell.name).collect();
        names.extend([PICKS, RELOAD, SPREAD]);
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for target in &TARGETS {
            assert!(names.contains(&target.cell), "{}", target.cell);
            if let Against::RatioIn(cell) = target.against {
                assert!(names.contains(&cell), "{cell}");
            }
        }
    }

    #[test]
    fn costs_are_given_in_their_unit() {
        assert_eq!(Unit::Request.cost_of(1.0, 100_000), 10.0);
        let two_gigabytes = 2_000_000_000;
        assert_eq!(Unit::Gigabyte.cost_of(0.5, two_gigabytes), 250.0);
    }
}
