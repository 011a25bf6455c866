//! A TCP session: how bytes pass one way ([`half`]), and both ways until an end ([`relay`]).

pub mod half;
pub mod relay;
