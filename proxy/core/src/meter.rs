//! What one session or flow in flight says of its backend: whether it is busy, how long a request
//! waits for the first byte of its answer, and whether the backend failed it.
//!
//! A request begins with what the client sends while no answer is owed, so a kept connection gives
//! a latency for each of its requests. A session is busy from its begin, and from anything that
//! moves, until it has been silent for [`QUIET_MS`] with no answer owed. Nothing here is on the path
//! where the algorithm in force does not ask for it.

use contract::{Algorithm, GpuAware};

use crate::backend::BackendState;
use crate::latency::add;
use crate::load::Count;
use crate::score::log2;
use crate::score::witnessed::Failure;

/// How long a session that waits for nothing must be silent until it is idle.
pub const QUIET_MS: u64 = 1_000;

/// What the algorithm in force wants to be told, and its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metering {
    wants: Wants,
    /// What turns failures and idle sessions into cost.
    pub parameters: GpuAware,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wants {
    /// Busy sessions, latency beside load, failures.
    Everything,
    /// Latency alone.
    Peaks,
}

impl Metering {
    /// `None` where the algorithm goes by none of it.
    pub fn of(algorithm: Algorithm, parameters: GpuAware) -> Option<Metering> {
        let wants = match algorithm {
            Algorithm::GpuAware => Wants::Everything,
            Algorithm::PeakEwma => Wants::Peaks,
            Algorithm::RoundRobin
            | Algorithm::WeightedRoundRobin
            | Algorithm::LeastConnections
            | Algorithm::WeightedLeastConnections
            | Algorithm::Random
            | Algorithm::PowerOfTwo
            | Algorithm::SourceHash => return None,
        };
        Some(Metering { wants, parameters })
    }

    /// Whether what one of them was told goes on with the other.
    pub fn goes_on(before: Option<&Metering>, after: Option<&Metering>) -> bool {
        let wants = |metering: Option<&Metering>| metering.map(|metering| metering.wants);
        wants(before) == wants(after)
    }
}

/// Who looks at a meter, and when.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// What the pool's algorithm asks for.
    pub metering: &'a Metering,
    /// Whose counters are written.
    pub worker: usize,
    /// Microseconds on the clock of the workers.
    pub now_us: u64,
}

/// See the [module](self). It belongs to a slot, whose drop takes a busy one off the count.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// What it counts for at present.
    count: Count,
    is_owed: bool,
    /// Somebody will call [`Meter::mark_idle`].
    is_watched: bool,
    /// Its first request shares a batch that was begun for another.
    shares_batch: bool,
    /// The logarithm of what the load was when the request was sent.
    load_log2: i32,
    /// When the request was sent whose answer has not begun.
    sent_us: u64,
    /// When anything last moved.
    last_moved_ms: u64,
}

impl Meter {
    /// Its first request joins the batch of another, and takes hardly more than that alone: until it
    /// is answered this counts as idle, and its latency for nothing.
    pub(crate) fn join_batch(&mut self) {
        self.shares_batch = true;
    }

    /// Something moved: it is busy. Returns whether the caller is to look in [`QUIET_MS`] whether it
    /// is quiet.
    pub(crate) fn mark_active(&mut self, backend: &BackendState, moment: Moment<'_>) -> bool {
        if moment.metering.wants == Wants::Peaks {
            return false;
        }
        self.last_moved_ms = moment.now_us / 1_000;
        let count = if self.shares_batch {
            Count::idle(&moment.metering.parameters)
        } else {
            Count::BUSY
        };
        self.count_as(backend, count);
        !std::mem::replace(&mut self.is_watched, true)
    }

    fn count_as(&mut self, backend: &BackendState, count: Count) {
        let before = std::mem::replace(&mut self.count, count);
        if before != count {
            backend.load().recount(before, count);
        }
    }

