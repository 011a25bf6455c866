//! One program, one round: what its process tree used while the load worked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::cells::{Cell, Job, Unit};
use crate::load::{Load, LoadError, Work};
use crate::processes::{ProcessTree, busy_time_of_machine};
use crate::programs::{Program, ProgramError, Stage, Started};
use crate::results::{IdleSample, Sample, WorkSample};

/// Work before the clock is read: code and buffers are warm, windows open.
const WARM_UP: Duration = Duration::from_millis(150);
/// After it, and after the work: whatever the program still has to do belongs to it.
const SETTLE: Duration = Duration::from_millis(20);
/// How long idle sessions are watched.
const IDLE_WATCHED: Duration = Duration::from_secs(1);
const BURST_BYTES: u32 = 16_384;

#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("{program}, {cell}: {error}")]
    Load {
        program: &'static str,
        cell: &'static str,
        error: LoadError,
    },
}

/// Starts `program` afresh, so that each round is independent of the one before, and measures.
pub fn sample(
    stage: &mut Stage,
    cell: &Cell,
    program: Program,
    backend: &Started,
    round: usize,
    duration: Duration,
) -> Result<Sample, MeasureError> {
    let mut started = stage.start(program, cell.setup, backend.addr, cell.nginx_buffer)?;
    let measured = match cell.job {
        Job::Work(work) => measure_work(&started, work, duration).map(|work| Sample {
            round,
            program,
            cost: Unit::of(cell.job).cost_of(work.cpu_seconds, work.measured.units),
            work: Some(work),
            idle: None,
        }),
        Job::Idle { sessions } => measure_idle(&started, sessions).map(|idle| Sample {
            round,
            program,
            cost: idle.rss_idle.saturating_sub(idle.rss_before) as f64 / sessions as f64,
            work: None,
            idle: Some(idle),
        }),
    };
    // That a program has ended explains the load's error better than the load's error itself.
    started.check()?;
    measured.map_err(|error| MeasureError::Load {
        program: program.name(),
        cell: cell.name,
        error,
    })
}

fn measure_work(
    started: &Started,
    work: Work,
    duration: Duration,
) -> Result<WorkSample, LoadError> {
    let mut load = Load::prepare(started.addr, work)?;
    load.run(WARM_UP)?;
    std::thread::sleep(SETTLE);
    // Programs and backend are our children, so our own tree is the bench as a whole.
    let bench = ProcessTree::of(std::process::id());
    let begun = Instant::now();
    let (busy_before, bench_before) = (busy_time_of_machine(), bench.cpu_time());
    let before = program_time(started);
    let measured = load.run(duration)?;
    std::thread::sleep(SETTLE);
    let cpu_seconds = (program_time(started) - before).as_secs_f64();
    let bench = bench.cpu_time() - bench_before;
    let busy = busy_time_of_machine().saturating_sub(busy_before);
    Ok(WorkSample {
        measured,
        cpu_seconds,
        foreign: busy.saturating_sub(bench).as_secs_f64() / begun.elapsed().as_secs_f64(),
    })
}

fn program_time(started: &Started) -> Duration {
    started
        .processes()
        .map_or(Duration::ZERO, ProcessTree::cpu_time)
}

fn measure_idle(started: &Started, sessions: usize) -> Result<IdleSample, LoadError> {
    let Some(tree) = started.processes() else {
        unreachable!("idle sessions are measured of programs only");
    };
    exchange_once(started.addr)?;
    std::thread::sleep(SETTLE);
    let rss_before = tree.resident_bytes();
    let work = Work::Exchange {
        connections: sessions,
        bytes: 64,
    };
    let mut load = Load::prepare(started.addr, work)?;
    load.run(Duration::ZERO)?;
    std::thread::sleep(IDLE_WATCHED);
    let rss_idle = tree.resident_bytes();
    let (cpu, wakeups, begun) = (tree.cpu_time(), tree.wakeups(), Instant::now());
    std::thread::sleep(IDLE_WATCHED);
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_us = (tree.cpu_time() - cpu).as_secs_f64() * 1e6;
    let wakeups = tree.wakeups().saturating_sub(wakeups) as f64;
    load.set_exchange_bytes(BURST_BYTES);
    load.run(Duration::ZERO)?;
    std::thread::sleep(IDLE_WATCHED);
    Ok(IdleSample {
        sessions,
        rss_before,
        rss_idle,
        rss_after_burst: tree.resident_bytes(),
        cpu_us_a_second: cpu_us / seconds,
        wakeups_a_second: wakeups / seconds,
    })
}

/// A first session, so that what the program allocates once is not counted as a session's.
fn exchange_once(target: SocketAddr) -> Result<(), LoadError> {
    let work = Work::Exchange {
        connections: 1,
        bytes: 64,
    };
    Load::prepare(target, work)?.run(WARM_UP).map(drop)
}
