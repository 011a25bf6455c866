use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use contract::{
    Algorithm, Backend, BackendAddr, Config, Listener, ListenerSettings, Name, Pool,
    ProcessSettings, Report,
};

use super::SessionState;
use super::action::{Action, Choice, Connect, ConnectFailure, Ends, Readiness};
use super::half::{Break, End};
use super::relay::Side;
use super::run::{BUDGET, Move, Moved, Stopped};
use super::state::Stage;
use super::turn::{Passed, RESET_PATIENCE_MS};
use crate::backend::BackendState;
use crate::held_listeners::HeldListeners;
use crate::placement::Draw;
use crate::plan::{Endpoint, Protocol};
use crate::reason::SessionEnd;
use crate::registry::BackendRegistry;
use crate::route::Routers;
use crate::snapshot::Snapshot;

const ATTEMPTS: u64 = 2;
const CONNECT_MS: u64 = 50;
const IDLE_MS: u64 = 1_000;
const HALF_CLOSE_MS: u64 = 300;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the sockets say.
#[derive(Default)]
struct Said {
    to_client: usize,
    to_backend: usize,
    has_client_gone: bool,
}

impl Ends for Said {
    fn why_broken(&self, _: Side) -> Break {
        Break::Lost
    }

    fn unacknowledged(&self, side: Side) -> usize {
        match side {
            Side::Client => self.to_client,
            Side::Backend => self.to_backend,
        }
    }

    fn has_client_gone(&self) -> bool {
        self.has_client_gone
    }
}

/// A session of a listener, and the backends behind that; the time is an argument of each call.
struct World {
    registry: BackendRegistry,
    snapshot: Snapshot,
    held: HeldListeners,
    routers: Routers,
    state: SessionState,
}

