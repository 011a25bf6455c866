//! Which verdict follows from what is seen, when it changes, and how it reads.

use std::collections::{BTreeMap, BTreeSet};

use contract::status::{
    AdminState, HealthStatus, ListenerStatus, OperationalState, PoolStatus, Status,
};
use contract::{Backend, Name, Refusal, RefusalCode};
use serde_json::{Value, json};

use super::judge::{Config, MIN_FAILED, Process, RefusedPart};
use super::keep::{Look, STUCK_MS, Verdicts};
use super::picture::Picture;
use crate::base::tests::{key, key_in};
use crate::clock::Now;
use crate::merge::{Beneath, Place, Row};
use crate::registry::{Override, Registered, Warming};
use crate::standing::{Protocol, Seen};

const PID: u32 = 27_120;
const BACKENDS: u8 = 3;

/// Why a backend takes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cause {
    Disabled,
    Drained,
    Weight0,
    Down,
    Expired,
}

const CAUSES: [Cause; 5] = [
    Cause::Disabled,
    Cause::Drained,
    Cause::Weight0,
    Cause::Down,
    Cause::Expired,
];

/// The pools that listeners lead to.
fn led() -> BTreeSet<Name> {
    let names = ["default", "chat"].map(Name::new);
    names.into_iter().flatten().collect()
}

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        listened_ms: ms,
        unix_ms: 1_000_000 + ms,
    }
}

fn good_row(last: u8) -> Row {
    let backend = json!({ "ip": format!("10.0.0.{last}"), "port": 9001, "weight": 10 });
    let config = json!({
        "listen": { "host": "127.0.0.1", "port": 10080 }, "algorithm": "round_robin",
        "backends": [backend],
    });
    let local = contract::LocalAddresses(Vec::new());
    let checked = contract::check(config.to_string().as_bytes(), &local).expect("it is good");
    let backend: Backend = checked.config.pools[0].backends[0].clone();
    Row {
        key: key(last),
        beneath: Beneath {
            weight: backend.weight,
            enabled: backend.enabled,
        },
        backend,
        is_static: false,
        discovered_by: vec![contract::Name::new("k8s").expect("a name")],
        place: Place::Led,
        registered: None,
        r#override: None,
    }
}

fn bad_row(last: u8, cause: Cause) -> Row {
    let mut row = good_row(last);
    match cause {
        Cause::Disabled => row.backend.enabled = false,
        Cause::Weight0 => row.backend.weight = 0,
        Cause::Drained => {
            row.r#override = Some(Override {
                weight: None,
                enabled: None,
                drain: Some(true),
                at: 0,
                actor: "test".to_owned(),
            });
        }
        Cause::Down => {}
        Cause::Expired => {
            row.discovered_by.clear();
            row.backend.enabled = false;
            row.registered = Some(Registered {
                weight: None,
                enabled: None,
                warming: Warming::Unsaid,
                report: Default::default(),
                requests: Default::default(),
                batch: None,
                owner: None,
                heard_at_ms: 0,
                fresh_at_ms: None,
                last_seen: 0,
                expired_at_ms: Some(1),
            });
        }
    }
    row
}

/// What the proxy says of these rows, where it runs them and the last `down` of them fail their probes.
fn status_of(rows: &[Row], down: usize) -> Status {
    let mut status = crate::history::tests::seen("up", "probe: ok");
    status.running.pid = PID;
    status.running.generation = 19;
    status.running.listeners = vec![ListenerStatus {
        name: contract::DEFAULT_NAME.to_owned(),
        addr: "127.0.0.1:10080".parse().expect("a literal"),
        tcp: true,
        udp: true,
    }];
    let first_down = rows.len() - down;
    let backends = rows.iter().enumerate().map(|(index, row)| {
        let mut backend = status.backends[0].clone();
        backend.ip = row.backend.addr.ip();
        backend.port = row.backend.addr.port();
        backend.admin = row.admin();
        if index >= first_down {
            backend.operational = OperationalState::Down;
            backend.health.takes_sessions = false;
            backend.health.takes_flows = false;
        }
        backend
    });
    status.backends = backends.collect();
    status
}

