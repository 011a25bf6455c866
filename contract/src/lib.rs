//! What the two planes agree on, and what other tools may rely on.
//!
//! The folder ([`Root`]), the file the proxy is configured by ([`Config`], with the one [`check`]
//! that control and proxy share), how a file is replaced ([`mod@publish`]), which process the proxy is
//! ([`pidfile`]), how it is notified ([`reload`]), what it answers ([`status`]), and the two forms of
//! metrics ([`exposition`]).
//! No sockets, no threads, no policy: those belong to the planes.

#![warn(missing_docs, unreachable_pub)]
pub mod address;
mod backend_key;
mod backend_state;
pub mod batch;
pub mod config;
mod config_digest;
mod cost;
pub mod exposition;
pub mod fault;
pub mod gpu_aware;
pub mod health;
mod health_status;
pub mod keys;
pub mod links;
pub mod name;
pub mod networks;
mod object;
pub mod paths;
pub mod pidfile;
pub mod publish;
pub mod raw;
pub mod refusal;
pub mod reload;
pub mod route;
pub mod sessions;
pub mod settings;
pub mod state_reason;
pub mod status;
mod value;

pub use address::{BackendAddr, OWNER_BYTES, parse_backend_ip};
pub use backend_key::BackendKey;
pub use batch::Batch;
pub use config::{
    Algorithm, Backend, Checked, Config, Listener, LocalAddresses, Pool, Report, Skipped,
    WarmingShare, check, check_strictly,
};
pub use config_digest::config_digest;
pub use fault::{Fault, Faults};
pub use gpu_aware::GpuAware;
pub use name::{DEFAULT_NAME, Name};
pub use networks::Networks;
pub use object::{Object, parse_object};
pub use paths::Root;
pub use publish::{digest, publish};
pub use refusal::{Refusal, RefusalCode};
pub use route::{Route, Routes, Split, SplitBy};
pub use settings::{
    ConnectSettings, ListenerSettings, OnNotTls, PoolSettings, ProcessSettings, SessionLog,
};
pub use state_reason::StateReason;
