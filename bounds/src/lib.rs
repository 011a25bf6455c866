//! Limits on what strangers may use of a plane: lines of its log, connections, and time.
//!
//! The decisions are pure: time is an argument; nothing is logged, accepted or closed here.

mod allowance;
mod crowd;
mod lines;
mod places;

pub use allowance::Allowance;
pub use crowd::{Crowd, Place};
pub use lines::{LINES_A_SECOND, LineLimit, Verdict};
pub use places::PlaceBounds;
