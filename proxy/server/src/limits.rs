//! How many sessions and flows this process can hold, by its limit on descriptors and by this host's
//! local ports.

use contract::Listener;
use proxy_core::plan::endpoints_of;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept free for reload, admin socket, log and the like, so that they work at the limit too.
const RESERVED: u64 = 64;
/// Descriptors of a worker: poller, mailbox and the like.
const PER_WORKER: u64 = 8;
/// Sockets that a worker accepts on, at least: room for as many more without a change of the bounds.
const LEAST_ENDPOINTS: u64 = 4;

/// Descriptors that many listeners leave to sessions and flows at least.
const LEAST_FREE: u64 = 64;

/// Pipes a worker has at most, and the part of all descriptors that the pipes of all may take: what
/// cannot be spliced is copied, so sessions come first.
const MOST_PIPES: u64 = 64;
const PIPES_SHARE: u64 = 8;

/// Local ports where the range cannot be read, and the part of them that flows leave to others.
const MOST_PORTS: u64 = 1 << 16;
const PORTS_LEFT: u64 = 8;

/// Probes at once, and the part of all descriptors that they may take.
const MOST_PROBES: u64 = 128;
const PROBES_SHARE: u64 = 32;

/// What the descriptor limit allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    descriptors: u64,
    /// Of this network namespace; each flow takes one.
    local_ports: u64,
    workers: u64,
}

/// The bounds in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub max_sessions: u64,
    pub max_flows_per_worker: usize,
}

impl Limits {
    /// Raises the soft limit to the hard one, which needs no privilege, and divides what there is.
    pub fn of_process(workers: usize) -> Limits {
        let limit = getrlimit(Resource::Nofile);
        // Refused only where it is as high as it can be.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                ..limit
            },
        );
        let descriptors = getrlimit(Resource::Nofile)
            .current
            .unwrap_or(u64::from(u32::MAX));
        Limits {
            descriptors,
            local_ports: local_ports().unwrap_or(MOST_PORTS),
            workers: workers as u64,
        }
    }

    /// Pipes for splicing, a worker.
    pub fn pipes_per_worker(&self) -> usize {
        let affordable = self.descriptors / PIPES_SHARE / 2 / self.workers;
        affordable.min(MOST_PIPES) as usize
    }

    /// Probes at once.
    pub fn probes(&self) -> u64 {
        (self.descriptors / PROBES_SHARE).clamp(1, MOST_PROBES)
    }

    /// What the process itself needs with so many sockets to accept on, of two generations, and pipes.
    fn own(&self, endpoints: u64) -> u64 {
        let sockets = endpoints.max(LEAST_ENDPOINTS);
        let pipes = self.pipes_per_worker() as u64;
        RESERVED + self.probes() + self.workers * (PER_WORKER + 2 * sockets + 2 * pipes)
    }

    /// Flows at once over all workers.
    pub fn max_flows(&self, bounds: &Bounds) -> u64 {
        bounds.max_flows_per_worker as u64 * self.workers
    }

    /// What `listeners` need and do not get, as found and allowed, if they are more than the few that there
    /// is always room for.
    pub fn lack(&self, listeners: &[Listener]) -> Option<(String, String)> {
        let endpoints = count_endpoints(listeners);
        let needed = self.own(endpoints) + LEAST_FREE;
        if endpoints <= LEAST_ENDPOINTS || needed <= self.descriptors {
            return None;
        }
        let (count, workers) = (listeners.len(), self.workers);
        let found =
            format!("{count} listeners, which need {needed} descriptors with {workers} workers");
        let allowed = format!("at most {} (limit on open files)", self.descriptors);
        Some((found, allowed))
    }

    /// The bounds of all `listeners` together, lowered to what the descriptors allow: a flow takes one, a
    /// session two. Unless flows are asked for, they leave some local ports to others.
    pub fn bounds(&self, listeners: &[Listener]) -> Bounds {
        let own = self.own(count_endpoints(listeners));
        let free = self.descriptors.saturating_sub(own).max(16);
        let most_flows = free / 2;
        let usual = (free / 8).min(self.local_ports - self.local_ports / PORTS_LEFT);
        let asked = listeners.iter().map(|listener| listener.settings.max_flows);
        let sum = asked.clone().flatten().fold(0, u64::saturating_add);
        let do_all_ask = !listeners.is_empty() && asked.clone().all(|flows| flows.is_some());
        let max_flows = if do_all_ask { sum } else { sum.max(usual) };
        let max_flows = max_flows.min(most_flows);
        let per_worker = max_flows.div_ceil(self.workers).max(1);
        let most_sessions = free.saturating_sub(per_worker * self.workers) / 2;
        let most_sessions = most_sessions.max(1);
        Bounds {
            // Not the sum of what listeners ask for: sessions of removed ones would take the places of the others.
            max_sessions: most_sessions,
            max_flows_per_worker: per_worker as usize,
        }
    }
}

