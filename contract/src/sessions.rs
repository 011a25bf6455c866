//! `GET /sessions` of the admin socket: the open sessions and flows that a question asks for.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The most rows of one answer.
pub const MAX_LISTED: usize = 1_000;
/// Rows of an answer where the question names no number.
pub const LISTED: usize = 100;

/// Which sessions and flows are asked for. Keys that are absent exclude nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionQuery {
    /// The name of a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The name of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// `ip:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// An address, or a network such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ListedProtocol>,
    /// Which come first.
    #[serde(default)]
    pub sort: SessionOrder,
    /// Rows at most, 0 to [`MAX_LISTED`].
    #[serde(default = "default_limit")]
    pub limit: usize,
}

fn default_limit() -> usize {
    LISTED
}

/// Which come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionOrder {
    /// The oldest.
    #[default]
    Age,
    /// Those that have been silent for longest.
    Idle,
    /// Those that carried the most bytes, both ways together.
    Bytes,
}

/// A protocol as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ListedProtocol {
    /// A session.
    Tcp,
    /// A flow.
    Udp,
}

/// Open sessions and flows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// How many sessions and flows are asked for.
    pub total: u64,
    /// The first of them.
    pub sessions: Vec<OpenSession>,
    /// The clients that have the most of them, the most first. Where there are more clients than a worker counts one by
    /// one, some may be missing or have too large a count.
    pub top_clients: Vec<ClientShare>,
}

/// One session or flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OpenSession {
    /// For `DELETE sessions/{id}`. It never names another one.
    pub id: String,
    /// Of which it is one.
    pub protocol: ListedProtocol,
    /// Where it comes from.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client: SocketAddr,
    /// The listener that it came by.
    pub listener: Option<String>,
    /// The pool of its backend; `null` where none is chosen.
    pub pool: Option<String>,
    /// Its backend, or the one that is being connected to.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub backend: Option<SocketAddr>,
    /// How far it is.
    pub state: SessionPhase,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds since bytes or datagrams passed.
    pub idle_ms: u64,
    /// Client to backend.
    pub bytes_up: u64,
    /// Backend to client.
    pub bytes_down: u64,
}

/// How far a session or flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionPhase {
    /// The first bytes of the client are awaited.
    AwaitingHello,
    /// A backend is being connected to.
    Connecting,
    /// Both directions are open; for a flow, its backend has answered.
    Open,
    /// One direction is closed.
    HalfClosed,
    /// One end has reset it, and the other end gets its reset soon.
    Resetting,
    /// A flow whose backend has not answered.
    Unanswered,
}

/// What one client has of the sessions and flows that are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientShare {
    /// Its address.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub client: IpAddr,
    /// Sessions and flows.
    pub sessions: u64,
    /// Bytes of them, both ways.
    pub bytes: u64,
}
