//! What strangers may take of a plane, in either plane: lines of its log.
//!
//! Pure: time comes as an argument, nothing is logged, accepted or closed here.

mod lines;

pub use lines::{LINES_A_SECOND, LineLimit, Verdict};
