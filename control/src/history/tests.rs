//! What is kept of states that change, come and go.

use serde_json::json;

use super::*;
use crate::base::lower;
use crate::base::tests::{key, key_in};
use crate::merge::merge;
use crate::registry::Registry;
use crate::sources::entry::Said;
use crate::sources::listed::{Discovered, Listed};
use crate::standing::Seen;
use contract::BackendAddr;
use std::collections::BTreeMap;

fn rows(weights: &[(u8, u16)]) -> Vec<Row> {
    let discovered = weights.iter().map(|(last, weight)| {
        let said = Said {
            weight: Some(*weight),
            ..Said::nothing_of(key(*last))
        };
        (said.key.clone(), said)
    });
    let listed = Listed {
        statics: &BTreeMap::new(),
        discovered: &[Discovered::of("k8s", discovered.collect())],
    };
    merge(listed, &Registry::default())
}

/// A status of one backend, as the proxy gives it.
pub fn seen(operational: &str, reason: &str) -> Status {
    let counters = json!({
        "sessions_active": 0, "sessions_total": 0, "flows_active": 0, "flows_total": 0,
        "bytes_up": 0, "bytes_down": 0, "connect_failures": 0, "connect_timeouts": 0,
    });
    let mut backend = counters.clone();
    let of_backend = json!({
        "ip": "10.0.0.1", "port": 9001, "configured": true, "admin": "ready",
        "operational": operational, "reason": reason, "weight": 10, "weight_effective": 10,
        "gpu_usage": null, "vram_usage": null, "reported_at_ms": null,
        "connect_latency_us": null, "first_byte_latency_us": null,
    });
    let mut totals = counters;
    let of_all = json!({
        "first_byte_p50_us": null, "first_byte_p99_us": null, "connect_retries": 0,
        "sessions_ended": {}, "flows_ended": {}, "datagrams_dropped": {},
    });
    for (all, more) in [(&mut backend, of_backend), (&mut totals, of_all)] {
        let more = more.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(more);
    }
    let status = json!({
        "version": "0", "pid": 7, "generation": 1, "digest": "", "loaded_at_ms": 0,
        "last_reload": null, "started_at_ms": 0, "reloads_ok": 0, "reloads_refused": 0,
        "draining": false, "algorithm": "round_robin", "workers": [], "listeners": [],
        "backends": [backend], "totals": totals,
        "limits": {"max_sessions": 1, "max_flows": 1, "accept_pauses": 0, "log_lines_dropped": 0},
    });
    serde_json::from_value(status).expect("a status")
}

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        listened_ms: ms,
        unix_ms: 1_000_000 + ms,
    }
}

/// `at admin operational reason` of each transition, the newest first.
fn told(histories: &Histories, last: u8) -> Vec<String> {
    let told = histories.of(&key(last)).into_iter().map(|line| {
        let line = serde_json::to_value(line).expect("JSON");
        let text = |key: &str| line[key].as_str().expect("text").to_owned();
        let words = [text("admin"), text("operational"), text("reason")];
        format!("{} {}", line["at_ms"], words.join(" "))
    });
    told.collect()
}

#[test]
fn a_transition_is_kept_with_its_time_and_reason_and_no_change_is_none() {
    let mut histories = Histories::default();
    let looks = [
        (10, 0, "up", "a probe passed"),
        (10, 1_000, "up", "another probe passed"),
        (10, 2_000, "down", "3 probes failed: refused"),
        (0, 3_000, "down", "3 probes failed: refused"),
    ];
    for (weight, ms, operational, reason) in looks {
        histories.note(
            &rows(&[(1, weight)]),
            Some(&seen(operational, reason)),
            at(ms),
        );
    }
    histories.note(&rows(&[(1, 0)]), None, at(4_000));
    let expected = [
        "1004000 drain unknown the proxy does not report it",
        "1003000 drain down 3 probes failed: refused",
        "1002000 ready down 3 probes failed: refused",
        "1000000 ready up a probe passed",
    ];
    assert_eq!(told(&histories, 1), expected);
}

#[test]
fn what_is_kept_is_bounded_and_goes_with_its_backend() {
    let mut histories = Histories::default();
    let last_ms = 2 * KEPT as u64;
    for ms in 0..=last_ms {
        let word = if ms % 2 == 0 { "up" } else { "down" };
        histories.note(&rows(&[(1, 10), (2, 10)]), Some(&seen(word, "")), at(ms));
    }
    let kept = told(&histories, 1);
    assert_eq!(kept.len(), KEPT);
    assert_eq!(kept[0], format!("{} ready up ", 1_000_000 + last_ms));
    assert_eq!(told(&histories, 2).len(), 1, "of which nothing was said");
    histories.note(&rows(&[(2, 10)]), None, at(last_ms + 1));
    assert_eq!(told(&histories, 1), Vec::<String>::new());
}

