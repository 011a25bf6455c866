//! System calls that no kept crate wraps safely, each behind a safe function: batches of datagrams,
//! the choice among sockets that share a port, the fill of a socket's send queue, how many bytes make a socket readable,
//! the state of a handshake, and seccomp. The only crate of the workspace with `unsafe`.

pub mod datagrams;
pub mod handshake;
pub mod low_water;
pub mod seccomp;
pub mod send_queue;
pub mod steering;
