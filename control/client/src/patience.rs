//! How long to wait after a failure.

use std::time::Duration;

/// The longest pause between two attempts to register. Shorter than a registration's time to live
/// (15 s), so that a control server that returns gets all registrations before they expire.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long to wait after each failure in a row: twice as long as after the one before.
#[derive(Debug)]
pub struct Patience {
    next: Duration,
    longest: Duration,
}

impl Patience {
    /// Pauses from `first` to `longest`, or all of them `first` where that is longer.
    pub fn new(first: Duration, longest: Duration) -> Patience {
        Patience {
            next: first,
            longest: longest.max(first),
        }
    }

    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_never_undercut_the_first() {
        let pauses = |seconds: f64| {
            let mut patience = Patience::new(Duration::from_secs_f64(seconds), LONGEST_PAUSE);
            [(); 6].map(|()| patience.next_pause().as_secs_f64())
        };
        assert_eq!(pauses(1.0), [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(pauses(60.0), [60.0; 6]);
    }
}
