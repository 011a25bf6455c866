//! What is refused of the configuration, as the status shows it: since when, and in the log when it
//! begins and when it is over, never in between.

use contract::config::Skipped;
use contract::refusal::{Refusal, RefusalCode};
use proxy_core::plan::Endpoint;
use proxy_engine::listen::BindError;
use rustix::io::Errno;

use crate::config_file::ConfigFileError;
use crate::sandbox::Confinement;

/// Faults of a file that are listed; it may hold thousands.
const MOST: usize = 16;
/// Backends that are listed as listeners of ours; of more, the number.
const MOST_SKIPPED: usize = 64;

/// Of a file that was refused as a whole. `hint` says whether that is for what the process gave up.
pub fn of_file(error: &ConfigFileError, hint: Option<&str>, now_ms: u64) -> Vec<Refusal> {
    match error {
        ConfigFileError::Unreadable { path, error } => {
            let detail = match hint {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            };
            vec![Refusal {
                code: RefusalCode::Unreadable,
                place: String::new(),
                value: path.clone(),
                detail,
                since: now_ms,
            }]
        }
        ConfigFileError::Faulty { faults, .. } => {
            let refusal = |fault: &contract::Fault| {
                let allowed = format!("allowed: {}", fault.allowed);
                // What is no JSON has a line and a column instead of a pointer.
                let (place, detail) = match fault.place.starts_with('/') {
                    true => (fault.place.clone(), allowed),
                    false if fault.place.is_empty() => (String::new(), allowed),
                    false => (String::new(), format!("{} {allowed}", fault.place)),
                };
                Refusal {
                    code: RefusalCode::Invalid,
                    place,
                    value: fault.found.clone(),
                    detail,
                    since: now_ms,
                }
            };
            faults.0.iter().take(MOST).map(refusal).collect()
        }
    }
}

/// Of an endpoint of the listener at `place` that cannot be bound.
pub fn of_endpoint(
    error: &BindError,
    place: &str,
    confinement: &Confinement,
    now_ms: u64,
) -> Refusal {
    let Endpoint { addr, protocol, .. } = error.endpoint;
    let needs_restart = needs_restart(error, confinement);
    let code = match error.errno() {
        _ if needs_restart => RefusalCode::NeedsRestart,
        Some(Errno::ADDRINUSE) => RefusalCode::AddressInUse,
        Some(Errno::ADDRNOTAVAIL) => RefusalCode::AddressNotAvailable,
        Some(_) | None => RefusalCode::CannotBind,
    };
    let hint = confinement.of_binding().filter(|_| needs_restart);
    let detail = match hint {
        Some(hint) => format!("{}; {hint}", error.error),
        None => error.error.to_string(),
    };
    Refusal {
        code,
        place: place.to_owned(),
        value: format!("{addr}/{}", protocol.word()),
        detail,
        since: now_ms,
    }
}

/// Whether an endpoint cannot be bound for want of a right that the process has given up.
pub fn needs_restart(error: &BindError, confinement: &Confinement) -> bool {
    // The kernel says which ports need the right (`ip_unprivileged_port_start`, ip(7)).
    error.is_forbidden() && confinement.of_binding().is_some()
}

/// Of backends that are listeners of ours.
pub fn of_skipped(skipped: &[Skipped], now_ms: u64) -> impl Iterator<Item = Refusal> {
    let named = skipped.iter().take(MOST_SKIPPED).map(move |entry| Refusal {
        code: RefusalCode::OwnListener,
        place: entry.place.clone(),
        value: entry.addr.to_string(),
        detail: format!("the proxy listens on {}", entry.listen),
        since: now_ms,
    });
    let more = skipped.len().saturating_sub(MOST_SKIPPED);
    let summary = (more > 0).then(|| Refusal {
        code: RefusalCode::OwnListener,
        place: "/backends".to_owned(),
        value: format!("and {more} more"),
        detail: "the proxy listens on these too".to_owned(),
        since: now_ms,
    });
    named.chain(summary)
}

/// Gives those of `now` that were refused `before` already the time of their beginning.
pub fn dated(before: &[Refusal], mut now: Vec<Refusal>) -> Vec<Refusal> {
    for refusal in &mut now {
        if let Some(known) = before.iter().find(|known| is_same(known, refusal)) {
            refusal.since = known.since;
        }
    }
    now
}

/// Puts what is refused `now` in the place of what was, and logs the difference. Returns whether there
/// is one.
pub fn update(shown: &mut Vec<Refusal>, now: Vec<Refusal>) -> bool {
    let now = dated(shown, now);
    log(shown, &now);
    let has_changed = *shown != now;
    *shown = now;
    has_changed
}

