//! What is held of one backend, and how a probe or an ejection changes it. Pure: results and time
//! are arguments.

use std::net::SocketAddr;

use contract::health::{Ejection as EjectionRules, Probe};
use contract::state_reason::ProbeFailure;

use super::ejection::Ejection;
use super::{PROTOCOLS, Subject};
use crate::plan::Protocol;

/// How one probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered as it should.
    Passed {
        /// From the begin of the probe to the answer.
        latency_us: u64,
    },
    /// The backend did not answer, or not as it should.
    Failed(ProbeFailure),
    /// It could not be made, for want of a descriptor or a port of ours: no word on the backend.
    Inconclusive,
    /// It was not made: it would have reached this listener of the proxy itself.
    OwnListener(SocketAddr),
}

impl Outcome {
    /// Whether a connection was accepted for certain, or a datagram answered.
    fn was_answered(self) -> bool {
        match self {
            Outcome::Passed { .. } => true,
            Outcome::Failed(failure) => match failure {
                ProbeFailure::Closed
                | ProbeFailure::Unexpected
                | ProbeFailure::NotHttp
                | ProbeFailure::HttpStatus { .. } => true,
                ProbeFailure::Refused
                | ProbeFailure::Unreachable
                | ProbeFailure::TimedOut
                | ProbeFailure::Other => false,
            },
            Outcome::Inconclusive | Outcome::OwnListener(_) => false,
        }
    }
}

/// What the probes so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Too little is known, and what is not known to be down is used.
    #[default]
    Unknown,
    /// The backend passed its last probe, and, if it was down, `rise` probes in a row.
    Up,
    /// `fall` consecutive probes failed, and not yet `rise` in a row have passed since.
    Down,
}

/// The last probe that said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastProbe {
    /// When it ended.
    pub at_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What is held of one backend.
#[derive(Debug, Default)]
pub struct Standing {
    is_enabled: bool,
    is_warming: bool,
    subject: Subject,
    verdict: Verdict,
    /// A probe of this subject has passed.
    has_passed: bool,
    /// The last probe was accepted (TCP) or answered (UDP), whatever became of it.
    was_answered: bool,
    /// No probe can be made, so none has a say.
    is_out_of_reach: bool,
    /// In a row, up to now; one of the two is 0. An ejection resets them.
    passes: u64,
    fails: u64,
    last: Option<LastProbe>,
    latency_us: Option<u64>,
    probes: u64,
    probe_failures: u64,
    ejections: [Ejection; 2],
}

impl Standing {
    /// Takes over a configuration. Returns whether slow start begins: the backend is new, enabled
    /// again, or done warming up.
    ///
    /// A disabled backend is not probed, so nothing that was known of it counts when it is back.
    pub(super) fn configure(
        &mut self,
        is_enabled: bool,
        is_warming: bool,
        subject: Subject,
    ) -> bool {
        let was_enabled = std::mem::replace(&mut self.is_enabled, is_enabled);
        let was_warming = std::mem::replace(&mut self.is_warming, is_warming);
        if !is_enabled {
            self.ejections.iter_mut().for_each(|one| one.end(0));
        }
        if !is_enabled || subject != self.subject {
            self.subject = subject;
            self.know_nothing();
        }
        is_enabled && !is_warming && (!was_enabled || was_warming)
    }

    fn know_nothing(&mut self) {
        self.was_answered = false;
        self.verdict = Verdict::Unknown;
        self.has_passed = false;
        self.is_out_of_reach = false;
        self.reset_streaks();
    }

    fn reset_streaks(&mut self) {
        (self.passes, self.fails) = (0, 0);
    }

    /// Counts a probe. What is unknown is up with its first success; what is down needs `rise`.
    pub fn probed(&mut self, outcome: Outcome, rules: &Probe, now_ms: u64) {
        match outcome {
            Outcome::Inconclusive => return,
            Outcome::OwnListener(_) => {
                self.know_nothing();
                self.is_out_of_reach = true;
                self.last = Some(LastProbe {
                    at_ms: now_ms,
                    outcome,
                });
                return;
            }
            Outcome::Passed { latency_us } => {
                self.latency_us = Some(latency_us);
                self.has_passed = true;
                self.passes += 1;
                self.fails = 0;
                let is_back = self.verdict != Verdict::Down || self.passes >= rules.rise;
                if is_back {
                    self.verdict = Verdict::Up;
                }
            }
            Outcome::Failed(_) => {
                self.probe_failures += 1;
                self.fails += 1;
                self.passes = 0;
                if self.fails >= rules.fall {
                    self.verdict = Verdict::Down;
                }
            }
        }
        self.was_answered = outcome.was_answered();
        self.is_out_of_reach = false;
        self.probes += 1;
        self.last = Some(LastProbe {
            at_ms: now_ms,
            outcome,
        });
    }