/// So many of [`BACKENDS`] are out for `cause`, and what the proxy says of that.
fn scene(cause: Cause, out: u8) -> (Vec<Row>, Status) {
    let rows: Vec<Row> = (1..=BACKENDS)
        .map(|last| match last > BACKENDS - out {
            true => bad_row(last, cause),
            false => good_row(last),
        })
        .collect();
    let down = if cause == Cause::Down { out.into() } else { 0 };
    let status = status_of(&rows, down);
    (rows, status)
}

fn refused(code: RefusalCode) -> RefusedPart {
    RefusedPart {
        code,
        place: "/listen".to_owned(),
        value: "127.0.0.1:23150/tcp".to_owned(),
        detail: String::new(),
        kept: json!({ "host": "127.0.0.1", "port": 10080 }),
    }
}

fn refusing() -> Config {
    Config {
        published: Some(20),
        refused: vec![refused(RefusalCode::AddressInUse)],
        ..Config::default()
    }
}

/// Looks once; `None` of status: the proxy is not heard.
fn look(
    verdicts: &mut Verdicts,
    process: Process,
    rows: &[Row],
    status: Option<&Status>,
    config: &Config,
    now_ms: u64,
) -> bool {
    let look = Look {
        process,
        picture: &Picture::of(rows, status, [].iter(), &led()),
        config,
        totals: status.map(|status| (status.running.pid, None, &status.totals)),
        listeners: status.map_or(&[], |status| &status.listener_totals),
        leads_to: &["default", "chat"]
            .map(|name| {
                let pool = contract::Name::new(name).expect("a name");
                (name.to_owned(), [pool].into())
            })
            .into(),
    };
    verdicts.note(look, at(now_ms))
}

/// `level code` as it stands.
fn stands(verdicts: &Verdicts) -> String {
    let whole = json_of(verdicts);
    let word = |key: &str| whole[key].as_str().expect("a word").to_owned();
    format!("{} {}", word("level"), word("code"))
}

fn text(verdicts: &Verdicts) -> String {
    verdicts.report().verdict().text()
}

#[test]
fn the_verdict_follows_from_proxy_and_backends_by_this_table() {
    use Cause::{Down, Expired};
    for cause in CAUSES {
        // Nobody took these out on purpose.
        let is_fault = matches!(cause, Down | Expired);
        let some_out = match is_fault {
            true => "degraded backends_out",
            false => "ok serving",
        };
        let running = ["ok serving", some_out, "down no_backend_usable"];
        let refusing_ = [
            "degraded refused",
            "degraded refused",
            "down no_backend_usable",
        ];
        let cases: [(&str, [&str; 3]); 5] = [
            ("running", running),
            ("stopped", ["down proxy_not_running"; 3]),
            ("killed", ["down proxy_not_running"; 3]),
            ("stuck", ["unknown proxy_stuck"; 3]),
            ("refusing", refusing_),
        ];
        for (proxy, expected) in cases {
            for (out, expected) in [0, 1, BACKENDS].into_iter().zip(expected) {
                let (rows, status) = scene(cause, out);
                let mut verdicts = Verdicts::default();
                let fine = Config::default();
                let heard = Process::Heard;
                look(&mut verdicts, heard.clone(), &rows, Some(&status), &fine, 0);
                let stuck = Process::Stuck {
                    pid: Some(PID),
                    silent_ms: 0,
                };
                let (process, status, config) = match proxy {
                    "running" => (heard, Some(&status), fine),
                    "stopped" => (Process::Gone { pid: None }, None, fine),
                    "killed" => (Process::Gone { pid: Some(PID) }, None, fine),
                    "stuck" => (stuck, None, fine),
                    _ => (heard, Some(&status), refusing()),
                };
                look(&mut verdicts, process, &rows, status, &config, STUCK_MS);
                assert_eq!(stands(&verdicts), expected, "{proxy} {out} {cause:?}");
                let pool = json_of(&verdicts)["pools"]["default"]["code"].clone();
                let pool = pool.as_str().expect("a word").to_owned();
                let of_pool = match expected {
                    // The whole is, and its pool serves or lacks backends all the same.
                    "degraded refused" => running[usize::from(out > 0)],
                    expected => expected,
                };
                assert!(of_pool.ends_with(&pool), "{proxy} {out} {cause:?}: {pool}");
            }
        }
    }
}

