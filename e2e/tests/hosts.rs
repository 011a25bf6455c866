//! Peers on hosts of their own that vanish without a word: no reset, no ICMP, just silence.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use contract::status::OperationalState::Ejected;
use e2e::far_proxy::FarProxy;
use e2e::health::await_state;
use e2e::proxy_bench::ProxyBench;
use e2e::spread::{self, Transport};
use serde_json::json;
use testkit::client::connect;
use testkit::host::Host;
use testkit::ports::free_address_on;
use testkit::process::command;
use testkit::skipped;
use testkit::{Backend, LONG, Manner, Program, until, without_probes};

const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A demonstration backend on another host.
fn backend_on(host: &Host) -> (Program, SocketAddr) {
    let addr = SocketAddr::new(host.addr, 9_001);
    let mut demo = command("demo_backend");
    demo.args(["--listen", &addr.to_string()]);
    let mut program = Program::spawn(host.run(&demo));
    program.wait_for_line("listens on");
    (program, addr)
}

/// A session with either kind of backend, both of which speak first, and the first byte.
fn open(listen: SocketAddr) -> (TcpStream, u8) {
    let mut stream = connect(listen).expect("it listens");
    let mut first = [0];
    stream.read_exact(&mut first).expect("a session is served");
    (stream, first[0])
}

#[test]
fn a_backend_that_vanishes_costs_no_new_session_and_is_used_again() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let (_program, far) = backend_on(&host);
    let near = Backend::start("near", Manner::Echo);
    let settings = json!({
        "connect_timeout_ms": 200, "idle_timeout_ms": IDLE_TIMEOUT.as_millis() as u64,
        "ejection": { "failures": 3, "base_ms": 2_000 },
    });
    let mut bench = ProxyBench::start(&[far, near.addr], without_probes(settings));
    // One session is open on each when it happens.
    let sessions = [open(bench.listen), open(bench.listen)];
    host.vanish();
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 20);
    assert_eq!(reached.get("near"), Some(&20), "{reached:?}");
    assert!(bench.proxy.backend(far).counters.connect_timeouts > 0);
    await_state(&bench.proxy, far, Ejected);
    // The one that was open there is freed by its deadline.
    bench.proxy.await_sessions_ended("idle_timeout", 1);
    bench.proxy.program.wait_for_line("idle_timeout");
    drop(sessions);
    bench.proxy.await_no_sessions();
    host.come_back();
    // Its demonstration backend says its name first, and the near one's begins otherwise.
    until("a session reaches it again", LONG, || {
        (open(bench.listen).1 == b'd').then_some(())
    });
}

#[test]
fn a_client_that_vanishes_is_freed_by_its_deadline_silent_or_sent_to() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend = listener.local_addr().expect("it is bound");
    // To the second client it sends all the time.
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            std::thread::spawn(move || {
                let mut client = client;
                while number % 2 == 1 && client.write_all(&[7; 4096]).is_ok() {}
                // Open until the proxy ends it.
                client.read(&mut [0])
            });
        }
    });
    let listen = free_address_on(host.here);
    let settings = json!({ "idle_timeout_ms": IDLE_TIMEOUT.as_millis() as u64 });
    let bench = ProxyBench::on(listen, &[backend], without_probes(settings));
    let clients = [(); 2].map(|()| {
        let script = format!(
            "exec 3<>/dev/tcp/{}/{}; echo there; exec sleep 600",
            listen.ip(),
            listen.port()
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]);
        let mut client = Program::spawn(host.run(&shell));
        client.wait_for_line("there");
        client
    });
    until("both are served", LONG, || {
        (bench.proxy.status().totals.counters.sessions_active == 2).then_some(())
    });
    host.vanish();
    let vanished = Instant::now();
    bench.proxy.await_sessions_ended("idle_timeout", 1);
    bench.proxy.await_sessions_ended("client_stalled", 1);
    let took = vanished.elapsed();
    assert!(took < 4 * IDLE_TIMEOUT, "{took:?}");
    bench.proxy.await_no_sessions();
    drop(clients);
}

/// No reset says so, the kernel gives up: what it sends is not acknowledged.
#[test]
fn a_peer_that_acknowledges_nothing_is_lost_and_has_not_reset() {
    const FEW: u8 = 2;
    for reason in ["client_lost", "backend_lost"] {
        let Some(host) = Host::new() else {
            return skipped("a network namespace cannot be made here");
        };
        host.set_retransmissions(FEW);
        let listen = SocketAddr::new(host.addr, 9_000);
        let settings = without_probes(json!({}));
        let mut far;
        if reason == "client_lost" {
            // Client here, proxy and backend there.
            let (_program, backend) = backend_on(&host);
            far = FarProxy::start(host, listen, &[backend], settings);
            let (mut client, _) = open(listen);
            far.host.lose_answers();
            client.write_all(b"line\n").expect("sent");
            far.proxy.await_sessions_ended(reason, 1);
        } else {
            let listener = TcpListener::bind(free_address_on(host.here)).expect("a free port");
            let backend = listener.local_addr().expect("it is bound");
            far = FarProxy::start(host, listen, &[backend], settings);
            let script = format!(
                "exec 3<>/dev/tcp/{}/{}; while echo tick >&3; do sleep 0.05; done",
                listen.ip(),
                listen.port()
            );
            let mut shell = Command::new("bash");
            shell.args(["-c", &script]);
            let _client = Program::spawn(far.host.run(&shell));
            let (mut backend, _) = listener.accept().expect("the proxy connects");
            backend.read_exact(&mut [0]).expect("it sends");
            far.host.lose_answers();
            far.proxy.await_sessions_ended(reason, 1);
        }
        far.proxy.program.wait_for_line(reason);
    }
}
