//! What the programs of this crate share.

pub mod machine;
pub mod poll;
pub mod processes;

pub mod chart;
pub mod sched;
pub mod statistics;
