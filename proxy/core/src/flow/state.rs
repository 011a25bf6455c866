//! What is known of one flow, and what follows from that: whether its next datagram may still go to its
//! backend, when it has been answered enough, and how its answers are read.

use std::sync::Arc;

use crate::backend::BackendState;
use crate::flow_table::Rank;
use crate::plan::Protocol;
use crate::reason::FlowEnd;
use crate::slot::{FlowSlot, Slot};

/// So many datagrams at once are a burst.
const BURST: usize = 4;

/// How long a datagram may stay unanswered by a backend that was removed or disabled before the flow
/// moves. Longer than an answer takes that is worth waiting for, and than the first retries of
/// protocols that have any.
pub const ANSWER_PATIENCE_MS: u64 = 3_000;

/// How answers are to be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One datagram: the least work where a backend answers each datagram with one.
    One,
    /// What waits.
    Batch,
}

/// What a flow is judged by: the snapshot in force, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Judging {
    /// [`Snapshot::epoch`](crate::snapshot::Snapshot::epoch).
    pub epoch: u64,
    /// Milliseconds on the clock of the workers.
    pub now_ms: u64,
    /// How long a flow may go on whose backend was removed or disabled; `None`: while it answers.
    pub backend_gone_timeout_ms: Option<u64>,
}

/// What of a flow decides when it ends and where its next datagram goes.
#[derive(Debug)]
pub struct FlowState {
    slot: FlowSlot,
    /// The last snapshot for which it was checked that the backend keeps its flows.
    epoch: u64,
    /// ICMP said that nobody listens at the backend: the next datagram tries another.
    is_refused: bool,
    /// Datagrams to the backend.
    requests: u64,
    /// Datagrams from the backend.
    answers: u64,
    /// When the first datagram was sent that no answer has followed.
    unanswered_since_ms: Option<u64>,
    /// Its backend sends bursts.
    is_bulk: bool,
    /// The turn of the worker in which it was read last.
    read_in_turn: Option<u64>,
}

impl FlowState {
    /// A flow to `backend` that begins under the snapshot `epoch`.
    pub fn begin(backend: &Arc<BackendState>, epoch: u64) -> FlowState {
        FlowState {
            slot: FlowSlot::take(backend),
            epoch,
            is_refused: false,
            requests: 0,
            answers: 0,
            unanswered_since_ms: None,
            is_bulk: false,
            read_in_turn: None,
        }
    }

    /// The backend of all its datagrams.
    pub fn backend(&self) -> &BackendState {
        self.slot.backend()
    }

    /// Its place in the backend's count.
    pub fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    /// Why this flow must end before its next datagram, if it must.
    pub fn check(&mut self, judging: Judging) -> Option<FlowEnd> {
        if self.is_refused {
            return Some(self.end_when_refused());
        }
        if self.epoch == judging.epoch {
            return None;
        }
        if self.backend().health().moves_flows() {
            return Some(FlowEnd::BackendDown);
        }
        if !self.backend().keeps_flows() {
            // Asked at each datagram from now on: what decides is how long answers are missing.
            let is_left = self.is_left_unanswered(judging.now_ms) || self.has_outstayed(judging);
            return is_left.then_some(FlowEnd::BackendGone);
        }
        self.epoch = judging.epoch;
        None
    }

    /// Whether nothing says that the backend is still there: it has never answered, or not for long.
    fn is_left_unanswered(&self, now_ms: u64) -> bool {
        let since_ms = self.unanswered_since_ms;
        self.is_unanswered() || since_ms.is_some_and(|since| since + ANSWER_PATIENCE_MS <= now_ms)
    }

    fn has_outstayed(&self, judging: Judging) -> bool {
        let end_ms = self.must_end_at_ms(judging);
        end_ms.is_some_and(|end_ms| end_ms <= judging.now_ms)
    }

    /// When this flow ends although its backend may answer, if the settings say so.
    pub fn must_end_at_ms(&self, judging: Judging) -> Option<u64> {
        let timeout_ms = judging.backend_gone_timeout_ms?;
        let since_ms = self.backend().gone_since_ms(judging.now_ms)?;
        Some(since_ms + timeout_ms)
    }

    /// Nobody listens at the backend.
    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Whether nothing has come from the backend yet.
    pub fn is_unanswered(&self) -> bool {
        self.answers == 0
    }

    /// `count` datagrams of the client were sent at `now_ms`.
    pub fn sent(&mut self, count: usize, now_ms: u64) {
        self.requests += count as u64;
        self.unanswered_since_ms.get_or_insert(now_ms);
    }

    /// `count` answers came. The flow is over when every request has had `responses` answers; 0: never.
    pub fn answered(&mut self, count: usize, responses: u64) -> Option<FlowEnd> {
        self.answers += count as u64;
        self.unanswered_since_ms = None;
        let is_enough = responses > 0 && self.answers >= responses * self.requests;
        is_enough.then_some(FlowEnd::Answered)
    }

    /// What a datagram of the client makes of the flow. One that follows an answer tells that the
    /// source got it, which a forged source cannot.
    pub fn rank_when_asked(&self) -> Rank {
        match self.is_unanswered() {
            true => Rank::Unanswered,
            false => Rank::Conversing,
        }
    }

    /// Why it ends when it has been silent for the idle time.
    pub fn end_when_idle(&self) -> FlowEnd {
        let protocols = self.backend().protocols();
        match self.is_unanswered() {
            _ if self.is_refused => self.end_when_refused(),
            true if protocols.have_answered(Protocol::Udp) => FlowEnd::Unanswered,
            true => FlowEnd::OneWay,
            false => FlowEnd::Idle,
        }
    }

