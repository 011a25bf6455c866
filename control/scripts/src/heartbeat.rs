//! Registering again and again until told to stop, through any absence of control.

use std::time::Duration;

use crate::control_client::{ControlClient, Registration};
use crate::output::{complain, say};
use crate::signals::Signals;

/// Registers what `next` gives, every `interval`, until a signal comes. The first success is told,
/// and the first after a failure; each failure is told and answered with a longer pause.
pub fn run(
    signals: &Signals,
    control: &ControlClient,
    interval: Duration,
    mut next: impl FnMut() -> Registration,
) {
    let mut patience = Patience::new(interval);
    let mut is_registered = false;
    loop {
        let registration = next();
        let pause = match control.register(&registration) {
            Ok(info) => {
                if !is_registered {
                    let (addr, base) = (registration.addr, control.base());
                    say(format_args!("registered {addr} with {base}: {info}"));
                }
                is_registered = true;
                patience = Patience::new(interval);
                interval
            }
            Err(error) => {
                is_registered = false;
                let pause = patience.next_pause();
                let seconds = pause.as_secs_f64();
                complain(format_args!(
                    "{}: {error}; trying again in {seconds:.1} s",
                    control.base()
                ));
                pause
            }
        };
        if signals.wait(pause).is_some() {
            return;
        }
    }
}

/// How long to wait after each failure in a row: twice as long as after the one before.
#[derive(Debug)]
struct Patience {
    next: Duration,
    longest: Duration,
}

impl Patience {
    /// Shorter than a registration's time to live (15 s), so that control, coming back, hears of
    /// everyone before it forgets them.
    const LONGEST: Duration = Duration::from_secs(10);

    fn new(interval: Duration) -> Patience {
        Patience {
            next: interval,
            longest: Patience::LONGEST.max(interval),
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_never_undercut_the_interval() {
        let pauses = |seconds: f64| {
            let mut patience = Patience::new(Duration::from_secs_f64(seconds));
            [(); 6].map(|()| patience.next_pause().as_secs_f64())
        };
        assert_eq!(pauses(1.0), [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(pauses(60.0), [60.0; 6]);
    }
}
