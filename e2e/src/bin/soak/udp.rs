//! Datagrams: whole, over reloads, and from more sources than any table holds.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use e2e::datagrams::{SlowEcho, flood, send_as, send_from};
use e2e::proxy_bench::ProxyBench;
use serde_json::json;
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
pub fn sources(kind: Kind) -> Outcome {
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

/// 300 flows that were answered, and ask again amid 6,000 new sources a second; the backend takes 400 ms.
pub fn answered(kind: Kind) -> Outcome {
    const CLIENTS: usize = 300;
    const LEAST: usize = 295;
    const A_SECOND: u32 = 6_000;
    const ROUNDS: usize = 5;
    let backend = SlowEcho::start(Duration::from_millis(400));
    let proxy = Between::start(kind, &[backend.addr]);
    let clients: Vec<_> = (0..CLIENTS).map(|_| UdpClient::new(proxy.listen)).collect();
    let answers = || {
        for some in clients.chunks(10) {
            for client in some {
                client.socket.send(b"request").expect("loopback takes it");
            }
            // Not all at once, which is more than a backend's queue may take.
            std::thread::sleep(Duration::from_millis(2));
        }
        let is_answered = |client: &&UdpClient| client.receive().is_ok();
        clients.iter().filter(is_answered).count()
    };
    let before = answers();
    let is_over = AtomicBool::new(false);
    let amid: Vec<usize> = std::thread::scope(|scope| {
        scope.spawn(|| flood(proxy.listen, A_SECOND, &is_over));
        // Until the table is full of them.
        std::thread::sleep(Duration::from_secs(1));
        let amid = (0..ROUNDS).map(|_| answers()).collect();
        is_over.store(true, Relaxed);
        amid
    });
    let kept = before == CLIENTS && amid.iter().all(|answers| *answers >= LEAST);
    Outcome::of(kept, format!("{amid:?} of {CLIENTS} answers"))
}

/// One datagram that seems to come from our own listener, and one from that of a peer.
pub fn loops(_: Kind) -> Outcome {
    const WATCHED: Duration = Duration::from_secs(3);
    let backend = Backend::start("echo", Manner::Echo);
    let one = ProxyBench::start(&[backend.addr], json!({}));
    let peers = json!({ "udp_peers": ["127.0.0.1"] });
    let other = ProxyBench::start(&[backend.addr], peers);
    send_as(one.listen, one.listen);
    send_as(one.listen, other.listen);
    // What goes round would do so more than ten thousand times a second.
    std::thread::sleep(WATCHED);
    let rounds = backend.datagrams();
    Outcome::of(rounds == 0, format!("{rounds} rounds in 3 s"))
}
