//! What decides over the life of one UDP flow, without its socket: whether its next datagram may
//! still go to its backend, when it has been answered enough, and how its answers are read.

use std::sync::Arc;

use crate::backend::{BackendState, FlowSlot, Slot};
use crate::reason::FlowEnd;

/// So many datagrams at once are a burst.
const BURST: usize = 4;

/// How answers are to be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One datagram: the least work where a backend answers each datagram with one.
    One,
    /// What waits.
    Batch,
}

#[derive(Debug)]
pub struct FlowState {
    slot: FlowSlot,
    /// The last snapshot for which it was checked that the backend keeps its flows.
    epoch: u64,
    /// ICMP said that nobody listens at the backend: the next datagram tries another.
    is_refused: bool,
    /// Datagrams from the backend.
    answers: u64,
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
            answers: 0,
            is_bulk: false,
            read_in_turn: None,
        }
    }

    pub fn backend(&self) -> &BackendState {
        self.slot.backend()
    }

    pub fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    /// Why this flow must end before its next datagram, if it must. `epoch` is that of the snapshot
    /// in force.
    pub fn check(&mut self, epoch: u64) -> Option<FlowEnd> {
        if self.is_refused {
            return Some(FlowEnd::Refused);
        }
        if self.epoch != epoch {
            if !self.backend().keeps_flows() {
                return Some(FlowEnd::BackendGone);
            }
            if self.backend().health().moves_flows() {
                return Some(FlowEnd::BackendDown);
            }
            self.epoch = epoch;
        }
        None
    }

    /// Nobody listens at the backend.
    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Whether nothing has come from the backend yet.
    pub fn is_unanswered(&self) -> bool {
        self.answers == 0
    }

    /// `count` answers came. `most_answers` ends the flow, 0 never does.
    pub fn answered(&mut self, count: usize, most_answers: u64) -> Option<FlowEnd> {
        self.answers += count as u64;
        let is_enough = most_answers > 0 && self.answers >= most_answers;
        is_enough.then_some(FlowEnd::Answered)
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
    use crate::backend::BackendRegistry;
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
        let states = registry.adopt(&[backend]);
        let flow = FlowState::begin(&states[0], 1);
        (registry, flow)
    }

    #[test]
    fn a_flow_moves_when_its_backend_is_refused_down_or_gone() {
        let (mut registry, mut flow) = flow();
        assert_eq!(flow.check(1), None);
        flow.backend().health().set_moves_flows(true);
        assert_eq!(flow.check(1), None, "nothing was installed yet");
        assert_eq!(flow.check(2), Some(FlowEnd::BackendDown));
        registry.adopt(&[]);
        assert_eq!(flow.check(1), None, "nothing was installed yet");
        assert_eq!(flow.check(2), Some(FlowEnd::BackendGone));
        flow.refuse();
        assert_eq!(flow.check(2), Some(FlowEnd::Refused));
    }

    #[test]
    fn answers_end_a_flow_only_where_they_are_bounded() {
        let (_registry, mut flow) = flow();
        assert!(flow.is_unanswered());
        assert_eq!(flow.answered(100, 0), None);
        assert_eq!(flow.answered(1, 102), None);
        assert_eq!(flow.answered(1, 102), Some(FlowEnd::Answered));
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
