//! Invariant 3 at the descriptor limit: accepting pauses instead of spinning, what is open goes on,
//! reload and admin still work, and nobody who waited is lost.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use e2e::sessions::{assert_alive, open_sessions};
use e2e::spread::{self, Transport};
use serde_json::json;
use testkit::client::connect;
use testkit::ports::free_address;
use testkit::process::command_with_descriptors;
use testkit::wait::within;
use testkit::{Backend, Folder, LONG, Manner, Program, Proxy, Session, proxy_config, until};

/// How soon new sessions are served once there are descriptors again.
const RECOVERY: Duration = Duration::from_secs(2);

fn connect_many(listen: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |_| connect(listen).expect("the kernel answers");
    (0..count).map(connect).collect()
}

#[track_caller]
fn await_pause(proxy: &Proxy) {
    until("accepting pauses", LONG, || {
        (proxy.status().limits.accept_pauses > 0).then_some(())
    });
}

/// Watches the proxy's CPU time for a while: a loop that spins would use all of it.
#[track_caller]
fn assert_no_spin(proxy: &Proxy) {
    const WATCHED: Duration = Duration::from_millis(1000);
    let before = proxy.program.cpu_time();
    std::thread::sleep(WATCHED);
    let used = proxy.program.cpu_time() - before;
    assert!(used < WATCHED / 4, "{used:?} of {WATCHED:?}");
}

#[test]
fn with_few_descriptors_clients_wait_and_all_else_goes_on() {
    let echo = Backend::start("echo", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let mut config = proxy_config(listen, &[(echo.addr, 10)]);
    config["max_sessions"] = json!(1000);
    folder.write_proxy_config(&config);
    let mut command = command_with_descriptors("proxy_server", 100);
    command.args(["--root", folder.root_argument(), "-w", "1"]);
    let mut proxy = Proxy::ready(&folder, Program::spawn(command));

    let waiting = connect_many(listen, 100);
    await_pause(&proxy);
    let limits = proxy.status().limits;
    assert!(limits.max_sessions < 50, "two descriptors each: {limits:?}");
    assert_no_spin(&proxy);
    config["backends"][0]["weight"] = json!(11);
    proxy.reload(&config);
    assert_eq!(proxy.backend(echo.addr).weight, 11);
    assert!(proxy.admin.metrics().contains("# TYPE"));
    assert_eq!(Transport::Udp.ask(listen), "echo");
    // Each that ends lets another in.
    for (index, stream) in waiting.into_iter().enumerate() {
        let session = Session::over(stream);
        let session = session.unwrap_or_else(|error| panic!("waiting {index}: {error}"));
        session.finish().expect("it ends in order");
    }
    proxy.await_no_sessions();
}

#[test]
fn when_descriptors_run_out_open_sessions_live_and_new_ones_come_back() {
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let mut open = open_sessions(bench.listen, 4);
    let at_most = bench.proxy.program.open_descriptors() as u64 + 3;
    bench.proxy.program.limit_descriptors(at_most);
    let mut waiting = connect_many(bench.listen, 20);
    let last = waiting.pop().expect("20 of them");
    let patience = Some(Duration::from_millis(500));
    last.set_read_timeout(patience).expect("above zero");
    let error = Session::over(last).expect_err("there is no descriptor for it");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it waits: {error}");
    assert_no_spin(&bench.proxy);
    assert_alive(&mut open);

    bench.proxy.program.limit_descriptors(4096);
    let served = within(RECOVERY, || Session::open(bench.listen).ok());
    let mut served = served.expect("it recovers");
    served.echo(b"served").expect("served to the end");
    assert_alive(&mut open);
    for (index, stream) in waiting.into_iter().enumerate() {
        let session = Session::over(stream);
        session.unwrap_or_else(|error| panic!("waiting {index}: {error}"));
    }
    drop((open, served));
    bench.proxy.await_no_sessions();
}

#[test]
fn descriptors_return_to_where_they_began() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({ "udp_idle_ms": 200 }));
    let listens = [bench.listen, free_address()];
    let settled = |proxy: &Proxy| {
        until("all has ended", LONG, || {
            let counters = proxy.status().totals.counters;
            (counters.sessions_active + counters.flows_active == 0).then_some(())
        });
    };
    let pass_traffic = |listen| {
        for transport in Transport::BOTH {
            spread::of(transport, listen, 40);
        }
        // Served and cut, so that both ends of a session are seen to be let go.
        open_sessions(listen, 10);
    };
    let change = |bench: &mut ProxyBench, listen| {
        let mut config = proxy_config(listen, &[(echo.addr, 10)]);
        config["udp_idle_ms"] = json!(200);
        bench.proxy.reload(&config);
    };
    pass_traffic(listens[0]);
    settled(&bench.proxy);
    let before = bench.proxy.program.open_descriptors();
    for round in 0..10 {
        let listen = listens[(round + 1) % 2];
        change(&mut bench, listen);
        pass_traffic(listen);
    }
    settled(&bench.proxy);
    until("every descriptor is given back", LONG, || {
        let now = bench.proxy.program.open_descriptors();
        (now <= before).then_some(())
    });
}
