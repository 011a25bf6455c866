//! Tampering with the system calls of a running program, by strace(1): a kill or an error at the n-th
//! call of a name on given paths.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Program;
use crate::wait::within;

/// How long strace takes at most to let go of a program that lives.
const LET_GO: Duration = Duration::from_secs(1);
/// How long its last lines take to be read.
const LAST_LINES: Duration = Duration::from_millis(200);

/// What happens instead of the call.
#[derive(Debug, Clone, Copy)]
pub enum Tampering {
    /// The process is killed before it.
    Kill,
    /// It fails with this error, by the name that errno(3) gives it.
    Error(&'static str),
    /// It begins only after so long, as where a file system does not answer; each further one too.
    Delay(Duration),
}

/// A strace that is attached. Dropped, it lets go, and the program goes on.
#[derive(Debug)]
pub struct Strace {
    program: Program,
    /// What it says of a call that was tampered with.
    told: &'static str,
}

/// Whether strace is here and may attach to a process of ours.
pub fn is_at_hand() -> bool {
    let mut sleeper = Command::new("sleep");
    sleeper.arg("60");
    let sleeper = Program::spawn(sleeper);
    let pid = sleeper.pid().to_string();
    let traced = Command::new("timeout")
        .args(["--signal=INT", "0.2", "strace", "-p", &pid])
        .stderr(Stdio::piped())
        .output();
    traced.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("attached"))
}

impl Strace {
    /// Attaches to a process: its `when`-th `call` (a regular expression of strace's) that touches
    /// one of `paths` is tampered with, counted for each thread apart.
    #[track_caller]
    pub fn attach(
        pid: u32,
        paths: &[PathBuf],
        call: &str,
        tampering: Tampering,
        when: u32,
    ) -> Strace {
        let what = match tampering {
            Tampering::Kill => "signal=KILL".to_owned(),
            Tampering::Error(name) => format!("error={name}"),
            Tampering::Delay(delay) => format!("delay_enter={}", delay.as_micros()),
        };
        let (and_later, told) = match tampering {
            Tampering::Kill | Tampering::Error(_) => ("", "INJECTED"),
            // Of one that it lets go in the middle.
            Tampering::Delay(_) => ("+", "<detached"),
        };
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string()]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        command.arg("-e").arg(format!("trace=/^{call}"));
        command
            .arg("-e")
            .arg(format!("inject=/^{call}:{what}:when={when}{and_later}"));
        let mut program = Program::spawn(command);
        program.wait_for_line("attached");
        Strace { program, told }
    }

    /// Lets go; whether any call was made to fail.
    pub fn detach(mut self) -> bool {
        if self.program.is_running() {
            self.program.signal(Signal::INT);
        }
        // Where its program was killed it may wait for a thread that never tells of its end; dropped
        // below, it is killed then, which lets go as well.
        within(LET_GO, || (!self.program.is_running()).then_some(()));
        self.program.line_within(self.told, LAST_LINES).is_some()
    }
}
