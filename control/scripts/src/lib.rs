//! What the simulators share: they play the neighbours of the two planes, so that one machine
//! shows the whole system at work.
//!
//! `gen_k8s_endpoints` plays discovery ([`fleet`], [`gauge`]); `sim_backend_register_batch`
//! ([`vram`]) and `demo_backend` ([`echo`]) play servers that register ([`heartbeat`], above
//! `control_client`); `dummy_proxy` plays the proxy ([`config_summary`]). Everything drawn at random takes its
//! generator as an argument. No simulator knows more of the planes than the contract.

pub mod arguments;
pub mod gauge;

pub mod fleet;

pub mod vram;

pub mod heartbeat;

pub mod echo;

pub mod config_summary;

pub mod output;
