//! A command that prints an engine's figures as one JSON object, any of them left out:
//! `{"gpu_usage": 0.5, "vram_usage": 0.25, "queue": 0, "running": 3}`.
//!
//! The command gets a process group of its own. When it has ended, or has not ended in time, the rest of
//! the group is killed: a command that runs each second must leave nothing behind.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use contract::{Fault, Faults, Object, parse_object};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::figures::{Figures, Reading, share};

/// The most that a command may print.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Why a command gave no output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command cannot be run: {0}")]
    Run(#[from] io::Error),
    #[error("the command ran longer than {0:?} and was killed")]
    Late(Duration),
    #[error("the command printed more than {MAX_OUTPUT_BYTES} bytes and was killed")]
    TooLong,
    #[error("the command failed: {0}")]
    Failed(ExitStatus),
}

/// Runs a command and reads what it printed.
///
/// # Errors
/// In words: why there is no output, or every fault of the output.
pub fn read(command: &str, timeout: Duration) -> Result<Reading, String> {
    let output = run(command, timeout).map_err(|error| error.to_string())?;
    parse(&output).map_err(|faults| format!("output of the command: {faults}"))
}

/// A bad figure makes only itself unknown, and an unknown key affects nothing: the other figures are still
/// right. Output with nothing but faults is refused.
fn parse(output: &[u8]) -> Result<Reading, Faults> {
    const MAX_REQUESTS: u64 = 1_000_000_000;
    const MARK: &[u8] = "\u{feff}".as_bytes();
    let mut warnings = Vec::new();
    let text = output.strip_prefix(MARK).unwrap_or(output);
    if text.len() < output.len() {
        warnings.push("skipped a byte order mark at the start of the output".to_owned());
    }
    let map = parse_object(text, MAX_OUTPUT_BYTES)?;
    let mut faults = Faults::default();
    let mut object = Object::new(&map, "");
    let figures = Figures {
        gpu_usage: take_share(&mut object, "gpu_usage", &mut faults),
        vram_usage: take_share(&mut object, "vram_usage", &mut faults),
        queue: object.take_integer("queue", 0, MAX_REQUESTS, &mut faults),
        running: object.take_integer("running", 0, MAX_REQUESTS, &mut faults),
    };
    let mut unknown = Faults::default();
    object.unknown_keys(&mut unknown);
    if figures == Figures::default() && !(faults.is_empty() && unknown.is_empty()) {
        faults.0.extend(unknown.0);
        return Err(faults);
    }
    warnings.extend(unknown.0.iter().map(Fault::to_string));
    Ok(Reading {
        figures,
        faults: faults.0.iter().map(Fault::to_string).collect(),
        warnings,
    })
}

fn take_share(object: &mut Object, key: &'static str, faults: &mut Faults) -> Option<f64> {
    let number = object.take_number(key, faults)?;
    let figure = share(key, number);
    if figure.is_err() {
        faults.add(
            &object.pointer(key),
            number,
            "a number from 0 to 1, or null",
        );
    }
    figure.ok()
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
    /// Kills the rest of the group. The shell has not been waited for yet, so its number, which is also
    /// the group's, cannot have been reused.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.is_ended = true;
        // The group may be empty.
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        self.shell.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_ended {
            // The reader has gone.
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
    fn one_bad_figure_or_unknown_key_costs_no_other_figure() {
        let cases: [(&str, &str, &str); 5] = [
            ("{\"gpu_usag\": 0.5, \"queue\": 3}", "", "gpu_usage"),
            ("{\"gpu_usage\": 50, \"queue\": 3}", "/gpu_usage", ""),
            ("{\"running\": -1, \"queue\": 3}", "/running", ""),
            ("{\"vram_usage\": \"0.5\", \"queue\": 3}", "/vram_usage", ""),
            ("\u{feff}{\"queue\": 3}", "", "byte order mark"),
        ];
        for (output, fault, warning) in cases {
            let reading = parse(output.as_bytes()).expect(output);
            let expected = Figures {
                queue: Some(3),
                ..Figures::default()
            };
            assert_eq!(reading.figures, expected, "{output}");
            for (told, word) in [(&reading.faults, fault), (&reading.warnings, warning)] {
                assert_eq!(
                    told.len(),
                    usize::from(!word.is_empty()),
                    "{output}: {told:?}"
                );
                assert!(told.iter().all(|told| told.contains(word)), "{told:?}");
            }
        }
        let rounded = b"{\"gpu_usage\": 1.0000000000000002, \"vram_usage\": -0.01, \"queue\": 2.0}";
        let reading = parse(rounded).expect("figures");
        assert!(reading.faults.is_empty() && reading.warnings.is_empty());
        assert_eq!(reading.figures.gpu_usage, Some(1.0));
        assert_eq!(
            (reading.figures.vram_usage, reading.figures.queue),
            (Some(0.0), Some(2))
        );
    }

    #[test]
    fn output_that_is_cut_anywhere_gives_no_figure() {
        let whole = b"{\"gpu_usage\": 0.25, \"queue\": 31}";
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
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