#[test]
fn a_backend_that_is_gone_is_remembered_with_its_source_until_it_is_back() {
    let mut histories = Histories::default();
    histories.note(&rows(&[(1, 10)]), Some(&seen("down", "refused")), at(0));
    assert_eq!(histories.gone(&key(1)), None, "it is listed");
    for ms in [500, 1_000] {
        histories.note(&rows(&[]), None, at(ms));
    }
    let gone = histories.gone(&key(1)).expect("it was listed");
    assert_eq!(gone.at_ms, Some(1_000_500), "the first look without it");
    assert_eq!(gone.sources, ["k8s"]);
    assert_eq!(gone.history[0].reason, "refused");
    assert_eq!(histories.gone(&key(2)), None, "it was never listed");
    histories.note(&rows(&[(1, 10)]), None, at(1_500));
    assert_eq!(histories.gone(&key(1)), None, "it is back");
}

#[test]
fn of_backends_that_are_gone_the_last_ones_are_remembered() {
    let mut histories = Histories::default();
    let many = GONE as u16 + 3;
    let numbered = |number: u16| {
        let [high, low] = number.to_be_bytes();
        lower(BackendAddr::new([10, 1, high, low].into(), 9001))
    };
    for number in 0..=many {
        let key = numbered(number);
        let said = BTreeMap::from([(key.clone(), Said::nothing_of(key))]);
        let listed = Listed {
            statics: &BTreeMap::new(),
            discovered: &[Discovered::of("k8s", said)],
        };
        let rows = merge(listed, &Registry::default());
        histories.note(&rows, None, at(number.into()));
    }
    assert_eq!(histories.gone.len(), GONE);
    assert_eq!(histories.gone(&numbered(2)), None);
    assert!(histories.gone(&numbered(many - 1)).is_some());
}

/// The same of a proxy that serves TCP and UDP.
fn serving(takes_sessions: bool, takes_flows: bool) -> Status {
    let mut status = seen("up", "probe: ok");
    status.running.listeners = vec![contract::status::ListenerStatus {
        name: contract::DEFAULT_NAME.to_owned(),
        addr: "127.0.0.1:10080".parse().expect("a literal"),
        tcp: true,
        udp: true,
    }];
    status.backends[0].health.takes_sessions = takes_sessions;
    status.backends[0].health.takes_flows = takes_flows;
    status
}

#[test]
fn ready_is_told_of_each_protocol_and_not_where_the_proxy_is_not_heard() {
    use crate::standing::Protocol::{Tcp, Udp};
    let ready = |weight, status: Option<&Status>| {
        let (rows, seen) = (rows(&[(1, weight)]), Seen::of(status));
        [Tcp, Udp].map(|protocol| seen.is_ready(&rows[0], protocol))
    };
    assert_eq!(
        ready(10, Some(&serving(true, false))),
        [Some(true), Some(false)]
    );
    assert_eq!(
        ready(10, Some(&serving(false, true))),
        [Some(false), Some(true)]
    );
    assert_eq!(ready(0, Some(&serving(true, true))), [Some(false); 2]);
    assert_eq!(ready(10, None), [None; 2]);
    let mut tcp_alone = serving(true, true);
    tcp_alone.running.listeners[0].udp = false;
    assert_eq!(ready(10, Some(&tcp_alone)), [Some(true), None]);
    let mut drained = serving(true, true);
    drained.backends[0].admin = AdminState::Drain;
    assert_eq!(ready(10, Some(&drained)), [Some(false); 2]);
    drained.backends.clear();
    assert_eq!(ready(10, Some(&drained)), [Some(false); 2]);
}

#[test]
fn one_address_in_two_pools_has_two_histories() {
    let listed_in = |keys: &[BackendKey]| {
        let said = keys
            .iter()
            .map(|key| (key.clone(), Said::nothing_of(key.clone())));
        let listed = Listed {
            statics: &BTreeMap::new(),
            discovered: &[Discovered::of("k8s", said.collect())],
        };
        merge(listed, &Registry::default())
    };
    let (one, two) = (key(1), key_in("chat", 1));
    let both = listed_in(&[one.clone(), two.clone()]);
    let mut histories = Histories::default();
    for (ms, of_chat) in [(0, "up"), (1_000, "down")] {
        let mut status = seen("up", "");
        let mut elsewhere = seen(of_chat, "refused").backends.remove(0);
        elsewhere.pool = "chat".to_owned();
        status.backends.push(elsewhere);
        let changed = histories.note(&both, Some(&status), at(ms));
        let expected = (ms > 0).then(|| ("down", two.clone()));
        assert_eq!(changed, expected.into_iter().collect::<Vec<_>>());
        let ready = |row: &Row| Seen::of(Some(&status)).operational(row);
        assert_eq!([ready(&both[1]), ready(&both[0])], ["up", of_chat]);
    }
    assert_eq!((histories.of(&one).len(), histories.of(&two).len()), (1, 2));
    histories.note(&listed_in(std::slice::from_ref(&one)), None, at(2_000));
    assert!(histories.gone(&two).is_some() && histories.gone(&one).is_none());
    assert_eq!(histories.of(&one).len(), 2);
}
