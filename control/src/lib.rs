//! The control plane: which backends serve, how operators override them, and the file that the proxy
//! reads.
//!
//! Reading order: `registry`, `merge`, `render` (pure), `model` and `keeper` (what changes and how
//! it is stored), `publish` (file, signal, confirmation), then `web`.

mod actor;
mod admission;
mod audit;
pub mod auth;
mod base;
mod blame;
pub mod bounded_read;
mod calls;
mod changes;
pub mod clock;
mod edits;
mod file_version;
mod history;
pub mod inputs;
mod keeper;
mod layer;
mod listening;
mod load;
mod look;
mod merge;
mod model;
mod note;
mod observe;
mod own_addresses;
mod ping;
mod proxies;
mod publish;
mod registry;
mod render;
mod renew;
mod reread;
mod series;
mod services;
pub mod settings;
mod shared;
#[cfg(test)]
mod simulation;
pub mod sources;
mod standing;
pub mod start;
mod store;
mod telemetry;
mod verdict;
mod watch;
mod web;
pub mod words;
