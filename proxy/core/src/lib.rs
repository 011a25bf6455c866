//! In the making.

pub mod pick;
pub mod recency_list;
mod rings;
pub mod timer_wheel;
