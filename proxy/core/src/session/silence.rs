//! When a session that is silent is over.

use super::action::Ends;
use super::relay::Side;
use super::state::{SessionState, UnderWay};
use crate::reason::SessionEnd;

impl SessionState {
    /// How long this session may be silent.
    pub(super) fn silence_allowed_ms(&self) -> u64 {
        if self.relay.is_half_closed() {
            self.half_close_timeout_ms
        } else {
            self.idle_timeout_ms
        }
    }

    /// Judges a session that has been silent for as long as it may; `None`: bytes are still being
    /// acknowledged, or may be. A peer that takes what waits in the kernel makes no event until much of
    /// it is gone, so a silent session is over only when two looks in a row, as far apart as it may be
    /// silent, find the same bytes under way.
    pub(super) fn end_of_silence(&mut self, ends: &impl Ends, now_ms: u64) -> Option<SessionEnd> {
        let under_way = UnderWay {
            to_client: ends.unacknowledged(Side::Client),
            to_backend: ends.unacknowledged(Side::Backend),
            seen_ms: now_ms,
        };
        let before = self.under_way.replace(under_way);
        let before = before.filter(|before| before.seen_ms >= self.last_active_ms);
        let (to_client, to_backend) = (under_way.to_client, under_way.to_backend);
        let stands_still = match before {
            Some(before) => (before.to_client, before.to_backend) == (to_client, to_backend),
            None => (to_client, to_backend) == (0, 0),
        };
        stands_still.then(|| match (to_client, to_backend) {
            (0, 0) if self.relay.is_half_closed() => SessionEnd::HalfCloseTimeout,
            (0, 0) => SessionEnd::IdleTimeout,
            (0, _) => SessionEnd::BackendStalled,
            (_, _) => SessionEnd::ClientStalled,
        })
    }
}
