//! UDP flows of a backend that a reload removed or disabled: one that still answers keeps them, as it
//! keeps its sessions; one that does not, never swallows one. And a full table: who was answered stays.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use e2e::datagrams::{SlowEcho, flood};
use e2e::proxy_bench::{ProxyBench, configuration};
use serde_json::{Value, json};
use testkit::protocol::WHO;
use testkit::wait::within;
use testkit::{Backend, LONG, Manner, UdpClient, until};

/// How long a datagram may stay unanswered by a backend that is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// A proxy before `leaving`, whom `leave` takes away, with `staying` in its place.
struct Bench {
    bench: ProxyBench,
    settings: Value,
    leaving: Backend,
    staying: Backend,
}

impl Bench {
    fn start(settings: Value) -> Bench {
        let [leaving, staying] =
            ["leaving", "staying"].map(|name| Backend::start(name, Manner::Echo));
        let bench = ProxyBench::start(&[leaving.addr], settings.clone());
        Bench {
            bench,
            settings,
            leaving,
            staying,
        }
    }

    fn client(&self) -> UdpClient {
        let client = UdpClient::new(self.bench.listen);
        let timeout = Some(Duration::from_millis(100));
        client.socket.set_read_timeout(timeout).expect("above zero");
        client
    }

    fn remove(&mut self) {
        let backends = [self.staying.addr];
        let config = configuration(self.bench.listen, &backends, self.settings.clone());
        self.bench.proxy.reload(&config);
    }

    fn disable(&mut self) {
        let backends = [self.leaving.addr, self.staying.addr];
        let mut config = configuration(self.bench.listen, &backends, self.settings.clone());
        config["backends"][0]["enabled"] = json!(false);
        self.bench.proxy.reload(&config);
    }

    /// Asks for as long as it takes until `staying` answers; returns how long that was.
    fn await_move(&self, client: &UdpClient) -> Duration {
        let begun = Instant::now();
        until("the flow moves", LONG, || {
            (client.who().ok()?.backend == "staying").then_some(())
        });
        begun.elapsed()
    }
}

#[test]
fn a_flow_goes_on_while_its_removed_or_disabled_backend_answers_and_moves_when_it_does_not() {
    for (what, leave) in [
        ("removed", Bench::remove as fn(&mut Bench)),
        ("disabled", Bench::disable),
    ] {
        let mut bench = Bench::start(json!({}));
        let client = bench.client();
        let before = client.who().expect("a flow is served");
        leave(&mut bench);
        for _ in 0..5 {
            assert_eq!(client.who().expect("it answers"), before, "{what}");
        }
        assert_eq!(bench.client().who().expect("served").backend, "staying");
        bench.leaving.silence_udp(true);
        let took = bench.await_move(&client);
        assert!(took >= PATIENCE, "{what}: {took:?}");
        assert_eq!(bench.bench.flows_ended("backend_gone"), 1, "{what}");
    }
}

/// As of a syslog server, which says nothing: there is no sign that it is still there.
#[test]
fn a_flow_that_was_never_answered_moves_at_once() {
    let mut bench = Bench::start(json!({}));
    bench.leaving.silence_udp(true);
    let client = bench.client();
    client.socket.send(WHO).expect("sent");
    until("it has arrived", LONG, || {
        (bench.leaving.datagrams() == 1).then_some(())
    });
    bench.remove();
    client.who().expect("the other answers, the first time");
    assert_eq!(bench.bench.flows_ended("backend_gone"), 1);
}

#[test]
fn icmp_moves_a_flow_of_a_removed_backend_at_once() {
    let mut bench = Bench::start(json!({}));
    let client = bench.client();
    client.who().expect("a flow is served");
    bench.remove();
    let Bench {
        bench,
        leaving,
        staying,
        ..
    } = bench;
    drop(leaving);
    // The datagram that meets the closed port is lost with it.
    let first = client.who().or_else(|_| client.who());
    let first = first.or_else(|_| client.who()).expect("served again");
    assert_eq!(first.backend, staying.name());
    assert_eq!(bench.flows_ended("refused"), 1);
}

/// Even where the client says nothing more and only the backend sends.
#[test]
fn a_flow_of_a_gone_backend_ends_at_the_time_out() {
    let mut bench = Bench::start(json!({ "backend_gone_timeout_ms": 800 }));
    let client = bench.client();
    let upstream = client.who().expect("a flow is served").upstream;
    bench.disable();
    let begun = Instant::now();
    assert_eq!(client.who().expect("it answers").backend, "leaving");
    let ended = || (bench.bench.flows_ended("backend_gone") == 1).then_some(());
    until("it ends", LONG, || {
        bench.leaving.send_datagram(b"token", upstream);
        ended()
    });
    assert!(begun.elapsed() >= Duration::from_millis(700), "too soon");
    until("the next datagram begins another", LONG, || {
        // The tokens so far may wait before the answer.
        (client.who().ok()?.backend == "staying").then_some(())
    });
}

