//! Scheduling over models of GPU servers: what `sched_sim` plays in virtual time and `sched_proof`
//! on real sockets. Servers, arrivals and scenarios are the same for both.

mod distributions;

pub mod server;
pub mod workload;

pub mod choice;
pub mod disturbance;
mod families;
pub mod policy;
pub mod scenario;

mod oracle;
pub mod outcome;
mod proxy;
pub mod simulation;