    /// Leaves the backend out for sessions or flows. Only probes from now on count for its return.
    pub fn eject(&mut self, protocol: Protocol, failures: u32, rules: &EjectionRules, now_ms: u64) {
        self.ejections[protocol as usize].begin(failures, rules, now_ms);
        self.reset_streaks();
    }

    /// Ends each ejection whose time is over; where probes speak for the protocol, not before the
    /// last `rise` of them have passed. A check that fails in between ends none.
    pub fn release(&mut self, rise: u64, now_ms: u64) {
        for protocol in PROTOCOLS {
            if self.may_return(protocol, rise) {
                self.ejections[protocol as usize].release(now_ms);
            }
        }
    }

    /// When [`release`](Self::release) next has something to end, if no probe comes before.
    pub fn next_release_ms(&self, rise: u64) -> Option<u64> {
        let waiting = PROTOCOLS.into_iter().filter(|&p| self.may_return(p, rise));
        waiting
            .filter_map(|p| self.ejections[p as usize].until_ms())
            .min()
    }

    fn may_return(&self, protocol: Protocol, rise: u64) -> bool {
        !self.speaks_for(protocol) || self.passes >= rise
    }

    /// Whether the verdict of the probes counts for this protocol.
    ///
    /// A probe over TCP counts for UDP only once it has passed: a backend that has never answered
    /// over TCP may well serve UDP alone, and one that has and does not any more is gone, which UDP
    /// could not find out by itself. A UDP probe never counts for TCP, whose connects tell.
    pub fn speaks_for(&self, protocol: Protocol) -> bool {
        if self.is_out_of_reach {
            return false;
        }
        match (self.subject, protocol) {
            (None, _) | (Some(Protocol::Udp), Protocol::Tcp) => false,
            (Some(Protocol::Tcp), Protocol::Tcp) | (Some(Protocol::Udp), Protocol::Udp) => true,
            (Some(Protocol::Tcp), Protocol::Udp) => self.has_passed,
        }
    }

    /// Down by the word of the probes.
    pub fn is_down_for(&self, protocol: Protocol) -> bool {
        self.verdict == Verdict::Down && self.speaks_for(protocol)
    }

    /// Whether sessions or flows that failed have taken it out.
    pub fn is_ejected_for(&self, protocol: Protocol) -> bool {
        self.ejection(protocol).until_ms().is_some()
    }

    /// Whether its health lets it take new sessions or flows.
    pub fn is_available(&self, protocol: Protocol) -> bool {
        !self.is_down_for(protocol) && !self.is_ejected_for(protocol)
    }

    /// Whether it is enabled and its pool is probed.
    pub fn is_probed(&self) -> bool {
        self.is_enabled && self.subject.is_some()
    }

    /// Whether probes show that it serves this protocol. One over TCP shows nothing of UDP.
    pub fn is_shown_up(&self, protocol: Protocol) -> bool {
        let is_asked = self.is_probed() && self.subject == Some(protocol);
        is_asked && !self.is_out_of_reach && self.verdict == Verdict::Up
    }

    /// What the probes so far say.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Probes of one kind in a row, successes and failures, one of which is 0.
    pub fn in_row(&self) -> (u64, u64) {
        (self.passes, self.fails)
    }

