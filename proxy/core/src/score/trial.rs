//! A backend that is left aside gets one session now and then, whatever is held against it. Otherwise a
//! figure that nothing renews, or a slowness learned long ago, could leave it out for good.
//!
//! **Due.** A backend is due when the pool was used for `trial_interval_ms` and nothing of ours was at
//! work there. It is not due while a consistent report says that its VRAM is full (`vram_hard`). Such a
//! report is consistent if the figure has moved in that time, if the GPU is busy with what is not ours,
//! or if the backend failed us in the last [`CONFIRMED_INTERVALS`] intervals.
//!
//! **Verdict.** An answer to the trial contradicts the figure of the full VRAM. While reports repeat that
//! figure, it counts as unknown. A failure, then or later, makes it count again.

/// How long a failure confirms a report, in intervals.
const CONFIRMED_INTERVALS: u64 = 10;
/// At most one session in so many is a trial: a pool is used for a whole interval only if it begins so
/// many sessions for each of its backends.
const SESSIONS_PER_TRIAL: u64 = 4;
/// Figures that differ by no more are the same.
const SAME: f32 = 0.01;
/// A GPU that is busier than this with what is not ours is in use by somebody else.
const BUSY_GPU: f32 = 0.1;

/// One backend's, kept with what else is learned of it. Only `observe` and `pass` change it.
#[derive(Debug, Default)]
pub struct Trial {
    /// For how much of the pool's use nothing of ours was at work here.
    unused_us: u64,
    /// `unused_us` when the figure last moved.
    moved_us: u64,
    figure: Option<f32>,
    /// The figure of a full VRAM at which the current trial began.
    on_trial: Option<f32>,
    contradicted: Option<f32>,
    failed_at_us: Option<u64>,
}

/// What was seen of a backend since the last time.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Something of ours is or was at work there.
    pub is_used: bool,
    /// It has answered a request.
    pub has_answered: bool,
    /// Failures have been added.
    pub is_failing: bool,
    /// The share of VRAM of its last report, 0 to 1.
    pub vram: Option<f32>,
    /// The share from which one session more does not fit.
    pub full_from: f32,
}

impl Trial {
    /// Takes in what was seen until `now_us`. `interval_us`: of trials; 0: there are none.
    pub fn observe(&mut self, seen: &Seen, interval_us: u64, now_us: u64) {
        if seen.is_used {
            if interval_us > 0 && self.unused_us >= interval_us {
                self.on_trial = self.figure.filter(|&figure| figure >= seen.full_from);
            }
            (self.unused_us, self.moved_us) = (0, 0);
        }
        if seen.is_failing {
            self.failed_at_us = Some(now_us);
            (self.on_trial, self.contradicted) = (None, None);
        } else if seen.has_answered && self.on_trial.is_some() {
            self.contradicted = self.on_trial.take();
        }
        if !is_same(self.figure, seen.vram) {
            self.figure = seen.vram;
            self.moved_us = self.unused_us;
        }
        if !is_same(self.contradicted, seen.vram) {
            self.contradicted = None;
        }
    }

    /// The pool was used for so long, and this backend was not.
    pub fn pass(&mut self, us: u64) {
        self.unused_us += us;
    }

    /// Whether our own sessions have shown that this figure means nothing.
    pub fn contradicts(&self, vram: f32) -> bool {
        is_same(self.contradicted, Some(vram))
    }

    /// `is_full`: a fresh report says so, and nothing contradicts it.
    pub fn is_due(&self, is_full: bool, foreign_gpu: f32, interval_us: u64, now_us: u64) -> bool {
        let confirmed_us = CONFIRMED_INTERVALS * interval_us;
        let is_consistent = self.unused_us - self.moved_us < interval_us
            || foreign_gpu > BUSY_GPU
            || self
                .failed_at_us
                .is_some_and(|at_us| now_us.saturating_sub(at_us) < confirmed_us);
        interval_us > 0 && self.unused_us >= interval_us && !(is_full && is_consistent)
    }
}