    /// The client sent something.
    pub(crate) fn sent(&mut self, backend: &BackendState, moment: Moment<'_>) {
        if self.is_owed {
            return;
        }
        self.is_owed = true;
        self.sent_us = moment.now_us;
        self.load_log2 = load_log2(backend.load().in_flight());
    }

    /// The backend answered something: a success, and a latency if it was owed.
    pub(crate) fn answered(&mut self, backend: &BackendState, moment: Moment<'_>) {
        backend.load().failures.succeeded();
        let was_owed = std::mem::take(&mut self.is_owed);
        // What moved in one turn of a worker both ways is no answer to what was sent in it.
        let is_timed = was_owed && moment.now_us > self.sent_us;
        if !std::mem::take(&mut self.shares_batch) && is_timed {
            self.record(backend, moment);
        }
    }

    /// The backend ended it without a byte, and that is its fault. A client that sends nothing is none
    /// of its doing; whoever calls this judges what others sent, or any client could make a backend
    /// look slow or broken.
    pub(crate) fn aborted(&mut self, backend: &BackendState, moment: Moment<'_>) {
        if !std::mem::take(&mut self.is_owed) {
            return;
        }
        match moment.metering.wants {
            Wants::Everything => {
                let now_ms = moment.now_us / 1_000;
                let parameters = &moment.metering.parameters;
                backend.load().left_unanswered(now_ms, parameters);
                let failure = Failure::SessionUnanswered;
                backend.witnessed().note(failure, now_ms);
            }
            // As Finagle does, which looks at how long a request took and not at how it ended.
            Wants::Peaks => self.record(backend, moment),
        }
    }

    /// It ended in silence. Where an answer was owed, that may be a failure or not.
    pub(crate) fn unanswered_flow(&mut self, backend: &BackendState, moment: Moment<'_>) {
        if std::mem::take(&mut self.is_owed) && moment.metering.wants == Wants::Everything {
            let now_ms = moment.now_us / 1_000;
            backend.load().doubted(now_ms, &moment.metering.parameters);
            let failure = Failure::FlowUnanswered;
            backend.witnessed().note(failure, now_ms);
        }
    }