/// Of a service that never answers (syslog), it is no failure; of one that does, it is its backend's.
#[test]
fn a_flow_that_was_never_answered_is_a_failure_once_its_pool_has_answered() {
    let backends = [
        Backend::start("mute", Manner::Echo),
        Backend::start("other", Manner::Echo),
    ];
    backends
        .iter()
        .for_each(|backend| backend.silence_udp(true));
    let [mute, other] = backends.each_ref().map(|backend| backend.addr);
    let mut bench = ProxyBench::start(&[mute], json!({ "udp_idle_ms": 200 }));
    let ask = |bench: &ProxyBench| {
        let client = UdpClient::new(bench.listen);
        client.socket.send(b"anybody?").expect("sent");
    };
    let reload = |bench: &mut ProxyBench, backend| {
        let settings = json!({ "udp_idle_ms": 200 });
        bench
            .proxy
            .reload(&configuration(bench.listen, &[backend], settings));
    };
    ask(&bench);
    until("it ends", LONG, || {
        (bench.flows_ended("one_way") == 1).then_some(())
    });
    assert!(bench.proxy.backend(mute).flows_failed.is_empty());
    // Another backend of its pool answers, and is gone by then.
    backends[1].silence_udp(false);
    reload(&mut bench, other);
    UdpClient::new(bench.listen).who().expect("answered");
    reload(&mut bench, mute);
    ask(&bench);
    until("it ends", LONG, || {
        (bench.flows_ended("unanswered") == 1).then_some(())
    });
    let failed = bench.proxy.backend(mute).flows_failed;
    assert_eq!(failed.get("unanswered"), Some(&1), "{failed:?}");
    let metrics = bench.proxy.admin.metrics();
    for line in [
        "reason=\"one_way\"} 1".to_owned(),
        "reason=\"unanswered\"} 1".to_owned(),
        format!("backend=\"{mute}\",reason=\"unanswered\"}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

/// As nginx counts them.
#[test]
fn each_of_twenty_datagrams_at_once_gets_its_one_answer() {
    const AT_ONCE: usize = 20;
    let backend = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[backend.addr], json!({ "udp_responses": 1 }));
    let client = UdpClient::new(bench.listen);
    for round in 1..=5 {
        for _ in 0..AT_ONCE {
            client.socket.send(b"request").expect("loopback takes it");
        }
        for number in 0..AT_ONCE {
            let answer = client.receive();
            answer.unwrap_or_else(|error| panic!("round {round}, answer {number}: {error}"));
        }
        until("nothing is awaited any more", LONG, || {
            (bench.proxy.status().totals.counters.flows_active == 0).then_some(())
        });
    }
    let ended = bench.flows_ended("answered");
    assert_eq!(
        ended,
        bench.proxy.status().totals.counters.flows_total,
        "no other way"
    );
}

#[test]
fn a_flood_of_new_sources_takes_no_answer_from_flows_that_were_answered_before() {
    const CLIENTS: usize = 300;
    const LEAST: usize = 295;
    const A_SECOND: u32 = 6_000;
    const ROUNDS: usize = 3;
    let backend = SlowEcho::start(Duration::from_millis(400));
    let bench = ProxyBench::start(&[backend.addr], json!({ "max_flows": 2_440 }));
    let clients: Vec<_> = (0..CLIENTS).map(|_| UdpClient::new(bench.listen)).collect();
    for client in &clients {
        let timeout = Some(Duration::from_secs(1));
        client.socket.set_read_timeout(timeout).expect("above zero");
    }
    let before = upstreams(&clients);
    let evicted = || bench.flows_ended("evicted");
    let is_over = AtomicBool::new(false);
    let rounds: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| flood(bench.listen, A_SECOND, &is_over));
        // The table is full, and turns over.
        let is_full = within(LONG, || (evicted() > 2_440).then_some(()));
        let round = |_| {
            let before_it = evicted();
            let now = upstreams(&clients);
            let same = before.iter().zip(&now).filter(|(one, two)| one == two);
            (same.count(), evicted() - before_it)
        };
        let rounds = is_full.map(|()| (0..ROUNDS).map(round).collect());
        is_over.store(true, Relaxed);
        rounds.expect("the table is full, and turns over")
    });
    for (same, evicted) in rounds {
        assert!(
            same >= LEAST,
            "{same} of {CLIENTS} were answered in their old flow"
        );
        assert!(evicted > 0, "no flood");
    }
}

/// Where the backend sees each client come from, which changes with its flow. Asked again where an
/// answer is missing: beside a flood, any queue may be full for a moment.
fn upstreams(clients: &[UdpClient]) -> Vec<Vec<u8>> {
    let ask = |client: &UdpClient| client.socket.send(b"request").expect("loopback takes it");
    for some in clients.chunks(10) {
        some.iter().for_each(|client| {
            ask(client);
        });
        // Not all at once, which is more than a backend's queue may take.
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = |client: &UdpClient| {
        within(LONG, || {
            client.receive().ok().or_else(|| {
                ask(client);
                None
            })
        })
    };
    let answers = clients.iter().map(answer);
    answers.map(Option::unwrap_or_default).collect()
}
