//! A TCP session from its accept to its end, without its sockets: which backend it tries, how long it
//! waits, what it moves, and how it ends.
//!
//! The caller tells what happened, and carries out the [`Action`](action::Action) that follows. A session is in one
//! stage at a time:
//!
//! ```text
//! Choosing --> Connecting --> Relaying --> Resetting --> Ended
//!     ^------------'
//! ```
//!
//! and from each it may end at once. Bytes that have to be read before a backend can be chosen would be
//! read in a stage before `Choosing`, which is entered by nothing but [`SessionState::new`] and a failed
//! connect; the half that reads from the client would begin with what was read.
//!
//! A session ends exactly once ([`SessionState::end`]), with one reason. It is closed in order only after
//! both ends have closed; all else is a reset (`docs/adr/0003`). Parts of invariants 2 and 4.

pub mod action;
mod connecting;
pub mod half;
pub mod relay;
pub mod run;
mod silence;
pub mod state;
#[cfg(test)]
mod tests;
pub mod turn;

pub use self::state::SessionState;
