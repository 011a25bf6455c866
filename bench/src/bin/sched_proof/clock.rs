//! The time of the model on the clock of the machine: it runs faster, so that minutes suffice.

use std::time::{Duration, Instant};

/// Seconds of the model in one second of the machine: a mean job of 1 s takes 50 ms.
pub const SPEED: f64 = 20.0;

/// A time on the machine, in milliseconds, for one that the model gives in seconds.
pub fn real_ms(model_seconds: f64) -> f64 {
    model_seconds / SPEED * 1e3
}

#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begins_at: Instant,
}

impl Clock {
    pub fn beginning_in(delay: Duration) -> Clock {
        Clock {
            begins_at: Instant::now() + delay,
        }
    }

    /// Seconds of the model since the beginning; 0 before.
    pub fn now(&self) -> f64 {
        self.begins_at.elapsed().as_secs_f64() * SPEED
    }

    /// How long until `at` of the model; nothing where it has passed.
    pub fn until(&self, at: f64) -> Duration {
        let at = self.begins_at + Duration::from_secs_f64((at / SPEED).clamp(0.0, 1e6));
        at.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_is_waited_for_in_real_time() {
        let clock = Clock::beginning_in(Duration::from_secs(100));
        assert_eq!(clock.now(), 0.0);
        let wait = clock.until(SPEED * 10.0);
        assert!(wait > Duration::from_secs(109) && wait <= Duration::from_secs(110));
        assert_eq!(
            Clock::beginning_in(Duration::ZERO).until(-1.0),
            Duration::ZERO
        );
        assert_eq!(real_ms(1.0), 50.0);
    }
}