/// The sockets that a worker accepts on.
fn count_endpoints(listeners: &[Listener]) -> u64 {
    listeners.iter().flat_map(endpoints_of).count() as u64
}

/// How many ports the kernel gives by itself (`ip_local_port_range`, ip(7); IPv6 has the same ones).
fn local_ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(|end| end.parse::<u64>().ok());
    let (first, last) = (ends.next()??, ends.next()??);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::ListenerSettings;

    /// Linux's own range, 32768 to 60999.
    const PORTS: u64 = 28_232;

    fn listener(settings: ListenerSettings) -> Listener {
        Listener {
            settings,
            ..Listener::new(contract::Name::default(), ([127, 0, 0, 1], 1).into(), 0)
        }
    }

    #[test]
    fn sessions_and_flows_never_need_more_descriptors_than_there_are() {
        for descriptors in [64, 256, 1_024, 20_000, 1_000_000] {
            for workers in [1, 2, 64] {
                let limits = Limits {
                    descriptors,
                    local_ports: PORTS,
                    workers,
                };
                for max_flows in [None, Some(1), Some(10_000_000)] {
                    let settings = ListenerSettings {
                        max_flows,
                        ..ListenerSettings::default()
                    };
                    let bounds = limits.bounds(&[listener(settings)]);
                    let flows = bounds.max_flows_per_worker as u64 * workers;
                    let needed = 2 * bounds.max_sessions + flows;
                    let free = descriptors.saturating_sub(limits.own(2));
                    assert!(needed <= free.max(16).max(2 + workers));
                }
            }
        }
    }

    #[test]
    fn many_workers_leave_room_for_sessions() {
        for (descriptors, workers) in [(4_096, 32), (20_000, 64), (1_024, 8)] {
            let limits = Limits {
                descriptors,
                local_ports: PORTS,
                workers,
            };
            let bounds = limits.bounds(&[listener(ListenerSettings::default())]);
            assert!(bounds.max_sessions * 6 > descriptors, "{bounds:?}");
        }
    }

    #[test]
    fn flows_leave_local_ports_to_others_unless_more_are_asked_for() {
        let limits = Limits {
            descriptors: 1_048_576,
            local_ports: PORTS,
            workers: 1,
        };
        let flows = |max_flows| {
            let settings = ListenerSettings {
                max_flows,
                ..ListenerSettings::default()
            };
            limits.max_flows(&limits.bounds(&[listener(settings)]))
        };
        assert_eq!(flows(None), PORTS - PORTS / 8);
        assert_eq!(flows(Some(100_000)), 100_000);
        assert!(local_ports().is_some_and(|ports| ports <= MOST_PORTS));
    }

    #[test]
    fn a_configured_bound_counts_where_it_is_lower() {
        let limits = Limits {
            descriptors: 20_000,
            local_ports: PORTS,
            workers: 2,
        };
        let of = |max_sessions: Option<u64>, max_flows: Option<u64>| {
            listener(ListenerSettings {
                max_sessions,
                max_flows,
                ..ListenerSettings::default()
            })
        };
        let bounds = |listeners: &[Listener]| {
            let bounds = limits.bounds(listeners);
            (bounds.max_sessions, limits.max_flows(&bounds))
        };
        let (most, usual) = bounds(&[of(None, None)]);
        assert_eq!(bounds(&[of(Some(10), Some(8))]).1, 8);
        assert_eq!(bounds(&[of(Some(10), Some(8)), of(Some(5), Some(2))]).1, 10);
        // One that asks for nothing may have what there is.
        assert_eq!(
            bounds(&[of(Some(10), Some(8)), of(None, None)]),
            (most, usual)
        );
        assert_eq!(bounds(&[]), (most, usual));
        let many = [of(Some(u64::MAX), None), of(Some(u64::MAX), None)];
        assert_eq!(bounds(&many).0, most);
        // Sockets to accept on take descriptors too: of two workers, two generations and both protocols.
        let sockets = 2 * 2 * 2 * (256 - 2);
        let left = bounds(&vec![of(None, Some(1)); 256]);
        let one = bounds(&[of(None, Some(256))]);
        assert_eq!((one.0 - left.0, left.1), (sockets / 2, one.1));
    }
}
