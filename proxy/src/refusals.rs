//! What is refused of the configuration, as the status shows it: since when, and in the log when it
//! begins and when it is over, never in between.

use contract::config::Skipped;
use contract::refusal::{Refusal, RefusalCode};

use crate::config_file::ConfigFileError;

/// Refusals of one kind that are listed; a file may hold thousands of faults.
const MOST: usize = 16;

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

/// Of backends that are listeners of ours.
pub fn of_skipped(skipped: &[Skipped], now_ms: u64) -> impl Iterator<Item = Refusal> {
    skipped.iter().take(MOST).map(move |entry| Refusal {
        code: RefusalCode::OwnListener,
        place: entry.place(),
        value: entry.addr.to_string(),
        detail: format!("the proxy listens on {}", entry.listen),
        since: now_ms,
    })
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
    (one.code, &one.place, &one.value) == (other.code, &other.place, &other.value)
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
