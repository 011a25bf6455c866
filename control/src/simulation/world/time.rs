//! Time that passes, stalls and jumps, and agents that beat meanwhile.

use std::sync::atomic::Ordering::Relaxed;

use contract::BackendAddr;

use super::{BEAT_MS, STALL_MS, TTL_MS, TURN_MS, World};
use crate::base::lower;
use crate::registry::Registration;

impl World {
    pub(super) async fn let_time_pass(&mut self) {
        let ms = match self.random.u8(0..10) {
            0 => self.random.u64(0..12 * TTL_MS),
            1..4 => self.random.u64(0..TTL_MS),
            _ => self.random.u64(0..2_000),
        };
        self.pass_ms(ms).await;
    }

    pub(super) async fn pass_ms(&mut self, ms: u64) {
        let mut left_ms = ms;
        while left_ms > 0 {
            let turn_ms = left_ms.min(TURN_MS);
            self.turn(turn_ms, false).await;
            self.beat().await;
            left_ms -= turn_ms;
        }
    }

    /// Control is stopped for a while, or its clock jumps; its own turn comes before all that waits.
    pub(super) async fn stall(&mut self) {
        let ms = self.random.u64(2 * TURN_MS + 1..4 * TTL_MS);
        self.jump(ms);
        if ms - TURN_MS >= STALL_MS {
            self.oracle.stalled(self.now());
        }
        self.turn(0, true).await;
        self.come_back(ms).await;
    }

    /// Control runs, and can take no connection for a while.
    pub(super) async fn take_no_connections(&mut self) {
        let turns = self.random.u64(1..4 * TTL_MS / TURN_MS);
        self.clock.deafen();
        for _ in 0..turns {
            self.turn(TURN_MS, false).await;
        }
        self.clock.hear();
        if turns * TURN_MS >= STALL_MS {
            self.oracle.stalled(self.now());
        }
        self.turn(0, true).await;
        self.come_back(turns * TURN_MS).await;
    }

    /// Whoever has waited for control for so long: it was only late, or has given up and comes again
    /// after its pause.
    pub(super) async fn come_back(&mut self, waited_ms: u64) {
        let now_ms = self.now().monotonic_ms;
        let random = &mut self.random;
        for next_ms in self
            .agents
            .values_mut()
            .filter(|next_ms| **next_ms <= now_ms)
        {
            *next_ms = match waited_ms < STALL_MS {
                true => now_ms,
                false => now_ms + random.u64(0..TTL_MS - BEAT_MS),
            };
        }
        self.beat().await;
        self.pass_ms(TTL_MS).await;
    }

    /// Those whose time it is beat. None of them has expired.
    pub(super) async fn beat(&mut self) {
        let now = self.now();
        let due: Vec<BackendAddr> = self
            .agents
            .iter_mut()
            .filter(|(_, next_ms)| **next_ms <= now.monotonic_ms)
            .map(|(addr, next_ms)| {
                *next_ms = now.monotonic_ms + BEAT_MS;
                *addr
            })
            .collect();
        for addr in due {
            let beat = self
                .control()
                .shared
                .heartbeat(&Registration::of(lower(addr)));
            assert!(beat.is_some(), "{addr} has expired, and went on beating");
            let heard = self.oracle.registered.get_mut(&addr);
            let heard = heard.expect("who beats is registered");
            heard.heard_at_ms = now.listened_ms;
            (heard.fresh_at_ms, heard.due_at_ms) = (None, None);
        }
    }

    pub(super) fn jump(&mut self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Relaxed);
        self.unix_ms.fetch_add(ms, Relaxed);
    }

    pub(super) async fn turn(&mut self, ms: u64, may_wait: bool) {
        self.jump(ms);
        self.control().keeper.pass().await;
        self.is_behind |= !self.can_store();
        let (now, policy) = (self.now(), self.settings.expiry);
        let control = self.control.as_ref().expect("one runs between two steps");
        self.oracle
            .pass(&control.shared.model(), now, policy, may_wait);
    }

    /// Somebody sets the wall clock, which must not matter.
    pub(super) fn jump_the_clock(&mut self) {
        const MOST_MS: u64 = 1_000_000_000;
        let ms = self.random.u64(0..MOST_MS);
        match self.random.bool() {
            true => self.unix_ms.fetch_add(ms, Relaxed),
            false => self.unix_ms.fetch_sub(ms, Relaxed),
        };
    }
}
