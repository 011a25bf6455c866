//! Over which protocols the backends of a pool have ever answered.
//!
//! A service behind a listener for TCP and UDP may use only one of them. Then strangers' traffic in the other
//! one is refused, which is no fault of the backends: none has ever answered there, and they do answer in
//! the first one. Once any of them has answered, failures count as usual.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use contract::health::ProbeKind;

use crate::health::PROTOCOLS;
use crate::plan::Protocol;

/// One a pool, shared by its backends; outlives reloads and backends. Workers read it where a backend
/// fails, and it is written only when it changes.
#[derive(Debug, Default)]
pub struct Protocols {
    have_answered: [AtomicBool; 2],
    /// By what is configured, the service may lack the protocol.
    may_lack: [AtomicBool; 2],
}

impl Protocols {
    /// Takes over a configuration. `serves` are the protocols that listeners of the pool take.
    ///
    /// A probe that asks over a protocol was written down for a service that has it. A plain TCP probe is
    /// the default, so it says nothing.
    pub fn configure(&self, serves: [bool; 2], probe: ProbeKind) {
        let asks_over = match probe {
            ProbeKind::Off | ProbeKind::Tcp => None,
            ProbeKind::SendExpect | ProbeKind::Http => Some(Protocol::Tcp),
            ProbeKind::Udp => Some(Protocol::Udp),
        };
        for protocol in PROTOCOLS {
            let may_lack = serves == [true; 2] && asks_over != Some(protocol);
            self.may_lack[protocol as usize].store(may_lack, Relaxed);
        }
    }

    /// A backend has accepted a connection, or answered a datagram; a probe counts.
    pub fn set_answered(&self, protocol: Protocol) {
        if !self.have_answered(protocol) {
            self.have_answered[protocol as usize].store(true, Relaxed);
        }
    }

    /// Since the process started.
    pub fn have_answered(&self, protocol: Protocol) -> bool {
        self.have_answered[protocol as usize].load(Relaxed)
    }

    /// Whether the service may lack the protocol: the pool serves both, and no backend has answered in this
    /// one. Then no other backend is better than the one that fails.
    pub fn may_lack(&self, protocol: Protocol) -> bool {
        self.may_lack[protocol as usize].load(Relaxed) && !self.have_answered(protocol)
    }

    /// Whether it seems to lack it: the same, and backends do answer in the other one. Then failures in
    /// this one are no fault of theirs.
    pub fn seems_to_lack(&self, protocol: Protocol) -> bool {
        let other = match protocol {
            Protocol::Tcp => Protocol::Udp,
            Protocol::Udp => Protocol::Tcp,
        };
        self.may_lack(protocol) && self.have_answered(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Tcp, Udp};

    #[test]
    fn a_service_seems_to_lack_what_it_never_answered_while_it_answers_the_other() {
        let both = [true; 2];
        for (serves, probe, answered, expected) in [
            (both, ProbeKind::Tcp, [false, false], [false, false]),
            (both, ProbeKind::Tcp, [true, false], [false, true]),
            (both, ProbeKind::Off, [false, true], [true, false]),
            (both, ProbeKind::Off, [true, true], [false, false]),
            ([true, false], ProbeKind::Off, [true, false], [false; 2]),
            // The probe of a service of UDP that asks a port of TCP.
            ([false, true], ProbeKind::Http, [true, false], [false; 2]),
            (both, ProbeKind::Udp, [true, false], [false, false]),
            (both, ProbeKind::Http, [true, false], [false, true]),
            (both, ProbeKind::Http, [false, true], [false, false]),
            (both, ProbeKind::SendExpect, [false, true], [false, false]),
        ] {
            let protocols = Protocols::default();
            protocols.configure(serves, probe);
            for protocol in PROTOCOLS.into_iter().filter(|&p| answered[p as usize]) {
                protocols.set_answered(protocol);
            }
            let found = [Tcp, Udp].map(|protocol| protocols.seems_to_lack(protocol));
            assert_eq!(found, expected, "{serves:?} {probe:?} {answered:?}");
        }
    }
}