fn log(before: &[Refusal], after: &[Refusal]) {
    let new = |one: &[Refusal], refusal: &Refusal| !one.iter().any(|known| is_same(known, refusal));
    for refusal in before.iter().filter(|refusal| new(after, refusal)) {
        tracing::info!("refusal over {}", words(refusal));
    }
    for refusal in after.iter().filter(|refusal| new(before, refusal)) {
        let text = words(refusal);
        let detail = &refusal.detail;
        match refusal.code {
            // One entry of many is left out.
            RefusalCode::OwnListener => tracing::warn!("refused {text} detail={detail:?}"),
            RefusalCode::Unreadable
            | RefusalCode::Invalid
            | RefusalCode::AddressInUse
            | RefusalCode::AddressNotAvailable
            | RefusalCode::NeedsRestart
            | RefusalCode::CannotBind
            | RefusalCode::Other => tracing::error!("refused {text} detail={detail:?}"),
        }
    }
}

fn words(refusal: &Refusal) -> String {
    let Refusal {
        code, place, value, ..
    } = refusal;
    let place = if place.is_empty() { "(file)" } else { place };
    format!("code={} place={place} value={value:?}", code.word())
}

fn is_same(one: &Refusal, other: &Refusal) -> bool {
    // A backend is the same wherever it stands in the file.
    let has_same_place = one.code == RefusalCode::OwnListener || one.place == other.place;
    (one.code, &one.value) == (other.code, &other.value) && has_same_place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faulty(text: &str) -> Vec<Refusal> {
        let local = contract::LocalAddresses::default();
        let faults = contract::check(text.as_bytes(), &local).expect_err("faulty");
        let error = ConfigFileError::Faulty {
            path: "a.json".to_owned(),
            faults,
            generation: None,
        };
        of_file(&error, None, 5)
    }

    #[test]
    fn each_fault_of_a_file_is_one_refusal_up_to_a_bound() {
        let text = r#"{"listen": {"host": "x", "port": 0}, "backends": []}"#;
        let places: Vec<String> = faulty(text).into_iter().map(|one| one.place).collect();
        assert_eq!(places, ["/listen/host", "/listen/port"]);
        let many = vec!["{}"; 1_000].join(",");
        let text = format!(r#"{{"listen": {{"host": "::", "port": 1}}, "backends": [{many}]}}"#);
        assert_eq!(faulty(&text).len(), MOST);
        let cut = &faulty("{\"listen\":")[0];
        assert_eq!((cut.code, cut.place.as_str()), (RefusalCode::Invalid, ""));
        assert!(cut.detail.contains("line 1"), "{}", cut.detail);
    }

    #[test]
    fn own_listeners_are_all_named_up_to_a_bound_and_then_counted() {
        let named = |count: usize| -> Vec<String> {
            let skipped: Vec<Skipped> = (0..count).map(skipped).collect();
            of_skipped(&skipped, 0).map(|one| one.value).collect()
        };
        assert_eq!(named(0), [""; 0]);
        assert_eq!(named(1), ["127.0.0.1:80"]);
        assert_eq!(named(64).last().map(String::as_str), Some("127.0.0.64:80"));
        let many = named(100);
        assert_eq!(
            (many.len(), &*many[63], &*many[64]),
            (65, "127.0.0.64:80", "and 36 more")
        );
    }

    #[test]
    fn a_backend_that_moves_in_the_file_stays_refused_since_when_it_was() {
        let at = |indices: &[usize], now_ms| -> Vec<Refusal> {
            let moved = indices.iter().zip(0..);
            let skipped: Vec<Skipped> = moved
                .map(|(&index, at)| Skipped {
                    index,
                    place: format!("/backends/{index}"),
                    ..skipped(at)
                })
                .collect();
            of_skipped(&skipped, now_ms).collect()
        };
        let mut shown = at(&[3, 5], 1);
        assert!(
            update(&mut shown, at(&[2, 4, 9], 2)),
            "the places are others"
        );
        let since: Vec<(u64, &str)> = shown.iter().map(|one| (one.since, &*one.place)).collect();
        assert_eq!(
            since,
            [(1, "/backends/2"), (1, "/backends/4"), (2, "/backends/9")]
        );
    }

    /// The backend at this place.
    fn skipped(at: usize) -> Skipped {
        let ip = [127, 0, 0, at as u8 + 1];
        Skipped {
            pool: contract::Name::default(),
            index: at,
            place: format!("/backends/{at}"),
            addr: contract::BackendAddr::new(ip.into(), 80),
            listen: ([0, 0, 0, 0], 80).into(),
        }
    }

    #[test]
    fn what_stays_refused_keeps_the_time_of_its_beginning() {
        let refusal = |value: &str, since| Refusal {
            code: RefusalCode::AddressInUse,
            place: "/listen".to_owned(),
            value: value.to_owned(),
            detail: String::new(),
            since,
        };
        let before = [refusal("a", 1)];
        let now = dated(&before, vec![refusal("a", 9), refusal("b", 9)]);
        let since: Vec<u64> = now.iter().map(|refusal| refusal.since).collect();
        assert_eq!(since, [1, 9]);
    }
}
