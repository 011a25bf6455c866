//! How evenly long sessions and flows spread over the workers: all open at once, and then counted
//! where they are.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::programs::{ProgramError, Setup, Stage, Started, our_config};
use crate::reload::{ReloadError, failed_to, status};
use crate::results::SpreadResult;

/// Workers beyond the machine's cores share these, which changes nothing of who gets what.
const WORKERS: [usize; 3] = [2, 4, 8];
const COUNTS: [usize; 3] = [16, 200, 2_000];
/// Flows of before end after this; those of now are open well before.
const FLOW_IDLE_MS: u64 = 1_500;
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// What is open, and so long as it is kept.
enum Open {
    Sessions(Vec<TcpStream>),
    Flows(Vec<UdpSocket>),
}

/// One round with every number of workers, sessions and flows.
pub fn measure(
    stage: &mut Stage,
    backend: &Started,
    round: usize,
) -> Result<Vec<SpreadResult>, ReloadError> {
    let mut results = Vec::new();
    for workers in WORKERS {
        let config = |addr| {
            let mut config = our_config(addr, &[backend.addr], Setup::TwoWorkers);
            config["udp_idle_ms"] = FLOW_IDLE_MS.into();
            config
        };
        let (started, root) = stage.start_ours_with(config, workers)?;
        for count in COUNTS {
            for protocol in ["tcp", "udp"] {
                let open = open(protocol, started.addr, count).map_err(failed_to("open"))?;
                let by_worker = await_open(&root, &open)?;
                let busiest = by_worker.iter().max().copied().unwrap_or(0);
                results.push(SpreadResult {
                    protocol: protocol.to_owned(),
                    workers,
                    count,
                    round,
                    busiest_to_mean: busiest as f64 * workers as f64 / count as f64,
                });
            }
        }
    }
    Ok(results)
}

fn open(protocol: &str, addr: SocketAddr, count: usize) -> io::Result<Open> {
    if protocol == "tcp" {
        let sessions = (0..count).map(|_| TcpStream::connect(addr));
        return Ok(Open::Sessions(sessions.collect::<Result<_, _>>()?));
    }
    let flow = |_| {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.send_to(b"flow", addr)?;
        Ok(socket)
    };
    Ok(Open::Flows(
        (0..count).map(flow).collect::<io::Result<_>>()?,
    ))
}

/// Sessions or flows by worker, once all are there and those of before are gone.
fn await_open(root: &contract::Root, open: &Open) -> Result<Vec<u64>, ReloadError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let workers = status(root)?.workers;
        let (by_worker, wanted): (Vec<u64>, usize) = match open {
            Open::Sessions(all) => (
                workers.iter().map(|one| one.sessions_active).collect(),
                all.len(),
            ),
            Open::Flows(all) => (
                workers.iter().map(|one| one.flows_active).collect(),
                all.len(),
            ),
        };
        if by_worker.iter().sum::<u64>() == wanted as u64 {
            return Ok(by_worker);
        }
        if Instant::now() > deadline {
            return Err(ProgramError {
                program: "ours",
                why: format!("{by_worker:?} of {wanted} are open"),
            }
            .into());
        }
        std::thread::sleep(LOOK);
    }
}
