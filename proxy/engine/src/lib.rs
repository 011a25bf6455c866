//! The data path as a library: worker threads that carry sessions and flows, and what a program needs to run
//! them.

pub mod clock;
pub mod connect;
mod datagram;
pub mod listen;
pub mod own_address;
mod stream;
pub mod worker;
pub mod workers;