fn config(pool: &str, backends: u16) -> Config {
    let backend = |port| Backend {
        addr: BackendAddr::new([10, 0, 0, 1].into(), port),
        weight: 1,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    let name = Name::new(pool).expect("a name");
    let backends = (1..=backends).map(backend).collect();
    let mut pool = Pool::new(name, Algorithm::RoundRobin, backends);
    pool.settings.connect.attempts = ATTEMPTS;
    pool.settings.connect.timeout_ms = CONNECT_MS;
    let settings = ListenerSettings {
        idle_timeout_ms: IDLE_MS,
        half_close_timeout_ms: HALF_CLOSE_MS,
        ..ListenerSettings::default()
    };
    Config {
        generation: None,
        updated_at: None,
        listeners: vec![Listener {
            name: Name::default(),
            hosts: vec![[127, 0, 0, 1].into()],
            port: 80,
            enabled: true,
            tcp: true,
            udp: false,
            routes: contract::Routes::to(0),
            settings,
        }],
        pools: vec![pool],
        process: ProcessSettings::default(),
    }
}

impl World {
    /// Accepted at 0.
    fn new(backends: u16) -> World {
        let config = config("a", backends);
        let mut registry = BackendRegistry::new(1);
        let snapshot = Snapshot::build(None, &config, &mut registry, 10, 10, 0);
        let listener = &config.listeners[0];
        let endpoint = Endpoint {
            addr: listener.addrs().next().expect("one"),
            protocol: Protocol::Tcp,
        };
        let named = snapshot.listener_at(endpoint, None);
        let named = named.expect("it is configured");
        let mut held = HeldListeners::default();
        held.update(&snapshot, 0, std::iter::empty());
        let mut routers = Routers::default();
        routers.update(&snapshot, &held);
        let mut state = SessionState::new(named, &listener.settings, 0);
        let next = state.begin(&mut routers, CLIENT, 0);
        assert!(matches!(next, Action::Choose { .. }));
        World {
            registry,
            snapshot,
            held,
            routers,
            state,
        }
    }

    fn reload(&mut self, config: &Config) {
        let previous = Some(&self.snapshot);
        self.snapshot = Snapshot::build(previous, config, &mut self.registry, 10, 10, 0);
        self.held.update(&self.snapshot, 0, std::iter::empty());
        self.routers.update(&self.snapshot, &self.held);
    }

    fn choose(&mut self) -> Choice {
        let mut draw = Draw {
            random: &mut fastrand::Rng::with_seed(1),
            routers: &mut self.routers,
        };
        self.state.choose(&self.snapshot, &mut draw, CLIENT, 0)
    }

    /// Chooses a backend, and begins to connect to it at `now_ms`.
    fn connect(&mut self, now_ms: u64) -> Arc<BackendState> {
        let Choice::Try {
            placement,
            timeout_ms,
            ..
        } = self.choose()
        else {
            panic!("there are backends left");
        };
        let next = self
            .state
            .connecting(&placement, timeout_ms, now_ms * 1_000);
        let at_ms = now_ms + CONNECT_MS;
        assert_eq!(next, Action::Arm { at_ms });
        placement.backend
    }

    /// A session that relays since 10 ms.
    fn relaying() -> World {
        let mut world = World::new(1);
        world.connect(0);
        let connected = Action::Connected {
            after_us: 10_000,
            at_ms: 10 + IDLE_MS,
        };
        assert_eq!(world.state.connect_ended(Connect::Made, 10_000), connected);
        world
    }

    /// A turn of one pass that moved this, at `now_ms`.
    fn turn(&mut self, up: Moved, down: Moved, said: &Said, now_ms: u64) -> (Passed, Action) {
        let mut turn = self.state.turn();
        let passed = self.state.passed(&mut turn, up, down, now_ms * 1_000);
        (passed, self.state.settle(&turn, said, now_ms))
    }

    /// The same, of which nothing follows.
    fn pass(&mut self, up: Moved, down: Moved, now_ms: u64) -> Passed {
        let (passed, next) = self.turn(up, down, &Said::default(), now_ms);
        assert_eq!(next, Action::Wait);
        passed
    }

    /// A turn whose first pass stopped for this; then there is nothing to read.
    fn stop(&mut self, up: Stopped, down: Stopped, said: &Said, now_ms: u64) -> Action {
        let mut turn = self.state.turn();
        let mut moved = [nothing(up), nothing(down)];
        while turn.goes_on() {
            let [up, down] = moved;
            self.state.passed(&mut turn, up, down, now_ms * 1_000);
            if turn.goes_on() {
                moved = Side::BOTH.map(|side| self.run_dry(side));
            }
        }
        self.state.settle(&turn, said, now_ms)
    }

    fn run_dry(&mut self, side: Side) -> Moved {
        let mut run = self.state.run(side);
        while let Some(next) = run.next_move() {
            if matches!(next, Move::Copy { .. }) {
                run.source_blocked();
            }
        }
        run.done()
    }

    fn settle(&mut self, said: &Said, now_ms: u64) -> Action {
        let waits = Stopped::Waiting;
        self.turn(nothing(waits), nothing(waits), said, now_ms).1
    }
}

fn nothing(stopped: Stopped) -> Moved {
    Moved {
        read: 0,
        written: 0,
        stopped,
    }
}

fn bytes(read: u64) -> Moved {
    Moved {
        read,
        written: read,
        stopped: Stopped::Waiting,
    }
}

const WAITS: Stopped = Stopped::Waiting;
const EOF: Stopped = Stopped::SourceEnded(End::Eof);
const RESET: Stopped = Stopped::SourceEnded(End::Broken(Break::Reset));

#[test]
fn the_end_without_a_backend_says_what_the_last_one_did() {
    use ConnectFailure::{NoPort, Refused, TimedOut};
    for (failures, right) in [
        (&[][..], SessionEnd::NoBackend),
        (&[Refused], SessionEnd::ConnectRefused),
        (&[TimedOut], SessionEnd::ConnectTimeout),
        (&[Refused, TimedOut], SessionEnd::ConnectTimeout),
        (&[TimedOut, Refused], SessionEnd::ConnectRefused),
        (&[NoPort], SessionEnd::InternalError),
        (&[Refused, NoPort], SessionEnd::ConnectRefused),
        (&[NoPort, Refused], SessionEnd::ConnectRefused),
    ] {
        let mut world = World::new(failures.len() as u16);
        for failure in failures {
            let Choice::Try { placement, .. } = world.choose() else {
                panic!("{failures:?}: one is left");
            };
            let backend = placement.backend.addr;
            world.state.could_not_connect(backend, *failure);
        }
        assert!(
            matches!(world.choose(), Choice::End(end) if end == right),
            "{failures:?}"
        );
    }
}

#[test]
fn attempts_are_bounded_and_none_is_tried_twice() {
    let mut world = World::new(5);
    let mut tried = Vec::new();
    for attempt in 0..ATTEMPTS {
        let retries = matches!(world.choose(), Choice::Try { is_retry, .. } if is_retry);
        assert_eq!(retries, attempt > 0);
        // The same choice, since that one came to nothing.
        world.state.attempts = attempt as u8;
        let backend = world.connect(0).addr;
        assert!(!tried.contains(&backend));
        tried.push(backend);
        let slot = world.state.connect_failed(ConnectFailure::Refused);
        assert_eq!(slot.map(|slot| slot.backend().addr), Some(backend));
    }
    let refused = SessionEnd::ConnectRefused;
    assert!(matches!(world.choose(), Choice::End(end) if end == refused));
    let ended = world.state.end(refused).expect("not ended yet");
    assert_eq!((ended.backend, ended.is_unanswered), (tried.pop(), false));
}

#[test]
fn a_connect_is_given_up_at_its_deadline_and_not_before() {
    let mut world = World::new(1);
    let backend = world.connect(7);
    let (said, at_ms) = (Said::default(), 7 + CONNECT_MS);
    assert_eq!(world.state.timer(&said, at_ms - 1), Action::Arm { at_ms });
    let given_up = Action::GiveUpConnect(ConnectFailure::TimedOut);
    assert_eq!(world.state.timer(&said, at_ms), given_up);
    assert_eq!(backend.sessions(), 1);
    drop(world.state.connect_failed(ConnectFailure::TimedOut));
    assert_eq!(backend.sessions(), 0);
}

#[test]
fn events_before_the_connect_is_over_are_remembered() {
    let mut world = World::new(1);
    world.connect(0);
    let closed = Readiness {
        is_readable: true,
        is_read_closed: true,
        ..Readiness::default()
    };
    assert_eq!(world.state.event(Side::Client, closed), Action::Wait);
    let failed = Readiness {
        has_failed: true,
        ..Readiness::default()
    };
    let asks = |is_broken| Action::AskConnect { is_broken };
    assert_eq!(world.state.event(Side::Backend, closed), asks(false));
    assert_eq!(world.state.event(Side::Backend, failed), asks(true));
    let gone = Action::Reset(SessionEnd::ClientReset);
    assert_eq!(world.state.event(Side::Client, failed), gone);
}

#[test]
fn a_connect_that_broke_since_it_was_made_is_no_refusal() {
    let mut world = World::new(1);
    world.connect(0);
    let broken = Connect::Broken(Break::Reset);
    let next = world.state.connect_ended(broken, 1_000);
    assert!(matches!(next, Action::Connected { .. }), "{next:?}");
    // What it sent before is read first; the error was told, so reading ends like a close.
    let next = world.stop(WAITS, EOF, &Said::default(), 1);
    assert_eq!(next, Action::Reset(SessionEnd::BackendReset));

    let mut world = World::new(1);
    world.connect(0);
    let refused = Action::GiveUpConnect(ConnectFailure::Refused);
    assert_eq!(world.state.connect_ended(Connect::Refused, 0), refused);
}

#[test]
fn both_closes_end_it_in_order_by_whoever_came_first() {
    let (backend, client) = (SessionEnd::BackendClosed, SessionEnd::ClientClosed);
    for (first, second, right) in [
        ((WAITS, EOF), (EOF, WAITS), backend),
        ((EOF, WAITS), (WAITS, EOF), client),
    ] {
        let mut world = World::relaying();
        let said = Said::default();
        let _ = world.stop(first.0, first.1, &said, 20);
        let next = world.stop(second.0, second.1, &said, 30);
        assert_eq!(next, Action::Close(right));
    }
    let mut world = World::relaying();
    world.pass(bytes(9), nothing(WAITS), 20);
    let next = world.stop(EOF, EOF, &Said::default(), 30);
    assert_eq!(next, Action::Close(SessionEnd::ClientClosed), "one of both");
    let mut world = World::relaying();
    world.pass(bytes(9), nothing(WAITS), 20);
    let _ = world.stop(WAITS, EOF, &Said::default(), 30);
    let next = world.stop(EOF, WAITS, &Said::default(), 30);
    assert_eq!(next, Action::Close(SessionEnd::BackendClosedUnanswered));
}

#[test]
fn a_reset_is_forwarded_once_all_before_is_acknowledged() {
    let mut world = World::relaying();
    let mut said = Said {
        to_client: 100,
        ..Said::default()
    };
    let mut now_ms = 20;
    let mut pauses = Vec::new();
    let mut next = world.stop(WAITS, RESET, &said, now_ms);
    for left in [100, 100, 60, 60, 60, 20, 20] {
        let Action::Arm { at_ms } = next else {
            panic!("{next:?} with {left} under way");
        };
        pauses.push(at_ms - now_ms);
        now_ms = at_ms;
        said.to_client = left;
        assert_eq!(world.state.timer(&said, now_ms), Action::Move);
        next = world.settle(&said, now_ms);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 160]);
    said.to_client = 0;
    let right = Action::Reset(SessionEnd::BackendReset);
    assert_eq!(world.settle(&said, now_ms + 1), right);
}

