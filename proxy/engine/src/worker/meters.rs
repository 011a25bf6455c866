//! What sessions and flows tell the scheduler of their backends, where the algorithm in force wants
//! to be told: see `proxy_core::meter`. Where it does not, each call here is one look at an option.

use std::net::IpAddr;

use proxy_core::ids::PoolId;
use proxy_core::meter::{Moment, QUIET_MS};
use proxy_core::reason::FlowEnd;
use proxy_core::slot::Slot;
use proxy_core::timer_wheel::TimerWheel;

use super::context::Context;

/// The meters of one worker's sessions, or of its flows, by their index.
pub struct Meters {
    /// When those that are busy may have gone quiet.
    quiet: TimerWheel,
}

impl Meters {
    pub fn new(now_ms: u64) -> Meters {
        Meters {
            quiet: TimerWheel::new(now_ms),
        }
    }

    /// A session or flow was placed.
    pub fn began(
        &mut self,
        context: &Context,
        index: u32,
        pool: PoolId,
        slot: &mut Slot,
        joins_batch: bool,
    ) {
        let Some(moment) = context.moment(pool) else {
            return;
        };
        if joins_batch {
            slot.join_batch();
        }
        self.mark_active(context, index, slot, moment);
    }

    /// Bytes came from the client (`up`), from the backend (`down`), or both.
    pub fn moved(
        &mut self,
        context: &Context,
        index: u32,
        pool: PoolId,
        slot: &mut Slot,
        up: bool,
        down: bool,
    ) {
        let Some(moment) = context.moment(pool) else {
            return;
        };
        if !(up || down) {
            return;
        }
        self.mark_active(context, index, slot, moment);
        // What came both ways at once while an answer was owed is that answer and the next request.
        let answers_first = slot.is_owed();
        if down && answers_first {
            slot.answered(moment);
        }
        if up {
            slot.sent(moment);
        }
        if down && !answers_first {
            slot.answered(moment);
        }
    }

    fn mark_active(&mut self, context: &Context, index: u32, slot: &mut Slot, moment: Moment<'_>) {
        if slot.mark_active(moment) {
            self.quiet.arm(index, context.now_ms() + QUIET_MS);
            context.shared.scoring.ring_if_asleep();
        }
    }

    /// A session ended; `is_held_against`: unanswered, by the fault of its backend.
    pub fn session_ended(
        &mut self,
        context: &Context,
        index: u32,
        pool: PoolId,
        slot: Option<&mut Slot>,
        is_held_against: bool,
    ) {
        self.quiet.disarm(index);
        if let (Some(slot), Some(moment), true) = (slot, context.moment(pool), is_held_against) {
            slot.aborted(moment);
        }
    }

    /// A flow ended. Its last datagrams may have got no answer: that speaks, softly, against a
    /// backend that has answered others, where the client is one that is answered.
    pub fn flow_ended(
        &mut self,
        context: &Context,
        index: u32,
        pool: PoolId,
        slot: &mut Slot,
        client: IpAddr,
        end: FlowEnd,
    ) {
        self.quiet.disarm(index);
        let is_silent = matches!(end, FlowEnd::Idle | FlowEnd::Unanswered)
            && slot.backend().answers_datagrams()
            && context.is_answered_source(client);
        if let (Some(moment), true) = (context.moment(pool), is_silent) {
            slot.unanswered_flow(moment);
        }
    }

    pub fn next_wakeup_ms(&self) -> Option<u64> {
        self.quiet.next_wakeup_ms()
    }

    /// Looks at one that may have gone quiet; `find` gives its pool and slot by its index, and whether
    /// an answer can be expected where one is owed. Returns false when none is left for now.
    pub fn look<'a>(
        &mut self,
        context: &Context,
        find: impl FnOnce(u32) -> Option<(PoolId, &'a mut Slot, bool)>,
    ) -> bool {
        let Some(index) = self.quiet.expire(context.now_ms()) else {
            return false;
        };
        let again_ms = find(index).and_then(|(pool, slot, awaits_answer)| {
            let moment = context.moment(pool)?;
            slot.mark_idle(moment, awaits_answer)
        });
        if let Some(again_ms) = again_ms {
            self.quiet.arm(index, again_ms);
        }
        true
    }
}