#[test]
fn what_stops_traffic_besides_is_told_by_this_table() {
    let (rows, good) = scene(Cause::Down, 0);
    let (all_down, down) = scene(Cause::Down, BACKENDS);
    let mut cases: Vec<(&str, &[Row], Status, Config)> = Vec::new();
    let fine = Config::default;
    let mut open = down.clone();
    open.health.tcp.all_down_in_force = Some("fail_open".to_owned());
    open.health.udp.all_down_in_force = Some("fail_open".to_owned());
    cases.push(("degraded fail_open", &all_down, open.clone(), fine()));
    open.health.udp.all_down_in_force = None;
    cases.push(("down no_backend_usable", &all_down, open, fine()));
    let mut tcp_down = good.clone();
    for backend in &mut tcp_down.backends {
        backend.health.takes_sessions = false;
        backend.operational = OperationalState::Down;
    }
    cases.push(("down no_backend_usable", &rows, tcp_down.clone(), fine()));
    // Who serves no TCP misses none.
    tcp_down.running.listeners[0].tcp = false;
    cases.push(("ok serving", &rows, tcp_down.clone(), fine()));
    tcp_down.running.listeners[0].tcp = true;
    // Nor does a service of UDP alone, which is said.
    tcp_down.health.udp_alone = true;
    for backend in &mut tcp_down.backends {
        backend.operational = OperationalState::Up;
    }
    cases.push(("degraded udp_alone", &rows, tcp_down.clone(), fine()));
    for backend in &mut tcp_down.backends {
        backend.health.takes_flows = false;
    }
    cases.push(("down no_backend_usable", &rows, tcp_down, fine()));
    let mut draining = good.clone();
    draining.draining = true;
    cases.push(("down proxy_draining", &rows, draining, fine()));
    let mut unbound = good.clone();
    unbound.running.listeners.clear();
    unbound.running.refusals = vec![Refusal {
        code: RefusalCode::AddressInUse,
        place: "/listen".to_owned(),
        value: "127.0.0.1:10080/tcp".to_owned(),
        detail: String::new(),
        since: 0,
    }];
    cases.push(("down not_listening", &rows, unbound.clone(), fine()));
    unbound.running.listeners = good.running.listeners.clone();
    unbound.running.listeners[0].tcp = false;
    cases.push(("down not_listening", &rows, unbound, fine()));
    let other = Config {
        other_file: Some(("/one".to_owned(), "/other".to_owned())),
        ..fine()
    };
    cases.push(("degraded other_file", &rows, good.clone(), other));
    let unwritten = Config {
        failure: Some("no space".to_owned()),
        ..fine()
    };
    cases.push(("degraded not_published", &rows, good.clone(), unwritten));
    let behind = |is_behind| Config {
        published: Some(20),
        is_behind,
        ..fine()
    };
    cases.push(("degraded not_applied", &rows, good.clone(), behind(true)));
    // It has its time.
    cases.push(("ok serving", &rows, good.clone(), behind(false)));
    let mut empty = good.clone();
    empty.backends.clear();
    cases.push(("down no_backend_known", &[], empty, fine()));
    for (expected, rows, status, config) in cases {
        let mut verdicts = Verdicts::default();
        look(
            &mut verdicts,
            Process::Heard,
            rows,
            Some(&status),
            &config,
            0,
        );
        assert_eq!(stands(&verdicts), expected);
    }
    for (process, rows, expected) in [
        (
            Process::WithoutStatus { pid: PID },
            &rows,
            "unknown proxy_without_status",
        ),
        (
            Process::Unseen { why: String::new() },
            &rows,
            "unknown proxy_unseen",
        ),
    ] {
        let mut verdicts = Verdicts::default();
        look(&mut verdicts, process, rows, None, &fine(), 0);
        assert_eq!(stands(&verdicts), expected);
    }
    let (drained, _) = scene(Cause::Drained, BACKENDS);
    let mut verdicts = Verdicts::default();
    let process = Process::WithoutStatus { pid: PID };
    look(&mut verdicts, process, &drained, None, &fine(), 0);
    assert_eq!(stands(&verdicts), "down no_backend_usable");
}

#[test]
fn a_proxy_that_a_reload_keeps_waiting_is_judged_by_what_it_runs() {
    // Control wants none of them, and the proxy has refused that: traffic flows as before.
    let (rows, _) = scene(Cause::Disabled, BACKENDS);
    let (good, status) = scene(Cause::Disabled, 0);
    assert_eq!(status.backends[0].admin, AdminState::Ready, "{good:?}");
    let mut verdicts = Verdicts::default();
    look(
        &mut verdicts,
        Process::Heard,
        &rows,
        Some(&status),
        &refusing(),
        0,
    );
    assert_eq!(stands(&verdicts), "degraded refused");
}

