//! What strangers may take of a plane, in either plane: lines of its log, connections, and time.
//!
//! What is decided is pure: time comes as an argument, nothing is logged, accepted or closed here.

mod allowance;
mod crowd;
mod lines;
mod places;

pub use allowance::Allowance;
pub use crowd::{Crowd, Place};
pub use lines::{LINES_A_SECOND, LineLimit, Verdict};
pub use places::PlaceBounds;
