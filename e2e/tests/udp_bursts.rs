//! Bursts of datagrams, which the kernel hands over and takes in larger pieces: each arrives as it
//! was sent, in order, both ways, and what the kernel has no room for is counted.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use proxy_sys::datagrams::{Receiver, Route, send};
use serde_json::json;
use testkit::pattern::{Pattern, Random};
use testkit::{Backend, LONG, Manner, UdpClient, until};

/// Echoes whole bursts: what came together goes back together, as far as the sizes allow.
struct BurstEcho {
    addr: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BurstEcho {
    fn start() -> BurstEcho {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let addr = socket.local_addr().expect("it is bound");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("above zero");
        let stopping = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            let mut receiver = Receiver::new();
            while !stopped.load(Relaxed) {
                // Waits for the first; the rest of the burst is there a moment later.
                if socket.peek_from(&mut [0; 1]).is_err() {
                    continue;
                }
                std::thread::sleep(Duration::from_millis(2));
                while receiver.receive(socket.as_fd()).is_ok() {
                    echo(&socket, &receiver);
                }
            }
        });
        BurstEcho {
            addr,
            stopping,
            thread: Some(thread),
        }
    }
}

fn echo(socket: &UdpSocket, receiver: &Receiver) {
    let to = receiver.datagram(0).source.expect("an IP socket");
    let payloads: Vec<&[u8]> = (0..receiver.count())
        .map(|at| receiver.payload(at))
        .collect();
    send_all(socket, &payloads, Some(Route { to, from: None }));
}

fn send_all(socket: &UdpSocket, payloads: &[&[u8]], route: Option<Route>) {
    let mut rest = payloads;
    while !rest.is_empty() {
        let sent = send(socket.as_fd(), rest, route).expect("loopback takes it");
        rest = &rest[sent..];
    }
}

impl Drop for BurstEcho {
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

/// Sizes of one burst: equal ones with a smaller last, or anything.
fn sizes(random: &mut Random) -> Vec<usize> {
    let count = 1 + random.below(40) as usize;
    if random.below(2) == 0 {
        let size = 1 + random.below(1_400) as usize;
        let mut sizes = vec![size; count];
        sizes.push(1 + random.below(size as u64) as usize);
        return sizes;
    }
    (0..count).map(|_| random.below(1_400) as usize).collect()
}

#[test]
fn bursts_pass_byte_identical_and_in_order() {
    let echo = BurstEcho::start();
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let client = UdpClient::new(bench.listen);
    let mut random = Random::new(11);
    let mut sent = 0;
    for round in 0..100 {
        let payloads: Vec<Vec<u8>> = sizes(&mut random)
            .into_iter()
            .enumerate()
            .map(|(at, size)| Pattern::bytes(round * 1_000 + at as u64, size))
            .collect();
        let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        send_all(&client.socket, &slices, None);
        sent += payloads.len();
        for (at, payload) in payloads.iter().enumerate() {
            let got = client.receive();
            let got = got.unwrap_or_else(|error| panic!("round {round}, {at}: {error}"));
            assert!(got == *payload, "round {round}, {at}: {} bytes", got.len());
        }
    }
    let status = bench.proxy.status();
    assert!(
        status.totals.datagrams_dropped.is_empty(),
        "of {sent}: {status:?}"
    );
    // An answer is counted when it is sent, which the client may know first.
    until("as many bytes down as up", LONG, || {
        let bytes = bench.proxy.status().totals.counters;
        (bytes.bytes_up == bytes.bytes_down).then_some(())
    });
}

#[test]
fn what_a_listeners_queue_has_no_room_for_is_counted() {
    let backend = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let client = UdpClient::new(bench.listen);
    client.exchange(b"a flow").expect("served");
    let pid = rustix::process::Pid::from_raw(bench.proxy.program.pid() as i32).expect("above 0");
    // Stopped, it takes nothing; a queue of at most 16 MiB is full long before this is through.
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("our own child");
    let large = vec![7; 60_000];
    for _ in 0..1_000 {
        client.socket.send(&large).expect("loopback takes it");
    }
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("our own child");
    until("the loss is counted", LONG, || {
        // The kernel tells with the next datagram that finds room.
        client.socket.send(b"next").expect("loopback takes it");
        let dropped = bench.proxy.status().totals.datagrams_dropped;
        (dropped.get("receive_queue_full").copied() >= Some(1)).then_some(())
    });
}
