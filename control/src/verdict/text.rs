//! The English sentence of each finding, for readers of the API, the log and the command line. The
//! console makes its own words from codes and arguments.

use contract::RefusalCode;
use serde_json::Value;

use super::finding::Finding;
use super::picture::Counts;
use crate::standing::Protocol;
use crate::words::many;

pub fn sentence(finding: &Finding, since: Option<u64>) -> String {
    match finding {
        Finding::NotLooked => "Not known yet: control has just started.".to_owned(),
        Finding::ProxyNotRunning { pid } => {
            let gone = pid.map_or_else(String::new, |pid| format!(" (process {pid} is gone)"));
            let since = since_text(since);
            format!("Proxy not running{since}{gone}. Nothing is forwarded.")
        }
        Finding::ProxyStuck { pid, silent_ms } => {
            let process = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            format!(
                "The proxy{process} has not answered for {} s. Whether traffic flows is not known.",
                silent_ms / 1000
            )
        }
        Finding::ProxyWithoutStatus { pid } => format!(
            "The proxy (process {pid}) has no admin socket. Whether traffic flows is not known."
        ),
        Finding::ProxyUnseen { why } => format!("Whether the proxy runs is not known: {why}."),
        Finding::ProxyDraining { sessions } => {
            format!("The proxy is stopping: new sessions are refused, {sessions} open ones finish.")
        }
        Finding::NotListening {
            protocol,
            values,
            refusal,
        } => {
            let what = protocol.map_or("sessions", what_is_new);
            let why = refusal.map_or_else(String::new, |code| format!(" ({})", refusal_text(code)));
            format!(
                "The proxy accepts no {what}: it cannot listen on {}{why}.",
                values.join(", ")
            )
        }
        Finding::NoBackendKnown { refused_per_s } => {
            format!("No backend is known{}.", refused(*refused_per_s))
        }
        Finding::NoBackendUsable {
            protocol,
            counts,
            refused_per_s,
        } => {
            let what = protocol.map_or("traffic", what_is_new);
            format!(
                "No backend takes {what}{}. {}.",
                refused(*refused_per_s),
                counts_text(counts)
            )
        }
        Finding::FailOpen { protocol, counts } => {
            let what = protocol.map_or_else(String::new, |protocol| {
                format!(" for {}", what_is_new(protocol))
            });
            let wanted = counts.wanted();
            format!("All {wanted} backends are down and still used{what} (all_down: fail_open).")
        }
        Finding::UdpAlone { failed, window_s } => {
            let failed = match failed {
                0 => String::new(),
                failed => format!(" TCP sessions that failed in {window_s} s: {failed}."),
            };
            format!(
                "UDP is answered, and no backend has accepted a TCP connection since the proxy \
                 started.{failed} If the service uses UDP only, set \"tcp\": false in \"listen\"."
            )
        }
        Finding::Failing {
            protocol,
            is_most: _,
            share,
            per_s,
            reason,
            failed: _,
            of: _,
            window_s: _,
        } => {
            let what = match protocol {
                Protocol::Tcp => "sessions",
                Protocol::Udp => "UDP flows",
            };
            let percent = share * 100.0;
            let reason = reason.replace('_', " ");
            format!("{percent:.1} % of {what} fail ({per_s:.1}/s), mostly {reason}.")
        }
        Finding::Refused {
            generation,
            running,
            code,
            place,
            value,
            detail,
            kept,
            parts,
        } => {
            let what = match generation {
                Some(generation) => format!("Generation {generation}"),
                None if place.is_empty() => "The configuration".to_owned(),
                None => place.trim_start_matches('/').to_owned(),
            };
            let why = refusal_reason(*code, value, detail);
            let more = match parts {
                0 | 1 => String::new(),
                parts => format!(" {} more parts are refused.", parts - 1),
            };
            let follows = match (running, kept) {
                (Some(running), Value::Null) => format!(" Traffic follows generation {running}."),
                (Some(running), kept) => format!(
                    " Traffic follows generation {running}, with {}.",
                    kept_text(kept)
                ),
                (None, _) => String::new(),
            };
            format!("{what} refused: {why}.{follows}{more}")
        }
        Finding::OtherFile { proxy, control } => format!(
            "The proxy reads another file: it reads {proxy}, control writes {control}. \
             No change reaches it."
        ),
        Finding::NotPublished { why } => {
            format!("Changes are not published: {why}. Traffic follows the last published ones.")
        }
        Finding::NotApplied { published, running } => {
            let running = running.map_or_else(String::new, |running| {
                format!(" Traffic follows generation {running}.")
            });
            format!("Generation {published} is not applied.{running}")
        }
        Finding::BackendsOut { counts } => {
            let (out, wanted) = (counts.out(), counts.wanted());
            let (of, are) = (many(wanted, "backend"), is_or_are(out));
            format!("{out} of {of} {are} out. {}.", counts_text(counts))
        }
        Finding::ListenerNotApplied {
            listener,
            place: _,
            why,
            is_kept,
            listeners,
        } => {
            let follows = match is_kept {
                true => "It keeps its last accepted settings.",
                false => "It is not published.",
            };
            let more = match listeners {
                0 | 1 => String::new(),
                listeners => format!(
                    " The same applies to {} more.",
                    many(listeners - 1, "listener")
                ),
            };
            format!("Settings of listener {listener} are not applied: {why}. {follows}{more}")
        }
        Finding::NoPool { counts } => {
            let (backends, are) = (many(counts.total, "backend"), is_or_are(counts.total));
            format!("The pool is not defined: {backends} {are} stored but not published.")
        }
        Finding::NoListener { counts } => {
            let backends = many(counts.total, "backend");
            let take = if counts.total == 1 { "takes" } else { "take" };
            format!("No listener leads to the pool: its {backends} {take} no traffic.")
        }
        Finding::Serving { counts } => {
            let (usable, total) = (counts.usable, counts.total);
            let of = many(total, "backend");
            let take = if usable == 1 { "takes" } else { "take" };
            format!("Traffic flows: {usable} of {of} {take} it.")
        }
    }
}

