//! Sessions of every shape, checked byte for byte at both ends (invariants 2 and 4): random streams
//! both ways in random pieces, half-closed, stalled and reset, short ones and such as are spliced for
//! a part of their way. A failure names the seed that replays it.

use e2e::proxy_bench::ProxyBench;
use serde_json::json;
use testkit::storm::play_clients;
use testkit::{Backend, LONG, Manner, until};

/// Plays the sessions of `seeds`, from so many clients at the same time.
#[track_caller]
fn play(bench: &ProxyBench, seeds: std::ops::Range<u64>, clients: usize) {
    let failures = play_clients(bench.listen, seeds, clients);
    assert!(
        failures.is_empty(),
        "{} failed: {failures:#?}",
        failures.len()
    );
}

/// Every session has ended, for a reason that one of its ends gave, and left nothing behind.
#[track_caller]
fn assert_all_ended_right(bench: &ProxyBench, backends: &[Backend], sessions: u64) {
    bench.proxy.await_no_sessions();
    let ended = bench.proxy.status().totals.sessions_ended;
    let given = [
        "backend_closed",
        "backend_closed_unanswered",
        "backend_reset",
        "backend_reset_after_end",
        "client_closed",
        "client_reset",
        "client_reset_after_end",
    ];
    let of_them = given.iter().filter_map(|reason| ended.get(*reason));
    assert_eq!(of_them.sum::<u64>(), sessions, "{ended:?}");
    for backend in backends {
        let ends = until("the backends' ends have ended too", LONG, || {
            (backend.open() == 0).then(|| backend.ended())
        });
        let wrong = ends.iter().filter(|ended| !ended.intact).count();
        assert_eq!(wrong, 0, "at {}, of {}", backend.name(), ends.len());
    }
}

#[test]
fn twenty_thousand_sessions_arrive_as_they_were_sent() {
    const SESSIONS: u64 = 20_000;
    let backends = ["a", "b"].map(|name| Backend::start(name, Manner::Storm));
    let addrs = backends.each_ref().map(|backend| backend.addr);
    let bench = ProxyBench::start(&addrs, json!({ "session_log": "off" }));
    play(&bench, 0..200, 8);
    bench.proxy.await_no_sessions();
    let descriptors = bench.proxy.program.open_descriptors();
    play(&bench, 200..SESSIONS, 8);
    assert_all_ended_right(&bench, &backends, SESSIONS);
    // Pipes are kept for the next stream, so there may be some more or less of them.
    const PIPES: usize = 2 * 64;
    let left = bench.proxy.program.open_descriptors();
    assert!(
        left <= descriptors + PIPES,
        "{descriptors} before, {left} after"
    );
}

#[test]
fn sessions_one_at_a_time_arrive_as_they_were_sent() {
    const FIRST: u64 = 1 << 32;
    const SESSIONS: u64 = 2_000;
    let backends = [Backend::start("a", Manner::Storm)];
    let bench = ProxyBench::start(&[backends[0].addr], json!({ "session_log": "off" }));
    play(&bench, FIRST..FIRST + SESSIONS, 1);
    assert_all_ended_right(&bench, &backends, SESSIONS);
}
