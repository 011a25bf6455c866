//! Our programs as processes: started, read, signalled and ended, each by its own pid.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::wait::{LONG, within};

/// The most lines that are kept of one program; older ones are dropped, and counted on.
const MAX_LINES: usize = 100_000;
/// How many lines are shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running program. Dropped, it is killed; when the test is failing, its last lines are shown.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: Arc<Mutex<Log>>,
    /// How many lines the waits before have passed.
    seen: usize,
}

/// What a program has written to standard output and standard error, line by line.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    dropped: usize,
}

impl Program {
    /// Starts one of this workspace's programs.
    pub fn start(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        let mut command = command(name);
        command.args(arguments);
        Program::spawn(command)
    }

    /// Starts a command made by [`command`], after more has been said of it.
    pub fn spawn(mut command: Command) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Mutex::new(Log::default()));
        record(child.stdout.take().expect("piped above"), &log);
        record(child.stderr.take().expect("piped above"), &log);
        Program {
            name,
            child,
            log,
            seen: 0,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process and to no other: it is our child and not yet reaped, so its
    /// pid is not used again.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "{} has ended already", self.name);
        kill_process(self.kernel_pid(), signal).expect("our own child can be signalled");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Awaits the end of the process.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let ended = within(deadline, || self.child.try_wait().expect("our own child"));
        ended.unwrap_or_else(|| panic!("{} has not ended within {deadline:?}", self.name))
    }

    /// Awaits a line that holds `text`, after those that earlier waits have found.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        match self.line_within(text, LONG) {
            Some(line) => line,
            None => panic!("{}: no line with {text:?} within {LONG:?}", self.name),
        }
    }

    /// The next line that holds `text`, after those that earlier waits have found.
    pub fn line_within(&mut self, text: &str, deadline: Duration) -> Option<String> {
        within(deadline, || {
            let log = self.log.lock().expect("no holder panics");
            let skip = self.seen.saturating_sub(log.dropped);
            let found = log.lines.iter().enumerate().skip(skip);
            let (index, line) = { found }.find(|(_, line)| line.contains(text))?;
            self.seen = log.dropped + index + 1;
            Some(line.clone())
        })
    }

    /// Lets later waits begin with what is written from now on.
    pub fn skip_lines(&mut self) {
        let log = self.log.lock().expect("no holder panics");
        self.seen = log.dropped + log.lines.len();
    }

    /// How many lines so far hold `text`.
    pub fn count_lines(&self, text: &str) -> usize {
        let log = self.log.lock().expect("no holder panics");
        log.lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Awaits a line that holds `text`, and asserts that there is no second one so far.
    #[track_caller]
    pub fn assert_one_line(&self, text: &str) {
        let written = within(LONG, || (self.count_lines(text) > 0).then_some(()));
        written.unwrap_or_else(|| panic!("{}: no line with {text:?} within {LONG:?}", self.name));
        assert_eq!(self.count_lines(text), 1, "{text}");
    }

    /// What the kernel says of each thread of the process under `key`; see proc_pid_status(5).
    #[track_caller]
    pub fn kernel_says(&self, key: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let status = task.ok()?.path().join("status");
            let status = fs::read_to_string(status).ok()?;
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
            Some(value.expect("the kernel tells of it").trim().to_owned())
        };
        // A thread may end between the two looks.
        let said: Vec<String> = tasks.filter_map(of_task).collect();
        assert!(!said.is_empty(), "{} has no thread", self.name);
        said
    }

    /// How many descriptors the process has open.
    pub fn open_descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        fs::read_dir(folder).expect("our own child").count()
    }

    /// Memory of the process that is resident.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid()).expect("our own child")
    }

    /// The process and all that descend from it.
    pub fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            let tasks = tasks.into_iter().flatten().flatten();
            let children =
                tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
            let children: Vec<u32> = children
                .flat_map(|line| {
                    line.split_whitespace()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .filter_map(|child| child.parse().ok())
                .collect();
            pids.extend(children);
            next += 1;
        }
        pids
    }

    /// How often the threads whose names begin with `name` have slept and were woken.
    ///
    /// # Panics
    /// Where there is no such thread.
    pub fn wake_ups(&self, name: &str) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let statuses =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        let is_named = |status: &String| {
            let of_thread = status.strip_prefix("Name:\t");
            of_thread.is_some_and(|of_thread| of_thread.starts_with(name))
        };
        let switches = |status: String| -> u64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            let count = line.and_then(|count| count.trim().parse().ok());
            count.expect("the kernel counts them, see proc(5)")
        };
        let counts: Vec<u64> = statuses.filter(is_named).map(switches).collect();
        assert!(!counts.is_empty(), "no thread is called {name}");
        counts.iter().sum()
    }

    /// CPU time that the process has used: fields 14 and 15 of proc_pid_stat(5).
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("our own child");
        let (_, after_name) = stat.rsplit_once(')').expect("the name is in parentheses");
        const FIELDS_AFTER_NAME: usize = 3;
        let fields = after_name
            .split_whitespace()
            .skip(14 - FIELDS_AFTER_NAME)
            .take(2);
        let ticks: u64 = fields
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
    }

    /// Changes how many descriptors the process may have, from now on. Those it has stay open.
    pub fn limit_descriptors(&self, most: u64) {
        // The hard limit stays, so that no right is needed to raise the soft one again.
        let limit = Rlimit {
            current: Some(most),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(Some(self.kernel_pid()), Resource::Nofile, limit).expect("our own child");
    }

    fn kernel_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.lock().expect("no holder panics");
            let skip = log.lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- last lines of {}", self.name);
            for line in log.lines.iter().skip(skip) {
                eprintln!("{line}");
            }
        }
    }
}

