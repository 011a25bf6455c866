//! What is held of a backend, in words: for status and log. The console's Chinese for each phrase is in
//! control/static/reasons-zh.js.

use contract::health::Health as Rules;
use contract::status::{BackendHealth, OperationalState};
use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::health::{Outcome, PROTOCOLS, Standing, Verdict};
use proxy_core::plan::Protocol;

/// What a protocol brings to a backend.
pub fn new_work(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "sessions",
        Protocol::Udp => "flows",
    }
}

/// What the state of a backend is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    pub rules: &'a Rules,
    /// TCP has no say, see [`is_udp_alone`](super::is_udp_alone).
    pub is_udp_alone: bool,
    /// Whether a listener of the pool takes TCP, and whether one takes UDP.
    pub serves: [bool; 2],
    pub now_ms: u64,
}

/// The operational state of a backend, and why it is that.
pub fn operational(
    backend: &BackendState,
    is_warming_up: bool,
    judged: Judged,
) -> (OperationalState, String) {
    let Judged {
        rules,
        is_udp_alone,
        serves: _,
        now_ms,
    } = judged;
    let standing = backend.health().standing();
    if is_udp_alone && standing.is_available(Protocol::Udp) {
        return warming(backend, is_warming_up, now_ms, by_flows(backend));
    }
    if standing.is_probed() && standing.verdict() == Verdict::Down {
        return (OperationalState::Down, down(&standing, rules));
    }
    if let Some(why) = ejected(&standing, rules, now_ms) {
        return (OperationalState::Ejected, why);
    }
    let reached = reached(backend, &standing, rules);
    warming(backend, is_warming_up, now_ms, reached)
}

/// The operational state of a backend for one protocol alone; `None` where no listener takes it.
pub fn over(
    protocol: Protocol,
    backend: &BackendState,
    is_warming_up: bool,
    judged: Judged,
) -> Option<OperationalState> {
    if !judged.serves[protocol as usize] {
        return None;
    }
    let standing = backend.health().standing();
    let is_lacking = backend.protocols().seems_to_lack(protocol);
    if standing.is_down_for(protocol) && !is_lacking {
        return Some(OperationalState::Down);
    }
    if standing.is_ejected_for(protocol) {
        return Some(OperationalState::Ejected);
    }
    let state = match backend.last_over(protocol) {
        _ if standing.is_shown_up(protocol) => OperationalState::Up,
        // No backend has ever answered in this protocol, so failures are no fault of this one.
        _ if is_lacking => OperationalState::Checking,
        LastConnect::Succeeded | LastConnect::FlowAnswered => OperationalState::Up,
        LastConnect::Failed | LastConnect::TimedOut | LastConnect::FlowRefused => {
            OperationalState::Down
        }
        LastConnect::None => OperationalState::Checking,
    };
    let reached = (state, String::new());
    Some(warming(backend, is_warming_up, judged.now_ms, reached).0)
}

/// What is reached so, unless it warms up.
fn warming(
    backend: &BackendState,
    is_warming_up: bool,
    now_ms: u64,
    (state, why): (OperationalState, String),
) -> (OperationalState, String) {
    let ramp = backend.ramp(now_ms);
    match state {
        OperationalState::Down => (state, why),
        _ if is_warming_up => (
            OperationalState::Warming,
            "warming up (reported by the backend)".to_owned(),
        ),
        _ if ramp < 1.0 => {
            let percent = (ramp * 100.0) as u32;
            let why = format!("slow start: {percent} % of its share; {why}");
            (OperationalState::Warming, why)
        }
        _ => (state, why),
    }
}

/// Why a backend is out, or what it is reached by.
pub fn why(backend: &BackendState, rules: &Rules, now_ms: u64) -> String {
    let judged = Judged {
        rules,
        is_udp_alone: false,
        serves: [false; 2],
        now_ms,
    };
    operational(backend, false, judged).1
}

/// What flows say of a backend.
fn by_flows(backend: &BackendState) -> (OperationalState, String) {
    let refused = backend.health().failures_in_row(Protocol::Udp);
    let (state, mut why) = match (backend.answers_datagrams(), refused) {
        (true, 0) => (OperationalState::Up, "flows were answered".to_owned()),
        (false, 0) => (
            OperationalState::Checking,
            "no flow answered yet".to_owned(),
        ),
        (_, count) => (
            OperationalState::Down,
            format!("{count} flows in a row failed"),
        ),
    };
    why.push_str("; no TCP connection accepted yet");
    (state, why)
}

fn down(standing: &Standing, rules: &Rules) -> String {
    let (passes, _) = standing.in_row();
    let why = match passes {
        0 => last_probe(standing, rules),
        _ => format!("probe: passed ({passes} of {})", rules.probe.rise),
    };
    let used = |protocol: &Protocol| standing.is_available(*protocol);
    match PROTOCOLS.into_iter().find(used) {
        None => why,
        Some(protocol) => format!("{why}; does not affect {}", new_work(protocol)),
    }
}

