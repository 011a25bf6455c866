//! Why a backend is in its state, as codes with their figures. Programs and pages act on these; the English
//! that [`StateReason`] is displayed as is for logs.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

/// One part of why a backend is in its state; several together say it all. In JSON
/// `{"code": "slow_start", "args": {"percent": 40}}`, without `args` where the code says it all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", content = "args", rename_all = "snake_case")]
pub enum StateReason {
    /// The backend reports that it is warming up.
    WarmingUp,
    /// It has come in and gets a part of its share yet.
    SlowStart {
        /// Of its share, 0 to 100.
        percent: u32,
    },
    /// The last probe passed.
    ProbePassed {
        /// How long it took, in microseconds.
        latency_us: u64,
    },
    /// Probes pass again, too few in a row yet.
    ProbesPass {
        /// In a row.
        count: u64,
        /// As many bring it in.
        of: u64,
    },
    /// The last probe failed.
    ProbeFailed {
        /// How.
        #[serde(flatten)]
        failure: ProbeFailure,
        /// Failed probes in a row.
        count: u64,
        /// As many take it out.
        of: u64,
    },
    /// Probes have not ended yet.
    NoProbeYet,
    /// A probe would reach the proxy itself, by `health.port`.
    ProbeOfOwnListener {
        /// The proxy's listener.
        listener: SocketAddr,
    },
    /// Probes are about one protocol; the other one is not judged by them.
    OtherProtocolUnaffected {
        /// The one that is not.
        protocol: Work,
    },
    /// It failed what it was given.
    FailedInRow {
        /// What.
        protocol: Work,
        /// In a row.
        count: u32,
    },
    /// It gets nothing for a while.
    EjectedFor {
        /// Time left.
        seconds: u64,
        /// Failures in a row that led to it.
        failures: u32,
        /// Of what.
        protocol: Work,
    },
    /// It gets nothing until probes pass.
    EjectedUntilProbesPass {
        /// Passed probes in a row.
        passes: u64,
        /// As many bring it in.
        of: u64,
        /// Failures in a row that led to it.
        failures: u32,
        /// Of what.
        protocol: Work,
    },
    /// The last connect was refused.
    LastConnectRefused,
    /// The last connect timed out.
    LastConnectTimedOut,
    /// The last connect succeeded.
    LastConnectSucceeded,
    /// The last flow was answered.
    LastFlowAnswered,
    /// The last flow was refused.
    LastFlowRefused,
    /// No connect was attempted yet.
    NoConnectYet,
    /// Flows were answered.
    FlowsAnswered,
    /// No flow was answered yet.
    NoFlowAnsweredYet,
    /// No TCP connection was accepted yet.
    NoTcpAcceptedYet,
    /// All backends are out, and `all_down` is `fail_open`.
    AllDownStillUsed,
    /// No listener leads to the backend's pool.
    NoListener,
    /// Control's own: the registration expired.
    RegistrationExpired,
    /// Control's own: the proxy does not report the backend.
    NotReported,
}

/// What a backend is given, by protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// TCP sessions.
    Tcp,
    /// UDP flows.
    Udp,
}

/// How a probe failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The host or network is unreachable.
    Unreachable,
    /// No answer came in time.
    TimedOut,
    /// Closed or reset before the answer was whole.
    Closed,
    /// The answer does not hold what is expected.
    Unexpected,
    /// The answer is not HTTP.
    NotHttp,
    /// The answer has a status that is not expected.
    HttpStatus {
        /// As HTTP has it.
        status: u16,
    },
    /// A failure that only a newer proxy knows.
    #[serde(other)]
    Other,
}

impl StateReason {
    /// Several as one text, for logs.
    pub fn text_of(reasons: &[StateReason]) -> String {
        let texts: Vec<String> = reasons.iter().map(StateReason::to_string).collect();
        texts.join("; ")
    }
}

