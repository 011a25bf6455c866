//! UDP: takes datagrams in, and passes them on by the flow of their client.

mod flow;
pub mod flows;
mod listen;
