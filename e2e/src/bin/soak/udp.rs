//! Datagrams: whole, over reloads, and from more sources than any table holds.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use testkit::pattern::Pattern;
use testkit::{Backend, Between, Kind, Manner, UdpClient};

use crate::{Outcome, hold};

pub fn sizes(kind: Kind) -> Outcome {
    const SIZES: [usize; 5] = [0, 1, 1472, 8192, 65_507];
    let backend = Backend::start("echo", Manner::Echo);
    let proxy = Between::start(kind, &[backend.addr]);
    let wrong: Vec<String> = SIZES
        .into_iter()
        .filter_map(|size| exchange(&proxy, size).err())
        .collect();
    let figure = match wrong.is_empty() {
        true => "identical".to_owned(),
        false => wrong.join(", "),
    };
    Outcome::of(wrong.is_empty(), figure)
}

fn exchange(proxy: &Between, size: usize) -> Result<(), String> {
    let client = UdpClient::new(proxy.listen);
    let bytes = Pattern::bytes(size as u64, size);
    match client.exchange(&bytes) {
        Ok(back) if back == bytes => Ok(()),
        Ok(back) => Err(format!("{size} B came back as {}", back.len())),
        Err(error) => Err(format!("{size} B: {:?}", error.kind())),
    }
}

pub fn port(kind: Kind) -> Outcome {
    const FLOWS: usize = 20;
    let backend = Backend::start("echo", Manner::Echo);
    let mut proxy = Between::start(kind, &[backend.addr]);
    let clients: Vec<_> = (0..FLOWS).map(|_| UdpClient::new(proxy.listen)).collect();
    let ask = |client: &UdpClient| client.who().map(|who| who.upstream).ok();
    let before: Vec<_> = clients.iter().map(ask).collect();
    proxy.reload();
    // The others do not say when they have; a new process of theirs takes less than this.
    std::thread::sleep(Duration::from_secs(1));
    let after: Vec<_> = clients.iter().map(ask).collect();
    let same = before
        .iter()
        .zip(&after)
        .filter(|(one, two)| one.is_some() && one == two)
        .count();
    Outcome::of(same == FLOWS, format!("kept by {same} of {FLOWS} flows"))
}

/// One datagram from each of 100,000 addresses, while TCP goes on.
pub fn flood(kind: Kind) -> Outcome {
    const SOURCES: u32 = 100_000;
    let holder = hold::Holder::start();
    // Nobody answers, which costs the sender nothing.
    let udp = UdpSocket::bind(holder.addr).expect("its port is free for UDP");
    let proxy = Between::start(kind, &[holder.addr]);
    let listen = proxy.listen;
    let before = proxy.resident_bytes();
    let (stopping, asked, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stopping.load(Relaxed) {
                let seed = asked.fetch_add(1, Relaxed);
                failed.fetch_add(u64::from(hold::echo(listen, seed).is_err()), Relaxed);
            }
        });
        for number in 0..SOURCES {
            send_from(number, listen);
        }
        stopping.store(true, Relaxed);
    });
    let grown = proxy.resident_bytes().saturating_sub(before) >> 20;
    let descriptors = proxy.open_descriptors();
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    let mut figure =
        format!("{failed} of {asked} TCP sessions failed, {descriptors} descriptors, +{grown} MiB");
    let mut kept = failed == 0;
    if let Some(ours) = proxy.ours() {
        let status = ours.status();
        let (active, most) = (status.totals.counters.flows_active, status.limits.max_flows);
        let evicted = status
            .totals
            .flows_ended
            .get("evicted")
            .copied()
            .unwrap_or(0);
        figure.push_str(&format!(
            ", {active} of at most {most} flows, {evicted} evicted"
        ));
        kept &= active <= most;
    }
    drop(udp);
    Outcome::of(kept, figure)
}

/// All of 127.0.0.0/8 is this host, so that no right is needed for addresses of others.
fn send_from(number: u32, to: SocketAddr) {
    const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);
    let ip = Ipv4Addr::from_bits(FIRST.to_bits() + number);
    let socket = UdpSocket::bind((ip, 0)).expect("all of 127.0.0.0/8 is this host");
    socket
        .send_to(b"one datagram", to)
        .expect("loopback takes it");
}
