//! What a program that announces servers to control stands on: `gpu_agent` and the simulators.
//!
//! [`ControlClient`] makes the two calls, [`Patience`] says how long to wait after one that failed,
//! [`Signals`] lets a loop wait for its end, and [`arguments`] reads what command lines say.
//! [`http_agent`] is the HTTP client under the calls. Nothing here decides what is announced or when.

pub mod arguments;
mod client;
mod patience;
mod resolve;
mod signals;

pub use arguments::BaseUrl;
pub use client::{Access, Authorities, CallError, ControlClient, Registration, tls_config};
pub use patience::{LONGEST_PAUSE, Patience};
pub use resolve::http_agent;
pub use signals::{Signal, Signals};
