//! A program that runs: awaited, looked at, and ended.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ProgramError;
use crate::load::{Load, Work};
use crate::processes::ProcessTree;

/// How long a program may take until it forwards, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long before it is told again to end.
const PATIENCE_A_SIGNAL: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(10);
/// Lines of a program's log that are shown when it fails.
const SHOWN_LINES: usize = 15;

/// A running program; dropped, it is ended.
#[derive(Debug)]
pub struct Started {
    pub(super) program: &'static str,
    /// `None` for no program at all.
    pub(super) child: Option<Child>,
    pub addr: SocketAddr,
    pub(super) log: PathBuf,
}

impl Started {
    /// `None` for no program at all.
    pub fn processes(&self) -> Option<ProcessTree> {
        self.child.as_ref().map(|child| ProcessTree::of(child.id()))
    }

    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    /// # Errors
    /// Where it has ended by itself.
    pub fn check(&mut self) -> Result<(), ProgramError> {
        let ended = self.child.as_mut().map(|child| child.try_wait());
        match ended {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => {
                let signal = status.signal().map(|number| format!(" (signal {number})"));
                Err(self.error(format!("has ended: {status}{}", signal.unwrap_or_default())))
            }
            Some(Err(error)) => Err(self.error(error.to_string())),
        }
    }

    /// The first exchange that works tells that the program is up.
    pub(super) fn await_answers(mut self) -> Result<Started, ProgramError> {
        let deadline = Instant::now() + PATIENCE;
        let once = Work::Exchange {
            connections: 1,
            bytes: 64,
        };
        loop {
            self.check()?;
            let answered =
                Load::prepare(self.addr, once).and_then(|mut load| load.run(Duration::ZERO));
            match answered {
                Ok(_) => return Ok(self),
                Err(error) if Instant::now() > deadline => {
                    return Err(self.error(format!("does not forward: {error}")));
                }
                Err(_) => std::thread::sleep(STEP),
            }
        }
    }

    fn error(&self, what: String) -> ProgramError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        ProgramError {
            program: self.program,
            why: format!("{what}\n{shown}"),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        // TERM, since a shell's background jobs ignore INT. All sessions are closed by now, and a
        // proxy that would still wait for some ends at the second one.
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = child.try_wait() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let again = Instant::now() + PATIENCE_A_SIGNAL;
            while Instant::now() < again && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(STEP);
            }
        }
    }
}
