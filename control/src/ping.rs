//! Ping without a child process: ICMP if the system allows it, otherwise TCP connects; the output says which.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

/// The number of probes of a ping by default, and the maximum.
pub const PROBES: u16 = 4;
pub const MAX_PROBES: u16 = 20;
/// How long one probe may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between probes.
const PAUSE: Duration = Duration::from_millis(200);
/// Pings at the same time.
const CONCURRENT: usize = 4;
/// As `ping` sends by default.
const PAYLOAD: [u8; 56] = [0; 56];

/// Too many pings run already.
#[derive(Debug, thiserror::Error)]
#[error("{CONCURRENT} pings are running already; try again in a few seconds")]
pub struct Busy;

/// The method of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Icmp,
    /// ICMP is not permitted here, so these are connects.
    Tcp,
}

impl Via {
    pub fn word(self) -> &'static str {
        match self {
            Via::Icmp => "icmp",
            Via::Tcp => "tcp",
        }
    }
}

/// The result of one probe.
#[derive(Debug)]
pub struct Probe {
    pub sequence: u16,
    /// The port of a connect.
    pub port: Option<u16>,
    /// The time it took, or why there was no answer.
    pub result: Result<Duration, String>,
}

pub struct Pings(Arc<Semaphore>);

impl Pings {
    pub fn new() -> Pings {
        Pings(Arc::new(Semaphore::new(CONCURRENT)))
    }

    /// Pings `ip`; where ICMP is not permitted, connects to `ports`. The text is for people.
    pub async fn ping(&self, ip: IpAddr, ports: &[u16]) -> Result<String, Busy> {
        let (via, mut probes) = self.start(ip, ports.to_vec(), PROBES)?;
        let mut summary = Summary::new(ip, via);
        while let Some(probe) = probes.recv().await {
            summary.add(ip, via, &probe);
        }
        Ok(summary.finish(ip))
    }

    /// Starts probes, each reported when it ends; they stop when the receiver is gone.
    pub fn start(
        &self,
        ip: IpAddr,
        ports: Vec<u16>,
        count: u16,
    ) -> Result<(Via, mpsc::Receiver<Probe>), Busy> {
        let permit = self.0.clone().try_acquire_owned().map_err(|_| Busy)?;
        let kind = if ip.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
        let (sender, probes) = mpsc::channel(1);
        let via = match Client::new(&Config::builder().kind(kind).build()) {
            Ok(client) => {
                tokio::spawn(async move {
                    icmp(&client, ip, count, sender).await;
                    drop(permit);
                });
                Via::Icmp
            }
            // The library's text runs over several lines and on to other systems.
            Err(error) => {
                tracing::debug!("no ICMP socket: {error}");
                tokio::spawn(async move {
                    tcp(ip, &ports, count, sender).await;
                    drop(permit);
                });
                Via::Tcp
            }
        };
        Ok((via, probes))
    }
}

async fn icmp(client: &Client, ip: IpAddr, count: u16, sender: mpsc::Sender<Probe>) {
    let identifier = PingIdentifier(std::process::id() as u16);
    let mut pinger = client.pinger(ip, identifier).await;
    pinger.timeout(TIMEOUT);
    for sequence in 0..count {
        if sequence > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let answer = pinger.ping(PingSequence(sequence), &PAYLOAD).await;
        let result = answer
            .map(|(_, time)| time)
            .map_err(|error| error.to_string());
        let probe = Probe {
            sequence,
            port: None,
            result,
        };
        if sender.send(probe).await.is_err() {
            return;
        }
    }
}

async fn tcp(ip: IpAddr, ports: &[u16], count: u16, sender: mpsc::Sender<Probe>) {
    for sequence in 0..count {
        if sequence > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let port = ports
            .get(usize::from(sequence) % ports.len().max(1))
            .copied();
        let result = match port {
            Some(port) => connect(SocketAddr::new(ip, port)).await,
            None => Err("no known port to connect to".to_owned()),
        };
        let probe = Probe {
            sequence,
            port,
            result,
        };
        if sender.send(probe).await.is_err() || port.is_none() {
            return;
        }
    }
}