#[test]
fn since_stays_with_level_and_code_and_is_not_known_of_what_was_so_before() {
    let (rows, good) = scene(Cause::Down, 0);
    let (some, some_down) = scene(Cause::Down, 1);
    let (more, more_down) = scene(Cause::Down, 2);
    let mut verdicts = Verdicts::default();
    let fine = Config::default();
    let since = |verdicts: &Verdicts| json_of(verdicts)["since"].clone();
    let heard = || Process::Heard;
    assert!(look(&mut verdicts, heard(), &rows, Some(&good), &fine, 0));
    assert_eq!(since(&verdicts), Value::Null);
    assert!(look(
        &mut verdicts,
        heard(),
        &some,
        Some(&some_down),
        &fine,
        500
    ));
    assert_eq!(since(&verdicts), json!(1_000_500));
    assert!(!look(
        &mut verdicts,
        heard(),
        &more,
        Some(&more_down),
        &fine,
        1_000
    ));
    assert_eq!(since(&verdicts), json!(1_000_500), "other figures alone");
    let gone = Process::Gone { pid: None };
    assert!(look(&mut verdicts, gone, &more, None, &fine, 1_500));
    assert_eq!(since(&verdicts), json!(1_001_500));
    assert_eq!(
        text(&verdicts),
        "Proxy not running since 00:16:41 UTC (process 27120 is gone). Nothing is forwarded.",
        "its process is remembered"
    );
    assert!(look(
        &mut verdicts,
        heard(),
        &rows,
        Some(&good),
        &fine,
        2_000
    ));
    assert_eq!(since(&verdicts), json!(1_002_000));
}

#[test]
fn a_proxy_that_is_silent_for_a_moment_changes_nothing() {
    let (rows, good) = scene(Cause::Down, 0);
    let mut verdicts = Verdicts::default();
    let fine = Config::default();
    look(
        &mut verdicts,
        Process::Heard,
        &rows,
        Some(&good),
        &fine,
        1_000,
    );
    let stuck = || Process::Stuck {
        pid: Some(PID),
        silent_ms: 0,
    };
    for (now_ms, expected) in [
        (1_000 + STUCK_MS - 1, "ok serving"),
        (1_000 + STUCK_MS, "unknown proxy_stuck"),
    ] {
        look(&mut verdicts, stuck(), &rows, None, &fine, now_ms);
        assert_eq!(stands(&verdicts), expected);
    }
    let since = &json_of(&verdicts)["since"];
    assert_eq!(*since, json!(1_001_000), "from its last answer");
    // One that was silent from the first look on.
    let mut verdicts = Verdicts::default();
    for (now_ms, expected) in [(0, "unknown not_looked"), (STUCK_MS, "unknown proxy_stuck")] {
        look(&mut verdicts, stuck(), &rows, None, &fine, now_ms);
        assert_eq!(stands(&verdicts), expected);
    }
}

/// Every half second, so many sessions more, of which so many failed.
struct Clients {
    verdicts: Verdicts,
    rows: Vec<Row>,
    status: Status,
    now_ms: u64,
}

impl Clients {
    fn new() -> Clients {
        let (rows, status) = scene(Cause::Down, 0);
        let mut clients = Clients {
            verdicts: Verdicts::default(),
            rows,
            status,
            now_ms: 0,
        };
        clients.come(0, 0, "client_closed", 1);
        clients
    }

    fn come(&mut self, sessions: u64, failed: u64, reason: &str, looks: u64) {
        for _ in 0..looks {
            let totals = &mut self.status.totals;
            totals.counters.sessions_total += sessions;
            for (reason, count) in [(reason, failed), ("client_closed", sessions - failed)] {
                *totals.sessions_ended.entry(reason.to_owned()).or_default() += count;
            }
            self.now_ms += 500;
            let (rows, status) = (&self.rows, Some(&self.status));
            let fine = Config::default();
            let process = Process::Heard;
            look(
                &mut self.verdicts,
                process,
                rows,
                status,
                &fine,
                self.now_ms,
            );
        }
    }

    #[track_caller]
    fn stand(&self, expected: &str) {
        let traffic = &json_of(&self.verdicts)["traffic"];
        assert_eq!(stands(&self.verdicts), expected, "{traffic}");
    }
}

