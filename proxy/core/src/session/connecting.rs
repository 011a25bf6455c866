//! How a session comes to its backend: it tries some, each at most once and no more than the settings
//! allow.

use std::net::IpAddr;

use contract::{BackendAddr, ConnectSettings};

use super::action::{Action, Choice, Connect, ConnectFailure};
use super::relay::Side;
use super::state::{SessionState, Stage};
use crate::placement::{Draw, Placement, Seeking};
use crate::plan::Protocol;
use crate::reason::SessionEnd;
use crate::route::{Preface, Routed, Routers};
use crate::slot::SessionSlot;
use crate::snapshot::Snapshot;

impl SessionState {
    /// The backend to try next: one that has not failed this session, while it may try one more.
    pub fn choose(
        &mut self,
        snapshot: &Snapshot,
        draw: &mut Draw<'_>,
        client_ip: IpAddr,
        now_us: u64,
    ) -> Choice {
        let rules = self.rules(snapshot, draw.routers, client_ip);
        let (most, timeout_ms) =
            rules.map_or((0, 0), |rules| (rules.attempts as u8, rules.timeout_ms));
        let seeking = Seeking {
            protocol: Protocol::Tcp,
            pool: self.pool,
            client_ip,
            tried: &self.tried,
        };
        let placement = match self.attempts < most {
            true => Placement::choose(snapshot, seeking, now_us, draw.random),
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

    /// How a backend of its pool is connected to. Where a reload took the pool away meanwhile, the session goes where
    /// its listener leads now, unless that depends on what the client said; `None`: it leads nowhere.
    fn rules<'a>(
        &mut self,
        snapshot: &'a Snapshot,
        routers: &mut Routers,
        client_ip: IpAddr,
    ) -> Option<&'a ConnectSettings> {
        if snapshot.pool(self.pool).is_none() && !self.is_by_tls() {
            match routers.route(self.listener, client_ip, Preface::Unread) {
                Routed::To { pool, .. } => self.pool = pool,
                Routed::AskHello | Routed::NoRoute => return None,
            }
        }
        let pool = snapshot.pool(self.pool)?;
        Some(&pool.settings.connect)
    }

    fn end_without_backend(&self) -> SessionEnd {
        let Stage::Choosing { failure, .. } = self.stage else {
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
            is_by_tls: self.is_by_tls(),
        };
        Action::Arm { at_ms: deadline_ms }
    }

    /// The backend that was chosen cannot be connected to. [`SessionState::choose`] comes next.
    pub fn could_not_connect(&mut self, backend: BackendAddr, failure: ConnectFailure) {
        self.tried.push(backend);
        let before = match self.stage {
            Stage::Choosing { failure, .. } => failure,
            Stage::Preface { .. }
            | Stage::Connecting { .. }
            | Stage::Relaying
            | Stage::Resetting(_)
            | Stage::Ended => None,
        };
        let failure = match failure {
            // Another backend may be reached from ports that are in use towards this one.
            ConnectFailure::NoPort => before.or(Some(failure)),
            ConnectFailure::Refused | ConnectFailure::TimedOut => Some(failure),
        };
        self.stage = Stage::Choosing {
            failure,
            is_by_tls: self.is_by_tls(),
        };
    }

    /// Whether what the client said in TLS decided the pool, for as long as it seeks a backend.
    fn is_by_tls(&self) -> bool {
        match self.stage {
            Stage::Choosing { is_by_tls, .. } | Stage::Connecting { is_by_tls, .. } => is_by_tls,
            Stage::Preface { .. } | Stage::Relaying | Stage::Resetting(_) | Stage::Ended => false,
        }
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
