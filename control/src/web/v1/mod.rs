//! `/api/v1`: the interface that the console uses. Lists have cursors, writes a revision (`ETag`,
//! `If-Match`), errors are problem documents (RFC 9457), and `/api/openapi.json` describes all of it. The
//! older paths stay as they are.

pub mod audit;
pub mod backends;
pub mod changes;
pub mod detail;
pub mod edits;
pub mod events;
pub mod open_sessions;
mod openapi;
pub mod pings;
pub mod problem;
mod query;
pub mod series;
pub mod session;
pub mod statics;
mod stream;
pub mod view;

pub use events::Feed;
pub use openapi::document;