#[test]
fn sessions_that_fail_are_told_from_a_least_number_on_until_none_fails_any_more() {
    let mut clients = Clients::new();
    clients.come(10, 0, "connect_refused", 40);
    clients.stand("ok serving");
    clients.come(10, 1, "connect_refused", MIN_FAILED - 1);
    clients.stand("ok serving");
    clients.come(10, 1, "connect_refused", 1);
    clients.stand("degraded sessions_failing");
    let args = json_of(&clients.verdicts)["args"].clone();
    assert_eq!(args["reason"], "connect_refused");
    assert_eq!((&args["failed"], &args["of"]), (&json!(5), &json!(450)));
    assert_eq!(args["share"], json!(0.0111));
    // A pause in the failures is no end of them.
    clients.come(10, 0, "connect_refused", 50);
    clients.stand("degraded sessions_failing");
    clients.come(10, 0, "connect_refused", 15);
    clients.stand("ok serving");
}

#[test]
fn of_reasons_that_fail_as_often_the_first_by_name_is_told() {
    let mut clients = Clients::new();
    for reason in ["connect_refused", "backend_reset", "backend_lost"] {
        clients.come(10, 2, reason, 4);
    }
    clients.stand("degraded sessions_failing");
    let args = json_of(&clients.verdicts)["args"].clone();
    assert_eq!(args["reason"], "backend_lost");
}

#[test]
fn most_sessions_failing_is_down_within_a_second_and_recovers_with_them() {
    let mut clients = Clients::new();
    clients.come(10, 0, "backend_reset", 2);
    clients.come(10, 10, "backend_reset", 2);
    clients.stand("down sessions_failing");
    assert_eq!(
        text(&clients.verdicts),
        "50.0 % of sessions fail (10.0/s), mostly backend reset."
    );
    clients.come(10, 0, "backend_reset", 1);
    clients.stand("down sessions_failing");
    clients.come(10, 0, "backend_reset", 3);
    clients.stand("degraded sessions_failing");
    clients.come(10, 0, "backend_reset", 61);
    clients.stand("ok serving");
}

#[test]
fn rare_sessions_that_all_fail_are_down_until_one_succeeds() {
    let mut clients = Clients::new();
    for _ in 0..MIN_FAILED {
        clients.come(1, 1, "connect_refused", 1);
        clients.come(0, 0, "connect_refused", 11);
    }
    clients.come(1, 1, "connect_refused", 1);
    clients.stand("down sessions_failing");
    // No session for a while is no sign that they succeed again.
    clients.come(0, 0, "connect_refused", 24);
    clients.stand("down sessions_failing");
    clients.come(1, 0, "connect_refused", 1);
    clients.stand("degraded sessions_failing");
}

#[test]
fn what_clients_and_operators_end_is_no_failure_of_the_service() {
    let mut clients = Clients::new();
    for reason in [
        "client_reset",
        "client_lost",
        "idle_timeout",
        "backend_gone",
        "shutdown",
    ] {
        clients.come(10, 10, reason, 4);
        clients.stand("ok serving");
    }
    // What came while no backend took any is over with that.
    clients.come(10, 10, "no_backend", 4);
    clients.stand("ok serving");
    let traffic = json_of(&clients.verdicts)["traffic"].clone();
    assert_eq!(traffic["failed_reasons"], json!({ "no_backend": 40 }));
    assert_eq!(traffic["failed"], json!(40));
}

#[test]
fn counters_of_another_process_begin_anew() {
    let mut clients = Clients::new();
    clients.come(10, 5, "connect_refused", 10);
    clients.stand("down sessions_failing");
    clients.status.running.pid = PID + 1;
    clients.status.totals.sessions_ended = BTreeMap::new();
    clients.status.totals.counters.sessions_total = 0;
    clients.come(10, 0, "connect_refused", 2);
    clients.stand("ok serving");
    let traffic = json_of(&clients.verdicts)["traffic"].clone();
    assert_eq!(
        traffic["new_sessions"],
        json!(10),
        "since the first look at it"
    );
}

