//! The UDP flows of a worker, without their sockets: which flow a datagram goes by, where a new one begins and
//! which makes room for it ([`seek`]), what becomes of one ([`state`]), and when it ends ([`life`]).
//!
//! A flow of a backend that was removed or disabled goes on for as long as that backend answers, so
//! that a stream over UDP (QUIC, TURN, a VPN) survives as a TCP session does; a backend that is
//! really gone never swallows a flow (`docs/adr/0011`). Parts of invariants 1 and 3.

pub mod life;
pub mod listening;
pub mod seek;
pub mod state;
#[cfg(test)]
mod tests;

pub use self::life::Flow;
pub use self::state::{ANSWER_PATIENCE_MS, FlowState, Judging, Reading};
