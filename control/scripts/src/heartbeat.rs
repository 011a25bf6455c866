//! Registers at an interval until a signal comes, also while control does not answer.

use std::time::Duration;

use control_client::{ControlClient, LONGEST_PAUSE, Patience, Registration, Signals};

use crate::output::{complain, say};

/// Registers what `next` gives, every `interval`, until a signal comes. It prints the first success, the first
/// success after a failure, and each failure; each failure in a row makes the pause longer.
pub fn run(
    signals: &Signals,
    control: &ControlClient,
    interval: Duration,
    mut next: impl FnMut() -> Registration,
) {
    let mut patience = Patience::new(interval, LONGEST_PAUSE);
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
                patience = Patience::new(interval, LONGEST_PAUSE);
                interval
            }
            Err(error) => {
                is_registered = false;
                let pause = patience.next_pause();
                let seconds = pause.as_secs_f64();
                complain(format_args!(
                    "{}: {error}; retrying in {seconds:.1} s",
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
