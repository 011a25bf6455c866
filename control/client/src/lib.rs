//! The base of programs that register servers with control: `gpu_agent` and the simulators.
//!
//! [`ControlClient`] makes the two calls, [`Patience`] gives the pause after a failed one,
//! [`Signals`] lets a loop wait for its end, and [`arguments`] reads what command lines say.
//! [`http_agent`] is the HTTP client under the calls. The programs decide what is registered, and when.

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
