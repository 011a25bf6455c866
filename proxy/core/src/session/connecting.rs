//! How a session comes to its backend: it tries some, each at most once and no more than the settings
//! allow.

use std::net::IpAddr;

use contract::{BackendAddr, ConnectSettings};

use super::action::{Action, Choice, Connect, ConnectFailure};
use super::relay::Side;
use super::state::{SessionState, Stage};
use crate::placement::{Placement, Seeking};
use crate::plan::Protocol;
use crate::reason::SessionEnd;
use crate::slot::SessionSlot;
use crate::snapshot::Snapshot;

impl SessionState {
    /// The backend to try next: one that has not failed this session, while it may try one more.
    pub fn choose(
        &mut self,
        snapshot: &Snapshot,
        client_ip: IpAddr,
        now_us: u64,
        random: &mut fastrand::Rng,
    ) -> Choice {
        let rules = self.route(snapshot);
        let (most, timeout_ms) =
            rules.map_or((0, 0), |rules| (rules.attempts as u8, rules.timeout_ms));
        let seeking = Seeking {
            protocol: Protocol::Tcp,
            pool: self.pool,
            client_ip,
            tried: &self.tried,
        };
        let placement = match self.attempts < most {
            true => Placement::choose(snapshot, seeking, now_us, random),
            false => None,
        };
        let Some(placement) = placement else {
            return Choice::End(self.end_without_backend());
        };
        let is_retry = self.attempts > 0;
        self.attempts += 1;
        Choice::Try {
            placement,
            timeout_ms,
            is_retry,
        }
    }

    /// Where a reload took the pool away meanwhile, the session goes to the pool that its listener leads
    /// to now. Returns how a backend of it is connected to; `None`: there is no such pool either.
    fn route<'a>(&mut self, snapshot: &'a Snapshot) -> Option<&'a ConnectSettings> {
        if snapshot.pool(self.pool).is_none() {
            self.pool = snapshot.pool_of(self.listener)?;
        }
        let pool = snapshot.pool(self.pool)?;
        Some(&pool.settings.connect)
    }

    fn end_without_backend(&self) -> SessionEnd {
        let Stage::Choosing { failure } = self.stage else {
            return SessionEnd::InternalError;
        };
        match failure {
            None => SessionEnd::NoBackend,
            Some(ConnectFailure::Refused) => SessionEnd::ConnectRefused,
            Some(ConnectFailure::TimedOut) => SessionEnd::ConnectTimeout,
            Some(ConnectFailure::NoPort) => SessionEnd::InternalError,
        }
    }

    /// A connect to the backend that was chosen is under way.
    pub fn connecting(&mut self, placement: &Placement, timeout_ms: u64, now_us: u64) -> Action {
        self.slot = Some(SessionSlot::take(&placement.backend));
        let deadline_ms = now_us / 1_000 + timeout_ms;
        self.stage = Stage::Connecting {
            since_us: now_us,
            deadline_ms,
        };
        Action::Arm { at_ms: deadline_ms }
    }

    /// The backend that was chosen cannot be connected to. [`SessionState::choose`] comes next.
    pub fn could_not_connect(&mut self, backend: BackendAddr, failure: ConnectFailure) {
        self.tried.push(backend);
        let before = match self.stage {
            Stage::Choosing { failure } => failure,
            Stage::Connecting { .. } | Stage::Relaying | Stage::Resetting(_) | Stage::Ended => None,
        };
        let failure = match failure {
            // Another backend may be reached from ports that are in use towards this one.
            ConnectFailure::NoPort => before.or(Some(failure)),
            ConnectFailure::Refused | ConnectFailure::TimedOut => Some(failure),
        };
        self.stage = Stage::Choosing { failure };
    }

    /// The connect under way is given up; returns its backend's slot. [`SessionState::choose`] comes next.
    pub fn connect_failed(&mut self, failure: ConnectFailure) -> Option<SessionSlot> {
        self.relay.backend_changed();
        let slot = self.slot.take();
        if let Some(slot) = &slot {
            self.could_not_connect(slot.backend().addr, failure);
        }
        slot
    }

    /// The connect under way has come to this, as [`Action::AskConnect`] asked.
    pub fn connect_ended(&mut self, connect: Connect, now_us: u64) -> Action {
        let Stage::Connecting { since_us, .. } = self.stage else {
            return Action::Wait;
        };
        match connect {
            Connect::Made => {}
            Connect::Broken(how) => self.relay.write_failed(Side::Backend, how),
            Connect::Refused => return Action::GiveUpConnect(ConnectFailure::Refused),
        }
        self.stage = Stage::Relaying;
        self.last_active_ms = now_us / 1_000;
        Action::Connected {
            after_us: now_us - since_us,
            at_ms: self.last_active_ms + self.idle_timeout_ms,
        }
    }
}