fn is_same(one: Option<f32>, other: Option<f32>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= SAME,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// How long a pool is used. Each session that begins counts for a while, so that sessions that come
/// rarely, or stay long, do not make every backend due at once.
#[derive(Debug, Default)]
pub struct PoolUse {
    /// When last asked.
    last_us: Option<u64>,
    /// Of each backend, the sessions and flows begun when last asked; `None`: not asked of it yet.
    begun: Vec<Option<u64>>,
    /// What sessions count for that has not passed yet.
    left_us: u64,
}

impl PoolUse {
    /// Goes on where this one stands, with other backends, of each of which `place_before` says where it
    /// stood, if it was there.
    pub fn followed(&self, place_before: impl Iterator<Item = Option<usize>>) -> PoolUse {
        let begun = place_before.map(|place| self.begun.get(place?).copied().flatten());
        PoolUse {
            last_us: self.last_us,
            begun: begun.collect(),
            left_us: self.left_us,
        }
    }

    /// The time of use since the last call. `begun` counts the sessions and flows of each backend.
    pub fn passed(
        &mut self,
        begun: impl ExactSizeIterator<Item = u64>,
        interval_us: u64,
        now_us: u64,
    ) -> u64 {
        let most_us = interval_us / SESSIONS_PER_TRIAL;
        let each_us = most_us / (begun.len() as u64).max(1);
        self.begun.resize(begun.len(), None);
        let begun = self.begun.iter_mut().zip(begun).map(|(before, begun)| {
            // Nobody knows when those of a backend began that is new here.
            let before = before.replace(begun).unwrap_or(begun);
            begun.saturating_sub(before)
        });
        let begun = begun.fold(0, u64::saturating_add);
        let before_us = self.last_us.replace(now_us).unwrap_or(now_us);
        self.left_us = (self.left_us + begun.saturating_mul(each_us)).min(most_us);
        let passed_us = now_us.saturating_sub(before_us).min(self.left_us);
        self.left_us -= passed_us;
        passed_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL_US: u64 = 30_000_000;
    const UNUSED: Seen = Seen {
        is_used: false,
        has_answered: false,
        is_failing: false,
        vram: Some(0.99),
        full_from: 0.95,
    };
    const ANSWERED: Seen = Seen {
        is_used: true,
        has_answered: true,
        ..UNUSED
    };
    const FAILED: Seen = Seen {
        is_used: true,
        is_failing: true,
        ..UNUSED
    };

    fn saying(vram: f32) -> Seen {
        Seen {
            vram: Some(vram),
            ..UNUSED
        }
    }

    impl Trial {
        fn sees(&mut self, seen: &Seen) {
            self.observe(seen, INTERVAL_US, 0);
        }

        /// Of a backend with an idle GPU.
        fn is_due_at(&self, is_full: bool, now_us: u64) -> bool {
            self.is_due(is_full, 0.0, INTERVAL_US, now_us)
        }
    }

    /// Left aside for as long as it takes, with a full VRAM.
    fn left_aside() -> Trial {
        let mut trial = Trial::default();
        trial.sees(&UNUSED);
        trial.pass(INTERVAL_US);
        trial
    }

    #[test]
    fn a_backend_left_aside_is_due_unless_a_consistent_report_says_that_it_is_full() {
        let mut trial = left_aside();
        assert!(trial.is_due_at(true, 0));
        let is_due_beside = |is_full| trial.is_due(is_full, 0.5, INTERVAL_US, 0);
        assert!(is_due_beside(false) && !is_due_beside(true), "others' work");
        trial.sees(&saying(0.97));
        assert!(!trial.is_due_at(true, 0) && trial.is_due_at(false, 0));
        trial.pass(INTERVAL_US);
        assert!(trial.is_due_at(true, 0), "it has not moved since");
        trial.sees(&ANSWERED);
        assert!(!trial.is_due_at(false, 0), "it has just been used");
    }

    #[test]
    fn an_answer_contradicts_the_figure_while_it_is_repeated() {
        let mut trial = left_aside();
        trial.sees(&ANSWERED);
        assert!(trial.contradicts(0.99) && trial.contradicts(0.995) && !trial.contradicts(0.9));
        trial.sees(&saying(0.5));
        trial.sees(&UNUSED);
        assert!(!trial.contradicts(0.99), "it has moved: it is alive");
        trial.sees(&ANSWERED);
        assert!(!trial.contradicts(0.99), "that was no trial");
    }

    #[test]
    fn without_an_interval_there_are_no_trials() {
        let mut trial = Trial::default();
        trial.observe(&UNUSED, 0, 0);
        trial.pass(INTERVAL_US);
        trial.observe(&ANSWERED, 0, 0);
        assert!(!trial.contradicts(0.99) && !trial.is_due(false, 0.0, 0, 0));
    }

    #[test]
    fn an_answer_contradicts_no_figure_that_leaves_room() {
        let mut trial = Trial::default();
        trial.sees(&saying(0.85));
        trial.pass(INTERVAL_US);
        trial.sees(&Seen {
            vram: Some(0.85),
            ..ANSWERED
        });
        assert!(!trial.contradicts(0.85));
    }

    #[test]
    fn a_failure_confirms_the_figure_for_ten_intervals() {
        const CONFIRMED_US: u64 = 10 * INTERVAL_US;
        for is_answered_first in [false, true] {
            let mut trial = left_aside();
            if is_answered_first {
                trial.sees(&ANSWERED);
            }
            trial.sees(&FAILED);
            assert!(!trial.contradicts(0.99));
            trial.pass(INTERVAL_US);
            assert!(!trial.is_due_at(true, CONFIRMED_US - 1));
            assert!(trial.is_due_at(true, CONFIRMED_US) && trial.is_due_at(false, 1));
        }
    }

    #[test]
    fn a_pool_is_used_while_sessions_begin_and_each_counts_for_a_while() {
        let mut pool = PoolUse::default();
        let mut passed = |begun: u64, now_ms: u64| {
            let of_each = [0, begun].into_iter();
            pool.passed(of_each, INTERVAL_US, now_ms * 1_000) / 1_000
        };
        assert_eq!(passed(1_000, 0), 0, "nobody knows when those began");
        assert_eq!(passed(1_001, 100), 100);
        assert_eq!(passed(1_001, 3_000), 2_900);
        assert_eq!(passed(1_001, 60_000), 750, "a session counts for 30 s / 8");
        assert_eq!(passed(9_999, 120_000), 7_500, "and a crowd for a quarter");
    }

    #[test]
    fn a_pool_with_other_backends_goes_on_where_it_stood() {
        let mut pool = PoolUse::default();
        pool.passed([5, 70].into_iter(), INTERVAL_US, 0);
        pool.passed([5, 71].into_iter(), INTERVAL_US, 1_000_000);
        // The second comes first, the first is gone, and one is new.
        let mut pool = pool.followed([Some(1), None].into_iter());
        let left_us = INTERVAL_US / 8 - 1_000_000;
        assert_eq!(
            pool.passed([71, 900].into_iter(), INTERVAL_US, 60_000_000),
            left_us
        );
        let mut pool = pool.followed([None, Some(0)].into_iter());
        assert_eq!(
            pool.passed([900, 71].into_iter(), INTERVAL_US, 90_000_000),
            0
        );
    }
}