async fn connect(addr: SocketAddr) -> Result<Duration, String> {
    let started = Instant::now();
    match tokio::time::timeout(TIMEOUT, TcpStream::connect(addr)).await {
        Ok(Ok(_)) => Ok(started.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in 1 s".to_owned()),
    }
}

/// The growing text, with the counts for its last lines.
struct Summary {
    text: String,
    sent: u32,
    times_ms: Vec<f64>,
}

impl Summary {
    fn new(ip: IpAddr, via: Via) -> Summary {
        let title = match via {
            Via::Icmp => format!("PING {ip}: {} data bytes\n", PAYLOAD.len()),
            Via::Tcp => "ICMP is not permitted here (needs net.ipv4.ping_group_range or \
                         CAP_NET_RAW), so these are TCP connects, not pings:\n"
                .to_owned(),
        };
        Summary {
            text: title,
            sent: 0,
            times_ms: Vec::new(),
        }
    }

    fn add(&mut self, ip: IpAddr, via: Via, probe: &Probe) {
        let sequence = probe.sequence;
        let port = probe
            .port
            .map(|port| format!("port {port}: "))
            .unwrap_or_default();
        let bytes = PAYLOAD.len() + 8;
        match (&probe.result, via) {
            (Ok(time), Via::Icmp) => {
                self.answered(
                    *time,
                    format!("{bytes} bytes from {ip}: icmp_seq={sequence}"),
                );
            }
            (Ok(time), Via::Tcp) => {
                self.answered(*time, format!("connected to {ip} {port}seq={sequence}"));
            }
            (Err(error), Via::Icmp) => self.lost(format!("icmp_seq={sequence}: {error}")),
            (Err(error), Via::Tcp) => self.lost(format!("{port}seq={sequence}: {error}")),
        }
    }

    fn answered(&mut self, time: Duration, line: String) {
        let ms = time.as_secs_f64() * 1000.0;
        self.sent += 1;
        self.times_ms.push(ms);
        writeln!(self.text, "{line} time={ms:.3} ms").expect("writing to a String does not fail");
    }

    fn lost(&mut self, line: String) {
        self.sent += 1;
        self.text.push_str(&line);
        self.text.push('\n');
    }

    fn finish(mut self, ip: IpAddr) -> String {
        let (sent, received) = (self.sent, self.times_ms.len() as u32);
        let loss = 100 * (sent - received) / sent.max(1);
        write!(
            self.text,
            "\n--- {ip} ping statistics ---\n\
             {sent} packets transmitted, {received} received, {loss}% packet loss\n"
        )
        .expect("writing to a String does not fail");
        if received > 0 {
            let sum: f64 = self.times_ms.iter().sum();
            let min = self.times_ms.iter().copied().fold(f64::INFINITY, f64::min);
            let max = self.times_ms.iter().copied().fold(0.0, f64::max);
            let mean = sum / f64::from(received);
            writeln!(
                self.text,
                "rtt min/avg/max = {min:.3}/{mean:.3}/{max:.3} ms"
            )
            .expect("writing to a String does not fail");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn loopback_answers_every_probe() {
        let listener = tokio::net::TcpListener::bind((LOOPBACK, 0))
            .await
            .expect("bound");
        let port = listener.local_addr().expect("bound").port();
        // Whichever way this machine allows.
        let output = Pings::new()
            .ping(LOOPBACK, &[port])
            .await
            .expect("not busy");
        assert!(output.contains("4 received, 0% packet loss"), "{output}");
        assert!(output.contains("rtt min/avg/max"), "{output}");
    }

    async fn tcp_text(port: u16) -> String {
        let (sender, mut probes) = mpsc::channel(1);
        let probing = tokio::spawn(async move { tcp(LOOPBACK, &[port], PROBES, sender).await });
        let mut summary = Summary::new(LOOPBACK, Via::Tcp);
        while let Some(probe) = probes.recv().await {
            summary.add(LOOPBACK, Via::Tcp, &probe);
        }
        probing.await.expect("probing does not panic");
        summary.finish(LOOPBACK)
    }

    #[tokio::test]
    async fn the_fallback_says_what_it_is_and_counts_what_is_lost() {
        let listener = tokio::net::TcpListener::bind((LOOPBACK, 0))
            .await
            .expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let output = tcp_text(port).await;
        assert!(output.contains("TCP connects, not pings"), "{output}");
        assert!(output.contains("4 received, 0% packet loss"), "{output}");
        drop(listener);
        let output = tcp_text(port).await;
        assert!(output.contains("0 received, 100% packet loss"), "{output}");
        assert!(!output.contains("rtt"), "{output}");
    }

    #[tokio::test]
    async fn more_than_a_few_at_once_are_turned_away() {
        let pings = Pings::new();
        let all = pings.0.acquire_many(CONCURRENT as u32).await.expect("open");
        assert!(pings.ping(LOOPBACK, &[]).await.is_err());
        drop(all);
    }
}
