//! What is counted of one engine, by the threads that read and report it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How reads of one engine and calls to control servers for it went.
#[derive(Debug, Default)]
pub struct Counts {
    pub reads: AtomicU64,
    pub read_failures: AtomicU64,
    pub calls: AtomicU64,
    pub call_failures: AtomicU64,
}

impl Counts {
    pub fn read(&self, is_ok: bool) {
        self.reads.fetch_add(1, Relaxed);
        self.read_failures.fetch_add(u64::from(!is_ok), Relaxed);
    }

    pub fn called(&self, is_ok: bool) {
        self.calls.fetch_add(1, Relaxed);
        self.call_failures.fetch_add(u64::from(!is_ok), Relaxed);
    }
}
