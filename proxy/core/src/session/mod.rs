//! A TCP session from its accept to its end, without its sockets: which backend it tries, how long it
//! waits, what it moves, and how it ends.
//!
//! The caller tells what happened, and carries out the [`Action`](action::Action) that follows. A session is in one
//! stage at a time:
//!
//! ```text
//! (Preface -->) Choosing --> Connecting --> Relaying --> Resetting --> Ended
//!                  ^------------'
//! ```
//!
//! and from each it may end at once. Only a session whose pool depends on what the client says first begins in
//! `Preface`, where these bytes are looked at and not taken.
//!
//! A session ends exactly once ([`SessionState::end`]), with one reason. It is closed in order only after
//! both ends have closed; all else is a reset (`docs/adr/0003`). Parts of invariants 2 and 4.

pub mod action;
mod connecting;
pub mod half;
mod preface;
pub mod relay;
pub mod run;
mod silence;
pub mod state;
#[cfg(test)]
mod tests;
pub mod turn;

pub use self::state::SessionState;