#[test]
fn sentences_say_what_what_of_it_and_what_traffic_follows() {
    let (rows, status) = scene(Cause::Disabled, BACKENDS);
    let said = |rows: &[Row], status: &Status, config: &Config| {
        let mut verdicts = Verdicts::default();
        look(&mut verdicts, Process::Heard, rows, Some(status), config, 0);
        text(&verdicts)
    };
    assert_eq!(
        said(&rows, &status, &Config::default()),
        "No backend takes traffic. Of 3: 3 disabled."
    );
    let mut clients = Clients::new();
    (clients.rows, clients.status) = (rows, status);
    clients.come(7, 7, "no_backend", 3);
    assert_eq!(
        text(&clients.verdicts),
        "No backend takes traffic: 14 sessions/s are refused. Of 3: 3 disabled."
    );
    let (mut rows, mut status) = scene(Cause::Down, 0);
    rows.truncate(1);
    status.backends.truncate(1);
    assert_eq!(
        said(&rows, &status, &Config::default()),
        "Traffic flows: 1 of 1 backend takes it."
    );
    let (rows, status) = scene(Cause::Down, 1);
    assert_eq!(
        said(&rows, &status, &Config::default()),
        "1 of 3 backends is out. Of 3: 1 down."
    );
    let mut config = refusing();
    assert_eq!(
        said(&rows, &status, &config),
        "Generation 20 refused: 127.0.0.1:23150/tcp is in use. Traffic follows generation 19, with \
         127.0.0.1:10080."
    );
    // Published again, with what was accepted.
    config.published = Some(19);
    assert_eq!(
        said(&rows, &status, &config),
        "listen refused: 127.0.0.1:23150/tcp is in use. Traffic follows generation 19, with \
         127.0.0.1:10080."
    );
}

#[test]
fn what_the_proxy_says_of_the_same_address_in_another_pool_does_not_count() {
    let rows: Vec<Row> = (1..=2).map(good_row).collect();
    let mut status = status_of(&rows, 0);
    let mut elsewhere = status_of(&rows, 2).backends;
    elsewhere
        .iter_mut()
        .for_each(|backend| backend.pool = "chat".to_owned());
    let own = std::mem::take(&mut status.backends);
    for backends in [[own.clone(), elsewhere.clone()], [elsewhere, own]] {
        status.backends = backends.concat();
        let left_out = [key_in("chat", 1)];
        let counts = Picture::of(&rows, Some(&status), left_out.iter(), &led()).counts;
        assert_eq!((counts.usable, counts.out()), (2, 0), "{counts:?}");
    }
}

/// Two rows in the pool `default` that serve, and the same addresses in `chat`, of which `down` fail. TCP leads to
/// both pools, and UDP to `default` alone.
fn two_pools(down: usize) -> (Vec<Row>, Status) {
    let own: Vec<Row> = (1..=2).map(good_row).collect();
    let mut status = status_of(&own, 0);
    let elsewhere = status_of(&own, down).backends.into_iter();
    let elsewhere = elsewhere.map(|mut backend| {
        backend.pool = "chat".to_owned();
        backend
    });
    status.backends.extend(elsewhere);
    let pool = |name: &str, udp: bool| PoolStatus {
        name: name.to_owned(),
        algorithm: "round_robin".to_owned(),
        tcp: true,
        udp,
        health: HealthStatus::default(),
    };
    status.pools = vec![pool("default", true), pool("chat", false)];
    let mut rows: Vec<Row> = { own.iter() }
        .map(|row| Row {
            key: contract::BackendKey::new(key_in("chat", 1).pool, row.key.addr),
            ..row.clone()
        })
        .collect();
    rows.extend(own);
    (rows, status)
}

