//! How long a backend that fails its sessions is left out: longer each time.

use contract::health::Ejection as Rules;

/// The ejections of one backend and protocol.
#[derive(Debug, Default, Clone)]
pub struct Ejection {
    /// Out, and at least until then.
    until_ms: Option<u64>,
    /// How long the last one was to take; 0: there was none.
    length_ms: u64,
    /// When the last one ended.
    ended_ms: u64,
    /// Failures in a row that the last one was for.
    failures: u32,
    total: u64,
}

impl Ejection {
    /// Begins an ejection: of the base length, or of twice the last one's where that has not been
    /// forgotten.
    pub fn begin(&mut self, failures: u32, rules: &Rules, now_ms: u64) {
        let well_for_ms = now_ms.saturating_sub(self.ended_ms);
        let is_forgotten = self.length_ms == 0 || well_for_ms >= rules.max_ms;
        self.length_ms = if is_forgotten {
            rules.base_ms
        } else {
            self.length_ms.saturating_mul(2).min(rules.max_ms)
        };
        self.until_ms = Some(now_ms + self.length_ms);
        self.failures = failures;
        self.total += 1;
    }

    /// Ends it, where its time is over.
    pub fn release(&mut self, now_ms: u64) {
        if self.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            self.end(now_ms);
        }
    }

    /// Ends it, over or not.
    pub fn end(&mut self, now_ms: u64) {
        if self.until_ms.take().is_some() {
            self.ended_ms = now_ms;
        }
    }

    /// The end of its time, while it lasts.
    pub fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ejection_is_twice_as_long_until_the_backend_has_been_well() {
        let rules = Rules {
            base_ms: 10,
            max_ms: 50,
            ..Rules::default()
        };
        let mut ejection = Ejection::default();
        let mut now_ms = 1_000;
        let mut length_after = |pause_ms: u64| {
            now_ms += pause_ms;
            ejection.begin(5, &rules, now_ms);
            let length_ms = ejection.until_ms().expect("it has begun") - now_ms;
            ejection.release(now_ms + length_ms - 1);
            assert!(ejection.until_ms().is_some(), "released before its time");
            now_ms += length_ms;
            ejection.release(now_ms);
            assert_eq!(ejection.until_ms(), None);
            length_ms
        };
        let lengths = [0, 49, 1, 0, 49, 50, 0].map(&mut length_after);
        assert_eq!(lengths, [10, 20, 40, 50, 50, 10, 20]);
        assert_eq!(ejection.total(), 7);
    }
}
