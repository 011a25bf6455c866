//! What the control plane costs in a large fleet: both programs as they are, and clients that register, send
//! heartbeats, edit and read. Prints one JSON object a round.

mod client;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use client::Client;
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{Control, Folder, Proxy};

/// Measures the control plane with a large fleet.
#[derive(Parser)]
struct Arguments {
    /// How many backends register
    #[arg(long, default_value_t = 20_000)]
    backends: usize,
    /// How many clients register them at the same time, a list
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256])]
    clients: Vec<usize>,
    /// How often all of it is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long heartbeats are sent
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How many edits and how many reads are timed.
const TIMED: usize = 20;
/// How long the proxy may take to run what was registered last.
const SETTLE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for _ in 0..arguments.rounds {
        for &clients in &arguments.clients {
            match round(&arguments, clients) {
                Ok(round) => println!("{round}"),
                Err(why) => {
                    eprintln!("bench_control: {why}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// Both programs end with it, whatever becomes of it.
fn round(arguments: &Arguments, clients: usize) -> Result<Value, String> {
    let folder = Folder::new();
    let listen = free_address();
    let settings = json!({
        "proxy": { "health": { "probe": "off" } },
        "runtime_ttl_sec": 3600,
    });
    let mut control = Control::start(&folder, listen, &settings);
    control.program.skip_lines();
    let mut proxy = Proxy::start_on(&folder, &[]);
    proxy.program.skip_lines();
    let addr = control.addr;
    let before = control.program.resident_bytes();
    let began = Instant::now();
    let count = arguments.backends;
    let applied = AtomicUsize::new(0);
    share_out(clients, addr, |client, at| {
        if at >= count {
            return false;
        }
        let body = json!({ "ip": ip_of(at), "port": 8000, "weight": 1 + at % 10 });
        let answer = client.call("POST", "/api/register", &body);
        let answer = answer.expect("a registration is stored");
        let is_applied = answer["sync"]["reload"]["applied"] == true;
        applied.fetch_add(usize::from(is_applied), Ordering::Relaxed);
        true
    });
    let registered_s = began.elapsed().as_secs_f64();
    let register_cpu_s = control.program.cpu_time().as_secs_f64();
    let mut client = Client::connect(addr).expect("control listens");
    await_all(&mut client, count)?;
    let run_s = began.elapsed().as_secs_f64();
    let proxy_cpu_s = proxy.program.cpu_time().as_secs_f64();
    std::thread::sleep(Duration::from_secs(3));
    let grown = control.program.resident_bytes().saturating_sub(before);
    let edits = timed(|at| {
        let path = format!("/api/backends/{}/8000/weight", ip_of(at * 37));
        let answer = client.call("POST", &path, &json!({ "weight": 100 + at }));
        let answer = answer.expect("an edit is taken");
        assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    });
    let reads = timed(|_| {
        let list = client.call("GET", "/api/v1/backends?limit=100", &Value::Null);
        list.expect("a list");
    });
    let (beats, beat_cpu_us) = heartbeats(arguments, clients, &control, addr);
    Ok(json!({
        "clients": clients,
        "backends": count,
        "register_s": registered_s,
        "register_cpu_s": register_cpu_s,
        "registrations_per_s": count as f64 / registered_s,
        "answered_applied": applied.into_inner(),
        "all_run_s": run_s,
        "proxy_cpu_s": proxy_cpu_s,
        "bytes_per_backend": grown / count as u64,
        "edit_ms": edits,
        "list_100_ms": reads,
        "heartbeats_per_s": beats,
        "cpu_us_per_heartbeat": beat_cpu_us,
    }))
}

/// Shares out calls to so many clients, each with a connection of its own, until one says that it was the
/// last.
fn share_out(clients: usize, addr: SocketAddr, call: impl Fn(&mut Client, usize) -> bool + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::connect(addr).expect("control listens");
                while call(&mut client, next.fetch_add(1, Ordering::Relaxed)) {}
            });
        }
    });
}

/// Beats with new figures, as fast as they are answered: beats a second, and control's CPU time of one in µs.
fn heartbeats(
    arguments: &Arguments,
    clients: usize,
    control: &Control,
    addr: SocketAddr,
) -> (f64, f64) {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let sent = AtomicUsize::new(0);
    let (began, cpu) = (Instant::now(), control.program.cpu_time());
    share_out(clients, addr, |client, at| {
        let figure = (at % 97) as f64 / 100.0;
        let body = json!({ "ip": ip_of(at % arguments.backends), "port": 8000,
            "weight": 1 + at % arguments.backends % 10, "gpu_usage": figure, "vram_usage": figure });
        client
            .call("POST", "/api/register", &body)
            .expect("a heartbeat");
        sent.fetch_add(1, Ordering::Relaxed);
        Instant::now() < end
    });
    let sent = sent.into_inner() as f64;
    let cpu = control.program.cpu_time() - cpu;
    (
        sent / began.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sent,
    )
}

/// Waits until the proxy runs all backends.
fn await_all(client: &mut Client, count: usize) -> Result<(), String> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let status = client.call("GET", "/api/v1/status", &Value::Null);
        let status = status.map_err(|error| error.to_string())?;
        let running = &status["proxy"]["health"]["tcp"]["available"];
        if running.as_u64() == Some(count as u64) && status["applied"] == true {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{running} of {count} run after {SETTLE:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The median of [`TIMED`] calls, in milliseconds.
fn timed(mut call: impl FnMut(usize)) -> f64 {
    let mut taken: Vec<f64> = (0..TIMED)
        .map(|at| {
            let began = Instant::now();
            call(at);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken[TIMED / 2]
}

/// A private address of its own for each backend.
fn ip_of(at: usize) -> String {
    format!("10.{}.{}.{}", 1 + at / 65_536, at / 256 % 256, at % 256)
}
