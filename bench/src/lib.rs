//! What the programs of this crate share.

pub mod chart;
pub mod sched;
