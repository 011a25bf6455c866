//! What is held of a backend, and why: as codes for the status, as text for the log.

use contract::health::Health as Rules;
use contract::state_reason::{StateReason, Work};
use contract::status::{BackendHealth, OperationalState};
use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::health::{Outcome, PROTOCOLS, Standing, Verdict};
use proxy_core::plan::Protocol;

/// What a protocol brings to a backend.
pub fn work_of(protocol: Protocol) -> Work {
    match protocol {
        Protocol::Tcp => Work::Tcp,
        Protocol::Udp => Work::Udp,
    }
}

/// A state, and why it is that.
type Found = (OperationalState, Vec<StateReason>);

/// What the state of a backend is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    pub rules: &'a Rules,
    /// TCP has no say, see [`crate::udp_alone`].
    pub is_udp_alone: bool,
    /// Whether a listener of the pool takes TCP, and whether one takes UDP.
    pub serves: [bool; 2],
    pub now_ms: u64,
}

/// The operational state of a backend, and why it is that.
pub fn operational(backend: &BackendState, is_warming_up: bool, judged: Judged) -> Found {
    let Judged {
        rules,
        is_udp_alone,
        serves,
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
        return (OperationalState::Ejected, vec![why]);
    }
    let mut reached = reached(backend, &standing, rules);
    if serves == [false; 2] && reached.1 == [StateReason::NoConnectYet] {
        reached.1 = vec![StateReason::NoListener];
    }
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
    let reached = (state, Vec::new());
    Some(warming(backend, is_warming_up, judged.now_ms, reached).0)
}

/// What is reached so, unless it warms up.
fn warming(
    backend: &BackendState,
    is_warming_up: bool,
    now_ms: u64,
    (state, mut why): Found,
) -> Found {
    let ramp = backend.ramp(now_ms);
    match state {
        OperationalState::Down => (state, why),
        _ if is_warming_up => (OperationalState::Warming, vec![StateReason::WarmingUp]),
        _ if ramp < 1.0 => {
            let percent = (ramp * 100.0) as u32;
            why.insert(0, StateReason::SlowStart { percent });
            (OperationalState::Warming, why)
        }
        _ => (state, why),
    }
}

/// Why a backend is out, or what it is reached by, for the log.
pub fn why(backend: &BackendState, rules: &Rules, now_ms: u64) -> String {
    let judged = Judged {
        rules,
        is_udp_alone: false,
        // Only backends of pools that are used are logged.
        serves: [true; 2],
        now_ms,
    };
    StateReason::text_of(&operational(backend, false, judged).1)
}

/// What flows say of a backend.
fn by_flows(backend: &BackendState) -> Found {
    let refused = backend.health().failures_in_row(Protocol::Udp);
    let protocol = Work::Udp;
    let (state, why) = match (backend.answers_datagrams(), refused) {
        (true, 0) => (OperationalState::Up, StateReason::FlowsAnswered),
        (false, 0) => (OperationalState::Checking, StateReason::NoFlowAnsweredYet),
        (_, count) => (
            OperationalState::Down,
            StateReason::FailedInRow { protocol, count },
        ),
    };
    (state, vec![why, StateReason::NoTcpAcceptedYet])
}

fn down(standing: &Standing, rules: &Rules) -> Vec<StateReason> {
    let (count, _) = standing.in_row();
    let why = match count {
        0 => last_probe(standing, rules),
        _ => StateReason::ProbesPass {
            count,
            of: rules.probe.rise,
        },
    };
    let used = |protocol: &Protocol| standing.is_available(*protocol);
    let unaffected = PROTOCOLS.into_iter().find(used).map(|protocol| {
        let protocol = work_of(protocol);
        StateReason::OtherProtocolUnaffected { protocol }
    });
    std::iter::once(why).chain(unaffected).collect()
}

fn ejected(standing: &Standing, rules: &Rules, now_ms: u64) -> Option<StateReason> {
    let protocol = PROTOCOLS
        .into_iter()
        .find(|&p| standing.is_ejected_for(p))?;
    let ejection = standing.ejection(protocol);
    let until_ms = ejection.until_ms()?;
    let failures = ejection.failures();
    let protocol = work_of(protocol);
    Some(match until_ms.saturating_sub(now_ms).div_ceil(1_000) {
        0 => StateReason::EjectedUntilProbesPass {
            passes: standing.in_row().0.min(rules.probe.rise),
            of: rules.probe.rise,
            failures,
            protocol,
        },
        seconds => StateReason::EjectedFor {
            seconds,
            failures,
            protocol,
        },
    })
}

/// What is known of a backend that is in: by probes, and where they say nothing, by sessions.
fn reached(backend: &BackendState, standing: &Standing, rules: &Rules) -> Found {
    let says_nothing = |protocol| backend.protocols().seems_to_lack(protocol);
    let last = match says_nothing(Protocol::Udp) {
        true => backend.last_over(Protocol::Tcp),
        false => backend.last_connect(),
    };
    let by_session = match last {
        LastConnect::Failed => (OperationalState::Down, StateReason::LastConnectRefused),
        LastConnect::TimedOut => (OperationalState::Down, StateReason::LastConnectTimedOut),
        LastConnect::Succeeded => (OperationalState::Up, StateReason::LastConnectSucceeded),
        LastConnect::FlowAnswered => (OperationalState::Up, StateReason::LastFlowAnswered),
        LastConnect::FlowRefused => (OperationalState::Down, StateReason::LastFlowRefused),
        LastConnect::None if standing.is_probed() => {
            (OperationalState::Checking, StateReason::NoProbeYet)
        }
        LastConnect::None => (OperationalState::Checking, StateReason::NoConnectYet),
    };
    let failures = PROTOCOLS.map(|protocol| backend.health().failures_in_row(protocol));
    let mut why = vec![match (standing.is_probed(), standing.last_probe()) {
        (true, Some(_)) => last_probe(standing, rules),
        (true, None) | (false, _) => by_session.1,
    }];
    for (protocol, count) in PROTOCOLS.into_iter().zip(failures) {
        if count > 0 && !says_nothing(protocol) {
            let protocol = work_of(protocol);
            why.push(StateReason::FailedInRow { protocol, count });
        }
    }
    let state = match standing.verdict() {
        Verdict::Up if standing.is_probed() => OperationalState::Up,
        Verdict::Up | Verdict::Down | Verdict::Unknown => by_session.0,
    };
    (state, why)
}

fn last_probe(standing: &Standing, rules: &Rules) -> StateReason {
    let (_, fails) = standing.in_row();
    match standing.last_probe().map(|last| last.outcome) {
        None | Some(Outcome::Inconclusive) => StateReason::NoProbeYet,
        Some(Outcome::OwnListener(listener)) => StateReason::ProbeOfOwnListener { listener },
        Some(Outcome::Passed { latency_us }) => StateReason::ProbePassed { latency_us },
        Some(Outcome::Failed(failure)) => StateReason::ProbeFailed {
            failure,
            count: fails.min(rules.probe.fall),
            of: rules.probe.fall,
        },
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
        probe_failure: last.and_then(|last| match last.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Passed { .. } | Outcome::Inconclusive | Outcome::OwnListener(_) => None,
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
