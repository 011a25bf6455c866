//! What one worker counts. Only that worker writes; status and metrics read at any time.

use std::sync::atomic::AtomicU64;

use proxy_core::counts::Counts;

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Of all its sessions and flows, whatever listener they came by.
    pub all: Counts,
    /// Not a count: how long the last reload took this worker, in microseconds.
    pub reload_stall_us: AtomicU64,
    /// Entries of the session log for which the queue had no room.
    pub log_lines_dropped: AtomicU64,
}
