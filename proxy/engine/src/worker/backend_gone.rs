//! Sessions and flows whose backend was removed or disabled, where the settings say how long they may
//! go on. In what follows a session may be a flow.
//!
//! A new snapshot sets off a look at all sessions, a part of them a turn, which ends those whose time
//! is over and notes when the next one's is. Nothing of it is kept in a session, and where the settings
//! let them go on nothing is looked at.

use super::sweep::Sweep;

#[derive(Debug, Default)]
pub struct GoneBackends {
    /// The look that is under way.
    sweep: Sweep,
    /// The earliest time at which a session is to end, of those that this look has seen so far.
    earliest_ms: Option<u64>,
    /// When the next look is due.
    due_ms: Option<u64>,
}

impl GoneBackends {
    /// The backends are others, or the settings: looks at all sessions.
    pub fn restart(&mut self) {
        *self = GoneBackends::default();
        self.sweep.begin();
    }

    /// Whether a look is under way.
    pub fn is_looking(&self) -> bool {
        self.sweep.is_under_way()
    }

    pub fn next_wakeup_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The places to look at in this turn, of `places` in all.
    pub fn part(&mut self, now_ms: u64, places: usize) -> std::ops::Range<usize> {
        if self.due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.restart();
        }
        self.sweep.part(places)
    }

    /// A session of this part is to end at `end_ms`.
    pub fn note(&mut self, end_ms: u64) {
        self.earliest_ms = Some(self.earliest_ms.map_or(end_ms, |known| known.min(end_ms)));
    }

    /// The part has been looked at.
    pub fn part_is_done(&mut self) {
        if !self.sweep.is_under_way() {
            self.due_ms = self.earliest_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_in_parts_and_again_when_the_first_is_due() {
        let mut gone = GoneBackends::default();
        assert_eq!(gone.part(0, 2_500), 0..0);
        gone.restart();
        assert_eq!(gone.part(5, 2_500), 0..1_000);
        gone.note(90);
        gone.part_is_done();
        assert!(gone.is_looking() && gone.next_wakeup_ms().is_none());
        assert_eq!(gone.part(6, 2_500), 1_000..2_000);
        gone.note(70);
        gone.part_is_done();
        assert_eq!(gone.part(7, 2_500), 2_000..2_500);
        gone.part_is_done();
        assert!(!gone.is_looking());
        assert_eq!(gone.next_wakeup_ms(), Some(70));
        assert_eq!(gone.part(69, 2_500), 0..0);
        gone.part_is_done();
        assert_eq!(gone.part(70, 600), 0..600);
        gone.part_is_done();
        assert_eq!(gone.next_wakeup_ms(), None);
    }
}