#[test]
fn who_acknowledges_nothing_is_reset_when_patience_is_over() {
    let mut world = World::relaying();
    let mut said = Said {
        to_client: 100,
        ..Said::default()
    };
    assert!(matches!(
        world.stop(WAITS, RESET, &said, 20),
        Action::Arm { .. }
    ));
    // Patience begins again with each byte that is acknowledged.
    said.to_client = 99;
    let shrunk_ms = 20 + RESET_PATIENCE_MS - 1;
    assert!(matches!(world.settle(&said, shrunk_ms), Action::Arm { .. }));
    let over_ms = shrunk_ms + RESET_PATIENCE_MS;
    let still = world.settle(&said, over_ms - 1);
    assert!(matches!(still, Action::Arm { .. }), "{still:?}");
    let right = Action::Reset(SessionEnd::BackendReset);
    assert_eq!(world.settle(&said, over_ms), right);
}

#[test]
fn a_break_after_an_end_is_one_only_where_nobody_waits_for_more() {
    use SessionEnd::{BackendReset, BackendResetAfterEnd, ClientReset, ClientResetAfterEnd};
    let gone = Said {
        has_client_gone: true,
        ..Said::default()
    };
    let here = Said::default();
    let by_backend = (WAITS, RESET);
    for (sends, closes, breaks, said, right) in [
        (0, None, by_backend, &here, BackendReset),
        (
            0,
            Some((EOF, WAITS)),
            by_backend,
            &here,
            BackendResetAfterEnd,
        ),
        // A client that has closed may still wait for its answer.
        (9, Some((EOF, WAITS)), by_backend, &here, BackendReset),
        (
            9,
            Some((EOF, WAITS)),
            by_backend,
            &gone,
            BackendResetAfterEnd,
        ),
        (9, None, (RESET, WAITS), &here, ClientReset),
        (
            9,
            Some((WAITS, EOF)),
            (RESET, WAITS),
            &here,
            ClientResetAfterEnd,
        ),
    ] {
        let mut world = World::relaying();
        world.pass(bytes(sends), nothing(WAITS), 20);
        if let Some((up, down)) = closes {
            let _ = world.stop(up, down, &here, 30);
        }
        let next = world.stop(breaks.0, breaks.1, said, 40);
        assert_eq!(next, Action::Reset(right), "{sends} {closes:?}");
    }
}