    /// Makes it idle where it has been silent for [`QUIET_MS`] and waits for nothing.
    /// `awaits_answer`: where an answer is owed, one can be expected. Returns when to look again, in
    /// milliseconds; `None`: not before it moves again.
    pub(crate) fn mark_idle(
        &mut self,
        backend: &BackendState,
        moment: Moment<'_>,
        awaits_answer: bool,
    ) -> Option<u64> {
        let quiet_ms = self.last_moved_ms + QUIET_MS;
        if moment.now_us / 1_000 < quiet_ms {
            return Some(quiet_ms);
        }
        self.is_watched = false;
        if !(self.is_owed && awaits_answer) {
            self.count_as(backend, Count::idle(&moment.metering.parameters));
        }
        None
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// What was told is worth nothing any more: for a while nobody has told, or something else.
    pub(crate) fn forget(&mut self, backend: &BackendState) {
        self.count_as(backend, Count::NONE);
        *self = Meter::default();
    }

    pub(crate) fn release(&mut self, backend: &BackendState) {
        self.count_as(backend, Count::NONE);
    }

    fn record(&self, backend: &BackendState, moment: Moment<'_>) {
        let latency_us = moment.now_us.saturating_sub(self.sent_us);
        match moment.metering.wants {
            Wants::Peaks => backend
                .load()
                .peak
                .record(latency_us, moment.now_us / 1_000),
            Wants::Everything => {
                let counters = backend.worker(moment.worker);
                let sample = log2::log2(latency_us) - i64::from(self.load_log2);
                add(&counters.latency_log2_sum, sample as u64);
                // Second, so that a reader never divides by samples that are not in the sum yet.
                add(&counters.latency_samples, 1);
            }
        }
    }
}

/// Somebody saw `backend` fail as no client can make it: refuse, or keep silent where it should not.
pub fn failed(backend: &BackendState, failure: Failure, moment: Moment<'_>) {
    if moment.metering.wants == Wants::Peaks {
        return;
    }
    let now_ms = moment.now_us / 1_000;
    backend.load().failed(now_ms, &moment.metering.parameters);
    backend.witnessed().note(failure, now_ms);
}

/// What a latency is divided by, so that it speaks of the backend and not of its load: half of the
/// load and of one more. That lies between a GPU that runs all at once as fast as one, and one that
/// runs one at a time.
fn load_log2(in_flight: f32) -> i32 {
    let tenths = (in_flight * 10.0) as u64 + 10;
    (log2::log2(tenths) - log2::log2(20)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::BackendRegistry;
    use crate::registry::tests::adopt;
    use crate::slot::SessionSlot;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    fn backend() -> Arc<BackendState> {
        let mut registry = BackendRegistry::new(1);
        adopt(&mut registry, [crate::registry::tests::backend(1)]).remove(0)
    }

    fn metering(algorithm: Algorithm) -> Metering {
        Metering::of(algorithm, GpuAware::default()).expect("it is metered")
    }

    fn at(metering: &Metering, now_us: u64) -> Moment<'_> {
        Moment {
            metering,
            worker: 0,
            now_us,
        }
    }

    fn samples(backend: &BackendState) -> (u64, i64) {
        let counters = backend.worker(0);
        let sum = counters.latency_log2_sum.load(Relaxed) as i64;
        (counters.latency_samples.load(Relaxed), sum)
    }

    #[test]
    fn every_request_of_a_kept_connection_gives_a_latency() {
        let (backend, metering) = (backend(), metering(Algorithm::GpuAware));
        let mut slot = SessionSlot::take(&backend);
        slot.mark_active(at(&metering, 0));
        slot.sent(at(&metering, 0));
        slot.sent(at(&metering, 500));
        slot.answered(at(&metering, 1_024));
        slot.answered(at(&metering, 2_000));
        // Alone, the load that a latency is divided by is 1.
        assert_eq!(samples(&backend), (1, 10 * log2::ONE));
        slot.sent(at(&metering, 5_000));
        slot.answered(at(&metering, 5_256));
        assert_eq!(samples(&backend), (2, 18 * log2::ONE));
    }

    #[test]
    fn a_session_is_busy_until_it_is_silent_and_owed_nothing() {
        let (backend, metering) = (backend(), metering(Algorithm::GpuAware));
        let load = || backend.load().in_flight();
        let at_ms = |ms: u64| at(&metering, ms * 1_000);
        let mut slot = SessionSlot::take(&backend);
        assert!(
            slot.mark_active(at_ms(0)) && !slot.mark_active(at_ms(400)),
            "one look is enough"
        );
        slot.sent(at_ms(400));
        assert_eq!(slot.mark_idle(at_ms(1_000), true), Some(1_400));
        assert_eq!(
            (slot.mark_idle(at_ms(1_400), true), load()),
            (None, 1.0),
            "it is owed"
        );
        slot.answered(at_ms(9_000));
        assert!(slot.mark_active(at_ms(9_000)));
        assert_eq!((slot.mark_idle(at_ms(10_000), true), load()), (None, 0.1));
        assert!(slot.mark_active(at_ms(20_000)));
        slot.sent(at_ms(20_000));
        let none_can_be_expected = slot.mark_idle(at_ms(21_000), false);
        assert_eq!((none_can_be_expected, load()), (None, 0.1));
        slot.mark_active(at_ms(30_000));
        drop(slot);
        assert_eq!(load(), 0.0);
    }

    #[test]
    fn what_is_forgotten_begins_anew() {
        let (backend, metering) = (backend(), metering(Algorithm::GpuAware));
        let mut slot = SessionSlot::take(&backend);
        slot.mark_active(at(&metering, 0));
        slot.sent(at(&metering, 0));
        slot.forget();
        assert_eq!(backend.load().in_flight(), 0.0);
        slot.answered(at(&metering, 60_000_000));
        assert_eq!(samples(&backend), (0, 0), "nobody knows what it answered");
        assert!(
            slot.mark_active(at(&metering, 60_000_000)),
            "somebody is to look"
        );
        assert_eq!(backend.load().in_flight(), 1.0);
    }

    #[test]
    fn metering_goes_on_where_the_same_is_told() {
        let of = |algorithm| Metering::of(algorithm, GpuAware::default());
        let [gpu, peak, none] =
            [Algorithm::GpuAware, Algorithm::PeakEwma, Algorithm::Random].map(of);
        for (before, after, goes_on) in [
            (gpu, gpu, true),
            (none, none, true),
            (gpu, none, false),
            (none, gpu, false),
            (gpu, peak, false),
        ] {
            let found = Metering::goes_on(before.as_ref(), after.as_ref());
            assert_eq!(found, goes_on, "{before:?} then {after:?}");
        }
    }

    #[test]
    fn who_joins_a_batch_counts_as_idle_until_it_is_answered() {
        let (backend, metering) = (backend(), metering(Algorithm::GpuAware));
        let mut slot = SessionSlot::take(&backend);
        slot.join_batch();
        slot.mark_active(at(&metering, 0));
        slot.sent(at(&metering, 0));
        assert_eq!(backend.load().in_flight(), 0.1);
        slot.answered(at(&metering, 1_000));
        assert_eq!(samples(&backend), (0, 0));
        slot.mark_active(at(&metering, 2_000));
        assert_eq!(backend.load().in_flight(), 1.0);
        slot.sent(at(&metering, 2_000));
        slot.answered(at(&metering, 3_000));
        assert_eq!(samples(&backend).0, 1);
    }

    #[test]
    fn only_what_was_owed_is_a_failure() {
        let (backend, metering) = (backend(), metering(Algorithm::GpuAware));
        let level = || backend.load().failures.level(0, &metering.parameters);
        let mut port_scan = SessionSlot::take(&backend);
        port_scan.mark_active(at(&metering, 0));
        port_scan.aborted(at(&metering, 0));
        let mut served = SessionSlot::take(&backend);
        served.sent(at(&metering, 0));
        served.answered(at(&metering, 1));
        served.aborted(at(&metering, 0));
        assert_eq!(level(), 0.0);
        let mut failed = SessionSlot::take(&backend);
        failed.sent(at(&metering, 0));
        failed.aborted(at(&metering, 0));
        failed.aborted(at(&metering, 0));
        assert_eq!(level(), 2.0);
        super::failed(&backend, Failure::ConnectRefused, at(&metering, 0));
        let kinds = |backend: &BackendState| -> Vec<Failure> {
            let all = backend.witnessed().all();
            all.map(|one| one.failure).collect()
        };
        let both = [Failure::ConnectRefused, Failure::SessionUnanswered];
        assert_eq!(kinds(&backend), both);
        backend.forgive_unanswered();
        assert_eq!(level(), 2.0, "it has refused, whoever asked");
        assert_eq!(kinds(&backend), [Failure::ConnectRefused]);
    }

    #[test]
    fn peak_ewma_learns_latencies_and_nothing_else() {
        let (backend, metering) = (backend(), metering(Algorithm::PeakEwma));
        let mut slot = SessionSlot::take(&backend);
        slot.sent(at(&metering, 0));
        slot.answered(at(&metering, 7_000));
        slot.sent(at(&metering, 8_000));
        slot.aborted(at(&metering, 20_000));
        assert_eq!(backend.load().peak.latency_us(20), Some(12_000.0));
        assert_eq!(samples(&backend), (0, 0));
        assert_eq!(backend.load().failures.in_a_row(), 0);
    }
}
