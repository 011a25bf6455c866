//! How many sessions and flows this process can hold, by its limit on descriptors and by this host's
//! local ports.

use contract::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept free for reload, admin socket, log and the like, so that they work at the limit too.
const RESERVED: u64 = 64;
/// Descriptors of a worker: poller, mailbox, listeners of two generations.
const PER_WORKER: u64 = 16;

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

    /// What the process itself needs.
    fn own(&self) -> u64 {
        RESERVED + self.probes() + self.workers * (PER_WORKER + 2 * self.pipes_per_worker() as u64)
    }

    /// Flows at once over all workers.
    pub fn max_flows(&self, bounds: &Bounds) -> u64 {
        bounds.max_flows_per_worker as u64 * self.workers
    }

    /// The bounds of a configuration, lowered to what the descriptors allow: a flow takes one, a
    /// session two. Unless flows are asked for, they leave some local ports to others.
    pub fn bounds(&self, settings: &Settings) -> Bounds {
        let free = self.descriptors.saturating_sub(self.own()).max(16);
        let most_flows = free / 2;
        let usual = (free / 8).min(self.local_ports - self.local_ports / PORTS_LEFT);
        let max_flows = settings.max_flows.unwrap_or(usual).min(most_flows);
        let per_worker = max_flows.div_ceil(self.workers).max(1);
        let most_sessions = free.saturating_sub(per_worker * self.workers) / 2;
        let most_sessions = most_sessions.max(1);
        let max_sessions = settings
            .max_sessions
            .map_or(most_sessions, |max| max.min(most_sessions));
        Bounds {
            max_sessions,
            max_flows_per_worker: per_worker as usize,
        }
    }
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

    /// Linux's own range, 32768 to 60999.
    const PORTS: u64 = 28_232;

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
                    let settings = Settings {
                        max_flows,
                        ..Settings::default()
                    };
                    let bounds = limits.bounds(&settings);
                    let flows = bounds.max_flows_per_worker as u64 * workers;
                    let needed = 2 * bounds.max_sessions + flows;
                    let free = descriptors.saturating_sub(limits.own());
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
            let bounds = limits.bounds(&Settings::default());
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
            let settings = Settings {
                max_flows,
                ..Settings::default()
            };
            limits.max_flows(&limits.bounds(&settings))
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
        let settings = Settings {
            max_sessions: Some(10),
            ..Settings::default()
        };
        assert_eq!(limits.bounds(&settings).max_sessions, 10);
    }
}
