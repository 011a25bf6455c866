//! What control's HTTP interface takes and answers, as types: requests, answers, events and problems. Control
//! builds its answers from them and clients read them; `openapi.json` is generated from them and from
//! [`operations`](document::operations), so no shape is written twice. Doc comments of types and fields are the
//! descriptions in that document.
//!
//! It is pure: no socket, no clock, no decision. Fields stand in the order in which they are written. A field that
//! may be absent says so with `skip_serializing_if`; any other `Option` is `null` where it has no value.
//!
//! `v1` is the interface. `base` is the older one: adapters over `v1` wherever both say the same.

#![warn(missing_docs)]

pub mod base;
pub mod document;
mod part;
mod settings;
mod sync;
pub mod v1;

pub use part::Part;
pub use settings::{InForce, Listen, OnRefusal, ProxyRefusal, Settings, SettingsRequest};
pub use sync::{Published, Reload, Stored, Sync};