fn is_or_are(count: usize) -> &'static str {
    match count {
        1 => "is",
        _ => "are",
    }
}

/// ` since 00:01:01 UTC`
fn since_text(since: Option<u64>) -> String {
    let Some(since) = since else {
        return String::new();
    };
    let moment = jiff::Timestamp::from_millisecond(since as i64);
    moment.map_or_else(
        |_| String::new(),
        |moment| format!(" since {} UTC", moment.strftime("%H:%M:%S")),
    )
}

fn what_is_new(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP sessions",
        Protocol::Udp => "UDP flows",
    }
}

fn refused(per_s: f64) -> String {
    match per_s > 0.0 {
        true => format!(": {} sessions/s are refused", short(per_s)),
        false => String::new(),
    }
}

fn short(per_s: f64) -> String {
    match per_s >= 10.0 {
        true => format!("{per_s:.0}"),
        false => format!("{per_s:.1}"),
    }
}

fn counts_text(counts: &Counts) -> String {
    let words = [
        (counts.disabled, "disabled"),
        (counts.drained, "drained"),
        (counts.weight_0, "at weight 0"),
        (counts.expired, "expired"),
        (counts.down, "down"),
        (counts.ejected, "ejected"),
        (counts.warming, "warming up"),
        (counts.left_out, "refused by the proxy"),
        (counts.no_pool, "in a pool that is not defined"),
        (counts.no_listener, "in a pool without a listener"),
        (counts.unknown, "not known to the proxy"),
    ];
    let words = words.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = words
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!("Of {}: {}", counts.total, words.join(", "))
}

fn refusal_text(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::AddressInUse => "the port is in use",
        RefusalCode::AddressNotAvailable => "the proxy's host does not have this address",
        RefusalCode::NeedsRestart => "the proxy must be restarted for it",
        RefusalCode::CannotBind => "it cannot be bound",
        RefusalCode::OwnListener => "it is the proxy's own listener",
        RefusalCode::Unreadable => "the file cannot be read",
        RefusalCode::Invalid => "it is not valid",
        RefusalCode::Other => "the proxy does not take it",
    }
}

fn refusal_reason(code: RefusalCode, value: &str, detail: &str) -> String {
    match code {
        RefusalCode::AddressInUse => format!("{value} is in use"),
        RefusalCode::AddressNotAvailable
        | RefusalCode::NeedsRestart
        | RefusalCode::CannotBind
        | RefusalCode::OwnListener => format!("{value}: {}", refusal_text(code)),
        RefusalCode::Unreadable | RefusalCode::Invalid | RefusalCode::Other => {
            match detail.is_empty() {
                true => refusal_text(code).to_owned(),
                false => detail.trim_end_matches('.').to_owned(),
            }
        }
    }
}

/// An address as one writes it, and anything else as JSON.
fn kept_text(kept: &Value) -> String {
    match (kept["host"].as_str(), kept["port"].as_u64()) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (_, _) => kept.to_string(),
    }
}
