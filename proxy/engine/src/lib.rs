//! The data path as a library: threads that carry TCP sessions and UDP flows, and what a program needs to run them.
//!
//! - [`Workers`] starts the threads and tells each of them a [`Command`]: route by a new snapshot, accept on a
//!   socket, close one, stop. A call returns when every worker has carried it out; nothing that is open is touched.
//! - [`listen`] binds the sockets of an endpoint, one a worker.
//! - What happens is counted in [`WorkerCounters`], and in the listeners and backends of the snapshot. A session or
//!   flow that ended is an entry of the [`session_log`], and a backend that fails is reported to the program.
//! - [`ScoringBell`] wakes whoever keeps the costs of the snapshot up to date.
//! - [`connect`], [`own_address`] and [`clock`] are what a program needs to judge backends as the workers do.
//!
//! The engine decides nothing: where a session goes and when it ends is decided in `proxy_core`, by a snapshot that
//! the program builds. It reads no file, knows no signal and writes no line about a session. Everything on the path
//! of a packet is in the modules `worker`, `stream` and `datagram`, which nobody outside can call.
//!
//! The smallest program that serves is `tests/embedded.rs`.

#![warn(missing_docs)]

pub mod clock;
pub mod connect;
mod datagram;
pub mod listen;
pub mod own_address;
mod stream;
mod worker;
mod workers;

pub use worker::counters::WorkerCounters;
pub use worker::mailbox::Command;
pub use worker::scoring_bell::ScoringBell;
pub use worker::session_log;
pub use workers::Workers;
