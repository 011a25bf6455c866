//! Signals as a queue that a loop waits on, so that no program sleeps through a signal to stop.

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: `dummy_proxy` reads its file again, the others stop.
    HangUp,
    /// SIGTERM or SIGINT.
    Stop,
}

/// The signals of this process from [`Signals::install`] on.
pub struct Signals {
    queue: Receiver<Signal>,
}

impl Signals {
    /// Installs the handlers before it returns: from then on no signal ends the process directly.
    pub fn install() -> io::Result<Signals> {
        // The kernel merges pending signals, so more room than this is useless.
        const ROOM: usize = 4;
        let (sender, queue) = sync_channel(ROOM);
        let mut arriving = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for number in arriving.forever() {
                    let signal = match number {
                        SIGHUP => Signal::HangUp,
                        _ => Signal::Stop,
                    };
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Signals { queue })
    }

    /// The next signal within `at_most`.
    pub fn wait(&self, at_most: Duration) -> Option<Signal> {
        self.queue.recv_timeout(at_most).ok()
    }

    /// The next signal, however long it takes.
    pub fn wait_for_ever(&self) -> Signal {
        // The sending thread ends only after this end is gone.
        self.queue.recv().unwrap_or(Signal::Stop)
    }
}
