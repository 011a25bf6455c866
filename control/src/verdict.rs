//! The verdict: whether traffic flows, decided once, here, for the API, the metrics and the console.
//!
//! [`picture`] describes backends and proxy, [`traffic`] the sessions of the last minute, [`judge`] decides
//! what is wrong, [`keep`] since when. All of it is pure. The words are made elsewhere: by the console in two
//! languages from code and arguments, for all others by [`text`].

mod finding;
mod judge;
mod keep;
mod picture;
mod text;
mod traffic;

pub use finding::Level;
pub use judge::{Config, Process, RefusedPart};
pub use keep::{Look, Verdicts};
pub use picture::Picture;
pub use traffic::{FAILED_SESSIONS, failed_flows, failed_sessions, failures, unconnected_sessions};

#[cfg(test)]
mod tests;