#[test]
fn a_session_is_silent_for_as_long_as_it_may_be_and_no_longer() {
    let mut world = World::relaying();
    let said = Said::default();
    world.pass(bytes(9), nothing(WAITS), 500);
    let at_ms = 500 + IDLE_MS;
    // The timer stands where the connect left it.
    assert_eq!(
        world.state.timer(&said, 10 + IDLE_MS),
        Action::Arm { at_ms }
    );
    let over = Action::Reset(SessionEnd::IdleTimeout);
    assert_eq!(world.state.timer(&said, at_ms), over);
}

#[test]
fn a_half_close_has_a_time_of_its_own() {
    let mut world = World::relaying();
    let said = Said::default();
    let at_ms = 20 + HALF_CLOSE_MS;
    assert_eq!(world.stop(EOF, WAITS, &said, 20), Action::Arm { at_ms });
    assert_eq!(world.settle(&said, 25), Action::Wait, "armed once");
    world.pass(nothing(WAITS), bytes(9), 30);
    let later = Action::Arm { at_ms: at_ms + 10 };
    assert_eq!(world.state.timer(&said, at_ms), later);
    let over = Action::Reset(SessionEnd::HalfCloseTimeout);
    assert_eq!(world.state.timer(&said, at_ms + 10), over);
}