    /// `None` before the first probe.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.last
    }

    /// Of the last probe that passed.
    pub fn latency_us(&self) -> Option<u64> {
        self.latency_us
    }

    /// The protocol of the last probe, if that was accepted (TCP) or answered (UDP).
    pub fn probes_were_answered_over(&self) -> Option<Protocol> {
        self.subject.filter(|_| self.was_answered)
    }

    /// All and failed ones.
    pub fn probes(&self) -> (u64, u64) {
        (self.probes, self.probe_failures)
    }

    /// Over both protocols.
    pub fn ejections(&self) -> u64 {
        self.ejections.iter().map(Ejection::total).sum()
    }

    /// Its ejection for one protocol.
    pub fn ejection(&self, protocol: Protocol) -> &Ejection {
        &self.ejections[protocol as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Outcome = Outcome::Passed { latency_us: 7 };
    const FAILED: Outcome = Outcome::Failed(ProbeFailure::Refused);

    fn standing(subject: Protocol) -> Standing {
        let mut standing = Standing::default();
        assert!(standing.configure(true, false, Some(subject)));
        standing
    }

    /// The verdict after each of `outcomes`, at rise 2 and fall 3.
    fn verdicts(standing: &mut Standing, outcomes: &str) -> String {
        let after = |outcome| {
            let outcome = match outcome {
                '+' => PASSED,
                '-' => FAILED,
                _ => Outcome::Inconclusive,
            };
            standing.probed(outcome, &Probe::default(), 0);
            match standing.verdict() {
                Verdict::Unknown => '?',
                Verdict::Up => 'u',
                Verdict::Down => 'd',
            }
        };
        outcomes.chars().map(after).collect()
    }

    #[test]
    fn rise_and_fall_count_results_in_a_row() {
        for (outcomes, expected) in [
            ("+--+---+-++", "uuuuuuddddu"),
            ("---", "??d"),
            ("--+", "??u"),
            ("--.-", "???d"),
            ("---+.+", "??dddu"),
        ] {
            let mut standing = standing(Protocol::Tcp);
            assert_eq!(verdicts(&mut standing, outcomes), expected, "{outcomes}");
        }
    }

    #[test]
    fn a_backend_without_tcp_is_not_taken_from_udp() {
        let mut never = standing(Protocol::Tcp);
        verdicts(&mut never, "----");
        assert!(!never.is_available(Protocol::Tcp) && never.is_available(Protocol::Udp));
        let mut once = standing(Protocol::Tcp);
        verdicts(&mut once, "+---");
        assert!(!once.is_available(Protocol::Tcp) && !once.is_available(Protocol::Udp));
        let mut of_udp = standing(Protocol::Udp);
        verdicts(&mut of_udp, "+---");
        assert!(of_udp.is_available(Protocol::Tcp) && !of_udp.is_available(Protocol::Udp));
    }

    #[test]
    fn an_ejection_ends_only_when_its_time_is_over_and_probes_have_passed() {
        let rules = EjectionRules::default();
        let mut ejected = standing(Protocol::Tcp);
        verdicts(&mut ejected, "+++");
        ejected.eject(Protocol::Tcp, 5, &rules, 0);
        assert_eq!(ejected.next_release_ms(2), None, "probes are missing");
        // A failing check ends no ejection, and what passed before it does not count.
        verdicts(&mut ejected, "+-+");
        ejected.release(2, 2 * rules.base_ms);
        assert!(!ejected.is_available(Protocol::Tcp));
        verdicts(&mut ejected, "+");
        assert_eq!(ejected.next_release_ms(2), Some(rules.base_ms));
        ejected.release(2, rules.base_ms - 1);
        assert!(!ejected.is_available(Protocol::Tcp));
        assert!(ejected.is_available(Protocol::Udp));
        ejected.release(2, rules.base_ms);
        assert!(ejected.is_available(Protocol::Tcp));
    }

    #[test]
    fn a_probe_that_would_reach_this_proxy_has_no_say() {
        let rules = EjectionRules::default();
        let own = Outcome::OwnListener(SocketAddr::from(([127, 0, 0, 1], 80)));
        let mut standing = standing(Protocol::Tcp);
        verdicts(&mut standing, "+---");
        standing.probed(own, &Probe::default(), 0);
        assert!(standing.is_available(Protocol::Tcp));
        assert_eq!(standing.probes(), (4, 3), "none was made");
        standing.eject(Protocol::Tcp, 5, &rules, 0);
        standing.release(2, rules.base_ms);
        assert!(standing.is_available(Protocol::Tcp), "its time is over");
        verdicts(&mut standing, "---");
        assert!(!standing.is_available(Protocol::Tcp), "it is probed again");
    }

    #[test]
    fn without_probes_time_alone_ends_an_ejection() {
        let rules = EjectionRules::default();
        let mut ejected = Standing::default();
        ejected.configure(true, false, None);
        ejected.eject(Protocol::Udp, 5, &rules, 0);
        assert_eq!(ejected.next_release_ms(2), Some(rules.base_ms));
        ejected.release(2, rules.base_ms);
        assert!(ejected.is_available(Protocol::Udp));
    }

    #[test]
    fn a_reload_keeps_the_standing_and_an_operators_word_begins_it_anew() {
        let mut standing = standing(Protocol::Tcp);
        verdicts(&mut standing, "+---");
        standing.eject(Protocol::Tcp, 5, &EjectionRules::default(), 0);
        assert!(!standing.configure(true, false, Some(Protocol::Tcp)));
        assert_eq!(standing.verdict(), Verdict::Down);
        assert!(!standing.configure(true, true, Some(Protocol::Tcp)));
        assert!(standing.configure(true, false, Some(Protocol::Tcp)), "warm");
        assert!(!standing.configure(false, false, Some(Protocol::Tcp)));
        assert!(standing.is_available(Protocol::Tcp));
        assert!(standing.configure(true, false, Some(Protocol::Tcp)), "back");
        assert_eq!(standing.verdict(), Verdict::Unknown);
        verdicts(&mut standing, "---");
        standing.configure(true, false, None);
        assert!(standing.is_available(Protocol::Tcp), "probes are off");
    }
}
