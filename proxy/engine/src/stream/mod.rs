//! TCP: accepts, connects, and passes bytes on between two sockets.

pub mod accept;
mod pipes;
mod session;
pub mod sessions;
mod transfer;
mod transport;