/// Memory of a process that is resident; `None` once it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

/// Runs one of this workspace's programs to its end.
#[track_caller]
pub fn run(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let mut command = command(name);
    command.args(arguments);
    finish(command)
}

/// Runs a command to its end, which must come by itself: one that serves where it should have refused
/// would be waited for without end.
#[track_caller]
pub fn finish(mut command: Command) -> Output {
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = pipes.stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let pid = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(LONG) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            // It is not waited for yet, so the number is still its own.
            let _ = kill_process(pid, Signal::KILL);
            panic!("{command:?} has not ended within {LONG:?}");
        }
    }
}

/// A command for one of this workspace's programs.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    // A tester's own settings must not change what the programs write.
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
    command
}

/// A command that lowers a limit of its own by the shell's `ulimit` and then becomes the program.
pub fn command_with_descriptors(name: &str, most: u64) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {most}; exec \"$0\" \"$@\""))
        .arg(binary(name))
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET");
    command
}

/// A user and a group, by number; the machine need not know either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// A command that becomes another user, in that one group, and then the program.
pub fn command_as(user: User, name: &str) -> Command {
    let mut command = setpriv(user);
    command
        .arg(binary(name))
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET");
    command
}

/// Whether [`command_as`] works here: only root may become others, and those have to reach the
/// program. Says so where it does not.
pub fn can_become(user: User) -> bool {
    if !rustix::process::geteuid().is_root() {
        crate::skipped("only root can start programs as other users");
        return false;
    }
    let reaches = setpriv(user)
        .args(["test", "-x"])
        .arg(binary("proxy_server"))
        .status();
    let reaches = reaches.is_ok_and(|status| status.success());
    if !reaches {
        crate::skipped(&format!(
            "no setpriv (util-linux), or {user:?} may not enter the build's folder"
        ));
    }
    reaches
}

fn setpriv(user: User) -> Command {
    let User { uid, gid } = user;
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
    command.arg("--clear-groups");
    command
}

/// Where cargo puts the programs: a test is `target/PROFILE/deps/NAME`, a program
/// `target/PROFILE/NAME`.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let folder = own.parent().expect("it stands in a folder");
    let profile = match folder.ends_with("deps") {
        true => folder.parent().expect("deps/ stands in a profile's folder"),
        false => folder,
    };
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run cargo build --workspace --bins",
        path.display()
    );
    path
}

fn record(stream: impl Read + Send + 'static, log: &Arc<Mutex<Log>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else {
                return;
            };
            let mut log = log.lock().expect("no holder panics");
            if log.lines.len() == MAX_LINES {
                log.lines.pop_front();
                log.dropped += 1;
            }
            log.lines
                .push_back(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        Program::spawn(command)
    }

    #[test]
    fn lines_are_found_in_order_and_once() {
        let mut program = shell("echo one; echo two >&2; echo one again; sleep 60");
        assert_eq!(program.wait_for_line("one"), "one");
        program.wait_for_line("one again");
        let third = program.line_within("one", Duration::from_millis(50));
        assert_eq!(third, None);
        assert_eq!(program.count_lines("o"), 3);
    }

    #[test]
    fn a_signal_and_an_exit_status_arrive() {
        let mut program = shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do :; done");
        program.wait_for_line("ready");
        assert!(program.is_running());
        program.signal(Signal::TERM);
        assert_eq!(program.wait_exit(LONG).code(), Some(7));
        program.wait_for_line("bye");
        assert!(!program.is_running());
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let mut program = shell("echo ready; exec sleep 60");
        program.wait_for_line("ready");
        let folder = PathBuf::from(format!("/proc/{}", program.pid()));
        assert!(folder.exists());
        drop(program);
        assert!(!folder.exists());
    }

    #[test]
    fn the_kernel_tells_what_a_process_uses() {
        let mut program = shell("echo ready; exec sleep 60 3</dev/null 4</dev/null");
        program.wait_for_line("ready");
        within(LONG, || (program.open_descriptors() >= 5).then_some(())).expect("0 to 4");
        assert!(program.resident_bytes() > 4096);
        assert!(program.cpu_time() < LONG);
        program.limit_descriptors(16);
        let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid()));
        let limits = limits.expect("our own child");
        let line = limits.lines().find(|line| line.contains("open files"));
        assert!(line.is_some_and(|line| line.contains(" 16 ")), "{line:?}");
    }
}