/// Reads reasons; none where one of them is a newer proxy's, so that no half of them is shown.
///
/// # Errors
/// What is not a list.
pub fn read_known<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<StateReason>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Known(StateReason),
        Newer(serde::de::IgnoredAny),
    }
    let read = Vec::<Read>::deserialize(from)?.into_iter();
    let known: Option<_> = read
        .map(|one| match one {
            Read::Known(reason) => Some(reason),
            Read::Newer(_) => None,
        })
        .collect();
    Ok(known.unwrap_or_default())
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateReason::WarmingUp => "warming up (reported by the backend)",
            StateReason::SlowStart { percent } => {
                return write!(f, "slow start: {percent} % of its share");
            }
            StateReason::ProbePassed { latency_us } => {
                let took_ms = *latency_us as f64 / 1_000.0;
                return write!(f, "probe: passed in {took_ms:.1} ms");
            }
            StateReason::ProbesPass { count, of } => {
                return write!(f, "probe: passed ({count} of {of})");
            }
            StateReason::ProbeFailed { failure, count, of } => {
                return write!(f, "probe: {failure} ({count} of {of})");
            }
            StateReason::NoProbeYet => "no probe result yet",
            StateReason::ProbeOfOwnListener { listener } => {
                return write!(
                    f,
                    "not probed: health.port leads to the proxy's own listener {listener}"
                );
            }
            StateReason::OtherProtocolUnaffected { protocol } => {
                return write!(f, "does not affect {protocol}");
            }
            StateReason::FailedInRow { protocol, count } => {
                return match count {
                    1 => write!(f, "the last {} failed", one(*protocol)),
                    _ => write!(f, "the last {count} {protocol} failed"),
                };
            }
            StateReason::EjectedFor {
                seconds,
                failures,
                protocol,
            } => {
                let why = failed_in_row(*failures, *protocol);
                return write!(f, "ejected, {seconds} s left: {why}");
            }
            StateReason::EjectedUntilProbesPass {
                passes,
                of,
                failures,
                protocol,
            } => {
                let why = failed_in_row(*failures, *protocol);
                return write!(f, "ejected until probes pass ({passes} of {of}): {why}");
            }
            StateReason::LastConnectRefused => "the last connect was refused",
            StateReason::LastConnectTimedOut => "the last connect timed out",
            StateReason::LastConnectSucceeded => "the last connect succeeded",
            StateReason::LastFlowAnswered => "the last flow was answered",
            StateReason::LastFlowRefused => "the last flow was refused",
            StateReason::NoConnectYet => "no connect attempted yet",
            StateReason::FlowsAnswered => "flows were answered",
            StateReason::NoFlowAnsweredYet => "no flow answered yet",
            StateReason::NoTcpAcceptedYet => "no TCP connection accepted yet",
            StateReason::AllDownStillUsed => {
                "still used: all backends are out (all_down: fail_open)"
            }
            StateReason::RegistrationExpired => "its registration expired",
            StateReason::NoListener => "no listener leads to its pool",
            StateReason::NotReported => "the proxy does not report it",
        })
    }
}

fn failed_in_row(count: u32, protocol: Work) -> String {
    match (protocol, count) {
        (Work::Tcp, 1) => "1 session failed".to_owned(),
        (Work::Tcp, _) => format!("{count} sessions failed in a row"),
        (Work::Udp, 1) => "1 flow was refused".to_owned(),
        (Work::Udp, _) => format!("{count} flows were refused in a row"),
    }
}

fn one(protocol: Work) -> &'static str {
    match protocol {
        Work::Tcp => "session",
        Work::Udp => "flow",
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Tcp => "sessions",
            Work::Udp => "flows",
        })
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeFailure::Refused => "refused",
            ProbeFailure::Unreachable => "unreachable",
            ProbeFailure::TimedOut => "no answer in time",
            ProbeFailure::Closed => "closed before an answer",
            ProbeFailure::Unexpected => "not the expected answer",
            ProbeFailure::NotHttp => "the answer is not HTTP",
            ProbeFailure::HttpStatus { status } => return write!(f, "HTTP status {status}"),
            ProbeFailure::Other => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(from: Value) -> Result<Vec<StateReason>, serde_json::Error> {
        read_known(from)
    }

    #[test]
    fn a_reason_is_a_code_with_its_figures_and_is_read_back() {
        let failed = StateReason::ProbeFailed {
            failure: ProbeFailure::HttpStatus { status: 503 },
            count: 2,
            of: 3,
        };
        let own = StateReason::ProbeOfOwnListener {
            listener: ([127, 0, 0, 1], 80).into(),
        };
        let reasons = [failed, StateReason::NoTcpAcceptedYet, own];
        let written = json!([
            {"code": "probe_failed",
             "args": {"failure": "http_status", "status": 503, "count": 2, "of": 3}},
            {"code": "no_tcp_accepted_yet"},
            {"code": "probe_of_own_listener", "args": {"listener": "127.0.0.1:80"}},
        ]);
        assert_eq!(json!(reasons), written);
        assert_eq!(read(written).expect("known codes"), reasons);
        assert_eq!(
            StateReason::text_of(&reasons[..2]),
            "probe: HTTP status 503 (2 of 3); no TCP connection accepted yet"
        );
    }

    #[test]
    fn of_reasons_that_only_a_newer_proxy_knows_none_is_taken() {
        let newer = json!([{"code": "warming_up"}, {"code": "moonstruck", "args": {"phase": 3}}]);
        assert_eq!(read(newer).expect("a list"), []);
        let failure = json!([{"code": "probe_failed",
                              "args": {"failure": "tls_alert", "alert": 40, "count": 1, "of": 3}}]);
        let other = StateReason::ProbeFailed {
            failure: ProbeFailure::Other,
            count: 1,
            of: 3,
        };
        assert_eq!(read(failure).expect("a list"), [other]);
        assert!(read(json!("down")).is_err());
    }
}
