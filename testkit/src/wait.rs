//! Waiting for a condition, with a deadline: the only way that tests here wait.

use std::time::{Duration, Instant};

/// Far longer than anything awaited takes, so that it is only ever reached by a fault.
pub const LONG: Duration = Duration::from_secs(20);

/// How long to sleep between two looks at a condition.
pub(crate) const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Asks until there is an answer, and returns it.
///
/// # Panics
/// With `what` once `deadline` has passed.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match within(deadline, ask) {
        Some(answer) => answer,
        None => panic!("not within {deadline:?}: {what}"),
    }
}

/// Asks until there is an answer or `deadline` has passed. The last look is after the deadline, so
/// that a thread that was not scheduled for long is not taken for a condition that did not hold.
pub fn within<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let late = Instant::now() >= end;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if late {
            return None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait() {
        let mut looks = 0;
        let answer = until("the third look", LONG, || {
            looks += 1;
            (looks == 3).then_some("there")
        });
        assert_eq!((answer, looks), ("there", 3));
    }

    #[test]
    fn a_deadline_ends_the_wait_too() {
        assert_eq!(within(Duration::from_millis(20), || None::<()>), None);
    }
}