#[test]
fn who_stalls_is_found_by_two_looks_that_see_the_same() {
    for (to_client, to_backend, right) in [
        (7, 0, SessionEnd::ClientStalled),
        (0, 7, SessionEnd::BackendStalled),
        (7, 7, SessionEnd::ClientStalled),
    ] {
        let mut world = World::relaying();
        let mut said = Said {
            to_client: to_client + 1,
            to_backend,
            ..Said::default()
        };
        let mut now_ms = 10 + IDLE_MS;
        for left in [to_client + 1, to_client] {
            // It acknowledges a little meanwhile, of which no event tells.
            said.to_client = left;
            let at_ms = now_ms + IDLE_MS;
            let looks_again = Action::Arm { at_ms };
            let next = world.state.timer(&said, now_ms);
            assert_eq!(next, looks_again, "{right:?}");
            now_ms = at_ms;
        }
        assert_eq!(world.state.timer(&said, now_ms), Action::Reset(right));
    }
}

#[test]
fn a_look_before_the_last_byte_says_nothing() {
    let mut world = World::relaying();
    let said = Said {
        to_client: 7,
        ..Said::default()
    };
    let first_ms = 10 + IDLE_MS;
    assert!(matches!(
        world.state.timer(&said, first_ms),
        Action::Arm { .. }
    ));
    world.pass(bytes(1), nothing(WAITS), first_ms + 5);
    let second_ms = first_ms + 5 + IDLE_MS;
    let next = world.state.timer(&said, second_ms);
    let at_ms = second_ms + IDLE_MS;
    assert_eq!(next, Action::Arm { at_ms });
}

#[test]
fn the_first_answer_is_told_once_with_the_time_of_the_question() {
    let mut world = World::relaying();
    let told = |passed: Passed| (passed.is_first_answer, passed.asked_us);
    let passed = world.pass(bytes(9), nothing(WAITS), 20);
    assert_eq!(told(passed), (false, None));
    world.pass(bytes(9), nothing(WAITS), 25);
    let passed = world.pass(nothing(WAITS), bytes(1), 30);
    assert_eq!(told(passed), (true, Some(20_000)), "the first byte of all");
    let passed = world.pass(nothing(WAITS), bytes(1), 35);
    assert_eq!(told(passed), (false, None));
    assert_eq!(world.state.bytes(), (18, 2));
    // A backend that speaks first answers nothing.
    let mut world = World::relaying();
    let passed = world.pass(nothing(WAITS), bytes(1), 20);
    assert_eq!(told(passed), (true, None));
}

#[test]
fn who_uses_up_its_budget_is_queued_once_until_its_next_turn() {
    let mut world = World::relaying();
    let much = Moved {
        read: BUDGET,
        written: BUDGET,
        stopped: Stopped::Budget,
    };
    let first = world.pass(much, nothing(WAITS), 20);
    let second = world.pass(nothing(WAITS), much, 20);
    assert_eq!((first.is_unfinished, second.is_unfinished), (true, false));
    assert_eq!(world.state.resume(), Action::Move);
    assert!(world.pass(much, nothing(WAITS), 20).is_unfinished);
    assert!(world.state.end(SessionEnd::Shutdown).is_some());
    assert_eq!(world.state.resume(), Action::Wait);
}

