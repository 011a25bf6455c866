//! Bad networks on either side of the proxy: what can arrive arrives whole, what ends badly ends badly
//! at both ends, and nothing is left in flight.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::proxy_bench::ProxyBench;
use serde_json::json;
use testkit::client::{connect, exchange_streams};
use testkit::faulty::{Fault, Faulty, Network};
use testkit::pattern::Pattern;
use testkit::ports::LOOPBACK;
use testkit::{Backend, LONG, Manner, Session, proxy_config, until, without_probes};

/// Where the bad network is.
#[derive(Debug, Clone, Copy)]
enum Side {
    Client,
    Backend,
}

/// A proxy, its backend, and a bad network on one side of it.
struct Bad {
    bench: ProxyBench,
    _faulty: Faulty,
    /// Where clients connect to.
    addr: SocketAddr,
    backend: Backend,
}

fn bad(side: Side, network: Network, manner: Manner) -> Bad {
    let backend = Backend::start("far", manner);
    let settings = without_probes(json!({}));
    match side {
        Side::Client => {
            let bench = ProxyBench::start(&[backend.addr], settings);
            let faulty = Faulty::before(bench.listen, network);
            let addr = faulty.addr;
            Bad {
                bench,
                _faulty: faulty,
                addr,
                backend,
            }
        }
        Side::Backend => {
            let faulty = Faulty::before(backend.addr, network);
            let bench = ProxyBench::start(&[faulty.addr], settings);
            let addr = bench.listen;
            Bad {
                bench,
                _faulty: faulty,
                addr,
                backend,
            }
        }
    }
}

#[test]
fn over_a_slow_a_sliced_and_a_stalling_network_all_bytes_arrive() {
    let networks = [
        Network {
            latency: Duration::from_millis(2),
            ..Network::default()
        },
        Network {
            bytes_a_second: Some(4 << 20),
            ..Network::default()
        },
        Network {
            piece: Some(700),
            ..Network::default()
        },
        Network {
            slow_close: Duration::from_millis(200),
            ..Network::default()
        },
        Network {
            then: Some((5_000, Fault::Stall(Duration::from_millis(300)))),
            ..Network::default()
        },
    ];
    for network in networks {
        for side in [Side::Client, Side::Backend] {
            let bad = bad(side, network, Manner::Duplex);
            for seed in 0..4 {
                let stream = connect(bad.addr).expect("it listens");
                let exchanged = exchange_streams(stream, seed, 100_000);
                exchanged.unwrap_or_else(|failure| panic!("{side:?}, {network:?}: {failure}"));
            }
            bad.bench.proxy.await_no_sessions();
        }
    }
}

#[test]
fn a_reset_and_a_close_of_the_network_reach_both_ends_and_leave_nothing() {
    const PASSED: u64 = 20_000;
    for fault in [
        Fault::Reset,
        Fault::Close,
        Fault::TimeOut(Duration::from_millis(200)),
    ] {
        for side in [Side::Client, Side::Backend] {
            let network = Network {
                then: Some((PASSED, fault)),
                ..Network::default()
            };
            let bad = bad(side, network, Manner::Echo);
            let mut session = Session::open(bad.addr).expect("a session is served");
            session
                .stream
                .write_all(&Pattern::bytes(1, PASSED as usize))
                .expect("sent");
            let mut back = Vec::new();
            let end = session
                .stream
                .read_to_end(&mut back)
                .map_err(|error| error.kind());
            let is_reset = matches!(end, Err(ErrorKind::ConnectionReset));
            let is_end = is_reset || (fault != Fault::Reset && end.is_ok());
            assert!(is_end, "{side:?}, {fault:?}: {end:?}");
            // What came is what was sent, as far as it came.
            assert!(back == Pattern::bytes(1, back.len()), "{side:?}, {fault:?}");
            // A close in order leaves the client's own direction open, which is its to close.
            drop(session);
            bad.bench.proxy.await_no_sessions();
            let ended = until("the backend's end has ended, too", LONG, || {
                bad.backend.ended().first().copied()
            });
            assert!(
                ended.reset || fault != Fault::Reset,
                "{side:?}, {fault:?}: {ended:?}"
            );
        }
    }
}

#[test]
fn a_half_closed_session_that_is_silent_costs_no_time_of_the_processor() {
    const WATCHED: Duration = Duration::from_millis(500);
    let network = Network {
        then: Some((5, Fault::HalfClose)),
        ..Network::default()
    };
    for side in [Side::Client, Side::Backend] {
        let bad = bad(side, network, Manner::Mute);
        let mut stream = connect(bad.addr).expect("it listens");
        stream.write_all(b"12345").expect("sent");
        until("the session is there", LONG, || {
            (bad.bench.proxy.status().totals.counters.sessions_active <= 1
                && bad.backend.accepted() == 1)
                .then_some(())
        });
        let before = bad.bench.proxy.program.cpu_time();
        std::thread::sleep(WATCHED);
        let used = bad.bench.proxy.program.cpu_time() - before;
        assert!(used < WATCHED / 5, "{side:?}: {used:?} of {WATCHED:?}");
        drop(stream);
        bad.bench.proxy.await_no_sessions();
    }
}

#[test]
fn our_own_listener_as_a_backend_is_skipped_and_sessions_are_served_at_once() {
    let backend = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[backend.addr], json!({}));
    let own = SocketAddr::new(LOOPBACK, bench.listen.port());
    let config = proxy_config(bench.listen, &[(backend.addr, 10), (own, 10)]);
    bench.proxy.reload(&config);
    let refusals = bench.proxy.status().running.refusals;
    let places: Vec<&str> = refusals.iter().map(|one| one.place.as_str()).collect();
    assert_eq!(places, ["/backends/1"]);
    let begun = Instant::now();
    bench.open().echo(b"served").expect("as before");
    assert!(begun.elapsed() < LONG / 2, "at once");
}