#[test]
fn each_pool_has_its_own_verdict_and_the_worst_is_that_of_the_whole() {
    let mut verdicts = Verdicts::default();
    let mut stand = |rows: &[Row], status: &Status, now_ms| {
        let config = Config::default();
        look(
            &mut verdicts,
            Process::Heard,
            rows,
            Some(status),
            &config,
            now_ms,
        );
        let whole = json_of(&verdicts);
        let code = |one: &Value| one["code"].as_str().expect("a word").to_owned();
        let of = |pool: &str| {
            let pool = &whole["pools"][pool];
            let (total, since) = (&pool["args"]["backends"]["total"], &pool["since"]);
            format!("{} of {total} since {since}", code(pool))
        };
        let pool = whole["pool"].as_str().unwrap_or("-");
        let whole = format!("{pool} {} | {}", code(&whole), text(&verdicts));
        [whole, of("default"), of("chat")]
    };
    let (rows, status) = two_pools(0);
    let serving = "serving of 2 since null";
    let found = stand(&rows, &status, 0);
    assert_eq!(&found[1..], [serving, serving]);
    assert!(found[0].starts_with("- serving"), "{found:?}");

    let (rows, status) = two_pools(1);
    let expected = [
        "chat backends_out | Pool chat: 1 of 2 backends is out. Of 2: 1 down.",
        serving,
        "backends_out of 2 since 1001000",
    ];
    assert_eq!(stand(&rows, &status, 1_000), expected);

    let (rows, mut status) = two_pools(2);
    let expected = [
        "chat no_backend_usable | Pool chat: No backend takes traffic. Of 2: 2 down.",
        serving,
        "no_backend_usable of 2 since 1002000",
    ];
    assert_eq!(stand(&rows, &status, 2_000), expected);
    // Of the pool's own rule, and of no other's.
    let fail_open = Some("fail_open".to_owned());
    status.pools[0].health.tcp.all_down_in_force = fail_open.clone();
    assert_eq!(stand(&rows, &status, 2_500), expected);
    status.pools[1].health.tcp.all_down_in_force = fail_open;
    let found = stand(&rows, &status, 3_000);
    assert!(found[0].starts_with("chat fail_open"), "{found:?}");
    assert_eq!(found[1], serving);
    // No listener leads there, so nobody misses its backends.
    status.pools[1].tcp = false;
    let found = stand(&rows, &status, 4_000);
    assert!(found[0].starts_with("- serving"), "{found:?}");
    // What stops everything stops each pool.
    let gone = Process::Gone { pid: Some(PID) };
    look(&mut verdicts, gone, &rows, None, &Config::default(), 5_000);
    let levels: Vec<String> = { verdicts.report().pools() }
        .map(|(pool, level)| format!("{pool} {}", level.word()))
        .collect();
    assert_eq!(levels, ["chat down", "default down"]);
}

#[test]
fn sessions_that_fail_in_one_pool_are_seen_beside_a_busy_one() {
    let mut verdicts = Verdicts::default();
    let (rows, mut status) = two_pools(0);
    let listener = |name: &str| contract::status::ListenerTotals {
        name: name.to_owned(),
        accept_pauses: 0,
        totals: Default::default(),
    };
    status.listener_totals = vec![listener("default"), listener("chat")];
    let mut now_ms = 0;
    let mut go_on = |failed_in: Option<usize>| {
        for _ in 0..80 {
            for (index, sessions) in [1_000, 2].into_iter().enumerate() {
                let failed = if failed_in == Some(index) {
                    sessions.min(2)
                } else {
                    0
                };
                let own = &mut status.listener_totals[index].totals;
                for totals in [own, &mut status.totals] {
                    totals.counters.sessions_total += sessions;
                    let of = |reason: &str| reason.to_owned();
                    *totals
                        .sessions_ended
                        .entry(of("connect_refused"))
                        .or_default() += failed;
                    let good = sessions - failed;
                    *totals
                        .sessions_ended
                        .entry(of("client_closed"))
                        .or_default() += good;
                }
            }
            let config = Config::default();
            let heard = Process::Heard;
            now_ms += 500;
            look(&mut verdicts, heard, &rows, Some(&status), &config, now_ms);
        }
        let whole = json_of(&verdicts);
        let pool = whole["pool"].as_str().unwrap_or("-");
        format!("{pool} {}", stands(&verdicts))
    };
    assert_eq!(go_on(None), "- ok serving");
    // Of all sessions one in 500, of its own each.
    assert_eq!(go_on(Some(1)), "chat down sessions_failing");
    assert_eq!(go_on(None), "- ok serving");
    assert_eq!(
        go_on(Some(0)),
        "- ok serving",
        "as small a share of the busy one is none"
    );
}

#[test]
fn a_protocol_is_missed_only_in_pools_that_a_listener_of_it_leads_to() {
    let (rows, status) = two_pools(0);
    let seen = Seen::of(Some(&status));
    let ready = |row: &Row| Protocol::ALL.map(|protocol| seen.is_ready(row, protocol));
    let (chat, default) = (&rows[0], &rows[2]);
    assert_eq!(ready(chat), [Some(true), None]);
    assert_eq!(ready(default), [Some(true); 2]);
    let count = |row: &Row, rows| seen.count_ready(&row.key.pool, rows, Protocol::Udp);
    assert_eq!(count(chat, &rows[..2]), None);
    assert_eq!(count(default, &rows[2..]), Some(2));
}

