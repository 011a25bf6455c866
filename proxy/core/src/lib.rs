//! In the making.

pub mod pick;