    fn end_when_refused(&self) -> FlowEnd {
        match self.backend().protocols().seems_to_lack(Protocol::Udp) {
            true => FlowEnd::NotServed,
            false => FlowEnd::Refused,
        }
    }

    /// How to read what waits, in `turn` of the worker. A flow that has more to read right in the
    /// next turn is read in a batch then, and one that was seen to send bursts always.
    pub fn reading(&mut self, turn: u64) -> Reading {
        let is_read_again = self.read_in_turn.is_some_and(|last| last + 1 == turn);
        self.read_in_turn = Some(turn);
        if self.is_bulk || is_read_again {
            Reading::Batch
        } else {
            Reading::One
        }
    }

    /// A batch of `count` was read. Returns true once, when the flow is first seen to send bursts:
    /// then the kernel may put its datagrams together. There is no way back from that, since what the
    /// kernel has put together can only be told apart where batches are read.
    pub fn read_batch(&mut self, count: usize) -> bool {
        let begins = !self.is_bulk && count >= BURST;
        self.is_bulk |= begins;
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::BackendRegistry;
    use crate::registry::tests::adopt;
    use contract::{Backend, BackendAddr, Report};

    fn flow() -> (BackendRegistry, FlowState) {
        let mut registry = BackendRegistry::new(1);
        let backend = Backend {
            addr: BackendAddr::new([127, 0, 0, 1].into(), 1),
            weight: 1,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        };
        let states = adopt(&mut registry, [backend]);
        let flow = FlowState::begin(&states[0], 1);
        (registry, flow)
    }

    fn at(epoch: u64, now_ms: u64) -> Judging {
        Judging {
            epoch,
            now_ms,
            backend_gone_timeout_ms: None,
        }
    }

    #[test]
    fn a_flow_moves_when_its_backend_is_down_or_refused() {
        let (mut registry, mut flow) = flow();
        assert_eq!(flow.check(at(1, 0)), None);
        flow.sent(1, 0);
        flow.answered(1, 0);
        flow.backend().health().set_moves_flows(true);
        assert_eq!(flow.check(at(1, 0)), None, "nothing was installed yet");
        assert_eq!(flow.check(at(2, 0)), Some(FlowEnd::BackendDown));
        registry.adopt(&[]);
        let down = Some(FlowEnd::BackendDown);
        assert_eq!(flow.check(at(3, 0)), down, "down when it was removed");
        flow.refuse();
        assert_eq!(flow.check(at(1, 0)), Some(FlowEnd::Refused));
    }

    #[test]
    fn a_flow_of_a_gone_backend_stays_while_it_is_answered() {
        let (mut registry, mut flow) = flow();
        flow.sent(1, 0);
        registry.adopt(&[]);
        assert_eq!(flow.check(at(1, 0)), None, "nothing was installed yet");
        let gone = Some(FlowEnd::BackendGone);
        assert_eq!(flow.check(at(2, 0)), gone, "never answered");
        assert_eq!(flow.answered(1, 0), None);
        assert_eq!(
            flow.check(at(2, 9_000)),
            None,
            "silent, and so is the client"
        );
        // A busy client: the first datagram without an answer counts, not the last one.
        for now_ms in [10_000, 11_000, 12_999] {
            assert_eq!(flow.check(at(2, now_ms)), None, "{now_ms}");
            flow.sent(1, now_ms);
        }
        assert_eq!(flow.check(at(2, 13_000)), gone);
        flow.answered(1, 0);
        assert_eq!(flow.check(at(2, 13_000)), None, "late, but answered");
    }

    #[test]
    fn a_flow_of_a_gone_backend_outstays_no_time_out() {
        let (mut registry, mut flow) = flow();
        flow.sent(1, 0);
        flow.answered(1, 0);
        let at = |now_ms| Judging {
            backend_gone_timeout_ms: Some(500),
            ..at(2, now_ms)
        };
        assert_eq!(flow.must_end_at_ms(at(50)), None, "it is not gone");
        registry.adopt(&[]);
        assert_eq!(flow.must_end_at_ms(at(100)), Some(600));
        assert_eq!(flow.check(at(599)), None);
        assert_eq!(flow.check(at(600)), Some(FlowEnd::BackendGone));
    }

    #[test]
    fn answers_end_a_flow_when_every_request_has_had_its_own() {
        let (_registry, mut flow) = flow();
        assert!(flow.is_unanswered());
        flow.sent(20, 0);
        assert_eq!(flow.answered(100, 0), None, "not bounded");
        let (_registry, mut flow) = super::tests::flow();
        flow.sent(20, 0);
        assert_eq!(flow.answered(39, 2), None);
        flow.sent(1, 0);
        assert_eq!(flow.answered(2, 2), None);
        assert_eq!(flow.answered(1, 2), Some(FlowEnd::Answered));
    }

    #[test]
    fn bursts_are_read_in_batches_from_the_first_one_on() {
        let (_registry, mut flow) = flow();
        assert_eq!(flow.reading(5), Reading::One);
        assert_eq!(flow.reading(7), Reading::One);
        assert_eq!(flow.reading(8), Reading::Batch);
        assert!(!flow.read_batch(BURST - 1));
        assert_eq!(flow.reading(20), Reading::One);
        assert_eq!(flow.reading(21), Reading::Batch);
        assert!(flow.read_batch(BURST));
        assert!(!flow.read_batch(BURST), "told once");
        assert_eq!(flow.reading(90), Reading::Batch);
    }
}
