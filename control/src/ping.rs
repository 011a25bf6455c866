//! Ping without a child process: ICMP where the system lets us, else TCP connects, and it says so.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Probes of one ping.
const PROBES: u16 = 4;
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

pub struct Pings(Semaphore);

impl Pings {
    pub fn new() -> Pings {
        Pings(Semaphore::new(CONCURRENT))
    }

    /// Pings `ip`; where ICMP is not permitted, connects to `ports`. The text is for people.
    pub async fn ping(&self, ip: IpAddr, ports: &[u16]) -> Result<String, Busy> {
        let _permit = self.0.try_acquire().map_err(|_| Busy)?;
        let kind = if ip.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
        match Client::new(&Config::builder().kind(kind).build()) {
            Ok(client) => Ok(icmp(&client, ip).await),
            // The library's text runs over several lines and on to other systems.
            Err(error) => {
                tracing::debug!("no ICMP socket: {error}");
                Ok(tcp(ip, ports).await)
            }
        }
    }
}

async fn icmp(client: &Client, ip: IpAddr) -> String {
    let identifier = PingIdentifier(std::process::id() as u16);
    let mut pinger = client.pinger(ip, identifier).await;
    pinger.timeout(TIMEOUT);
    let mut summary = Summary::new(format!("PING {ip}: {} data bytes", PAYLOAD.len()));
    for sequence in 0..PROBES {
        if sequence > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match pinger.ping(PingSequence(sequence), &PAYLOAD).await {
            Ok((_, time)) => summary.answered(
                time,
                format!("{} bytes from {ip}: icmp_seq={sequence}", PAYLOAD.len() + 8),
            ),
            Err(error) => summary.lost(format!("icmp_seq={sequence}: {error}")),
        }
    }
    summary.finish(ip)
}

async fn tcp(ip: IpAddr, ports: &[u16]) -> String {
    let mut summary = Summary::new(
        "ICMP is not permitted here (needs net.ipv4.ping_group_range or CAP_NET_RAW), \
         so these are TCP connects, not pings:"
            .to_owned(),
    );
    if ports.is_empty() {
        summary.lost("no port of this address is known to connect to".to_owned());
        return summary.finish(ip);
    }
    for sequence in 0..PROBES {
        if sequence > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let port = ports[usize::from(sequence) % ports.len()];
        let started = Instant::now();
        let connect = TcpStream::connect(SocketAddr::new(ip, port));
        match tokio::time::timeout(TIMEOUT, connect).await {
            Ok(Ok(_)) => summary.answered(
                started.elapsed(),
                format!("connected to {ip} port {port}: seq={sequence}"),
            ),
            Ok(Err(error)) => summary.lost(format!("port {port}: seq={sequence}: {error}")),
            Err(_) => summary.lost(format!("port {port}: seq={sequence}: no answer in 1 s")),
        }
    }
    summary.finish(ip)
}

/// The text as it grows, with what is counted for its last lines.
struct Summary {
    text: String,
    sent: u32,
    times_ms: Vec<f64>,
}

impl Summary {
    fn new(title: String) -> Summary {
        Summary {
            text: title + "\n",
            sent: 0,
            times_ms: Vec::new(),
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

    #[tokio::test]
    async fn the_fallback_says_what_it_is_and_counts_what_is_lost() {
        let listener = tokio::net::TcpListener::bind((LOOPBACK, 0))
            .await
            .expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let output = tcp(LOOPBACK, &[port]).await;
        assert!(output.contains("TCP connects, not pings"), "{output}");
        assert!(output.contains("4 received, 0% packet loss"), "{output}");
        drop(listener);
        let output = tcp(LOOPBACK, &[port]).await;
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
