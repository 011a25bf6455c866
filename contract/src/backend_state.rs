//! The two axes of a backend's state: what is wanted of it, and what is observed.

use serde::{Deserialize, Serialize};

/// The administrative axis of a backend's state: what operators and registrations want.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// It takes new sessions, if its health lets it.
    Ready,
    /// Weight 0: no new sessions, open ones finish.
    Drain,
    /// It takes none, and is not probed.
    Disabled,
}

/// The operational axis of a backend's state: what the proxy observes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum OperationalState {
    /// It takes sessions or flows.
    Up,
    /// According to probes or, if none run, the last connect.
    Down,
    /// Nothing is known yet: no probe or session has ended. The backend is used meanwhile.
    Checking,
    /// The backend reports that it is warming up, or it is in slow start.
    Warming,
    /// Sessions or flows failed, and the backend gets none for a while.
    Ejected,
}

impl OperationalState {
    /// The word in answers and logs.
    pub fn word(self) -> &'static str {
        match self {
            OperationalState::Up => "up",
            OperationalState::Down => "down",
            OperationalState::Checking => "checking",
            OperationalState::Warming => "warming",
            OperationalState::Ejected => "ejected",
        }
    }
}