fn ejected(standing: &Standing, rules: &Rules, now_ms: u64) -> Option<String> {
    let protocol = PROTOCOLS
        .into_iter()
        .find(|&p| standing.is_ejected_for(p))?;
    let ejection = standing.ejection(protocol);
    let until_ms = ejection.until_ms()?;
    let failures = ejection.failures();
    let what = match protocol {
        Protocol::Tcp => "sessions failed",
        Protocol::Udp => "flows were refused",
    };
    let left_s = until_ms.saturating_sub(now_ms).div_ceil(1_000);
    let passes = standing.in_row().0.min(rules.probe.rise);
    let until = match left_s {
        0 => format!("until probes pass ({passes} of {})", rules.probe.rise),
        _ => format!("for {left_s} s"),
    };
    Some(format!("ejected {until}: {failures} {what} in a row"))
}

/// What is known of a backend that is in: by probes, and where they say nothing, by sessions.
fn reached(
    backend: &BackendState,
    standing: &Standing,
    rules: &Rules,
) -> (OperationalState, String) {
    let says_nothing = |protocol| backend.protocols().seems_to_lack(protocol);
    let last = match says_nothing(Protocol::Udp) {
        true => backend.last_over(Protocol::Tcp),
        false => backend.last_connect(),
    };
    let by_session = match last {
        LastConnect::Failed => (OperationalState::Down, "the last connect was refused"),
        LastConnect::TimedOut => (OperationalState::Down, "the last connect timed out"),
        LastConnect::Succeeded => (OperationalState::Up, "the last connect succeeded"),
        LastConnect::FlowAnswered => (OperationalState::Up, "the last flow was answered"),
        LastConnect::FlowRefused => (OperationalState::Down, "the last flow was refused"),
        LastConnect::None if standing.is_probed() => {
            (OperationalState::Checking, "no probe result yet")
        }
        LastConnect::None => (OperationalState::Checking, "no connect attempted yet"),
    };
    let failures = PROTOCOLS.map(|protocol| backend.health().failures_in_row(protocol));
    let mut why = match (standing.is_probed(), standing.last_probe()) {
        (true, Some(_)) => last_probe(standing, rules),
        (true, None) | (false, _) => by_session.1.to_owned(),
    };
    for (protocol, count) in PROTOCOLS.into_iter().zip(failures) {
        if count > 0 && !says_nothing(protocol) {
            let what = new_work(protocol);
            why.push_str(&format!("; {count} {what} in a row failed"));
        }
    }
    let state = match standing.verdict() {
        Verdict::Up if standing.is_probed() => OperationalState::Up,
        Verdict::Up | Verdict::Down | Verdict::Unknown => by_session.0,
    };
    (state, why)
}

fn last_probe(standing: &Standing, rules: &Rules) -> String {
    let (_, fails) = standing.in_row();
    match standing.last_probe().map(|last| last.outcome) {
        None | Some(Outcome::Inconclusive) => "no probe result yet".to_owned(),
        Some(Outcome::OwnListener(listener)) => {
            format!("not probed: health.port leads to the proxy's own listener {listener}")
        }
        Some(Outcome::Passed { latency_us }) => {
            format!("probe: passed in {:.1} ms", latency_us as f64 / 1_000.0)
        }
        Some(Outcome::Failed(failure)) => {
            let fall = rules.probe.fall;
            format!("probe: {failure} ({} of {fall})", fails.min(fall))
        }
    }
}

/// Health of one backend as the status has it.
pub fn status(
    backend: &BackendState,
    is_warming_up: bool,
    judged: Judged,
    unix_ms: u64,
) -> BackendHealth {
    let now_ms = judged.now_ms;
    let over = |protocol| over(protocol, backend, is_warming_up, judged);
    let (tcp, udp) = (over(Protocol::Tcp), over(Protocol::Udp));
    let health = backend.health();
    let standing = health.standing();
    let (probes_total, probe_failures_total) = standing.probes();
    let last = standing.last_probe();
    let in_row = |protocol| u64::from(health.failures_in_row(protocol));
    let until_ms = PROTOCOLS.map(|protocol| standing.ejection(protocol).until_ms());
    let until_ms = until_ms.into_iter().flatten().max();
    BackendHealth {
        probes_total,
        probe_failures_total,
        probed_at_ms: last.map(|last| unix_ms.saturating_sub(now_ms.saturating_sub(last.at_ms))),
        probe_result: last.and_then(|last| match last.outcome {
            Outcome::Passed { .. } => Some("passed".to_owned()),
            Outcome::Failed(failure) => Some(failure.to_string()),
            Outcome::Inconclusive | Outcome::OwnListener(_) => None,
        }),
        probe_latency_us: standing.latency_us(),
        session_failures_in_row: in_row(Protocol::Tcp),
        flow_failures_in_row: in_row(Protocol::Udp),
        ejections_total: standing.ejections(),
        ejected_for_ms: until_ms.map(|until_ms| until_ms.saturating_sub(now_ms)),
        slow_start: backend.ramp(now_ms),
        takes_sessions: standing.is_available(Protocol::Tcp),
        takes_flows: standing.is_available(Protocol::Udp),
        tcp,
        udp,
    }
}
