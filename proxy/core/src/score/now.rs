//! The time as scoring sees it.

/// One moment in two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic; the clock of the workers.
    pub us: u64,
    /// Unix milliseconds; the clock of whoever reports.
    pub unix_ms: u64,
}