#[test]
fn a_pool_that_takes_no_traffic_by_its_settings_is_told_as_that_and_as_no_trouble() {
    let (rows, status) = scene(Cause::Down, 0);
    let moved = |pool: &str, place| {
        let rows = rows.iter().map(|row| Row {
            key: contract::BackendKey::new(key_in(pool, 1).pool, row.key.addr),
            place,
            ..row.clone()
        });
        rows.collect::<Vec<Row>>()
    };
    for (pool, place, code, counted) in [
        ("gone", Place::Undefined, "no_pool", "no_pool"),
        ("spare", Place::NoListener, "no_listener", "no_listener"),
    ] {
        let mut all = moved(pool, place);
        let mut status = status.clone();
        let pool_status = |name: &str, is_led| PoolStatus {
            name: name.to_owned(),
            algorithm: "round_robin".to_owned(),
            tcp: is_led,
            udp: is_led,
            health: HealthStatus::default(),
        };
        status.pools = vec![pool_status("default", true), pool_status("spare", false)];
        // What is not there is not refused.
        let left_out: Vec<contract::BackendKey> = all.iter().map(|row| row.key.clone()).collect();
        let left_out = if place == Place::Undefined {
            left_out
        } else {
            Vec::new()
        };
        all.extend(rows.clone());
        let picture = Picture::of(&all, Some(&status), left_out.iter(), &led());
        assert_eq!(picture.pools[&key_in(pool, 1).pool].place, place);
        let counts = picture.counts.to_json();
        assert_eq!(counts[counted], BACKENDS, "{counts}");
        assert_eq!(
            [&counts["usable"], &counts["left_out"]],
            [&json!(BACKENDS), &json!(0)]
        );
        assert_eq!(
            [picture.counts.out(), picture.counts.wanted()],
            [0, BACKENDS.into()]
        );
        let mut verdicts = Verdicts::default();
        let look = Look {
            process: Process::Heard,
            picture: &picture,
            config: &Config::default(),
            totals: None,
            listeners: &[],
            leads_to: &BTreeMap::new(),
        };
        verdicts.note(look, at(1_000));
        let report = json_of(&verdicts);
        assert_eq!(
            [&report["level"], &report["code"]],
            ["ok", "serving"],
            "{report}"
        );
        let of_pool = [&report["others"][0]["code"], &report["others"][0]["pool"]];
        assert_eq!(of_pool, [code, pool], "{report}");
        assert_eq!(report["pools"][pool]["code"], code, "{report}");
        assert_eq!(report["pools"]["default"]["code"], "serving", "{report}");
    }
}

#[test]
fn a_pool_that_has_got_a_backend_since_is_not_said_to_have_none() {
    let status = status_of(&[], 0);
    let mut verdicts = Verdicts::default();
    look(
        &mut verdicts,
        Process::Heard,
        &[],
        Some(&status),
        &Config::default(),
        1_000,
    );
    let warned = |has_backend| verdicts.report().no_backend(|_| has_backend).count();
    assert_eq!([warned(false), warned(true)], [1, 0]);
}

#[test]
fn a_listener_whose_settings_are_not_applied_is_told() {
    let (rows, status) = scene(Cause::Down, 0);
    let unusable = crate::layer::Unusable {
        name: key_in("chat", 1).pool,
        place: "/listeners/chat/pool".to_owned(),
        why: "no pool chat is defined".to_owned(),
    };
    let config = Config {
        unusable: vec![(unusable, true)],
        ..Config::default()
    };
    let mut verdicts = Verdicts::default();
    look(
        &mut verdicts,
        Process::Heard,
        &rows,
        Some(&status),
        &config,
        1_000,
    );
    let report = json_of(&verdicts);
    assert_eq!(
        [&report["level"], &report["code"]],
        ["degraded", "listener_not_applied"]
    );
    let args = &report["args"];
    assert_eq!(
        [&args["listener"], &args["place"]],
        ["chat", "/listeners/chat/pool"]
    );
    assert_eq!(args["kept"], true);
}

/// The answer about the verdict as a client reads it.
fn json_of(verdicts: &Verdicts) -> Value {
    serde_json::to_value(verdicts.report().described()).expect("JSON")
}
