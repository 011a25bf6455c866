//! The verdict: whether traffic flows, decided once, here, for the API, the metrics and the console.
//!
//! [`picture`] says what the backends and the proxy look like, [`traffic`] what clients met in the last
//! minute, [`judge`] what is wrong for that, [`keep`] since when. All of it is pure. Others word it: the
//! console in two languages by code and arguments, everybody else by [`text`].

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
pub use traffic::{failed_sessions, unconnected_sessions};

#[cfg(test)]
mod tests;
