//! A look at all sessions, or all flows, of a worker, a part of them a turn: others do not wait for it.

use std::ops::Range;

/// Places of one turn: some tens of microseconds.
const PART: usize = 1_000;

#[derive(Debug, Default)]
pub struct Sweep {
    /// Where the look that is under way goes on.
    at: Option<usize>,
}

impl Sweep {
    /// Looks at all, from the first one on.
    pub fn begin(&mut self) {
        self.at = Some(0);
    }

    pub fn is_under_way(&self) -> bool {
        self.at.is_some()
    }

    /// The places to look at in this turn, of `places` in all.
    pub fn part(&mut self, places: usize) -> Range<usize> {
        let Some(from) = self.at else {
            return 0..0;
        };
        let to = places.min(from + PART);
        self.at = (to < places).then_some(to);
        // Some may have gone from the end since the part before.
        from.min(to)..to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_in_parts_and_once() {
        let mut sweep = Sweep::default();
        assert_eq!((sweep.part(2_500), sweep.is_under_way()), (0..0, false));
        sweep.begin();
        assert!(sweep.is_under_way());
        let parts = [(); 3].map(|()| sweep.part(2_500));
        assert_eq!(parts, [0..1_000, 1_000..2_000, 2_000..2_500]);
        assert_eq!((sweep.part(2_500), sweep.is_under_way()), (0..0, false));
        sweep.begin();
        sweep.part(2_500);
        assert_eq!((sweep.part(600), sweep.is_under_way()), (600..600, false));
    }
}