#[test]
fn a_turn_makes_another_pass_only_after_an_end_and_four_at_most() {
    let mut world = World::relaying();
    let mut turn = world.state.turn();
    world.state.passed(&mut turn, bytes(9), bytes(9), 0);
    assert!(!turn.goes_on());
    let mut turn = world.state.turn();
    for pass in 1..=4 {
        assert!(turn.goes_on(), "pass {pass}");
        world
            .state
            .passed(&mut turn, nothing(EOF), nothing(WAITS), 0);
    }
    assert!(!turn.goes_on());
}

#[test]
fn arrivals_are_muted_only_while_the_other_side_takes_nothing() {
    let mut world = World::relaying();
    assert!(!world.state.is_to_be_muted(Side::Client));
    let mut run = world.state.run(Side::Client);
    run.read(100, 200);
    run.sink_blocked();
    assert!(world.state.is_to_be_muted(Side::Client));
    assert!(!world.state.is_to_be_muted(Side::Backend));
    world.state.set_muted(Side::Client, true);
    assert!(!world.state.is_to_be_muted(Side::Client), "it is");
    assert!(!world.state.is_to_be_unmuted(Side::Client));
    let room = Readiness {
        is_writable: true,
        ..Readiness::default()
    };
    assert_eq!(world.state.event(Side::Backend, room), Action::Move);
    assert!(world.state.is_to_be_unmuted(Side::Client));
    world.state.set_muted(Side::Client, false);
    assert!(!world.state.is_any_muted());
}

#[test]
fn a_session_ends_once_and_gives_its_place_back() {
    let mut world = World::relaying();
    let backend = world.registry.all().next().cloned().expect("one");
    assert_eq!(backend.sessions(), 1);
    let ended = world
        .state
        .end(SessionEnd::Shutdown)
        .expect("the first end");
    assert_eq!(ended.backend, Some(backend.addr));
    drop(ended);
    assert_eq!(backend.sessions(), 0);
    assert!(world.state.end(SessionEnd::ClientReset).is_none());
    assert_eq!(world.state.must_end_at_ms(&world.snapshot, 0), None);
}

#[test]
fn a_backend_fails_who_asked_and_got_nothing() {
    use SessionEnd::{BackendClosed, BackendLost, BackendReset, ClientClosed, IdleTimeout};
    for (up, down, end, right) in [
        (0, 0, BackendReset, true),
        (9, 0, BackendLost, true),
        (9, 0, BackendClosed, true),
        (0, 0, BackendClosed, false),
        (9, 1, BackendReset, false),
        (9, 0, ClientClosed, false),
        (9, 0, IdleTimeout, false),
    ] {
        let mut world = World::relaying();
        world.pass(bytes(up), bytes(down), 20);
        let ended = world.state.end(end).expect("the first end");
        assert_eq!(ended.is_unanswered, right, "{up} {down} {end:?}");
    }
}

#[test]
fn a_session_without_a_backend_follows_its_listener_to_another_pool() {
    let mut world = World::new(1);
    world.connect(0);
    drop(world.state.connect_failed(ConnectFailure::Refused));
    world.reload(&config("b", 2));
    let backend = world.connect(0);
    assert_eq!(backend.pool, world.snapshot.pools[0].id);
    assert_eq!(world.state.pool(), backend.pool);
}

#[test]
fn a_session_that_tls_led_to_a_pool_follows_to_no_other() {
    let mut world = World::new(1);
    world.state.stage = Stage::Choosing {
        failure: None,
        is_by_tls: true,
    };
    world.connect(0);
    drop(world.state.connect_failed(ConnectFailure::Refused));
    world.reload(&config("b", 2));
    let refused = SessionEnd::ConnectRefused;
    assert!(matches!(world.choose(), Choice::End(end) if end == refused));
}
