//! A command that prints an engine's figures as one JSON object, any of them left out:
//! `{"gpu_usage": 0.5, "vram_usage": 0.25, "queue": 0, "running": 3}`.
//!
//! It gets a group of its own, and whatever of that group is left when the command has ended, or has
//! not ended in time, is killed: a command that is run each second must leave nothing behind.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use contract::{Faults, Object, parse_object};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::figures::{Figures, Reading};

/// The most that a command may print.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Why a command gave no output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("it cannot be run: {0}")]
    Run(#[from] io::Error),
    #[error("it has not ended within {0:?}, and was killed")]
    Late(Duration),
    #[error("it printed more than {MAX_OUTPUT_BYTES} bytes, and was killed")]
    TooLong,
    #[error("it ended with {0}")]
    Failed(ExitStatus),
}

/// Runs a command and reads what it printed.
///
/// # Errors
/// In words: why it gave nothing, or every fault of what it printed.
pub fn read(command: &str, timeout: Duration) -> Result<Reading, String> {
    let output = run(command, timeout).map_err(|error| error.to_string())?;
    let figures = parse(&output).map_err(|faults| format!("what it printed: {faults}"))?;
    Ok(Reading {
        figures,
        faults: Vec::new(),
    })
}

fn parse(output: &[u8]) -> Result<Figures, Faults> {
    const MAX_REQUESTS: u64 = 1_000_000_000;
    let map = parse_object(output, MAX_OUTPUT_BYTES)?;
    let mut faults = Faults::default();
    let mut object = Object::new(&map, "");
    let figures = Figures {
        gpu_usage: object.take_share("gpu_usage", &mut faults),
        vram_usage: object.take_share("vram_usage", &mut faults),
        queue: object.take_integer("queue", 0, MAX_REQUESTS, &mut faults),
        running: object.take_integer("running", 0, MAX_REQUESTS, &mut faults),
    };
    object.unknown_keys(&mut faults);
    if faults.is_empty() {
        Ok(figures)
    } else {
        Err(faults)
    }
}

fn run(command: &str, timeout: Duration) -> Result<Vec<u8>, CommandError> {
    let deadline = Instant::now() + timeout;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).process_group(0);
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut group = Group {
        shell: shell.spawn()?,
        is_ended: false,
    };
    let mut stdout = group.shell.stdout.take().expect("piped above");
    fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(io::Error::from)?;
    let exit =
        pidfd_open(Pid::from_child(&group.shell), PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut output = Vec::new();
    loop {
        let is_over = wait(&exit, &stdout, deadline)?.ok_or(CommandError::Late(timeout))?;
        let is_closed = take(&mut stdout, &mut output)?;
        if is_over {
            break;
        }
        if is_closed && !wait_for_end(&exit, deadline)? {
            return Err(CommandError::Late(timeout));
        }
    }
    let status = group.end()?;
    match status.success() {
        true => Ok(output),
        false => Err(CommandError::Failed(status)),
    }
}

/// Waits until there is output or the command has ended, which is what is returned; `None` once
/// `deadline` has passed.
fn wait(exit: &OwnedFd, stdout: &ChildStdout, deadline: Instant) -> io::Result<Option<bool>> {
    let mut polled = [
        PollFd::new(exit, PollFlags::IN),
        PollFd::new(stdout, PollFlags::IN),
    ];
    match retry_on_intr(|| poll(&mut polled, Some(&until(deadline))))? {
        0 => Ok(None),
        _ => Ok(Some(!polled[0].revents().is_empty())),
    }
}

/// Waits for a command that has closed its output; false once `deadline` has passed.
fn wait_for_end(exit: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    let mut polled = [PollFd::new(exit, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut polled, Some(&until(deadline))))? > 0)
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Takes what has been printed so far; true where there will be no more.
fn take(stdout: &mut ChildStdout, output: &mut Vec<u8>) -> Result<bool, CommandError> {
    let mut buffer = [0; 4096];
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => output.extend(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if output.len() > MAX_OUTPUT_BYTES {
            return Err(CommandError::TooLong);
        }
    }
}

/// A shell and everything that it started. Dropped, all of it is killed.
struct Group {
    shell: Child,
    is_ended: bool,
}

impl Group {
    /// Kills what is left of it. The shell has not been waited for before, so that its number, and
    /// with it the group's, is nobody else's yet.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.is_ended = true;
        // Nobody may be left in it.
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        self.shell.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_ended {
            // There is nobody left to tell.
            let _ = self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_it_prints_is_read() {
        let reading = read("echo '{\"gpu_usage\": 0.5, \"queue\": 3}'", LONG).expect("figures");
        let expected = Figures {
            gpu_usage: Some(0.5),
            queue: Some(3),
            ..Figures::default()
        };
        assert_eq!(reading.figures, expected);
        // The object may come in pieces.
        let pieces = "printf '{'; exec 2>&-; sleep 0.05; printf '\"running\": 1}'";
        assert_eq!(
            read(pieces, LONG).expect("figures").figures.running,
            Some(1)
        );
    }

    #[test]
    fn what_is_no_such_object_is_refused_with_its_place() {
        let cases = [
            ("echo '{\"gpu_usage\": 50}'", "/gpu_usage"),
            ("echo '{\"queue\": -1}'", "/queue"),
            ("echo '{\"gpu_usag\": 0.5}'", "\"gpu_usage\""),
            ("echo '[]'", "object"),
            ("true", "empty"),
            ("echo '{\"queue\": 1}'; exit 3", "exit status: 3"),
            ("no-such-program-anywhere", "127"),
        ];
        for (command, word) in cases {
            let why = read(command, LONG).expect_err(command);
            assert!(why.contains(word), "{command}: {why}");
        }
    }

    #[test]
    fn a_late_command_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pids");
        let command = format!(
            "sleep 600 & echo $! > {0}; echo $$ >> {0}; wait",
            file.display()
        );
        let begun = Instant::now();
        let why = read(&command, Duration::from_millis(500)).expect_err("late");
        assert!(why.contains("500ms") && begun.elapsed() < LONG, "{why}");
        assert_gone(&file, 2);
    }

    #[test]
    fn a_command_that_ends_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pids");
        let command = format!("sleep 600 & echo $! > {}; echo '{{}}'", file.display());
        let begun = Instant::now();
        read(&command, LONG).expect("figures, though its output is still open");
        assert!(begun.elapsed() < LONG);
        assert_gone(&file, 1);
    }

    /// The processes whose numbers stand in a file end; a killed one may take a moment.
    fn assert_gone(file: &std::path::Path, count: usize) {
        let pids = std::fs::read_to_string(file).expect("the command wrote it");
        assert_eq!(pids.lines().count(), count);
        for pid in pids.lines() {
            let end = Instant::now() + LONG;
            let is_alive = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                stat.is_ok_and(|stat| !stat.contains(") Z "))
            };
            while is_alive() {
                assert!(Instant::now() < end, "{pid} lives on");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn endless_output_is_cut_off() {
        for command in ["yes", "exec yes"] {
            let why = read(command, LONG).expect_err("too long");
            assert!(why.contains("65536"), "{why}");
        }
    }
}
