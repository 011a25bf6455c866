//! What a reload of the real program costs: how long until it runs, and how long a client waits.
//!
//! While the client is watched, the worker has the program's core for itself and the process's
//! other threads run elsewhere, when nothing else wants to, as on a machine with a core to spare:
//! what the client then waits longer is the worker's own doing, and not that it shared a core with
//! the reading of the file. How soon a reload is applied is measured without a client.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use contract::Root;
use contract::paths::proxy_socket;
use contract::status::{Running, Status};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, LoadError, Work};
use crate::machine::pin;
use crate::programs::{ProgramError, Setup, Stage, Started, our_config};
use crate::results::ReloadResult;

pub const POOLS: [usize; 3] = [10, 1_000, 10_000];
/// How long the client asks at least; the signal comes in the middle of it.
const RUN: Duration = Duration::from_millis(400);
/// How often it is looked whether the reload is through.
const STEP: Duration = Duration::from_millis(50);
const WARM_UP: Duration = Duration::from_millis(100);
/// The longest that the proxy holds an answer back.
const LONGEST_HELD_MS: u32 = 10_000;
const ONE_CLIENT: Work = Work::Exchange {
    connections: 1,
    bytes: 64,
};

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("reload: {0}")]
    Load(#[from] LoadError),
    #[error("reload: {what}: {error}")]
    Io {
        what: &'static str,
        error: io::Error,
    },
    #[error("reload: generation {generation} was not taken: {answer}")]
    Refused { generation: u64, answer: String },
}

pub fn failed_to(what: &'static str) -> impl FnOnce(io::Error) -> ReloadError {
    move |error| ReloadError::Io { what, error }
}

/// Two reloads with a pool of `size`, the first one without a client, the second with one;
/// `backend` must listen on every loopback address.
pub fn measure(
    stage: &mut Stage,
    backend: &Started,
    size: usize,
    round: usize,
) -> Result<ReloadResult, ReloadError> {
    let backends = addresses(size, backend.addr.port());
    let config = |addr| our_config(addr, &backends, Setup::OneWorker);
    let (started, root) = stage.start_ours_with(config, 1)?;
    let pid = started.pid().expect("it is a program");
    publish(&root, config(started.addr), 2)?;
    let applied = reload(pid, &root, 2)?;

    give_the_worker_its_core(stage, &started).map_err(failed_to("threads"))?;
    let mut load = Load::prepare(started.addr, ONE_CLIENT)?;
    load.run(WARM_UP)?;
    let undisturbed = longest_answer(&mut load, || true)?;
    publish(&root, config(started.addr), 3)?;
    let (disturbed, reloaded) = thread::scope(|scope| {
        let operator = scope.spawn(|| {
            thread::sleep(RUN / 2);
            reload(pid, &root, 3)
        });
        let disturbed = longest_answer(&mut load, || operator.is_finished());
        (disturbed, operator.join().expect("a reload does not panic"))
    });
    reloaded?;
    Ok(ReloadResult {
        backends: size,
        round,
        applied_ms: applied.as_secs_f64() * 1e3,
        stall_us: stall_us(&root)?,
        longest_answer_us: disturbed?,
        longest_answer_undisturbed_us: undisturbed,
    })
}

/// In microseconds, over [`RUN`] and until `may_end`.
fn longest_answer(load: &mut Load, may_end: impl Fn() -> bool) -> Result<f64, LoadError> {
    let begun = Instant::now();
    let mut longest: f64 = 0.0;
    while begun.elapsed() < RUN || !may_end() {
        let measured = load.run(STEP)?;
        longest = longest.max(measured.latency.map_or(0.0, |latency| latency.max));
    }
    Ok(longest)
}

/// That many loopback addresses; the same server answers on all of them.
fn addresses(count: usize, port: u16) -> Vec<SocketAddr> {
    let first = Ipv4Addr::new(127, 1, 0, 1).to_bits();
    let ips = (0..count as u32).map(|index| IpAddr::V4(Ipv4Addr::from_bits(first + index)));
    ips.map(|ip| SocketAddr::new(ip, port)).collect()
}

/// Moves every thread but the worker away.
fn give_the_worker_its_core(stage: &Stage, started: &Started) -> io::Result<()> {
    let threads = started.processes().map(|tree| tree.threads());
    let mut workers = 0;
    for thread in threads.into_iter().flatten() {
        let name = fs::read_to_string(thread.join("comm"))?;
        if name.starts_with("worker") {
            workers += 1;
            continue;
        }
        let id = thread.file_name().and_then(|id| id.to_str());
        let id = id.ok_or_else(|| io::Error::other("a thread without an id"))?;
        let core = stage.cores().other_than_program();
        pin(id.parse().ok().and_then(Pid::from_raw), core)?;
        // Any other policy, even the lowest priority, lets it finish its slice before the load.
        let chrt = Command::new("chrt")
            .args(["--idle", "--pid", "0", id])
            .status()?;
        if !chrt.success() {
            return Err(io::Error::other("chrt failed"));
        }
    }
    match workers {
        1 => Ok(()),
        _ => Err(io::Error::other("not one thread is called worker")),
    }
}

/// A configuration with another weight for every backend, so that nothing of the one before can be
/// kept.
fn publish(root: &Root, mut config: serde_json::Value, generation: u64) -> Result<(), ReloadError> {
    config["generation"] = generation.into();
    for backend in config["backends"].as_array_mut().into_iter().flatten() {
        backend["weight"] = (10 * generation).into();
    }
    let bytes = config.to_string();
    let published = contract::publish(&root.proxy_config(), bytes.as_bytes());
    published.map_err(|error| failed_to("publish")(error.into()))
}

/// Signals and waits until the generation runs.
fn reload(pid: Pid, root: &Root, generation: u64) -> Result<Duration, ReloadError> {
    let begun = Instant::now();
    kill_process(pid, Signal::HUP).map_err(|error| failed_to("SIGHUP")(error.into()))?;
    let path = format!("/generation?at_least={generation}&timeout_ms={LONGEST_HELD_MS}");
    let answer = ask(&proxy_socket(&root.proxy_pid()), &path).map_err(failed_to("admin socket"))?;
    let elapsed = begun.elapsed();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Running>(body) {
        Ok(running) if running.generation == generation => Ok(elapsed),
        Ok(_) | Err(_) => Err(ReloadError::Refused { generation, answer }),
    }
}

/// How long the last reload kept the worker busy.
fn stall_us(root: &Root) -> Result<f64, ReloadError> {
    let workers = status(root)?.workers;
    let stalls = workers.iter().map(|worker| worker.reload_stall_us);
    Ok(stalls.max().unwrap_or(0) as f64)
}

/// What the program says of itself.
pub fn status(root: &Root) -> Result<Status, ReloadError> {
    let answer = ask(&proxy_socket(&root.proxy_pid()), "/status");
    let answer = answer.map_err(failed_to("admin socket"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|error| failed_to("status")(error.into()))
}

/// One question to the admin socket; HTTP/1.0, so that the answer ends with the connection.
fn ask(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: proxy\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_loopback_and_differ() {
        let mut addresses = addresses(10_000, 80);
        assert!(addresses.iter().all(|addr| addr.ip().is_loopback()));
        addresses.dedup();
        assert_eq!(addresses.len(), 10_000);
    }
}
